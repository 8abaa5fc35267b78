"""Draws with a model: python sample.py --workdir=runs/digits. --help tells more."""

import sys

try:
    if __name__ == "__main__":
        from draw_jax.system import pages

        pages.use_large_pages()  # before anything is in memory
    from draw_jax.commands.sample import command
except KeyboardInterrupt:  # Ctrl-C, before anything has begun
    print("interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(command(sys.argv))
