"""Drawing with a trained model: generate, reconstruct, interpolate, fix a step, nearest images.

Pure functions of a model, its variables and a key. Noise belongs to an image, not to a batch:
image i of a call draws its own from `fold_in(key, i)`, so image i is the same image whatever the
count and the batch size. Results are NumPy arrays; batches bound what the device holds.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BATCH_SIZE = 100
# A second stream of the same key, so that pixels drawn from D owe nothing to the noise of z.
_PIXELS = 1


def noise(key: jax.Array, count: int, time_steps: int, latent_size: int) -> np.ndarray:
    """Returns standard normal noise for z or eps, image i's from `fold_in(key, i)`.

    Args:
        key: a JAX random key.
        count: B, images, at least 1.
        time_steps: T, at least 1.
        latent_size: Z, at least 1.

    Returns:
        float32 [T, B, Z].

    Raises:
        ValueError: if a size is below 1.
    """
    if min(count, time_steps, latent_size) < 1:
        raise ValueError(
            "expected count, time_steps and latent_size of at least 1, got "
            f"{count}, {time_steps} and {latent_size}"
        )
    return np.asarray(_noise(key, np.arange(count), time_steps, latent_size))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _noise(key: jax.Array, index: jax.Array, time_steps: int, latent_size: int) -> jax.Array:
    def draw(i: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, i), (time_steps, latent_size))

    return jax.vmap(draw, out_axes=1)(index)


def decode(model: Any, variables: Any, z: np.ndarray, batch_size: int = BATCH_SIZE) -> Any:
    """Returns the trace of drawing from given latents, eqs 14 and 15, in NumPy arrays.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        z: [T, B, Z]; standard normal for samples of the model.
        batch_size: images at a time on the device.

    Returns:
        The model's trace: canvases [T, B, H, W, C] (logits), write_windows [T, B] or None.

    Raises:
        ValueError: if z is not [T, B, Z] with the model's Z, or batch_size is below 1.
    """
    z = np.asarray(z, np.float32)
    if z.ndim != 3 or 0 in z.shape or z.shape[2] != model.latent_size:
        raise ValueError(f"expected z [T, B, Z = {model.latent_size}], got {list(z.shape)}")
    return _in_batches(lambda part: _generate(model, variables, z[:, part]), z.shape[1], batch_size)


def generate(
    model: Any,
    variables: Any,
    key: jax.Array,
    count: int,
    time_steps: int | None = None,
    temperature: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Any:
    """Returns the trace of `count` images drawn from the model, eqs 13-15.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        key: a JAX random key.
        count: B, images, at least 1.
        time_steps: T; None: as many as the model trained with.
        temperature: standard deviation of z, at least 0; 1 is the model, less is tamer.
        batch_size: images at a time on the device.

    Returns:
        The model's trace: canvases [T, B, H, W, C] (logits), write_windows [T, B] or None. The
        images' means are `mean_images(trace.canvases[-1])`.

    Raises:
        ValueError: if a number is out of its range.
    """
    if not 0 <= temperature < np.inf:
        raise ValueError(f"expected temperature of at least 0, got {temperature}")
    z = noise(key, count, _steps(model, time_steps), model.latent_size)
    return decode(model, variables, np.float32(temperature) * z, batch_size)


def reconstruct(
    model: Any,
    variables: Any,
    images: np.ndarray,
    key: jax.Array,
    time_steps: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> Any:
    """Returns the output of inferring each image with one sample of z, eqs 1-12, with its trace.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        images: [B, H, W, C] in [0, 1], of the model's shape.
        key: a JAX random key.
        time_steps: T; None: as many as the model trained with.
        batch_size: images at a time on the device.

    Returns:
        The model's output: nll [B] and kl [T, B] in nats, trace of [T, B, ...] arrays.

    Raises:
        ValueError: if the images are not as described.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.shape[1:] != tuple(model.image_shape):
        raise ValueError(
            f"expected images [B, H, W, C] with (H, W, C) = {tuple(model.image_shape)}, got "
            f"{list(images.shape)}"
        )
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"expected images in [0, 1], got values from {images.min()} to {images.max()}"
        )
    eps = noise(key, len(images), _steps(model, time_steps), model.latent_size)
    return _in_batches(
        lambda part: _infer(model, variables, images[part].astype(np.float32), eps[:, part]),
        len(images),
        batch_size,
    )


@functools.partial(jax.jit, static_argnums=0)
def _generate(model: Any, variables: Any, z: jax.Array) -> Any:
    return model.apply(variables, z, method="generate")


@functools.partial(jax.jit, static_argnums=0)
def _infer(model: Any, variables: Any, images: jax.Array, eps: jax.Array) -> Any:
    return model.apply(variables, images, eps, trace=True)


def _in_batches(run: Callable[[np.ndarray], Any], count: int, batch_size: int) -> Any:
    """Returns `run` of all indices, batch after batch, joined in NumPy.

    The last batch is filled up with its last image, so that every batch has one shape and
    compiles once.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
    batch_size = min(batch_size, count)
    parts = []
    for start in range(0, count, batch_size):
        part = run(np.minimum(np.arange(start, start + batch_size), count - 1))
        parts.append(jax.tree.map(np.asarray, part))

    def join(*arrays: np.ndarray) -> np.ndarray:
        axis = min(1, arrays[0].ndim - 1)
        joined = np.concatenate(arrays, axis) if len(arrays) > 1 else arrays[0]
        return joined[(slice(None),) * axis + (slice(count),)]

    return jax.tree.map(join, *parts)


def _steps(model: Any, time_steps: int | None) -> int:
    return model.time_steps if time_steps is None else time_steps


def mean_images(canvases: np.ndarray) -> np.ndarray:
    """Returns the mean of D, sigma(canvas), in [0, 1]; [..., H, W, C] like the logits given."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(canvases, np.float32))


def error_images(images: np.ndarray, canvases: np.ndarray, first_canvas: np.ndarray) -> np.ndarray:
    """Returns the error images that each step read, x - sigma(c_{t-1}), eq. 3.

    Args:
        images: x [B, H, W, C] in [0, 1].
        canvases: c_1..c_T [T, B, H, W, C], logits.
        first_canvas: c_0 [H, W, C], logits (in `Draw`: `params["cell"]["canvas_0"]`).

    Returns:
        [T, B, H, W, C] in [-1, 1].
    """
    first = np.broadcast_to(first_canvas, canvases.shape[1:])[None]
    return images - mean_images(np.concatenate([first, canvases[:-1]]))


def draw_images(key: jax.Array, canvases_T: np.ndarray) -> np.ndarray:
    """Returns binary images drawn from D(X given c_T), eq. 16, image i's from its own key.

    The key may be the one that drew z: the two streams are independent.

    Args:
        key: a JAX random key.
        canvases_T: final canvases [B, H, W, C], logits.

    Returns:
        float32 [B, H, W, C] of 0 and 1.

    Raises:
        ValueError: if the canvases are not [B, H, W, C].
    """
    canvases = np.asarray(canvases_T, np.float32)
    if canvases.ndim != 4 or 0 in canvases.shape:
        raise ValueError(
            f"expected the final canvases [B, H, W, C], got {list(canvases.shape)}; "
            "of a trace take canvases[-1]"
        )
    return np.asarray(_draw(jax.random.fold_in(key, _PIXELS), canvases))


@jax.jit
def _draw(key: jax.Array, canvases: jax.Array) -> jax.Array:
    def draw(i: jax.Array, canvas: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, i), jax.nn.sigmoid(canvas))

    return jax.vmap(draw)(jnp.arange(len(canvases)), canvases).astype(jnp.float32)


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
    model: Any,
    variables: Any,
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
        [T, count, H, W, C], logits; the images' means are `mean_images` of the last step.

    Raises:
        ValueError: if the latents do not fit each other or the model.
    """
    return decode(model, variables, between(z_a, z_b, count, spherical)).canvases


def fix_step(
    model: Any,
    variables: Any,
    key: jax.Array,
    step: int,
    count: int,
    batch_size: int = BATCH_SIZE,
) -> Any:
    """Returns the trace of images that share z at one time step, all else drawn freshly.

    The 2016 follow-up study's question: which step decides what is drawn? All steps of one key
    start from the same noise, that of `generate`, so their pictures compare image by image.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        key: a JAX random key.
        step: t of the step to hold, 1..T; every image gets image 0's z_t.
        count: B, images, at least 1.
        batch_size: images at a time on the device.

    Raises:
        ValueError: if the step is not one of the model's.
    """
    if not 1 <= step <= model.time_steps:
        raise ValueError(f"expected step in 1..{model.time_steps}, got {step}")
    z = noise(key, count, model.time_steps, model.latent_size).copy()
    z[step - 1] = z[step - 1, :1]
    return decode(model, variables, z, batch_size)


def nearest(images: np.ndarray, training_images: np.ndarray, batch_size: int = 4096) -> np.ndarray:
    """Returns for each image the index of the training image nearest in pixelwise L2.

    Args:
        images: [N, H, W, C], float in [0, 1].
        training_images: [M, H, W, C], float in [0, 1], bool, or uint8 in 0..255; may be a memory
            map, of which `batch_size` images are held at a time.
        batch_size: training images at a time.

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
    if not len(training_images) or batch_size < 1:
        raise ValueError("expected at least one training image and batch_size of at least 1")
    if not np.isfinite(images).all():
        raise ValueError("expected finite images, got a value that is not")
    is_8_bit = training_images.dtype == np.uint8
    if is_8_bit and training_images.max() <= 1:
        raise ValueError("expected uint8 training_images in 0..255, got 0/1; pass bool or float")
    flat = images.reshape(len(images), -1).astype(np.float32)
    best = np.zeros(len(images), np.int64)
    best_distance = np.full(len(images), np.inf)
    for start in range(0, len(training_images), batch_size):
        batch = np.asarray(training_images[start : start + batch_size], np.float32)
        batch = batch.reshape(len(batch), -1) / np.float32(255 if is_8_bit else 1)
        # |x - y|^2 without the |x|^2 that all candidates share.
        candidate = np.argmin((batch**2).sum(1) - 2 * (flat @ batch.T), axis=1)
        distance = ((flat - batch[candidate]).astype(np.float64) ** 2).sum(1)
        closer = distance < best_distance
        best[closer] = start + candidate[closer]
        best_distance[closer] = distance[closer]
    return best
