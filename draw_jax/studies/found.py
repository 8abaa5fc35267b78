"""Does a classifier look at its digit? python -m draw_jax.studies.found --pretrained=cluttered_mnist.

Cluttered images are made as they are read, so it is known where their digits lie. Prints for each
glimpse how often the centre of its window is on the digit, and the share of errors after it, among
images where it is and among those where it is not. Exit codes: 0 done, 1 error, 2 bad flags.
"""

import sys
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from draw_jax.data import splits
from draw_jax.data.sets.cluttered import Cluttered
from draw_jax.drawing import glimpses
from draw_jax.model.attention import Window
from draw_jax.model.task import Variables
from draw_jax.runs import checkpoint
from draw_jax.system import cli, compilation, devices

_BATCH_SIZE = 500

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string("workdir", "", "A run that classifies", flag_values=FLAGS)
_PRETRAINED = flags.DEFINE_string(
    "pretrained", "", "Or the name of shipped weights", flag_values=FLAGS
)
_SPLIT = flags.DEFINE_string("split", "validation", "validation or test", flag_values=FLAGS)
_IMAGES = flags.DEFINE_integer(
    "images", 10_000, "How many of the split, from the first on", flag_values=FLAGS
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Where the data lies, if not as in the run", flag_values=FLAGS
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", "", "Original files of the data, in place of a download", flag_values=FLAGS
)


class Found(NamedTuple):
    """What was found of B images in T glimpses."""

    on: np.ndarray  # whether the window's centre is on the digit, bool [T, B]
    wrong: np.ndarray  # whether the answer after the glimpse is wrong, bool [T, B]


def main() -> int:
    """Looks, prints a table and returns the exit code."""
    if not 1 <= _IMAGES.value <= 10**6:
        raise ValueError(f"--images: expected 1 to 1,000,000, got {_IMAGES.value}")
    if _SPLIT.value not in ("validation", "test"):
        raise ValueError(f"--split: expected validation or test, got {_SPLIT.value!r}")
    run = cli.which_run(_WORKDIR.value, _PRETRAINED.value)
    compilation.keep()
    devices.share_cores(devices.cores())
    config, model, variables = checkpoint.load(run)
    with config.unlocked():
        config.data.data_dir = _DATA_DIR.value or config.data.data_dir
        config.data.manual_dir = _MANUAL_DIR.value or config.data.manual_dir
    if not glimpses.looks(model):
        raise ValueError(f"{run}: a model of config.kind {config.kind!r} reads no glimpses")
    split = splits.load(config.data, _SPLIT.value, config.model.image_shape, flags="--")
    if not isinstance(split, Cluttered):
        raise ValueError(  # noqa: TRY004
            f"{run}: expected a run on cluttered_mnist, where each digit's place is known, got one on "
            f"{config.data.name}"
        )
    splits.check_shape(split, model.image_shape, config.data.name)
    count = min(len(split), _IMAGES.value)
    found = look(model, variables, split, config.data.binarization, count)
    print(f"{found.on.shape[1]:,} images of {_SPLIT.value}\n")
    print(
        "| glimpse | window's centre on the digit, % of images | errors after this glimpse, % of all "
        "images | % of those on the digit | % of the others |"
    )
    print("|---|---|---|---|---|")
    for step, (on, wrong) in enumerate(zip(*found, strict=True), start=1):
        print(
            f"| {step} | {share(on)} | {share(wrong)} | {share(wrong[on])} | {share(wrong[~on])} |"
        )
    return 0


def look(
    model: glimpses.Looking,
    variables: Variables,
    split: Cluttered,
    binarization: str,
    images: int,
) -> Found:
    """Returns what a classifier finds in the first images of a split.

    Args:
        model: that reads glimpses.
        variables: its parameters, `{"params": ...}`.
        split: of cluttered images with an end.
        binarization: `config.data.binarization`.
        images: how many, at most as many as there are.
    """
    parts = []
    for start in range(0, images, _BATCH_SIZE):
        indices = np.arange(start, min(start + _BATCH_SIZE, images))
        batch = split.batch(indices)
        assert batch.labels is not None  # as clutter is made of digits that have labels
        draw, first = jax.random.split(jax.random.fold_in(jax.random.key(0), start))
        shown = np.asarray(splits.prepare(batch.images, binarization, draw))
        logits, windows = glimpses.look(model, variables, shown, first)
        places = split.places(indices)
        height, width, _ = split.digits.image_shape
        on = on_digit(windows, places.top, places.left, height, width)
        parts.append((on, logits.argmax(axis=-1) != batch.labels))
    return Found(*(np.concatenate(part, axis=1) for part in zip(*parts, strict=True)))


def on_digit(
    windows: Window, top: np.ndarray, left: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Returns whether the centres of windows [T, B] are on a digit of each image, bool [T, B].

    Args:
        windows: arrays [T, B], pixels numbered from 1 (eqs 22, 23).
        top: first row of the digit, from 0, [B].
        left: first column.
        height: of the digit, pixels.
        width: the same.
    """
    rows, columns = np.asarray(windows.g_y) - 1 - top, np.asarray(windows.g_x) - 1 - left
    inside = (rows > -0.5) & (rows < height - 0.5) & (columns > -0.5) & (columns < width - 0.5)
    return np.asarray(inside)


def share(values: np.ndarray) -> str:
    """Returns how many of some values [N] are true, in %; a dash where there are none."""
    return f"{100 * values.mean():.2f}" if len(values) else "-"


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, flag_values=FLAGS))
