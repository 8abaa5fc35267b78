"""The selective attention of DRAW: window -> filterbanks -> read and write (eqs 17-29).

Pure functions of arrays. Pixels are numbered 1..A from left to right (x) and 1..B from top to
bottom (y), as in the paper, so the centre of an image of width A lies at (A + 1) / 2.
Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

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
    f_x = _filters(window.g_x, window.delta, window.sigma_sq, glimpse_size, width)
    f_y = _filters(window.g_y, window.delta, window.sigma_sq, glimpse_size, height)
    return f_x, f_y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _filters(
    g: jax.Array, delta: jax.Array, sigma_sq: jax.Array, glimpse_size: int, pixels: int
) -> jax.Array:
    """Returns one axis' filters [..., N, pixels]: eq. 19 (or 20) and eq. 25 (or 26).

    The division by Z has no constant in its denominator: rows sum to 1 and keep a gradient that
    brings a lost window back. No exponent is above that of the nearest pixel, 0.
    """
    _, square, _ = _offsets(g, delta, glimpse_size, pixels)
    f = jnp.exp(-square / (2 * sigma_sq[..., None, None]))
    return f / _sum(f)[..., None]


def _offsets(
    g: jax.Array, delta: jax.Array, glimpse_size: int, pixels: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns a - a*, (a - mu^i)^2 - (a* - mu^i)^2 [..., N, pixels], i - N/2 - 0.5 [..., N], eq. 19.

    a* is the pixel nearest to mu^i. Less what it is there, the exponent of a filter far outside is
    still exact in float32 (and 0 at a*, so that no Z is 0), and so is its gradient.
    """
    i = jnp.arange(1, glimpse_size + 1, dtype=g.dtype) - glimpse_size / 2 - 0.5
    i = jnp.broadcast_to(i, (*g.shape, glimpse_size))
    a = jnp.arange(1, pixels + 1, dtype=g.dtype)
    a = jnp.broadcast_to(a, (*i.shape, pixels))
    mu = (g[..., None] + i * delta[..., None])[..., None]
    nearest = jnp.clip(jnp.round(mu), 1, pixels)
    return a - nearest, (a - nearest) * (a + nearest - 2 * mu), i


def _filters_fwd(g, delta, sigma_sq, glimpse_size, pixels):
    f = _filters(g, delta, sigma_sq, glimpse_size, pixels)
    return f, (f, g, delta, sigma_sq)


def _filters_bwd(glimpse_size, pixels, saved, d_f):
    """Differentiates by hand to save only the filters between the passes, not every factor."""
    f, g, delta, sigma_sq = saved
    offset, square, i = _offsets(g, delta, glimpse_size, pixels)
    d_logits = f * (d_f - _sum(f * d_f)[..., None])  # sums to 0 over the pixels
    d_mu = _sum(d_logits * offset) / sigma_sq[..., None]  # [..., N]
    d_sigma_sq = _sum(d_logits * square).sum(axis=-1) / (2 * jnp.square(sigma_sq))
    return d_mu.sum(axis=-1), (d_mu * i).sum(axis=-1), d_sigma_sq


def _sum(a: jax.Array) -> jax.Array:
    """Returns the sum over the pixels, as a product with ones: on CPUs a third of a reduction."""
    ones = jnp.ones((a.shape[-1], 1), a.dtype)
    return jnp.matmul(a, ones, precision=jax.lax.Precision.HIGHEST)[..., 0]


_filters.defvjp(_filters_fwd, _filters_bwd)


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
    return window.gamma[..., None, None, None] * _filter(f_y, image, f_x)


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
    return _spread(f_y, patch / window.gamma[..., None, None, None], f_x)


# F_Y image F_X^T and its transpose, F_Y^T patch F_X, rows first: image rows are contiguous, so that
# is the cheaper order. Their gradients are each other and two small products; written out, they
# are spared the transposed copies of the image that automatic differentiation makes.


@jax.custom_vjp
def _filter(f_y: jax.Array, image: jax.Array, f_x: jax.Array) -> jax.Array:
    rows = jnp.einsum("...nh,...hwc->...nwc", f_y, image)
    return jnp.einsum("...nwc,...mw->...nmc", rows, f_x)


@jax.custom_vjp
def _spread(f_y: jax.Array, patch: jax.Array, f_x: jax.Array) -> jax.Array:
    rows = _rows(patch, f_x)
    return _outer_products(f_y, rows)


def _rows(patch: jax.Array, f_x: jax.Array) -> jax.Array:
    """Returns patch F_X, [..., N, M, C] and [..., M, W] to [..., N, W, C].

    Asked for with the channels last, the product would be done transposed and ten times slower.
    """
    return jnp.swapaxes(jnp.einsum("...nmc,...mw->...ncw", patch, f_x), -1, -2)


def _outer_products(f_y: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns F_Y^T rows, [..., N, H] and [..., N, W, C] to [..., H, W, C].

    A batched product of N terms each costs several times this sum of N outer products, which is
    elementwise, so that XLA makes one loop of it and of what is then done with the image.
    """
    terms = (f_y[..., n, :, None, None] * rows[..., n, None, :, :] for n in range(f_y.shape[-2]))
    return functools.reduce(jnp.add, terms)


def _filter_bwd(saved, d_patch):
    f_y, image, f_x = saved
    rows = jnp.einsum("...nh,...hwc->...nwc", f_y, image)
    d_rows = _rows(d_patch, f_x)
    d_f_y = jnp.einsum("...nwc,...hwc->...nh", d_rows, image)
    return d_f_y, _outer_products(f_y, d_rows), _d_f_x(d_patch, rows)


def _spread_bwd(saved, d_image):
    f_y, patch, f_x = saved
    rows = _rows(patch, f_x)
    d_rows = jnp.einsum("...nh,...hwc->...nwc", f_y, d_image)
    d_f_y = jnp.einsum("...nwc,...hwc->...nh", rows, d_image)
    return d_f_y, jnp.einsum("...nwc,...mw->...nmc", d_rows, f_x), _d_f_x(patch, d_rows)


def _d_f_x(patch: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns the sum over rows and channels of their outer products, [..., M, W]."""
    if patch.shape[-1] == 1:
        return _outer_products(patch[..., 0], rows)[..., 0]
    return jnp.einsum("...nmc,...nwc->...mw", patch, rows)


_filter.defvjp(lambda *args: (_filter(*args), args), _filter_bwd)
_spread.defvjp(lambda *args: (_spread(*args), args), _spread_bwd)


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
