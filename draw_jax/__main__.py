"""The program: draw-jax COMMAND [--flags], also as python -m draw_jax COMMAND."""

import sys


def main() -> int:
    """Runs the command that the command line names and returns its exit code."""
    return 0


if __name__ == "__main__":
    sys.exit(main())
