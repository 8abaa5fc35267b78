"""Trains a model: python train.py --config=configs/mnist.py. --help tells more."""

import sys

try:
    from draw_jax.commands.train import command
except KeyboardInterrupt:  # Ctrl-C, before anything has begun
    print("interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(command(sys.argv))
