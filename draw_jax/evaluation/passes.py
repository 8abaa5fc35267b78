"""Exact passes over a whole split: every image once, whatever the batch size or the devices.

An image's noise comes from its index in the split, so a result depends on the weights, the split,
the seed and the number of samples, and on nothing else but the order of float32 sums.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from draw_jax.model import attention, losses

Prepare = Callable[[jax.Array, jax.Array], jax.Array]  # (uint8 [H, W, C], key) -> [H, W, C]


class Interrupted(Exception):
    """The pass was asked to stop before its end."""


def evaluate(
    model: Any,
    variables: Any,
    images: np.ndarray,
    prepare: Prepare,
    key: jax.Array,
    batch_size: int = 200,
    importance_samples: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Returns the mean loss over a split, eqs 9-12, with what tells whether attention is alive.

    Args:
        model: a Draw.
        variables: {"params": ...}.
        images: the split, uint8 [N, H, W, C].
        prepare: makes one image the model's input, with the image's own key for binarising.
        key: of the noise; image i draws from `fold_in(key, i)`.
        batch_size: images at a time, made a multiple of the number of devices.
        importance_samples: K of the importance-weighted bound, 0 = do not compute it.
        on_batch: called with the number of images done; may raise to stop the pass.

    Returns:
        `images`; `nll`, `kl`, `elbo_loss` (one sample of z per image) and, with K > 0,
        `importance_weighted_nll` (an upper bound of -log p(x) that tightens with K), in nats, each
        the mean over images beside its standard error `..._se`; `kl_per_step` [T]; and, per
        attention window (`read_`, `write_`), mean `sigma` and `delta` in pixels, mean `gamma` and
        the share `off_image`.
    """
    if len(images) == 0:
        raise ValueError("expected images [N, H, W, C] with N >= 1, got none")
    columns: dict[str, list[np.ndarray]] = {}
    indices = np.arange(len(images))
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    for batch in _batches(indices, batch_size):
        inputs = jax.device_put((images[batch.padded], batch.padded), sharding)
        terms = _terms(model, prepare, variables, *inputs, key)
        if importance_samples:
            weights = [
                _log_weight(model, prepare, variables, *inputs, key, k)
                for k in range(importance_samples)
            ]
            log_sum = functools.reduce(jnp.logaddexp, weights)
            terms["importance_weighted_nll"] = np.log(importance_samples) - log_sum
        for name, column in multihost_utils.process_allgather(terms, tiled=True).items():
            columns.setdefault(name, []).append(column[: batch.size].astype(np.float64))
        on_batch(int(batch.padded[0]) + batch.size)
    merged = {name: np.concatenate(parts) for name, parts in columns.items()}
    kl_per_step = merged.pop("kl_per_step").mean(axis=0)
    result: dict[str, Any] = {"images": len(images)}
    for name, column in merged.items():
        result[name] = float(column.mean())
        if not name.startswith(("read_", "write_")):
            error = column.std(ddof=1) / np.sqrt(len(column)) if len(column) > 1 else 0.0
            result[f"{name}_se"] = float(error)
    return result | {"kl_per_step": [float(kl) for kl in kl_per_step]}


class _Batch:
    """Indices of a batch, the last one repeated to fill it up; `size` of them count."""

    def __init__(self, indices: np.ndarray, size: int):
        self.size = len(indices)
        self.padded = np.concatenate([indices, np.repeat(indices[-1:], size - len(indices))])


def _batches(indices: np.ndarray, batch_size: int) -> Iterator[_Batch]:
    devices = jax.device_count()
    size = -(-min(batch_size, len(indices)) // devices) * devices
    for start in range(0, len(indices), size):
        yield _Batch(indices[start : start + size], size)


def _inputs(
    model: Any, prepare: Prepare, images: jax.Array, indices: jax.Array, key: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """Returns x [B, H, W, C] and sample k of eps [T, B, Z], each image's from its own key."""

    def one(image: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_key, eps_key = jax.random.split(jax.random.fold_in(key, index))
        shape = (model.time_steps, model.latent_size)
        eps = jax.random.normal(jax.random.fold_in(eps_key, k), shape, jnp.float32)
        return prepare(image, x_key), eps

    x, eps = jax.vmap(one)(images, indices)
    return x, eps.swapaxes(0, 1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _terms(
    model: Any,
    prepare: Prepare,
    variables: Any,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
) -> dict[str, jax.Array]:
    """Returns every image's terms, arrays [B] ([B, T] for kl_per_step)."""
    x, eps = _inputs(model, prepare, images, indices, key, 0)
    output = model.apply(variables, x, eps, trace=True)
    kl = output.kl.sum(axis=0)
    terms = {"nll": output.nll, "kl": kl, "elbo_loss": output.nll + kl}
    terms["kl_per_step"] = output.kl.T
    height, width, _ = model.image_shape
    for name, windows, size in (
        ("read", output.trace.read_windows, model.read_size),
        ("write", output.trace.write_windows, model.write_size),
    ):
        if windows is not None:
            off = attention.off_image(windows, size, height, width)
            terms[f"{name}_sigma"] = jnp.sqrt(windows.sigma_sq).mean(axis=0)
            terms[f"{name}_delta"] = windows.delta.mean(axis=0)
            terms[f"{name}_gamma"] = windows.gamma.mean(axis=0)
            terms[f"{name}_off_image"] = off.mean(axis=0)
    return terms


@functools.partial(jax.jit, static_argnums=(0, 1))
def _log_weight(
    model: Any,
    prepare: Prepare,
    variables: Any,
    images: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    k: int,
) -> jax.Array:
    """Returns log p(x, z) - log q(z | x) of sample k, [B] nats."""
    x, eps = _inputs(model, prepare, images, indices, key, k)
    output = model.apply(variables, x, eps, trace=True)
    return losses.importance_log_weight(output.nll, output.trace.mean, output.trace.log_std, eps)
