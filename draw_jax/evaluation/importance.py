"""The importance-weighted bound of Burda et al. 2016, arXiv 1509.00519: -log of a mean weight."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.model.task import Task, Variables

Prepare = Callable[[jax.Array, jax.Array], jax.Array]  # (uint8 [H, W, C], key) -> [H, W, C]


def weighted_nll(
    task: Task,
    prepare: Prepare,
    variables: Variables,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    samples: int,
) -> jax.Array:
    """Returns -log(1/K sum_k p(x, z_k) / q(z_k | x)) of each image, [B] nats, an upper bound.

    Args:
        task: of a model with latents.
        prepare: makes one image the model's input, with the image's own key.
        variables: {"params": ...}.
        images: uint8 [B, H, W, C].
        indices: of the images in their split [B].
        key: of the noise; image i draws from `fold_in(key, i)`.
        samples: K, >= 1.
    """
    weights = [
        _log_weight(task, prepare, variables, images, indices, key, k) for k in range(samples)
    ]
    return np.log(samples) - functools.reduce(jnp.logaddexp, weights)


def inputs(
    prepare: Prepare, images: jax.Array, indices: jax.Array, key: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """Returns x [B, H, W, C] and keys [B] of the noise of sample k, each image's from its own key."""

    def one(image: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_key, noise_key = jax.random.split(jax.random.fold_in(key, index))
        return prepare(image, x_key), jax.random.fold_in(noise_key, k)

    return jax.vmap(one)(images, indices)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _log_weight(
    task: Task,
    prepare: Prepare,
    variables: Variables,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    k: int,
) -> jax.Array:
    """Returns log p(x, z) - log q(z | x) of sample k, [B] nats."""
    x, keys = inputs(prepare, images, indices, key, k)
    assert task.log_weight is not None
    return task.log_weight(variables, x, keys)
