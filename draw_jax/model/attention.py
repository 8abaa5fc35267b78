"""The selective attention of DRAW: window -> filterbanks -> read and write (eqs 17-29).

Pure functions of arrays. Pixels are numbered 1..A from left to right (x) and 1..B from top to
bottom (y), as in the paper, so the centre of an image of width A lies at (A + 1) / 2.
Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.model.gradients import filter_image, filters, spread_patch

# Bounds of the five raw values, which keep every result and gradient finite in float32. A window at
# a bound is useless: its centre is a million half image widths away, or e^15 and e^-15 make its
# sigma 1800 pixels or 0.0006.
_MAX_RAW = (1e6, 1e6, 15.0, 15.0, 15.0)


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

    Note: g~_x and g~_y are held within +-1e6 and the three logarithms within +-15. No useful
    window comes near these bounds, and every finite `raw` gives a finite window.
    """
    if raw.ndim < 1 or raw.shape[-1] != 5:
        raise ValueError(f"expected raw window parameters [..., 5], got {raw.shape}")
    _check_glimpse_size(glimpse_size)
    bound = jnp.broadcast_to(jnp.asarray(_MAX_RAW, raw.dtype), raw.shape)
    raw = jnp.clip(raw, -bound, bound)
    g_x, g_y, log_sigma_sq, log_delta, log_gamma = (raw[..., k] for k in range(5))
    return Window(
        g_x=(width + 1) / 2 * (g_x + 1),  # eq. 22
        g_y=(height + 1) / 2 * (g_y + 1),  # eq. 23
        sigma_sq=jnp.exp(log_sigma_sq),
        delta=(max(width, height) - 1) / (glimpse_size - 1) * jnp.exp(log_delta),  # eq. 24
        gamma=jnp.exp(log_gamma),
    )


def filterbanks(
    window: Window, glimpse_size: int, height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the horizontal and the vertical filterbank, eqs 19, 20, 25 and 26.

    Of an image whose last k pixels are black, a filter centred d pixels beyond them sees the rest
    with a weight of exp(-k (2 d + k) / (2 sigma^2)), and so does its gradient. In float32 both are
    exactly 0 once k (2 d + k) > 175 sigma^2: for sigma = 1 that is 87 pixels out at k = 1, but 15
    pixels out at k = 5. (For a constant other than black, its gradient is only rounding error.)

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
        window: Window of arrays [...]. Its axes and the image's leading ones broadcast by NumPy's
            rules: one image through many windows, or many images through one.
        glimpse_size: N, filters along each axis, >= 2.

    Returns:
        [..., N, N, C]: rows (y) first. `filterbanks` says how far outside the image a window may
        lie and still have a gradient.

    Raises:
        ValueError: if the image has fewer than three axes, its leading axes and the window's do
            not broadcast, or N < 2.
    """
    if image.ndim < 3:
        raise ValueError(f"expected an image [..., H, W, C], got {image.shape}")
    image, window = _broadcast(image, window)
    f_x, f_y = filterbanks(window, glimpse_size, *image.shape[-3:-1])
    return window.gamma[..., None, None, None] * filter_image(f_y, image, f_x)


def write(patch: jax.Array, window: Window, height: int, width: int) -> jax.Array:
    """Returns the patch written on an empty image, 1/gamma F_Y^T patch F_X, eq. 29.

    Args:
        patch: w_t [..., N, N, C], rows (y) first, N >= 2.
        window: Window of arrays [...], the writer's own. Its axes and the patch's leading ones
            broadcast by NumPy's rules.
        height: B, rows of the image, pixels.
        width: A, columns of the image, pixels.

    Returns:
        [..., height, width, C], to be added to the canvas.

    Raises:
        ValueError: if the patch is not square, its leading axes and the window's do not broadcast,
            or N < 2.
    """
    if patch.ndim < 3 or patch.shape[-3] != patch.shape[-2]:
        raise ValueError(f"expected a square patch [..., N, N, C], got {patch.shape}")
    patch, window = _broadcast(patch, window)
    f_x, f_y = filterbanks(window, patch.shape[-2], height, width)
    return spread_patch(f_y, patch / window.gamma[..., None, None, None], f_x)


def _broadcast(array: jax.Array, window: Window) -> tuple[jax.Array, Window]:
    """Returns an image or patch [..., M, N, C] and a window of its leading axes [...].

    The gradients are summed over the axes repeated here; equal axes cost nothing.
    """
    leading = [array.shape[:-3], *(np.shape(field) for field in window)]
    try:
        shape = np.broadcast_shapes(*leading)
    except ValueError:
        raise ValueError(
            "expected leading axes and window axes that broadcast by NumPy's rules, got an array "
            f"{array.shape} and a window of {', '.join(map(str, dict.fromkeys(leading[1:])))}"
        ) from None
    array = jnp.broadcast_to(array, (*shape, *array.shape[-3:]))
    return array, Window(*(jnp.broadcast_to(field, shape) for field in window))


def off_image(window: Window, glimpse_size: int, height: int, width: int) -> jax.Array:
    """Returns whether the square that a window's filter centres span lies outside the image, [...].

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


def summary(
    prefix: str, windows: Window, glimpse_size: int, height: int, width: int
) -> dict[str, jax.Array]:
    """Returns each example's mean window over the time steps, [B], and how many are off the image.

    Args:
        prefix: of the names: `read` gives read_sigma, read_delta (pixels), read_gamma and
            read_off_image.
        windows: Window of arrays [T, B].
        glimpse_size: N, filters along each axis, >= 2.
        height: B, rows of the image, pixels.
        width: A, columns of the image, pixels.
    """
    off = off_image(windows, glimpse_size, height, width)
    return {
        f"{prefix}_sigma": jnp.sqrt(windows.sigma_sq).mean(axis=0),
        f"{prefix}_delta": windows.delta.mean(axis=0),
        f"{prefix}_gamma": windows.gamma.mean(axis=0),
        f"{prefix}_off_image": off.mean(axis=0),
    }


def raw_bias(delta: float, sigma: float, gamma: float = 1.0) -> list[float]:
    """Returns eq. 21's five values of a centred window.

    Args:
        delta: delta~ of eq. 24, > 0, no unit; 1 = covers the image.
        sigma: of each filter, > 0, pixels.
        gamma: by which what is read is multiplied, and what is written divided, > 0.
    """
    return [0.0, 0.0, 2 * math.log(sigma), math.log(delta), math.log(gamma)]


def _check_glimpse_size(glimpse_size: int) -> None:
    if glimpse_size < 2:
        raise ValueError(
            f"expected a glimpse size N >= 2 (eq. 24 divides by N - 1), got {glimpse_size}; "
            "in a model, 0 switches attention off"
        )
