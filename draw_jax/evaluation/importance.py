"""The importance-weighted bound of Burda et al. 2016, arXiv 1509.00519: -log of a mean weight."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.data.splits import Prepare
from draw_jax.model.task import Task, Variables

_AT_A_TIME = 10  # samples between two progress reports


def weighted_nll(
    task: Task,
    prepare: Prepare,
    variables: Variables,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    samples: int,
    begun: tuple[int, np.ndarray] | None = None,
    on_samples: Callable[[int, np.ndarray], None] = lambda done, log_sum: None,
) -> np.ndarray:
    """Returns -log(1/K sum_k p(x, z_k) / q(z_k | x)) of each image, [B] nats, an upper bound.

    Its memory does not depend on K: only the sum of the samples' weights is kept, in float64, as the
    last of thousands of samples would add nothing to a float32 of thousands of nats.

    Args:
        task: of a model with latents.
        prepare: makes one image the model's input, with the image's own key.
        variables: {"params": ...}.
        images: uint8 [B, H, W, C].
        indices: of the images in their split [B].
        key: of the noise; image i draws from `fold_in(key, i)`.
        samples: K, >= 1.
        begun: how many of them are done, and the log of the sum of their weights [B]; None: none.
        on_samples: called with both every few samples; may raise to stop.
    """
    done, log_sum = begun or (0, np.full(len(images), -np.inf))
    while done < samples:
        last = min(done + _AT_A_TIME, samples)
        more = _log_weights(task, prepare, variables, images, indices, key, done, last)
        log_sum = np.logaddexp(log_sum, np.logaddexp.reduce(np.asarray(more, np.float64)))
        done = last
        on_samples(done, log_sum)
    return np.log(samples) - log_sum


def inputs(
    prepare: Prepare, images: jax.Array, indices: jax.Array, key: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """Returns x [B, H, W, C] and keys [B] of the noise of sample k, each image's from its own key."""

    def one(image: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_key, noise_key = jax.random.split(jax.random.fold_in(key, index))
        return prepare(image, x_key), jax.random.fold_in(noise_key, k)

    return jax.vmap(one)(images, indices)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _log_weights(
    task: Task,
    prepare: Prepare,
    variables: Variables,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    first: int,
    last: int,
) -> jax.Array:
    """Returns log p(x, z) / q(z | x), nats, of samples first..last-1, [10, B]; beyond them -inf."""
    log_weight = task.log_weight
    assert log_weight is not None

    def put(k: int, found: jax.Array) -> jax.Array:
        x, keys = inputs(prepare, images, indices, key, k)
        return found.at[k - first].set(log_weight(variables, x, keys))

    return jax.lax.fori_loop(first, last, put, jnp.full((_AT_A_TIME, len(images)), -jnp.inf))
