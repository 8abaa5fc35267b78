"""From a configuration to its model, its task and its streams of randomness."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from draw_jax.model import classifier, draw
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.model.draw import Draw
from draw_jax.model.task import Model, Task, Variables
from draw_jax.model.variants import convnet, glimpse_convnet, model_1, model_2, model_3, ram
from draw_jax.model.variants.convnet import ConvNet
from draw_jax.model.variants.glimpse_convnet import GlimpseConvNet
from draw_jax.model.variants.model_1 import Model1
from draw_jax.model.variants.model_2 import Model2
from draw_jax.model.variants.model_3 import Model3
from draw_jax.model.variants.ram import Ram

# By `config.kind`: the model, and the function for its task.
_MODELS: dict[str, tuple[Callable[..., Model], Callable[[Any], Task]]] = {
    "draw": (Draw, draw.task),
    "model_1": (Model1, model_1.task),
    "model_2": (Model2, model_2.task),
    "model_3": (Model3, model_3.task),
    "classifier": (GlimpseClassifier, classifier.task),
    "glimpse_convnet": (GlimpseConvNet, glimpse_convnet.task),
    "convnet": (ConvNet, convnet.task),
    "ram": (Ram, ram.task),
}
KINDS = tuple(_MODELS)


def build(config: ConfigDict) -> Model:
    """Returns the model that a configuration describes.

    Args:
        config: a whole configuration; `kind` and `model` are used.

    Raises:
        ValueError: if `kind` is unknown, or a field of `model` is unknown, missing or out of range.
    """
    if config.kind not in KINDS:
        raise ValueError(
            f"config.kind: expected {' or '.join(map(repr, KINDS))}, got {config.kind!r}"
        )
    return _made(_MODELS[config.kind][0], config)


def _made(kind: Callable[..., Model], config: ConfigDict) -> Model:
    """Returns a model of `config.model`, whose types are those that its class declares."""
    types: dict[str, Any] = {
        field.name: field.type for field in dataclasses.fields(cast(Any, kind))
    }
    for name, value in config.model.items():
        if name not in types:
            raise ValueError(f"config.model.{name}: no field of config.kind {config.kind!r}")
        whole = type(value) is int
        right, wanted = {
            int: (whole, "a whole number"),
            float: (whole or type(value) is float, "a number"),
            str: (isinstance(value, str), "text"),
            bool: (type(value) is bool, "True or False"),
        }.get(types[name], (isinstance(value, tuple | list), "numbers in brackets"))
        if not right:
            raise ValueError(f"config.model.{name}: expected {wanted}, got {value!r}")
    try:
        return kind(**config.model.to_dict())
    except TypeError as error:  # the wording of Python's call check, less its prefix
        raise ValueError(f"config.model: {str(error).split('() ')[-1]}") from None


def drawing(model: Model, itself: bool = False) -> Draw:
    """Returns a model that is known to draw: a Draw, or a subclass of it.

    Args:
        model: of any kind.
        itself: whether to refuse subclasses, which have parts of their own.

    Raises:
        ValueError: if it is of another kind.
    """
    if not isinstance(model, Draw) or (itself and type(model) is not Draw):
        made = "" if itself else " or one that is made of it"
        raise ValueError(
            f"expected a model of config.kind 'draw'{made}, got a {type(model).__name__}"
        )
    return model


@functools.cache  # one task per model, so that its compiled programs are reused
def task(model: Model) -> Task:
    """Returns what a model brings to training and evaluation."""
    tasks: dict[Any, Callable[[Any], Task]] = dict(_MODELS.values())
    return tasks[type(model)](model)


@functools.partial(jax.jit, static_argnums=0)
def initial_variables(model: Model, key: jax.Array) -> Variables:
    """Returns {"params": ...} as initialised from a key."""
    x = jnp.zeros((1, *model.image_shape))
    if isinstance(model, Draw):
        return model.init(key, x, jnp.zeros((1, 1, model.latent_size)))
    if isinstance(model, Ram):
        return model.init(key, x, jnp.zeros((1, 1, 2)))
    return model.init(key, x)


def shapes(model: Model) -> Any:
    """Returns {"params": ...} of a model as jax.ShapeDtypeStruct, without computing anything."""
    # JAX keeps the trace for a later call.
    return initial_variables.eval_shape(model, jax.random.key(0))


class Keys(NamedTuple):
    """Independent streams of randomness, all from `config.seed`."""

    init: jax.Array
    train: jax.Array
    evaluate: jax.Array
    sample: jax.Array


def keys(seed: int) -> Keys:
    """Returns the streams of a seed."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))
