"""A model that draws, and a classifier that says what its samples are."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from draw_jax.evaluation import classification
from draw_jax.model import build
from draw_jax.model.draw import Draw
from draw_jax.model.task import Variables
from draw_jax.runs import checkpoint
from draw_jax.system import cli, compilation


class Judged(NamedTuple):
    """Both of them."""

    config: ConfigDict  # of the model that draws
    model: Draw
    variables: Variables
    logits: Callable[[np.ndarray], np.ndarray]  # images [B, H, W, C] in [0, 1] -> [B, classes]


class Models(NamedTuple):
    """The flags that say which two models."""

    workdir: flags.FlagHolder[str]
    pretrained: flags.FlagHolder[str]
    classifier: flags.FlagHolder[str]

    def run(self) -> str:
        """Returns the model that draws, for `checkpoint.load`; raises ValueError where none is given."""
        return cli.which_run(self.workdir.value, self.pretrained.value)


def define(flag_values: flags.FlagValues) -> Models:
    """Defines --workdir, --pretrained and --classifier."""

    def text(name: str, default: str, help_text: str) -> flags.FlagHolder[str]:
        return flags.DEFINE_string(name, default, help_text, flag_values=flag_values)

    return Models(
        text("workdir", "", "A run that draws"),
        text("pretrained", "", "Or the name of shipped weights"),
        text("classifier", "mnist_classifier", "A run, or shipped weights, that classifies"),
    )


def load(models: Models) -> Judged:
    """Returns a run, or shipped weights, that draws, and what a classifier makes of images.

    Raises:
        ValueError: if there is no classifier, or none of such images, or the run does not draw.
    """
    run, classifier = models.run(), models.classifier.value
    if not classifier:
        raise ValueError(
            "--classifier: which one? mnist_classifier, or a run of images of the same size, such as "
            "that of draw-jax train --config=mnist_classifier"
        )
    compilation.keep()
    config, model, variables = checkpoint.load(run)
    drawer = build.drawing(model)
    theirs, judge, weights = checkpoint.load(classifier)
    if isinstance(judge, Draw) or judge.image_shape != drawer.image_shape:
        raise ValueError(
            f"--classifier: expected one of images {drawer.image_shape}, got a model of config.kind "
            f"{theirs.kind!r} of images {judge.image_shape}"
        )
    logits = functools.partial(classification.logits, judge, weights)
    return Judged(config, drawer, variables, logits)
