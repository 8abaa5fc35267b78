"""The filterbanks and the products of reading and writing, with gradients written by hand.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

import functools

import jax
import jax.numpy as jnp

from draw_jax.model.gradients.rule import one_type, with_gradient

# --- filterbanks, eqs 19, 20, 25 and 26


def filters(
    g: jax.Array, delta: jax.Array, sigma_sq: jax.Array, glimpse_size: int, pixels: int
) -> jax.Array:
    """Returns F of one axis [..., N, pixels], eqs 19 and 25 (eqs 20 and 26 alike).

    mu^i = g + (i - N/2 - 0.5) delta,  F[i, a] = exp(-(a - mu^i)^2 / (2 sigma^2)) / Z^i

    Z^i is the sum over the pixels, with no constant added: rows sum to 1, and their gradient stays
    right where the centre lies outside the image. The largest exponent is 0, at the pixel nearest
    to mu^i. Between the passes only F is saved, beside the arguments.

    Args:
        g: centre of the grid, [...], pixels.
        delta: stride of the grid, [...], pixels.
        sigma_sq: variance of each filter, [...], pixels^2, > 0.
        glimpse_size: N, filters.
        pixels: size of the image along this axis.
    """
    return _filters(*one_type(g, delta, sigma_sq), glimpse_size, pixels)


def _filters_fwd(g, delta, sigma_sq, glimpse_size, pixels):
    _, square, _ = _offsets(g, delta, glimpse_size, pixels)
    f = jnp.exp(-square / (2 * sigma_sq[..., None, None]))
    f = f / _sum(f)[..., None]
    return f, (f, g, delta, sigma_sq)


def _filters_bwd(glimpse_size, pixels, saved, d_f):
    f, g, delta, sigma_sq = saved
    offset, square, i = _offsets(g, delta, glimpse_size, pixels)
    d_logits = f * (d_f - _sum(f * d_f)[..., None])  # sums to 0 over the pixels
    d_mu = _sum(d_logits * offset) / sigma_sq[..., None]  # [..., N]
    d_sigma_sq = _sum(d_logits * square).sum(axis=-1) / (2 * jnp.square(sigma_sq))
    return d_mu.sum(axis=-1), (d_mu * i).sum(axis=-1), d_sigma_sq


_filters = with_gradient(_filters_fwd, _filters_bwd, static=(3, 4))


def _offsets(
    g: jax.Array, delta: jax.Array, glimpse_size: int, pixels: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns a - a*, (a - mu^i)^2 - (a* - mu^i)^2 [..., N, pixels], i - N/2 - 0.5 [..., N], eq. 19.

    a* is the pixel nearest to mu^i. Subtracting its square changes no filter, and it keeps the
    exponents of a filter far outside exact in float32: 0 at a*, so that no Z is 0.
    """
    i = jnp.arange(1, glimpse_size + 1, dtype=g.dtype) - glimpse_size / 2 - 0.5
    i = jnp.broadcast_to(i, (*g.shape, glimpse_size))
    a = jnp.arange(1, pixels + 1, dtype=g.dtype)
    a = jnp.broadcast_to(a, (*i.shape, pixels))
    mu = (g[..., None] + i * delta[..., None])[..., None]
    nearest = jnp.clip(jnp.round(mu), 1, pixels)
    return a - nearest, (a - nearest) * (a + nearest - 2 * mu), i


def _sum(a: jax.Array) -> jax.Array:
    """Returns the sum over the pixels, as a product with ones: on CPUs a third of the time."""
    ones = jnp.ones((a.shape[-1], 1), a.dtype)
    return jnp.matmul(a, ones, precision=jax.lax.Precision.HIGHEST)[..., 0]


# --- the products of reading and writing, eqs 27 and 29


def filter_image(f_y: jax.Array, image: jax.Array, f_x: jax.Array) -> jax.Array:
    """Returns F_Y image F_X^T [..., N, N, C], eq. 27 without its gamma.

    Its gradient w.r.t. the image is `spread_patch`, and vice versa. Automatic differentiation would
    make a transposed copy of the image.

    Args:
        f_y: [..., N, H].
        image: [..., H, W, C].
        f_x: [..., N, W].
    """
    return _filter_image(*one_type(f_y, image, f_x))


def _filter_image_fwd(f_y, image, f_x):
    return _columns(_rows(f_y, image), f_x), (f_y, image, f_x)


def _filter_image_bwd(saved, d_patch):
    f_y, image, f_x = saved
    rows = _rows(f_y, image)
    d_rows = _spread_columns(d_patch, f_x)
    d_f_y = jnp.einsum("...nwc,...hwc->...nh", d_rows, image)
    return d_f_y, _outer_products(f_y, d_rows), _d_f_x(d_patch, rows)


_filter_image = with_gradient(_filter_image_fwd, _filter_image_bwd)


def spread_patch(f_y: jax.Array, patch: jax.Array, f_x: jax.Array) -> jax.Array:
    """Returns F_Y^T patch F_X [..., H, W, C], eq. 29 without its 1/gamma.

    Args:
        f_y: [..., N, H].
        patch: [..., N, N, C].
        f_x: [..., N, W].
    """
    return _spread_patch(*one_type(f_y, patch, f_x))


def _spread_patch_fwd(f_y, patch, f_x):
    return _outer_products(f_y, _spread_columns(patch, f_x)), (f_y, patch, f_x)


def _spread_patch_bwd(saved, d_image):
    f_y, patch, f_x = saved
    rows = _spread_columns(patch, f_x)
    d_rows = _rows(f_y, d_image)
    d_f_y = jnp.einsum("...nwc,...hwc->...nh", rows, d_image)
    return d_f_y, _columns(d_rows, f_x), _d_f_x(patch, d_rows)


_spread_patch = with_gradient(_spread_patch_fwd, _spread_patch_bwd)


def _rows(f_y: jax.Array, image: jax.Array) -> jax.Array:
    """Returns F_Y image, [..., N, W, C]: first, as the rows of an image are contiguous."""
    return jnp.einsum("...nh,...hwc->...nwc", f_y, image)


def _columns(rows: jax.Array, f_x: jax.Array) -> jax.Array:
    """Returns rows F_X^T, [..., N, W, C] and [..., M, W] to [..., N, M, C]."""
    return jnp.einsum("...nwc,...mw->...nmc", rows, f_x)


def _spread_columns(patch: jax.Array, f_x: jax.Array) -> jax.Array:
    """Returns patch F_X, [..., N, M, C] and [..., M, W] to [..., N, W, C].

    The einsum keeps the channels before the columns: a product with them last is transposed and
    takes ten times as long.
    """
    return jnp.swapaxes(jnp.einsum("...nmc,...mw->...ncw", patch, f_x), -1, -2)


def _outer_products(f_y: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns F_Y^T rows, [..., N, H] and [..., N, W, C] to [..., H, W, C].

    A sum of N outer products is elementwise, so XLA makes one loop of it and of what is then done
    with the image; a batched matrix product of so few terms takes several times as long.
    """
    terms = (f_y[..., n, :, None, None] * rows[..., n, None, :, :] for n in range(f_y.shape[-2]))
    return functools.reduce(jnp.add, terms)


def _d_f_x(patch: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns the sum over rows and channels of their outer products, [..., M, W]."""
    if patch.shape[-1] == 1:
        return _outer_products(patch[..., 0], rows)[..., 0]
    return jnp.einsum("...nmc,...nwc->...mw", patch, rows)
