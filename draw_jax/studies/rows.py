"""The systems of the 2016 follow-up study, and what its report says of them."""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One system."""

    config: str  # the name of its configuration
    system: str  # what the tables call it
    base: str  # configuration of the system that it changes; "" for none
    # The report's measure 7 by the updates after which it was measured: mean, standard deviation and
    # maximum, nats
    report: Mapping[int, tuple[int, int, int]] = {}


_SHORT, _LONG = 10_000, 50_000  # updates
_BASE, _PLAIN = "study", "study_no_attention"
ROWS = (
    Row(_BASE, "DRAW", "", {_SHORT: (643, 264, 1370), _LONG: (820, 327, 1989)}),
    Row(_PLAIN, "no attention", _BASE, {_SHORT: (644, 268, 1337)}),
    Row("study_read_only", "no attention for writing", _BASE),
    Row("study_write_only", "no attention for reading", _BASE),
    Row("study_t1", "T = 1", _BASE, {_SHORT: (653, 290, 1724)}),
    Row("study_t2", "T = 2", _BASE, {_SHORT: (698, 276, 1402)}),
    Row("study_t5", "T = 5", _BASE, {_SHORT: (796, 302, 1853)}),
    Row("study_no_privy", "no-privy", _BASE, {_SHORT: (809, 298, 2546)}),
    Row("study_error_image", "error image alone", _BASE, {_SHORT: (648, 302, 1853)}),
    Row("study_error_image_no_attention", "error image alone, no attention", _PLAIN),
    Row("study_model_1", "Model I", _PLAIN, {_LONG: (656, 267, 1429)}),
    Row("study_model_1_images", "Model I with images", _PLAIN),
    Row("study_model_2", "Model II", _BASE, {_LONG: (791, 295, 1823)}),
    Row("study_model_3", "Model III", _BASE, {_LONG: (625, 255, 1637)}),
)
NAMES = tuple(row.config for row in ROWS)


def named(names: list[str]) -> list[Row]:
    """Returns the rows of these configurations, in the order of the table; all where none is named.

    Raises:
        ValueError: for a name that is none of theirs.
    """
    for name in names:
        if name not in NAMES:
            raise ValueError(f"--rows: expected of {', '.join(NAMES)}; got {name!r}")
    return [row for row in ROWS if not names or row.config in names]
