"""`python -m draw_jax.filters`, by its older name: the same as `draw-jax filters`."""

import sys

from draw_jax.commands.filters import command

if __name__ == "__main__":
    sys.exit(command(sys.argv))
