"""D(X given c_T): how a canvas represents an image (eqs 9 and 16), one value per likelihood.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from draw_jax.model import gradients, losses


class Likelihood(NamedTuple):
    """What a canvas [..., H, W, C k] says of an image [..., H, W, C]; k is `canvas_channels`."""

    # (canvas, x) -> -log D(x | canvas) [...], nats
    nll: Callable[[jax.Array, jax.Array], jax.Array]
    mean: Callable[[jax.Array], jax.Array]  # canvas -> the mean of D, an image in [0, 1]
    error_image: Callable[[jax.Array, jax.Array], jax.Array]  # (x, canvas) -> x - mean, eq. 3
    sample: Callable[[jax.Array, jax.Array], jax.Array]  # (key, canvas) -> an image drawn from D
    canvas_channels: int  # channels of the canvas for each channel of the image
    discretized: bool  # whether D is a distribution of 8-bit images: its nats are bits of a code


def bernoulli_mean(canvas: jax.Array) -> jax.Array:
    """Returns sigma(canvas), in [0, 1], of one shape with the logits given."""
    return 0.5 * (1 + jnp.tanh(0.5 * canvas))


def bernoulli_sample(key: jax.Array, canvas: jax.Array) -> jax.Array:
    """Returns an image of 0 and 1, float32, each pixel 1 with probability sigma(canvas), eq. 16."""
    return jax.random.bernoulli(key, jax.nn.sigmoid(canvas)).astype(jnp.float32)


# The error image does not use `mean`: its hand-written gradient keeps one array less.
BERNOULLI = Likelihood(
    nll=losses.bernoulli_nll,
    mean=bernoulli_mean,
    error_image=gradients.error_image,
    sample=bernoulli_sample,
    canvas_channels=1,
    discretized=False,
)


def discretized_logistic_nll(canvas: jax.Array, x: jax.Array) -> jax.Array:
    """Returns -log D(x | canvas) [...], nats, of images of 256 levels [..., H, W, C]."""
    return losses.discretized_logistic_nll(*_mean_and_log_scale(canvas), x)


def discretized_logistic_mean(canvas: jax.Array) -> jax.Array:
    """Returns the logistic's mean clipped to [0, 1], [..., H, W, C].

    Note: black and white have a whole tail each, so a mean beyond them is useful; an image ends
        at 0 and 1.
    """
    return jnp.clip(_mean_and_log_scale(canvas)[0], 0.0, 1.0)


def discretized_logistic_error_image(x: jax.Array, canvas: jax.Array) -> jax.Array:
    """Returns x less the mean, eq. 3, in [-1, 1], [..., H, W, C]."""
    return x - discretized_logistic_mean(canvas)


def discretized_logistic_sample(key: jax.Array, canvas: jax.Array) -> jax.Array:
    """Returns an image of levels k / 255, float32 [..., H, W, C]: logistics, rounded and held."""
    mean, log_scale = _mean_and_log_scale(canvas)
    scale = jnp.exp(jnp.clip(log_scale, losses.LEAST_LOG_SCALE, losses.GREATEST_LOG_SCALE))
    drawn = mean + scale * jax.random.logistic(key, mean.shape, jnp.float32)
    highest = losses.LEVELS - 1
    return jnp.round(jnp.clip(drawn, 0.0, 1.0) * highest) / highest


def _mean_and_log_scale(canvas: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the first C and the last C channels of a canvas [..., H, W, 2 C]."""
    mean, log_scale = jnp.split(canvas, 2, axis=-1)
    return mean, log_scale


# The canvas holds mean and log-scale of each channel, in units of the image: black 0, white 1.
DISCRETIZED_LOGISTIC = Likelihood(
    nll=discretized_logistic_nll,
    mean=discretized_logistic_mean,
    error_image=discretized_logistic_error_image,
    sample=discretized_logistic_sample,
    canvas_channels=2,
    discretized=True,
)


def named(name: str) -> Likelihood:
    """Returns the likelihood of `config.model.likelihood`.

    Raises:
        ValueError: if there is none of this name.
    """
    if name == "bernoulli":
        return BERNOULLI
    if name == "discretized_logistic":
        return DISCRETIZED_LOGISTIC
    raise ValueError(f"expected likelihood bernoulli or discretized_logistic, got {name!r}")
