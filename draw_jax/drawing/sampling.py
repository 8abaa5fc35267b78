"""Drawing with a trained model: generate and reconstruct.

Pure functions of a model, its variables and a key. Noise belongs to an image, not to a batch:
image i of a call draws its own from `fold_in(key, i)`, so image i is the same image whatever the
count and the batch size. Results are NumPy arrays; batches bound what the device holds.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from draw_jax.model import likelihood
from draw_jax.model.draw import Draw, Output, Trace, traced
from draw_jax.model.task import Model, Variables
from draw_jax.system import devices

BATCH_SIZE = 100
# A second stream of the same key, so that pixels drawn from D do not depend on z's noise.
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
    shape = (time_steps, latent_size)

    def draw(i: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float32)

    return jax.vmap(draw, out_axes=1)(index)


def decode(model: Draw, variables: Variables, z: np.ndarray, batch_size: int = BATCH_SIZE) -> Trace:
    """Returns the trace of drawing from given latents, eqs 14 and 15, in NumPy arrays.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        z: [T, B, Z]; standard normal for samples of the model.
        batch_size: images at a time on the device.

    Returns:
        The model's trace: canvases [T, B, H, W, C k], write_windows [T, B] or None.

    Raises:
        ValueError: if z is not [T, B, Z] with the model's Z, or batch_size is below 1.
    """
    z = np.asarray(z, np.float32)
    if z.ndim != 3 or 0 in z.shape or z.shape[2] != model.latent_size:
        raise ValueError(f"expected z [T, B, Z = {model.latent_size}], got {list(z.shape)}")
    return in_batches(
        lambda part: _generate(model, variables, devices.spread(z[:, part], axis=1)),
        z.shape[1],
        batch_size,
    )


def last_canvases(
    model: Draw,
    variables: Variables,
    z: np.ndarray,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Returns the last canvases c_T [B, H, W, C k] of given latents, eqs 14 and 15.

    Of any number of images: the canvases of other time steps are dropped after each batch.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        z: [T, B, Z]; standard normal for samples of the model.
        batch_size: images at a time on the device.
        on_batch: called after each batch with the number of images done.

    Raises:
        ValueError: as `decode`.
    """
    last = []
    for start in range(0, z.shape[1], batch_size):
        trace = decode(model, variables, z[:, start : start + batch_size], batch_size)
        last.append(trace.canvases[-1].copy())  # a view would keep all T of them
        on_batch(start + len(last[-1]))
    return np.concatenate(last)


def generate(
    model: Draw,
    variables: Variables,
    key: jax.Array,
    count: int,
    time_steps: int | None = None,
    temperature: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Trace:
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
        The model's trace: canvases [T, B, H, W, C k], write_windows [T, B] or None. The
        images' means are `mean_images(model, trace.canvases[-1])`.

    Raises:
        ValueError: if a number is out of its range.
    """
    if not 0 <= temperature < np.inf:
        raise ValueError(f"expected temperature of at least 0, got {temperature}")
    steps = model.time_steps if time_steps is None else time_steps
    z = noise(key, count, steps, model.latent_size)
    return decode(model, variables, np.float32(temperature) * z, batch_size)


def reconstruct(
    model: Draw,
    variables: Variables,
    images: np.ndarray,
    key: jax.Array,
    batch_size: int = BATCH_SIZE,
) -> Output:
    """Returns the output of inferring each image with one sample of z, eqs 1-12, with its trace.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        images: [B, H, W, C] in [0, 1], of the model's shape.
        key: a JAX random key.
        batch_size: images at a time on the device.

    Returns:
        The model's output: nll [B] and kl [T, B] in nats, trace of [T, B, ...] arrays.

    Raises:
        ValueError: if the images are not as described.
    """
    images = check_images(model, images)
    eps = noise(key, len(images), model.time_steps, model.latent_size)
    return in_batches(
        lambda part: _infer(
            model,
            variables,
            devices.spread(images[part].astype(np.float32)),
            devices.spread(eps[:, part], axis=1),
        ),
        len(images),
        batch_size,
    )


def check_images(model: Model, images: np.ndarray) -> np.ndarray:
    """Returns images [B, H, W, C] after checking that the model takes them, in [0, 1]."""
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
    return images


@functools.partial(jax.jit, static_argnums=0)
def _generate(model: Draw, variables: Variables, z: jax.Array) -> Trace:
    return cast(Trace, model.apply(variables, z, method="generate"))


@functools.partial(jax.jit, static_argnums=0)
def _infer(model: Draw, variables: Variables, images: jax.Array, eps: jax.Array) -> Output:
    return traced(model, variables, images, eps)[0]


def in_batches(run: Callable[[np.ndarray], Any], count: int, batch_size: int) -> Any:
    """Returns `run` of all indices, batch after batch, joined in NumPy.

    The last batch is filled up with its last image, so that every batch has one shape and
    compiles once. This process's devices divide each batch, so that `run` can spread it over them.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
    parts = [
        jax.tree.map(np.asarray, run(indices))
        for indices, _ in devices.batches(count, batch_size, jax.local_device_count())
    ]

    def join(*arrays: np.ndarray) -> np.ndarray:
        axis = min(1, arrays[0].ndim - 1)
        joined = np.concatenate(arrays, axis) if len(arrays) > 1 else arrays[0]
        return joined[(slice(None),) * axis + (slice(count),)]

    return jax.tree.map(join, *parts)


def mean_images(model: Draw, canvases: ArrayLike) -> np.ndarray:
    """Returns the mean of D for canvases [..., H, W, C k]: images [..., H, W, C] in [0, 1]."""
    return np.asarray(_mean(model.likelihood, np.asarray(canvases, np.float32)))


@functools.partial(jax.jit, static_argnums=0)
def _mean(name: str, canvases: jax.Array) -> jax.Array:
    return likelihood.named(name).mean(canvases)


def error_images(
    model: Draw, images: np.ndarray, canvases: ArrayLike, first_canvas: ArrayLike
) -> np.ndarray:
    """Returns the error images that each time step read, x less the mean of D given c_{t-1}, eq. 3.

    Args:
        model: a `Draw`.
        images: x [B, H, W, C] in [0, 1].
        canvases: c_1..c_T [T, B, H, W, C k].
        first_canvas: c_0 [H, W, C k] (in `Draw`: `params["cell"]["canvas_0"]`).

    Returns:
        [T, B, H, W, C] in [-1, 1].
    """
    canvases = np.asarray(canvases)
    first = np.broadcast_to(first_canvas, canvases.shape[1:])[None]
    return images - mean_images(model, np.concatenate([first, canvases[:-1]]))


def draw_images(model: Draw, key: jax.Array, last_canvases: ArrayLike) -> np.ndarray:
    """Returns images drawn from D(X given c_T), eq. 16, image i's from its own key.

    The key may be the one that drew z: the two streams are independent.

    Args:
        model: a `Draw`.
        key: a JAX random key.
        last_canvases: c_T [B, H, W, C k].

    Returns:
        float32 [B, H, W, C]; of a Bernoulli only 0 and 1, of a discretized logistic k / 255.

    Raises:
        ValueError: if the canvases are not [B, H, W, C k].
    """
    canvases = np.asarray(last_canvases, np.float32)
    if canvases.ndim != 4 or 0 in canvases.shape:
        raise ValueError(
            f"expected the final canvases [B, H, W, C k], got {list(canvases.shape)}; "
            "of a trace take canvases[-1]"
        )
    return np.asarray(_draw(model.likelihood, jax.random.fold_in(key, _PIXELS), canvases))


@functools.partial(jax.jit, static_argnums=0)
def _draw(name: str, key: jax.Array, canvases: jax.Array) -> jax.Array:
    def draw(i: jax.Array, canvas: jax.Array) -> jax.Array:
        return likelihood.named(name).sample(jax.random.fold_in(key, i), canvas)

    return jax.vmap(draw)(jnp.arange(len(canvases)), canvases)
