"""Studies of the latent space and of what was learned: ways between images, one fixed step, nearest.

Pure functions, beside those of `sampling`; results are NumPy arrays.
"""

import math

import jax
import numpy as np

from draw_jax.data.interface import LazyImages
from draw_jax.drawing import sampling
from draw_jax.model.draw import Draw, Trace
from draw_jax.model.task import Variables

_ROOM = 2**30  # bytes of a batch of training images: three float32 a value
_AT_A_TIME = 256  # images whose distance is computed in float64


def between(z_a: np.ndarray, z_b: np.ndarray, count: int, spherical: bool = True) -> np.ndarray:
    """Returns latents from z_a to z_b over all time steps, both ends included.

    With w from 0 to 1 in equal steps, linear is `(1 - w) z_a + w z_b`. Spherical turns each time
    step's vector on its own: with theta the angle between z_a_t and z_b_t,
    `(sin((1 - w) theta) z_a_t + sin(w theta) z_b_t) / sin(theta)`, which keeps the norm of ends
    of equal norm, as a standard normal in many dimensions nearly has. Where theta has no plane
    to turn in (parallel, opposite or zero vectors) the step is linear.

    Args:
        z_a: [T, Z].
        z_b: [T, Z].
        count: points on the way, at least 2.
        spherical: or linear.

    Returns:
        float32 [T, count, Z].

    Raises:
        ValueError: if the shapes differ or count is below 2.
    """
    z_a, z_b = np.asarray(z_a), np.asarray(z_b)
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise ValueError(
            f"expected z_a and z_b of one shape [T, Z], got {list(z_a.shape)}, {list(z_b.shape)}"
        )
    if count < 2:
        raise ValueError(f"expected count of at least 2, got {count}")
    a, b = z_a[:, None].astype(np.float64), z_b[:, None].astype(np.float64)  # [T, 1, Z]
    w = np.linspace(0.0, 1.0, count)[:, None]  # [count, 1]
    weight_a, weight_b = np.broadcast_arrays(1 - w, w, a[..., :1])[:2]  # [T, count, 1]
    if spherical:
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        cosine = (a * b).sum(-1) / np.where(norms > 0, norms, 1.0)
        theta = np.arccos(np.clip(cosine, -1.0, 1.0))[..., None]  # [T, 1, 1]
        turns = (norms[..., None] > 0) & (np.sin(theta) > 1e-6)
        sine = np.where(turns, np.sin(theta), 1.0)
        weight_a = np.where(turns, np.sin((1 - w) * theta) / sine, weight_a)
        weight_b = np.where(turns, np.sin(w * theta) / sine, weight_b)
    return (weight_a * a + weight_b * b).astype(np.float32)


def interpolate(
    model: Draw,
    variables: Variables,
    z_a: np.ndarray,
    z_b: np.ndarray,
    count: int,
    spherical: bool = True,
) -> np.ndarray:
    """Returns the canvases on the way from z_a to z_b; `between` has the formulas.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        z_a: latents of the first image, [T, Z].
        z_b: latents of the last image, [T, Z].
        count: images on the way, both ends included, at least 2.
        spherical: or linear.

    Returns:
        [T, count, H, W, C k]; the images' means are `mean_images` of the last step.

    Raises:
        ValueError: if the latents do not fit each other or the model.
    """
    trace = sampling.decode(model, variables, between(z_a, z_b, count, spherical))
    return np.asarray(trace.canvases)


def fix_step(
    model: Draw,
    variables: Variables,
    key: jax.Array,
    time_step: int,
    count: int,
) -> Trace:
    """Returns the trace of images that share z at one time step, all else drawn separately.

    The 2016 follow-up study's question: which step decides what is drawn? All steps of one key
    start from the same noise, that of `generate`, so their pictures compare image by image.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        key: a JAX random key.
        time_step: t whose z is shared, 1..T; every image gets image 0's z_t.
        count: B, images, at least 1.

    Raises:
        ValueError: if the time step is not one of the model's.
    """
    if not 1 <= time_step <= model.time_steps:
        raise ValueError(f"expected time_step in 1..{model.time_steps}, got {time_step}")
    z = sampling.noise(key, count, model.time_steps, model.latent_size).copy()
    z[time_step - 1] = z[time_step - 1, :1]
    return sampling.decode(model, variables, z)


def nearest(
    images: np.ndarray, training_images: np.ndarray | LazyImages, batch_size: int | None = None
) -> np.ndarray:
    """Returns for each image the index of the training image nearest in pixelwise L2.

    All training images are searched, a batch at a time, and the best so far is kept. Besides the N
    images this takes about 12 bytes a value of a batch, 1 GiB at most, and 4 N for each image of it.

    Args:
        images: [N, H, W, C], float in [0, 1].
        training_images: [M, H, W, C], float in [0, 1], bool, or uint8 in 0..255; a memory map, or
            lazy ones, of which a batch is read at a time.
        batch_size: training images at a time; None: 4,096, or fewer where these would take more
            than 1 GiB.

    Returns:
        int64 [N], indices into training_images; of equally near ones the first.

    Raises:
        ValueError: if the shapes do not match, or 8-bit images look like 0/1 and not 0..255.

    Note: within a batch candidates are ranked in float32, so two whose distances agree to about
        one part in a million may change places; the winners are compared in float64.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.shape[1:] != training_images.shape[1:]:
        raise ValueError(
            "expected images [N, H, W, C] and training_images [M, H, W, C], got "
            f"{list(images.shape)} and {list(training_images.shape)}"
        )
    if batch_size is None:
        batch_size = min(4096, max(1, _ROOM // (12 * math.prod(images.shape[1:]))))
    if not len(training_images) or batch_size < 1:
        raise ValueError("expected at least one training image and batch_size of at least 1")
    if not np.isfinite(images).all():
        raise ValueError("expected finite images, got a value that is not")
    flat = images.reshape(len(images), -1).astype(np.float32)
    best = np.zeros(len(images), np.int64)
    best_distance = np.full(len(images), np.inf)
    only_0_and_1 = True
    for start in range(0, len(training_images), batch_size):
        stored = training_images[start : start + batch_size]
        is_8_bit = stored.dtype == np.uint8
        only_0_and_1 &= is_8_bit and bool(stored.max() <= 1)
        batch = np.asarray(stored, np.float32)
        batch = batch.reshape(len(batch), -1) / np.float32(255 if is_8_bit else 1)
        # |x - y|^2 without the |x|^2 that all candidates share.
        scores = flat @ batch.T
        scores *= -2
        scores += (batch**2).sum(1)
        candidate = np.argmin(scores, axis=1)
        for first in range(0, len(flat), _AT_A_TIME):
            some = slice(first, first + _AT_A_TIME)
            distance = ((flat[some] - batch[candidate[some]]).astype(np.float64) ** 2).sum(1)
            closer = distance < best_distance[some]
            best[some][closer] = start + candidate[some][closer]
            best_distance[some][closer] = distance[closer]
    if only_0_and_1:
        raise ValueError("expected uint8 training_images in 0..255, got 0/1; pass bool or float")
    return best
