"""Measures a model: python evaluate.py --workdir=runs/mnist. --help tells more."""

import sys

from draw_jax.commands.evaluate import command

if __name__ == "__main__":
    sys.exit(command(sys.argv))
