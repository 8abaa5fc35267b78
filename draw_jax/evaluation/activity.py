"""Which latent units a model uses: active units of Burda et al. 2016, arXiv 1509.00519, section 5.2."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from draw_jax.data.splits import Prepare, Split
from draw_jax.evaluation import importance
from draw_jax.model import draw
from draw_jax.model.draw import Draw
from draw_jax.model.task import Variables
from draw_jax.system import devices

THRESHOLD = 0.01  # of a unit's activity, theirs


def measure(
    model: Draw,
    variables: Variables,
    split: Split,
    prepare: Prepare,
    key: jax.Array,
    batch_size: int = 200,
    images: int | None = None,
    on_batch: Callable[[int], None] = lambda done: None,
) -> dict[str, int | list[int]]:
    """Returns how many of the T Z latent units are active, in all and at each time step.

    A unit is active if its activity, the variance over images of E[z | x], is above 0.01. At time
    step t, E[z_t | x] is over the z before it. Two passes that differ only in these give two
    posterior means; their covariance over images is that variance, free of the noise.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        split: of N images, with an end.
        prepare: makes one image the model's input, with the image's own key for binarising.
        key: of the noise; image i draws from `fold_in(key, i)`.
        batch_size: images at a time; no effect on the result.
        images: how many, from the first on; None: all.
        on_batch: called with the number of images done; may raise to stop.

    Returns:
        `active_units`, `latent_units` (T Z), and `active_per_step` [T].

    Raises:
        ValueError: if there are fewer than two images, or without an end.
    """
    total = 0 if split.endless else min(len(split), images or len(split))
    if total < 2:
        raise ValueError("expected two images or more of a split with an end, for a variance")
    replicated, sharded = devices.placement()
    variables = jax.device_put(variables, replicated)
    sums = np.zeros((3, model.time_steps, model.latent_size))  # of one mean, the other, both times
    done = 0
    for indices, count in devices.batches(total, batch_size, jax.device_count()):
        batch = jax.device_put((split.batch(indices).images, indices), sharded)
        one, other = (
            np.asarray(_means(model, prepare, variables, *batch, key, k), np.float64)[:, :count]
            for k in range(2)
        )
        sums += np.stack([one.sum(axis=1), other.sum(axis=1), (one * other).sum(axis=1)])
        done += count
        on_batch(done)
    one, other, product = sums / total
    active = product - one * other > THRESHOLD
    return {
        "active_units": int(active.sum()),
        "latent_units": active.size,
        "active_per_step": active.sum(axis=1).tolist(),
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _means(
    model: Draw,
    prepare: Prepare,
    variables: Variables,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    k: int,
) -> jax.Array:
    """Returns the means of the posterior, [T, B, Z], with the noise of sample k."""
    x, keys = importance.inputs(prepare, images, indices, key, k)
    _, trace = draw.traced(model, variables, x, draw.noise(model, keys))
    assert trace.mean is not None  # as it inferred
    return trace.mean
