"""How closely two computations of one loss and its gradient agree."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from draw_jax.model.draw import Draw


class Agreement(NamedTuple):
    """How far apart two models are; as a limit, how far apart they may be."""

    loss_difference: float  # relative to the first
    gradient_cosine: float  # of the gradient with respect to all weights
    norm_difference: float  # of its norm, relative to the first


def loss_and_gradient(model: Draw, params: Any, x: Any, noise: Any) -> tuple[float, Any]:
    """Returns eq. 12 of our model, nats per image, and its gradient.

    Args:
        model: a Draw.
        params: its parameters.
        x: images [B, H, W, C], float32 in [0, 1].
        noise: standard normal [T, B, Z], float32.
    """
    value_and_grad = jax.jit(jax.value_and_grad(functools.partial(mean_loss, model)))

    with jax.default_matmul_precision("highest"):  # PyTorch's default, on a GPU too
        loss, gradient = jax.device_get(value_and_grad(params, x, noise))
    return float(loss), gradient


def mean_loss(model: Draw, params: Any, x: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns the mean of eq. 12 over a batch, nats per image, with noise given."""
    output: Any = model.apply({"params": params}, x, noise)
    return output.nll.mean() + output.kl.sum(axis=0).mean()


def agreement(one: tuple[float, Any], other: tuple[float, Any]) -> Agreement:
    """Returns how far apart two losses and their gradients are.

    Raises:
        ValueError: the gradients are trees of different structures.
    """
    jax.tree.map(lambda *_: None, one[1], other[1])  # raises if the structures differ
    a, b = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]).astype(np.float64)
        for _, gradient in (one, other)
    )
    norm, other_norm = np.linalg.norm(a), np.linalg.norm(b)
    return Agreement(
        loss_difference=abs(other[0] - one[0]) / abs(one[0]),
        gradient_cosine=float(a @ b / (norm * other_norm)),
        norm_difference=float(abs(other_norm - norm) / norm),
    )
