"""Trains a model: python train.py --config=configs/mnist.py. --help tells more."""

import sys

from draw_jax.commands.train import command

if __name__ == "__main__":
    sys.exit(command(sys.argv))
