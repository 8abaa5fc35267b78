"""Draws with a model: python sample.py --workdir=runs/digits. --help tells more."""

import sys

from draw_jax.commands.sample import command

if __name__ == "__main__":
    sys.exit(command(sys.argv))
