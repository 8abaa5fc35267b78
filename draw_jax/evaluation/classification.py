"""What a classifier answers, and what its errors on a split say of its error rate."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from draw_jax.drawing import glimpses, sampling
from draw_jax.model.draw import Draw
from draw_jax.model.task import Model, Variables


def logits(model: Model, variables: Variables, images: np.ndarray) -> np.ndarray:
    """Returns the logits of the classes after a classifier's last glimpse, [B, classes].

    Args:
        model: a classifier of any kind; one that draws its first location draws the same each time.
        variables: its parameters, `{"params": ...}`.
        images: [B, H, W, C] in [0, 1], of the model's shape.

    Raises:
        ValueError: if the images are not as described, or the model is one that draws.
    """
    if isinstance(model, Draw):
        raise ValueError(f"expected a classifier, got a {type(model).__name__}, which draws")  # noqa: TRY004
    if glimpses.looks(model):
        found = glimpses.look(model, variables, images, jax.random.key(0))[0]
    else:
        images = sampling.check_images(model, images)
        found = sampling.in_batches(
            lambda part: _logits(model, variables, jnp.asarray(images[part], jnp.float32)),
            len(images),
            sampling.BATCH_SIZE,
        )
    return np.asarray(found[-1])


@functools.partial(jax.jit, static_argnums=0)
def _logits(model: Model, variables: Variables, images: jax.Array) -> jax.Array:
    return cast(jax.Array, model.apply(variables, images))


def interval(errors: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the exact binomial confidence interval of an error rate, two fractions.

    Args:
        errors: images classified wrongly, 0..images.
        images: at least 1, drawn independently.
        confidence: that the interval holds the rate, in (0, 1); a half of the rest on either side.

    Raises:
        ValueError: if an argument is out of range.

    The interval of Clopper and Pearson (1934), by quantiles of the beta distribution.
    """
    if images < 1 or not 0 <= errors <= images:
        raise ValueError(f"expected 0 <= errors <= images and images >= 1, got {errors}, {images}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence in (0, 1), got {confidence}")
    tail, right = (1 - confidence) / 2, images - errors
    low = special.betaincinv(errors, right + 1, tail) if errors else 0.0
    high = special.betaincinv(errors + 1, right, 1 - tail) if right else 1.0
    return float(low), float(high)
