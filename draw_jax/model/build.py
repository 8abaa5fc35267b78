"""From a configuration to its model, its task and its streams of randomness."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from draw_jax.model import draw_task
from draw_jax.model.draw import Draw
from draw_jax.model.task import Model, Task, Variables

KINDS = ("draw",)


def build(config: ConfigDict) -> Model:
    """Returns the model that a configuration describes.

    Args:
        config: a whole configuration; `kind` and `model` are used.

    Raises:
        ValueError: if `kind` is unknown, or a field of `model` is unknown, missing or out of range.
    """
    if config.kind == "draw":
        try:
            return Draw(**config.model.to_dict())
        except TypeError as error:  # the wording of Python's call check, less its prefix
            raise ValueError(f"config.model: {str(error).split('() ')[-1]}") from None
    raise ValueError(f"config.kind: expected {' or '.join(map(repr, KINDS))}, got {config.kind!r}")


@functools.cache  # one task a model, so that what is compiled for it is found again
def task(model: Model) -> Task:
    """Returns what a model brings to training and evaluation."""
    return draw_task.task(model)


def initial_variables(model: Model, key: jax.Array) -> Variables:
    """Returns {"params": ...} as initialised from a key; small inputs, jit or eval_shape it."""
    x = jnp.zeros((1, *model.image_shape))
    return model.init(key, x, jnp.zeros((1, 1, model.latent_size)))


class Keys(NamedTuple):
    """Independent streams of randomness, all from `config.seed`."""

    init: jax.Array
    train: jax.Array
    evaluate: jax.Array
    sample: jax.Array


def keys(seed: int) -> Keys:
    """Returns the streams of a seed."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))
