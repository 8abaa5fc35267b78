"""Measure 7 of the 2016 follow-up study: what a sample says of the training image nearest to it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.data.interface import Split
from draw_jax.drawing import latents, sampling
from draw_jax.model import likelihood
from draw_jax.model.draw import Draw
from draw_jax.model.task import Variables

MAX_IMAGES = 10_000


def of_canvases(
    canvases: np.ndarray, training_images: np.ndarray, name: str = "bernoulli"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns of each canvas the nearest training image, and its NLL given the canvas, eq. 9.

    Nearest is by pixelwise L2 to the mean of D(X given canvas).

    Args:
        canvases: last canvases c_T, [N, H, W, C k].
        training_images: [M, H, W, C], float in [0, 1] or uint8 in 0..255.
        name: of the likelihood D; the study has the Bernoulli.

    Returns:
        Indices into training_images, int64 [N], and nats [N].
    """
    kind = likelihood.named(name)
    c_t = jnp.asarray(canvases)
    means = np.asarray(kind.mean(c_t))
    index = latents.nearest(means, training_images)
    images = training_images[index].astype(np.float32)
    if training_images.dtype == np.uint8:
        images /= 255
    return index, np.asarray(kind.nll(c_t, jnp.asarray(images)), np.float64)


def measure(
    model: Draw,
    variables: Variables,
    key: jax.Array,
    training: Split,
    count: int,
    batch_size: int = sampling.BATCH_SIZE,
    on_batch: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Returns mean, standard deviation and maximum of `of_canvases` over generated images.

    The report does not tell which distance and which images; L2 on the means and the training split
    are our reading. Training images are taken by their grey values, where updates binarise them,
    too. The measure says little of a model: one that repeats training images is near to them, and
    the mean of blurred images is cheap.

    Args:
        model: a `Draw`; its own likelihood gives the NLL.
        variables: its parameters, `{"params": ...}`.
        key: of the noise; image i draws from `fold_in(key, i)`.
        training: the training split, with an end.
        count: images to generate, 1 to 10,000.
        batch_size: of them at a time; no effect on the result.
        on_batch: called with the number of images done; may raise to stop.

    Returns:
        `nearest_nll`, `nearest_nll_std` and `nearest_nll_max`, nats, and `nearest_images`, count.

    Raises:
        ValueError: if an argument is not as described.
    """
    if not 1 <= count <= MAX_IMAGES:
        raise ValueError(f"expected 1 to {MAX_IMAGES:,} images, got {count}")
    if training.endless or not len(training):
        raise ValueError(
            f"expected training images, got {'an endless stream' if training.endless else 'none'}"
        )
    images = training.batch(np.arange(len(training))).images
    z = sampling.noise(key, count, model.time_steps, model.latent_size)
    parts = []
    for start in range(0, count, batch_size):
        part = z[:, start : start + batch_size]
        parts.append(sampling.decode(model, variables, part, batch_size).canvases[-1])
        on_batch(start + part.shape[1])
    nll = of_canvases(np.concatenate(parts), images, model.likelihood)[1]
    return {
        "nearest_nll": float(nll.mean()),
        "nearest_nll_std": float(nll.std()),
        "nearest_nll_max": float(nll.max()),
        "nearest_images": count,
    }
