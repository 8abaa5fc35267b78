"""The selective attention of DRAW: window -> filterbanks -> read and write (eqs 17-29).

Pure functions of arrays. Pixels are numbered 1..A from left to right (x) and 1..B from top to
bottom (y), as in the paper, so the centre of an image of width A lies at (A + 1) / 2.
Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from draw_jax.model.gradients import filter_image, filters, spread_patch

# exp() of a raw value beyond +-15 is no window any more (sigma below 0.001 or above 1800 pixels).
# The bound keeps every filter finite whatever the network puts out.
_MAX_LOG = 15.0


class Window(NamedTuple):
    """A grid of Gaussian filters on an image; five arrays of one shape [...], in pixels."""

    g_x: jax.Array  # centre of the grid, horizontal, pixels numbered 1..A
    g_y: jax.Array  # centre of the grid, vertical, pixels numbered 1..B
    sigma_sq: jax.Array  # variance of each filter, pixels^2, > 0
    delta: jax.Array  # stride of the grid, pixels, > 0
    gamma: jax.Array  # intensity of the glimpse, no unit, > 0


def window(raw: jax.Array, glimpse_size: int, height: int, width: int) -> Window:
    """Returns the window that five network outputs stand for, eqs 21-24.

    Args:
        raw: [..., 5], any reals: (g~_x, g~_y, log sigma^2, log delta~, log gamma), eq. 21.
        glimpse_size: N, filters along each axis, >= 2 (eq. 24 divides by N - 1).
        height: B, rows of the image, pixels.
        width: A, columns of the image, pixels.

    Returns:
        Window of arrays [...]. Zeros in `raw` give a grid that covers the whole image.

    Raises:
        ValueError: if `raw` has no last axis of 5 or N < 2.

    Note: the three logarithms are held within +-15, which no useful window comes near.
    """
    if raw.ndim < 1 or raw.shape[-1] != 5:
        raise ValueError(f"expected raw window parameters [..., 5], got {raw.shape}")
    _check_glimpse_size(glimpse_size)
    g_x, g_y, log_sigma_sq, log_delta, log_gamma = (raw[..., k] for k in range(5))
    sigma_sq, delta, gamma = (
        jnp.exp(jnp.clip(log, -_MAX_LOG, _MAX_LOG)) for log in (log_sigma_sq, log_delta, log_gamma)
    )
    return Window(
        g_x=(width + 1) / 2 * (g_x + 1),  # eq. 22
        g_y=(height + 1) / 2 * (g_y + 1),  # eq. 23
        sigma_sq=sigma_sq,
        delta=(max(width, height) - 1) / (glimpse_size - 1) * delta,  # eq. 24
        gamma=gamma,
    )


def filterbanks(
    window: Window, glimpse_size: int, height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the horizontal and the vertical filterbank, eqs 19, 20, 25 and 26.

    Args:
        window: Window of arrays [...].
        glimpse_size: N, filters along each axis, >= 2.
        height: B, rows of the image, pixels.
        width: A, columns of the image, pixels.

    Returns:
        f_x [..., N, width] and f_y [..., N, height]. Every row is >= 0 and sums to 1, also where
        its centre lies outside the image.

    Raises:
        ValueError: if N < 2.
    """
    _check_glimpse_size(glimpse_size)
    f_x = filters(window.g_x, window.delta, window.sigma_sq, glimpse_size, width)
    f_y = filters(window.g_y, window.delta, window.sigma_sq, glimpse_size, height)
    return f_x, f_y


def read(image: jax.Array, window: Window, glimpse_size: int) -> jax.Array:
    """Returns the glimpse gamma F_Y image F_X^T, eq. 27.

    One set of filters serves all channels, so an image and its error image read through the same
    window are two groups of channels of one call.

    Args:
        image: [..., H, W, C], any reals.
        window: Window of arrays [...] (the image's leading axes).
        glimpse_size: N, filters along each axis, >= 2.

    Returns:
        [..., N, N, C]: rows (y) first.

    Raises:
        ValueError: if the image has fewer than three axes or N < 2.
    """
    if image.ndim < 3:
        raise ValueError(f"expected an image [..., H, W, C], got {image.shape}")
    f_x, f_y = filterbanks(window, glimpse_size, *image.shape[-3:-1])
    return window.gamma[..., None, None, None] * filter_image(f_y, image, f_x)


def write(patch: jax.Array, window: Window, height: int, width: int) -> jax.Array:
    """Returns the patch written on an empty image, 1/gamma F_Y^T patch F_X, eq. 29.

    Args:
        patch: w_t [..., N, N, C], rows (y) first, N >= 2.
        window: Window of arrays [...], the writer's own.
        height: B, rows of the image, pixels.
        width: A, columns of the image, pixels.

    Returns:
        [..., height, width, C], to be added to the canvas.

    Raises:
        ValueError: if the patch is not square or N < 2.
    """
    if patch.ndim < 3 or patch.shape[-3] != patch.shape[-2]:
        raise ValueError(f"expected a square patch [..., N, N, C], got {patch.shape}")
    f_x, f_y = filterbanks(window, patch.shape[-2], height, width)
    return spread_patch(f_y, patch / window.gamma[..., None, None, None], f_x)


def off_image(window: Window, glimpse_size: int, height: int, width: int) -> jax.Array:
    """Returns whether all of a window's filter centres lie outside the image, bool [...].

    Args:
        window: Window of arrays [...].
        glimpse_size: N, filters along each axis, >= 2.
        height: B, rows of the image, pixels.
        width: A, columns of the image, pixels.
    """
    half = (glimpse_size - 1) / 2 * window.delta
    inside_x = (window.g_x + half >= 0.5) & (window.g_x - half <= width + 0.5)
    inside_y = (window.g_y + half >= 0.5) & (window.g_y - half <= height + 0.5)
    return ~(inside_x & inside_y)


def _check_glimpse_size(glimpse_size: int) -> None:
    if glimpse_size < 2:
        raise ValueError(
            f"expected a glimpse size N >= 2 (eq. 24 divides by N - 1), got {glimpse_size}; "
            "in a model, 0 switches attention off"
        )
