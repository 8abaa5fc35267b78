"""Looking with a trained classifier: what it reads of images, and what it answers.

Pure functions of a model, its variables and images; results are NumPy arrays.
"""

import functools
from typing import Any, TypeGuard, cast

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.drawing import sampling
from draw_jax.drawing.figures.glimpses import Seen
from draw_jax.model import attention
from draw_jax.model.classifier import GlimpseClassifier, Glimpses, widened
from draw_jax.model.task import Model, Variables


def looks(model: Model) -> TypeGuard[GlimpseClassifier]:
    """Returns whether a model is a classifier that reads glimpses, as the functions below take."""
    return isinstance(model, GlimpseClassifier)


def look(
    model: GlimpseClassifier,
    variables: Variables,
    images: np.ndarray,
    key: jax.Array,
    batch_size: int = sampling.BATCH_SIZE,
) -> tuple[np.ndarray, attention.Window]:
    """Returns the logits after each glimpse and the windows that were read through.

    Args:
        model: a classifier that reads glimpses.
        variables: its parameters, `{"params": ...}`.
        images: [B, H, W, C] in [0, 1], of the model's shape.
        key: of the noise of a model that draws where to look; this one draws nothing.
        batch_size: images at a time on the device.

    Returns:
        logits [T, B, classes]; windows, arrays [T, B].

    Raises:
        ValueError: if the images are not as described.
    """
    images = sampling.check_images(model, images)
    seen = sampling.in_batches(
        lambda part: _look(model, variables, images[part].astype(np.float32)),
        len(images),
        batch_size,
    )
    return seen.logits, seen.windows


@functools.partial(jax.jit, static_argnums=0)
def _look(model: GlimpseClassifier, variables: Variables, images: jax.Array) -> Glimpses:
    return cast(Glimpses, model.apply(variables, images, trace=True))


def patches(model: GlimpseClassifier, images: np.ndarray, windows: Any) -> np.ndarray:
    """Returns what was read through windows, eq. 27 without its factor gamma.

    So each glimpse shows on the image's own scale.

    Args:
        model: a classifier that reads glimpses.
        images: [B, H, W, C] in [0, 1].
        windows: arrays [T, B].

    Returns:
        [scales, T, B, N, N, C] in [0, 1]; each scale is twice as wide as the one before.
    """
    ones = attention.Window(*(jnp.asarray(field) for field in windows))
    ones = ones._replace(gamma=jnp.ones_like(ones.gamma))
    repeated = jnp.broadcast_to(images, (*ones.g_x.shape, *model.image_shape))
    return np.stack(
        [
            np.asarray(attention.read(repeated, widened(ones, 2**k), model.read_size))
            for k in range(model.scales)
        ]
    )


def seen(
    model: GlimpseClassifier,
    variables: Variables,
    images: np.ndarray,
    labels: np.ndarray | None,
    key: jax.Array,
) -> Seen:
    """Returns all that a picture of glimpses shows.

    Args:
        model: a classifier that reads glimpses.
        variables: its parameters, `{"params": ...}`.
        images: [B, H, W, C] in [0, 1], of the model's shape.
        labels: integers [B]; None: not known.
        key: as for `look`.

    Raises:
        ValueError: if the images are not as described.
    """
    logits, windows = look(model, variables, images, key)
    return Seen(np.asarray(images), patches(model, images, windows), logits, windows, labels)
