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
from draw_jax.model.variants import ram, retina
from draw_jax.model.variants.glimpse_convnet import GlimpseConvNet
from draw_jax.model.variants.ram import Episode, Ram
from draw_jax.system import devices

Looking = GlimpseClassifier | Ram


def looks(model: Model) -> TypeGuard[Looking]:
    """Returns whether a model is a classifier that reads glimpses, as the functions below take."""
    return isinstance(model, GlimpseClassifier | Ram)


def look(
    model: Looking,
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
        key: of the first location of RAM, which it draws; the other model draws nothing.
        batch_size: images at a time on the device.

    Returns:
        logits [T, B, classes]; windows, arrays [T, B].

    Raises:
        ValueError: if the images are not as described.
    """
    images = sampling.check_images(model, images)
    keys = jax.random.split(key, len(images))
    seen = sampling.in_batches(
        lambda part: _look(
            model,
            variables,
            devices.spread(images[part].astype(np.float32)),
            devices.spread(keys[part]),
        ),
        len(images),
        batch_size,
    )
    return seen.logits, seen.windows


@functools.partial(jax.jit, static_argnums=0)
def _look(model: Looking, variables: Variables, images: jax.Array, keys: jax.Array) -> Glimpses:
    if isinstance(model, GlimpseClassifier):
        return cast(Glimpses, model.apply(variables, images, trace=True))
    noise = ram.first_location_noise(model, keys)
    episode = cast(Episode, model.apply(variables, images, noise, trace=True))
    assert episode.windows is not None  # as it was traced
    return Glimpses(episode.logits, episode.windows)


def patches(model: Looking, images: np.ndarray, windows: Any) -> np.ndarray:
    """Returns what was read through windows, eq. 27 without its factor gamma.

    So each glimpse shows on the image's own scale.

    Args:
        model: a classifier that reads glimpses.
        images: [B, H, W, C] in [0, 1].
        windows: arrays [T, B].

    Returns:
        [scales, T, B, N, N, C] in [0, 1]; each scale is twice as wide as the one before.
    """
    if isinstance(model, Ram):
        return _hard_patches(model, images, windows)
    x, ones = jnp.asarray(images), without_gamma(windows)
    return np.stack(
        [
            np.asarray(attention.read(x, widened(ones, 2**k), model.read_size))
            for k in range(model.scales)
        ]
    )


def without_gamma(windows: Any) -> attention.Window:
    """Returns windows of arrays [...] with gamma 1, through which an image keeps its own scale."""
    ones = attention.Window(*(jnp.asarray(field) for field in windows))
    return ones._replace(gamma=jnp.ones_like(ones.gamma))


def _hard_patches(model: Ram, images: np.ndarray, windows: Any) -> np.ndarray:
    """Returns the patches that RAM's retina saw, [scales, T, B, N, N, C].

    Windows are in whole pixels: for an odd N, wider patches may be shown a pixel off.
    """
    height, width, _ = model.image_shape
    levels = retina.averages(jnp.asarray(images, jnp.float32), model.scales)
    centres = np.stack([windows.g_x, windows.g_y], axis=-1)  # pixels numbered from 1
    places = (centres - 0.5) / np.array([width, height]) * 2 - 1
    seen = [retina.patches(levels, jnp.asarray(place), model.read_size) for place in places]
    return np.stack(seen).transpose(2, 0, 1, 3, 4, 5)


def seen(
    model: Looking,
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
    shown, blurred = patches(model, images, windows), not isinstance(model, Ram)
    finer = None  # as where it has more pixels than the image, beside which it would not fit
    if isinstance(model, GlimpseConvNet) and model.fine_size <= min(model.image_shape[:2]):
        finer = read_by_net(model, images, windows)
    return Seen(np.asarray(images), shown, logits, windows, labels, blurred, finer)


def read_by_net(model: GlimpseConvNet, images: np.ndarray, windows: Any) -> np.ndarray:
    """Returns what the convolutional net read, without its factor gamma, [T, B, M, M, C].

    Args:
        model: whose net it is.
        images: [B, H, W, C] in [0, 1].
        windows: arrays [T, B].
    """
    finer = model.finer(without_gamma(windows))
    return np.asarray(attention.read(jnp.asarray(images), finer, model.fine_size))
