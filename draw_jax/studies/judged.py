"""A model that draws, and a classifier that says what its samples are."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from draw_jax.evaluation import classification
from draw_jax.model import build
from draw_jax.model.draw import Draw
from draw_jax.model.task import Variables
from draw_jax.runs import checkpoint
from draw_jax.system import compilation


class Judged(NamedTuple):
    """Both of them."""

    config: ConfigDict  # of the model that draws
    model: Draw
    variables: Variables
    logits: Callable[[np.ndarray], np.ndarray]  # images [B, H, W, C] in [0, 1] -> [B, classes]


def load(run: str, classifier: str) -> Judged:
    """Returns a run, or shipped weights, that draws, and what a classifier makes of images.

    Args:
        run: as for `checkpoint.load`.
        classifier: value of the flag --classifier, the same.

    Raises:
        ValueError: if there is no classifier, or none of such images, or the run does not draw.
    """
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
