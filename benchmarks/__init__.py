"""Benchmarks: `python -m benchmarks.NAME` prints a table; docs/performance.md keeps them."""
