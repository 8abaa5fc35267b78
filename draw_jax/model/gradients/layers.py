"""Matrix products, the LSTM and the error image, with gradients written by hand.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.model.gradients.rule import one_type, with_gradient

Precision = jax.lax.Precision | None  # of a product's float32 operands; None: as the device likes
WHOLE_FLOAT32 = "whole float32"  # operands of windows: they are positions in pixels


def product(x: jax.Array, kernel: jax.Array, dtype: str) -> jax.Array:
    """Returns x kernel, [B, K] and [K, N] to [B, N], in the kernel's type, at least float32.

    A float32 kernel, x and, in both products of the gradient, the gradient that comes in are
    rounded to `dtype`; all three products accumulate in float32. (Automatic differentiation would
    leave the incoming gradient in float32, and a product of mixed types is as slow as its wider
    type.) A float64 kernel is multiplied in float64 throughout, whatever `dtype` says.

    JAX lets a GPU or a TPU round float32 operands to fewer bits, but not those of `WHOLE_FLOAT32`.
    """
    kernel = jnp.asarray(kernel)
    out = jnp.promote_types(kernel.dtype, jnp.float32)
    return _product(jnp.asarray(x, out), kernel.astype(out), operand_type(kernel, dtype))


def operand_type(kernel: jax.Array, dtype: str) -> str:
    """Returns the type that the operands of a product are rounded to."""
    return "float64" if kernel.dtype == jnp.float64 else dtype


def _rounded(x: jax.Array, dtype: str) -> jax.Array:
    return x.astype("float32" if dtype == WHOLE_FLOAT32 else dtype)


def _precision(dtype: str) -> Precision:
    return jax.lax.Precision.HIGHEST if dtype == WHOLE_FLOAT32 else None


def _product_fwd(x, kernel, dtype):
    x, kernel = _rounded(x, dtype), _rounded(kernel, dtype)
    return _accumulate(x, kernel, _precision(dtype)), (x, kernel)


def _product_bwd(dtype, saved, d_out):
    x, kernel = saved
    d_out, precision = _rounded(d_out, dtype), _precision(dtype)
    return (
        _times_transposed(d_out, kernel, precision),
        _sum_of_outer_products(x, d_out, precision),
    )


_product = with_gradient(_product_fwd, _product_bwd, static=(2,))


def _accumulate(a: jax.Array, b: jax.Array, precision: Precision) -> jax.Array:
    """Returns the matrix product a b of one type, summed in that type or float32 if it is wider."""
    wider = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.matmul(a, b, precision=precision, preferred_element_type=wider)


_MORE = 8  # zeros after a transposed operand


def _times_transposed(a: jax.Array, b: jax.Array, precision: Precision) -> jax.Array:
    """Returns a b^T, [M, N] and [K, N] to [M, K], as `_accumulate` does.

    On CPUs a product in bfloat16 takes up to three times as long if it transposes an operand.
    XLA leaves this to the product, except for a zero-padded operand, which it transposes first.
    """

    def transposed_before(a: jax.Array, b: jax.Array) -> jax.Array:
        return _accumulate(a, jnp.pad(b.T, ((0, 0), (0, _MORE))), precision)[:, : len(b)]

    def by_the_product(a: jax.Array, b: jax.Array) -> jax.Array:
        return _accumulate(a, b.T, precision)

    if a.dtype != jnp.bfloat16:
        return by_the_product(a, b)
    return jax.lax.platform_dependent(a, b, cpu=transposed_before, default=by_the_product)


def _sum_of_outer_products(x: jax.Array, d_out: jax.Array, precision: Precision) -> jax.Array:
    """Returns the sum of x^T d_out over all axes but the last, [..., K] and [..., N] to [K, N].

    The axes are not merged. Where devices share the examples, each sums its own and sends only
    the sum. For bfloat16 on CPUs see `_times_transposed`.
    """
    axes = tuple(range(x.ndim - 1))

    def product_over(x: jax.Array, x_axes: tuple[int, ...], d_out: jax.Array) -> jax.Array:
        wider = jnp.promote_types(x.dtype, jnp.float32)
        dimensions = ((x_axes, axes), ((), ()))
        return jax.lax.dot_general(x, d_out, dimensions, precision, wider)

    def transposed_before(x: jax.Array, d_out: jax.Array) -> jax.Array:
        more = [(0, _MORE)] + [(0, 0)] * len(axes)
        rows = jnp.pad(jnp.moveaxis(x, -1, 0), more)
        return product_over(rows, tuple(axis + 1 for axis in axes), d_out)[: x.shape[-1]]

    def by_the_product(x: jax.Array, d_out: jax.Array) -> jax.Array:
        return product_over(x, axes, d_out)

    if x.dtype != jnp.bfloat16:
        return by_the_product(x, d_out)
    return jax.lax.platform_dependent(x, d_out, cpu=transposed_before, default=by_the_product)


def gate_activations(gates: jax.Array) -> jax.Array:
    """Returns the gate activations that `lstm_step` takes, in the gates' shape, [..., 4 size].

    They are tanh(i / 2), tanh(f / 2), tanh(o / 2) and tanh(g), as sigma(a) = (1 + tanh(a / 2)) / 2:
    one vectorised tanh serves all four gates. Between the passes only the result is saved.

    Args:
        gates: before their non-linearities, in the order i, f, o, g.
    """
    return _gate_activations(*one_type(gates))


def _gate_activations_fwd(gates):
    tanhs = jnp.tanh(gates * _per_gate(gates, 0.5, 1.0))
    return tanhs, tanhs


def _gate_activations_bwd(tanhs, d_tanhs):
    return (d_tanhs * (1 - jnp.square(tanhs)) * _per_gate(tanhs, 0.5, 1.0),)


_gate_activations = with_gradient(_gate_activations_fwd, _gate_activations_bwd)


def lstm_step(activations: jax.Array, cell_tm1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns h_t and the cell state, each [..., size], of an LSTM with forget gates.

    cell = sigma(f) cell_tm1 + sigma(i) tanh(g),  h_t = sigma(o) tanh(cell)

    Between the passes only the arguments are saved.

    Args:
        activations: of the gates, from `gate_activations`, [..., 4 size].
        cell_tm1: [..., size].
    """
    return _lstm_step(*one_type(activations, cell_tm1))


def _lstm_step_fwd(activations, cell_tm1):
    i, f, o, g = jnp.split(activations, 4, axis=-1)
    cell = 0.5 * ((1 + f) * cell_tm1 + (1 + i) * g)
    return (0.5 * (1 + o) * jnp.tanh(cell), cell), (activations, cell_tm1)


def _lstm_step_bwd(saved, d_out):
    activations, cell_tm1 = saved
    d_h, d_cell = d_out
    i, f, o, g = jnp.split(activations, 4, axis=-1)
    tanh_cell = jnp.tanh(0.5 * ((1 + f) * cell_tm1 + (1 + i) * g))
    d_cell = 0.5 * (d_cell + d_h * 0.5 * (1 + o) * (1 - jnp.square(tanh_cell)))
    d_activations = jnp.concatenate(
        [d_cell * g, d_cell * cell_tm1, 0.5 * d_h * tanh_cell, d_cell * (1 + i)], axis=-1
    )
    return d_activations, d_cell * (1 + f)


_lstm_step = with_gradient(_lstm_step_fwd, _lstm_step_bwd)


def _per_gate(packed: jax.Array, ifo: float, g: float) -> np.ndarray:
    """Returns one factor for the gates i, f, o and another for g, [1, ..., 4 size]."""
    size = packed.shape[-1] // 4
    factors = np.repeat(np.array([ifo, g], packed.dtype), [3 * size, size])
    return factors.reshape((1,) * (packed.ndim - 1) + (-1,))


def clip_gradient(x: jax.Array, highest: float) -> jax.Array:
    """Returns x; the gradient w.r.t. each example's x is scaled down to a norm of `highest` at most.

    For a loss that is a mean over the examples: the norm is that of the example's own loss, which
    is B times its share. (Graves 2013, arXiv 1308.0850, clips such gradients by element.)

    Args:
        x: [B, K].
        highest: above 0, in units of the loss by units of x.
    """
    return _clip_gradient(x, highest)


def _clip_gradient_fwd(x, highest):
    return x, None


def _clip_gradient_bwd(highest, _, d_x):
    least = jnp.finfo(d_x.dtype).tiny  # the root has no derivative at 0
    squares = jnp.maximum(jnp.square(d_x).sum(axis=-1, keepdims=True), least)
    norms = len(d_x) * jnp.sqrt(squares)
    return (jnp.where(norms <= highest, d_x, d_x * (highest / norms)),)


_clip_gradient = with_gradient(_clip_gradient_fwd, _clip_gradient_bwd, static=(1,))


# --- a linear map whose result is known, in the backward loop of `unroll`


def replayed(
    x: jax.Array,
    kernel: jax.Array,
    result: jax.Array,
    perturbation: jax.Array,
    dtype: str,
    gates: bool,
) -> jax.Array:
    """Returns `result`, a linear map's earlier output for x, with the gradient of that map.

    The gradient w.r.t. x is that of x kernel + bias, rounded as in `product`. The one w.r.t.
    `perturbation` is the gradient w.r.t. x kernel + bias. The gradients of the kernel and the bias
    are made from it elsewhere, for all steps together.

    Args:
        x: [B, K].
        kernel: [K, N].
        result: x kernel + bias, or its `gate_activations`, [B, N].
        perturbation: zeros, [B, N].
        dtype: of the operands.
        gates: whether `result` is made of `gate_activations`.
    """
    x = jnp.asarray(x, result.dtype)  # as `product` does
    return _replayed(x, kernel, result, perturbation, operand_type(kernel, dtype), gates)


def _replayed_fwd(x, kernel, result, perturbation, dtype, gates):
    return result, (kernel, result)


def _replayed_bwd(dtype, gates, saved, d_out):
    kernel, result = saved
    if gates:
        (d_out,) = _gate_activations_bwd(result, d_out)
    d_x = _times_transposed(_rounded(d_out, dtype), _rounded(kernel, dtype), _precision(dtype))
    return d_x, jnp.zeros_like(kernel), jnp.zeros_like(result), d_out


_replayed = with_gradient(_replayed_fwd, _replayed_bwd, static=(4, 5))


def weight_gradients(x: jax.Array, d_out: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of a linear map's kernel [K, N] and bias [N], over all steps together.

    Args:
        x: of each step and example, [T, B, K].
        d_out: the gradient by x kernel + bias, [T, B, N].
        dtype: of the operands, as `operand_type` gives it.
    """
    d_kernel = _sum_of_outer_products(_rounded(x, dtype), _rounded(d_out, dtype), _precision(dtype))
    return d_kernel, d_out.sum(axis=(0, 1))


def error_image(x: jax.Array, canvas: jax.Array) -> jax.Array:
    """Returns x - sigma(canvas), eq. 3; all of one shape [...].

    Between the passes only x and this image are saved.
    """
    return _error_image(*one_type(x, canvas))


def _error_image_fwd(x, canvas):
    x_err = x - 0.5 * (1 + jnp.tanh(0.5 * canvas))  # sigma by a vectorised tanh, as in lstm_step
    return x_err, (x, x_err)


def _error_image_bwd(saved, d_x_err):
    x, x_err = saved
    mean = x - x_err
    return d_x_err, -d_x_err * mean * (1 - mean)


_error_image = with_gradient(_error_image_fwd, _error_image_bwd)
