"""Measure 7 of the 2016 follow-up study: the NLL of the nearest training image given a sample."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.data.interface import LazyImages, Split
from draw_jax.drawing import latents, sampling
from draw_jax.model import likelihood
from draw_jax.model.draw import Draw
from draw_jax.model.task import Variables

MAX_IMAGES = 10_000
_HELD = 1e-7  # how near a rounded probability comes to 0 and 1


def of_canvases(
    canvases: np.ndarray, training_images: np.ndarray | LazyImages, name: str = "bernoulli"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each canvas's nearest training image, and its NLL given the canvas, eq. 9.

    Nearest is by pixelwise L2 to the mean of D(X given canvas).

    Args:
        canvases: last canvases c_T, [N, H, W, C k].
        training_images: [M, H, W, C], float in [0, 1] or uint8 in 0..255; read in batches.
        name: of the likelihood D; the study has the Bernoulli.

    Returns:
        Indices into training_images, int64 [N], and nats [N].

    Raises:
        ValueError: if the likelihood is unknown.
    """
    kind = likelihood.named(name)
    c_t = jnp.asarray(canvases)
    means = np.asarray(kind.mean(c_t))
    index = latents.nearest(means, training_images)
    found = training_images[index]
    images = found.astype(np.float32)
    if found.dtype == np.uint8:
        images /= 255
    return index, np.asarray(kind.nll(c_t, jnp.asarray(images)), np.float64)


def of_rounded(canvases: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Returns the NLL, eq. 9, of images given canvases, both rounded to 0 and 1.

    Our guess at what the report measured (docs/study.md says why). The canvas's probabilities are
    clipped to [1e-7, 1 - 1e-7]: each pixel that differs costs 16.1 nats.

    Args:
        canvases: last canvases c_T of a Bernoulli, logits [N, H, W, C].
        images: [N, H, W, C], float in [0, 1] or uint8 in 0..255.

    Returns:
        nats [N].
    """
    white = images > (127 if images.dtype == np.uint8 else 0.5)
    differ = ((canvases > 0) != white).sum(axis=(1, 2, 3))
    same = np.prod(images.shape[1:]) - differ
    return np.asarray(-differ * np.log(_HELD) - same * np.log1p(-_HELD), np.float64)


def measure(
    model: Draw,
    variables: Variables,
    key: jax.Array,
    training: Split,
    count: int,
    batch_size: int = sampling.BATCH_SIZE,
    on_batch: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Returns mean, standard deviation and maximum over generated images of both readings.

    The report does not say which distance and which images; L2 on the means and the training split
    are our reading. Training images keep their grey values, even where updates binarise them, and
    are read in batches, see `latents.nearest`. The measure says little about a model: one that
    repeats training images is near to them, and blurred images have a low mean.

    Args:
        model: a `Draw`; its own likelihood gives the NLL.
        variables: its parameters, `{"params": ...}`.
        key: of the noise; image i draws from `fold_in(key, i)`.
        training: the training split, with an end; of a varied one the first visit's images count.
        count: images to generate, 1 to 10,000.
        batch_size: of them at a time; no effect on the result.
        on_batch: called with the number of images done; may raise to stop.

    Returns:
        `nearest_nll`, `nearest_nll_std` and `nearest_nll_max`, nats; of a Bernoulli the three of
        `of_rounded`, too, `nearest_rounded_nll` and so on; and `nearest_images`, count.

    Raises:
        ValueError: if an argument is not as described.
    """
    if not 1 <= count <= MAX_IMAGES:
        raise ValueError(f"expected 1 to {MAX_IMAGES:,} images, got {count}")
    if training.endless or not len(training):
        raise ValueError(
            f"expected training images, got {'an endless stream' if training.endless else 'none'}"
        )
    images = LazyImages(training)
    z = sampling.noise(key, count, model.time_steps, model.latent_size)
    canvases = sampling.last_canvases(model, variables, z, batch_size, on_batch)
    index, nll = of_canvases(canvases, images, model.likelihood)
    found = _summary("nearest_nll", nll)
    if model.likelihood == "bernoulli":
        found |= _summary("nearest_rounded_nll", of_rounded(canvases, images[index]))
    return found | {"nearest_images": count}


def _summary(name: str, nll: np.ndarray) -> dict[str, float]:
    return {
        name: float(nll.mean()),
        f"{name}_std": float(nll.std()),
        f"{name}_max": float(nll.max()),
    }
