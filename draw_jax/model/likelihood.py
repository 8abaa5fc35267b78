"""D(X given c_T): how a canvas stands for an image (eqs 9 and 16), one value a likelihood.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from draw_jax.model import gradients, losses


class Likelihood(NamedTuple):
    """What a canvas [..., H, W, C k] says of an image [..., H, W, C]; k is `canvas_channels`."""

    nll: Callable[
        [jax.Array, jax.Array], jax.Array
    ]  # (canvas, x) -> -log D(x | canvas) [...], nats
    mean: Callable[[jax.Array], jax.Array]  # canvas -> the mean of D, an image in [0, 1]
    error_image: Callable[[jax.Array, jax.Array], jax.Array]  # (x, canvas) -> x - mean, eq. 3
    sample: Callable[[jax.Array, jax.Array], jax.Array]  # (key, canvas) -> an image drawn from D
    canvas_channels: int  # channels of the canvas for each channel of the image


def bernoulli_mean(canvas: jax.Array) -> jax.Array:
    """Returns sigma(canvas), in [0, 1], of one shape with the logits given."""
    return 0.5 * (1 + jnp.tanh(0.5 * canvas))


def bernoulli_sample(key: jax.Array, canvas: jax.Array) -> jax.Array:
    """Returns an image of 0 and 1, float32, each pixel 1 with probability sigma(canvas), eq. 16."""
    return jax.random.bernoulli(key, jax.nn.sigmoid(canvas)).astype(jnp.float32)


# The error image is not left to `mean`: its gradient is written out, and keeps one array less.
BERNOULLI = Likelihood(
    nll=losses.bernoulli_nll,
    mean=bernoulli_mean,
    error_image=gradients.error_image,
    sample=bernoulli_sample,
    canvas_channels=1,
)


def named(name: str) -> Likelihood:
    """Returns the likelihood of `config.model.likelihood`.

    Raises:
        ValueError: if there is none of this name.
    """
    if name == "bernoulli":
        return BERNOULLI
    raise ValueError(f"expected likelihood 'bernoulli', got {name!r}")
