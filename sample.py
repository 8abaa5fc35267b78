"""Draws with a model: python sample.py --workdir=runs/digits. --help tells more."""

import sys

try:
    from draw_jax.commands.sample import command
except KeyboardInterrupt:  # Ctrl-C, before anything has begun
    print("interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(command(sys.argv))
