"""Benchmarks: `python -m benchmarks.NAME` prints a table; docs/performance.md keeps them."""

import sys

from draw_jax.system import pages

if sys.argv[0] == "-m":  # python -m benchmarks.NAME: measured as the programs run
    pages.use_large_pages()
