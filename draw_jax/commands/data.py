"""Draws what a model would be trained on: draw-jax data --config=cluttered_mnist --out=samples.

Prints what the split holds and the name of a picture, `NAME_SPLIT.png`. For train these are the
first images in training order, otherwise the first of the split; where the configuration binarises,
one draw of each. Exit codes: 0 drawn, 1 error, 2 bad flags or configuration.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from draw_jax.system import cli

if TYPE_CHECKING:
    from draw_jax.data.interface import Split

_MOST_IMAGES = 1_024

FLAGS = flags.FlagValues()
_CONFIG = cli.define_config("Whose data", FLAGS)
_SPLIT = flags.DEFINE_string("split", "train", "train, validation or test", flag_values=FLAGS)
_IMAGES = flags.DEFINE_integer("images", 64, "How many to draw", flag_values=FLAGS)
_OUT = flags.DEFINE_string(
    "out", "samples", "The folder for the picture, made if missing", flag_values=FLAGS
)


def main() -> int:
    """Draws the images, prints what they are and returns the exit code."""
    config = cli.given_config(_CONFIG)
    if not 1 <= _IMAGES.value <= _MOST_IMAGES:
        raise ValueError(f"--images: expected 1 to {_MOST_IMAGES:,}, got {_IMAGES.value}")

    import jax
    import numpy as np

    from draw_jax.data import splits
    from draw_jax.drawing.figures import grids, look
    from draw_jax.training import config as settings

    task = settings.check(config)
    shape = config.model.image_shape
    split = splits.load(config.data, _SPLIT.value, shape, seed=config.seed)
    splits.check_shape(split, shape, config.data.name)
    splits.check_labels(split, task.classes, config.data.name)
    print(f"{config.data.name}, {_SPLIT.value}: {description(split, config.data.binarization)}")
    count = min(len(split), _IMAGES.value)
    indices = (
        splits.training_indices(split, config.seed, 0, count)
        if _SPLIT.value == "train"
        else np.arange(count)
    )
    images = split.batch(indices).images
    name = config.data.name.strip("/.").replace("/", "_")  # of a set with configurations, or a path
    path = Path(_OUT.value) / f"{name}_{_SPLIT.value}.png"
    shown = splits.prepare(images, config.data.binarization, jax.random.key(config.seed))
    print(look.save(grids.grid(np.asarray(shown)), path))
    return 0


def description(split: "Split", binarization: str) -> str:
    """Returns one line of what a split holds: images, their shape and values, labels."""
    import numpy as np

    height, width, channels = split.image_shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    values = "binary" if split.binary else "binarised anew" if binarization == "dynamic" else colour
    number = "images without end" if split.endless else f"{len(split):,} images"
    line = f"{number} of {height}x{width}, {values}"
    if split.labels is None:
        return f"{line}; no labels"
    present = np.unique(split.labels)
    return f"{line}; labels {present[0]} to {present[-1]}, {len(present)} of them different"


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, argv, flag_values=FLAGS)
