"""Draws the paper's figures 3 and 4 of a picture: draw-jax filters [PICTURE] --out=filters.

Writes three PNG files and prints their names: `filter_grid.png`, figure 3's grid of filters;
`precision.png`, figure 3's three glimpses of different stride and variance; `zoom.png`, figure 4:
three zooms, each glimpse written back through the transposed filters, and two filters alone.
Without PICTURE, a photograph that scikit-learn ships. Exit codes: 0 drawn, 1 error, 2 bad flags.
"""

from collections.abc import Sequence

from absl import flags

from draw_jax.system import cli

FLAGS = flags.FlagValues()
_PICTURE = flags.DEFINE_string(
    "picture", "", "The picture; may be given without --picture=", flag_values=FLAGS
)
_OUT = flags.DEFINE_string(
    "out", "filters", "The folder for the figures, made if missing", flag_values=FLAGS
)
_GLIMPSE = flags.DEFINE_integer("glimpse_size", 12, "N of the glimpses", flag_values=FLAGS)
_GRID = flags.DEFINE_integer("grid_size", 3, "N of the grid of filters", flag_values=FLAGS)
_SIZE = flags.DEFINE_integer(
    "size", 100, "Pixels of the picture's longer side, after shrinking", flag_values=FLAGS
)
_COLOUR = flags.DEFINE_bool("colour", True, "--nocolour draws a grey picture", flag_values=FLAGS)


def main() -> int:
    """Draws the figures, prints the files and returns the exit code."""
    from draw_jax.drawing import filters

    image = filters.load_picture(_PICTURE.value or None, _SIZE.value, _COLOUR.value)
    for path in filters.draw(image, _OUT.value, _GLIMPSE.value, _GRID.value):
        print(path)
    return 0


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code.

    Args:
        argv: program name, then flags and at most one picture, in any order.
    """
    return cli.run(main, cli.with_first_word(argv, "picture", FLAGS), flag_values=FLAGS)
