"""The functions of DRAW whose gradients are written by hand, each as a whole.

Automatic differentiation would give the same numbers, but keep more arrays between the passes or
multiply in slower orders. Tests compare every gradient with the automatic one and with finite
differences. Each function has three parts: `name` is what to call, `_name_fwd` gives the result
and what to save for the backward pass, `_name_bwd` the gradients.

Derivatives are in reverse mode: `jax.grad`, `jax.vjp`, `jax.jacrev`. Both passes are plain
functions of arrays, so the gradient itself has derivatives in either mode: `jax.hessian` and
`jax.jvp` of `jax.grad` work. `jax.jvp` and `jax.jacfwd` of the functions themselves do not.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_Function = Callable[..., Any]


def _with_gradient(fwd: _Function, bwd: _Function, static: tuple[int, ...] = ()) -> _Function:
    """Returns the function of a forward and a backward pass, as `jax.custom_vjp` defines them.

    Arguments at the places `static` are no arrays.
    """
    name = fwd.__name__.removeprefix("_").removesuffix("_fwd")
    function = jax.custom_vjp(lambda *args: fwd(*args)[0], nondiff_argnums=static)
    function.defvjp(fwd, bwd)

    def checked(*args: Any) -> Any:
        try:
            return function(*args)
        except TypeError as error:
            if "forward-mode" not in str(error):
                raise
            raise TypeError(
                f"{name} has no forward-mode derivative (jax.jvp, jax.jacfwd); use reverse mode: "
                "jax.grad, jax.vjp or jax.jacrev (jax.hessian works too)"
            ) from None

    return checked


def _one_type(*arrays: jax.Array) -> list[jax.Array]:
    """Returns the arrays in the widest of their types, a float.

    A gradient has the type of what it belongs to; the conversion's own gradient sees to that.
    """
    dtype = jnp.result_type(1.0, *arrays)
    return [jnp.asarray(array, dtype) for array in arrays]


# --- filterbanks, eqs 19, 20, 25 and 26


def filters(
    g: jax.Array, delta: jax.Array, sigma_sq: jax.Array, glimpse_size: int, pixels: int
) -> jax.Array:
    """Returns F of one axis [..., N, pixels], eqs 19 and 25 (eqs 20 and 26 alike).

    mu^i = g + (i - N/2 - 0.5) delta,  F[i, a] = exp(-(a - mu^i)^2 / (2 sigma^2)) / Z^i

    Z^i is the sum over the pixels, with no constant added: rows sum to 1, and their gradient stays
    right where the centre lies outside the image. No exponent is above 0, that of the pixel nearest
    to mu^i. Between the passes only F is saved, beside the arguments.

    Args:
        g: centre of the grid, [...], pixels.
        delta: stride of the grid, [...], pixels.
        sigma_sq: variance of each filter, [...], pixels^2, > 0.
        glimpse_size: N, filters.
        pixels: size of the image along this axis.
    """
    return _filters(*_one_type(g, delta, sigma_sq), glimpse_size, pixels)


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


_filters = _with_gradient(_filters_fwd, _filters_bwd, static=(3, 4))


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

    Its gradient by the image is `spread_patch`, and the other way round. Automatic differentiation
    would copy the image transposed.

    Args:
        f_y: [..., N, H].
        image: [..., H, W, C].
        f_x: [..., N, W].
    """
    return _filter_image(*_one_type(f_y, image, f_x))


def _filter_image_fwd(f_y, image, f_x):
    return _columns(_rows(f_y, image), f_x), (f_y, image, f_x)


def _filter_image_bwd(saved, d_patch):
    f_y, image, f_x = saved
    rows = _rows(f_y, image)
    d_rows = _spread_columns(d_patch, f_x)
    d_f_y = jnp.einsum("...nwc,...hwc->...nh", d_rows, image)
    return d_f_y, _outer_products(f_y, d_rows), _d_f_x(d_patch, rows)


_filter_image = _with_gradient(_filter_image_fwd, _filter_image_bwd)


def spread_patch(f_y: jax.Array, patch: jax.Array, f_x: jax.Array) -> jax.Array:
    """Returns F_Y^T patch F_X [..., H, W, C], eq. 29 without its 1/gamma.

    Args:
        f_y: [..., N, H].
        patch: [..., N, N, C].
        f_x: [..., N, W].
    """
    return _spread_patch(*_one_type(f_y, patch, f_x))


def _spread_patch_fwd(f_y, patch, f_x):
    return _outer_products(f_y, _spread_columns(patch, f_x)), (f_y, patch, f_x)


def _spread_patch_bwd(saved, d_image):
    f_y, patch, f_x = saved
    rows = _spread_columns(patch, f_x)
    d_rows = _rows(f_y, d_image)
    d_f_y = jnp.einsum("...nwc,...hwc->...nh", rows, d_image)
    return d_f_y, _columns(d_rows, f_x), _d_f_x(patch, d_rows)


_spread_patch = _with_gradient(_spread_patch_fwd, _spread_patch_bwd)


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


# --- the layers


def product(x: jax.Array, kernel: jax.Array, dtype: str) -> jax.Array:
    """Returns x kernel, [B, K] and [K, N] to [B, N], in the kernel's type, at least float32.

    A float32 kernel, x and, in both products of the gradient, the gradient that comes in are
    rounded to `dtype`; all three products accumulate in float32. (Automatic differentiation would
    leave the incoming gradient in float32, and a product of mixed types is as slow as its wider
    type.) A float64 kernel is multiplied in float64 throughout, whatever `dtype` says.
    """
    kernel = jnp.asarray(kernel)
    out = jnp.promote_types(kernel.dtype, jnp.float32)
    operands = "float64" if out == jnp.float64 else dtype
    return _product(jnp.asarray(x, out), kernel.astype(out), operands)


def _product_fwd(x, kernel, dtype):
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    return _accumulate(x, kernel), (x, kernel)


def _product_bwd(dtype, saved, d_out):
    x, kernel = saved
    d_out = d_out.astype(dtype)
    return _accumulate(d_out, kernel.T), _accumulate(x.T, d_out)


_product = _with_gradient(_product_fwd, _product_bwd, static=(2,))


def _accumulate(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the matrix product a b of one type, summed in that type or float32 if it is wider."""
    return jnp.matmul(a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def lstm_step(gates: jax.Array, cell_tm1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns h_t and the cell state, each [..., size], of an LSTM with forget gates.

    cell = sigma(f) cell_tm1 + sigma(i) tanh(g),  h_t = sigma(o) tanh(cell)

    Between the passes only one packed array of activations is saved, beside cell_tm1.

    Args:
        gates: [..., 4 size], before their non-linearities, in the order i, f, o, g.
        cell_tm1: [..., size].
    """
    return _lstm_step(*_one_type(gates, cell_tm1))


def _lstm_step_fwd(gates, cell_tm1):
    # sigma(a) = (1 + tanh(a / 2)) / 2: one vectorised tanh serves all four gates.
    tanhs = jnp.tanh(gates * _per_gate(gates, 0.5, 1.0))
    i, f, o, g = jnp.split(tanhs, 4, axis=-1)
    cell = 0.5 * ((1 + f) * cell_tm1 + (1 + i) * g)
    return (0.5 * (1 + o) * jnp.tanh(cell), cell), (tanhs, cell_tm1)


def _lstm_step_bwd(saved, d_out):
    tanhs, cell_tm1 = saved
    d_h, d_cell = d_out
    i, f, o, g = jnp.split(tanhs, 4, axis=-1)
    tanh_cell = jnp.tanh(0.5 * ((1 + f) * cell_tm1 + (1 + i) * g))
    d_cell = d_cell + d_h * 0.5 * (1 + o) * (1 - jnp.square(tanh_cell))
    d_tanhs = jnp.concatenate(
        [d_cell * g, d_cell * cell_tm1, d_h * tanh_cell, d_cell * 0.5 * (1 + i)], axis=-1
    )
    d_gates = d_tanhs * (1 - jnp.square(tanhs)) * _per_gate(tanhs, 0.25, 1.0)
    return d_gates, d_cell * 0.5 * (1 + f)


_lstm_step = _with_gradient(_lstm_step_fwd, _lstm_step_bwd)


def _per_gate(packed: jax.Array, ifo: float, g: float) -> np.ndarray:
    """Returns one factor for the gates i, f, o and another for g, [1, ..., 4 size]."""
    size = packed.shape[-1] // 4
    factors = np.repeat(np.array([ifo, g], packed.dtype), [3 * size, size])
    return factors.reshape((1,) * (packed.ndim - 1) + (-1,))


def error_image(x: jax.Array, canvas: jax.Array) -> jax.Array:
    """Returns x - sigma(canvas), eq. 3; all of one shape [...].

    Between the passes only x and this image are saved.
    """
    return _error_image(*_one_type(x, canvas))


def _error_image_fwd(x, canvas):
    x_err = x - 0.5 * (1 + jnp.tanh(0.5 * canvas))  # sigma by a vectorised tanh, as in lstm_step
    return x_err, (x, x_err)


def _error_image_bwd(saved, d_x_err):
    x, x_err = saved
    mean = x - x_err
    return d_x_err, -d_x_err * mean * (1 - mean)


_error_image = _with_gradient(_error_image_fwd, _error_image_bwd)
