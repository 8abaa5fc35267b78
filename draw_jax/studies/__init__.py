"""Studies of trained models: what each part of DRAW is worth, and what its latents decide."""

import sys

from draw_jax.system import pages

if sys.argv[0] == "-m":  # python -m draw_jax.studies.NAME
    pages.use_large_pages()
