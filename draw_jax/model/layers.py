"""The linear map, the LSTM and the error image that DRAW's cell is made of."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

_FLOAT32 = jnp.float32


class Linear(nn.Module):
    """L(x) = x W + b, with W ~ N(0, 1 / fan_in)."""

    features: int
    dtype: str = "float32"
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [B, features] in float32; operands of the product in `dtype`."""
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernel = self.param("kernel", init, (x.shape[-1], self.features), _FLOAT32)
        bias = self.param("bias", self.bias_init, (self.features,), _FLOAT32)
        return product(x, kernel, self.dtype) + bias[None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, kernel: jax.Array, dtype: str) -> jax.Array:
    """Returns x kernel in float32, [B, K] and [K, N] to [B, N].

    The operands are rounded to `dtype`, here and in both products of the gradient; all three
    accumulate in float32. By itself differentiation would leave the incoming gradient in float32,
    and a product of mixed operands runs at the speed of the wider.
    """
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=_FLOAT32)


def _product_fwd(x, kernel, dtype):
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    return product(x, kernel, dtype), (x, kernel)


def _product_bwd(dtype, saved, d_out):
    x, kernel = saved
    return product(d_out, kernel.T, dtype), product(x.T, d_out, dtype)


product.defvjp(_product_fwd, _product_bwd)


class LSTM(nn.Module):
    """A long short-term memory with forget gates, all four gates from one product."""

    size: int
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, inputs: list[jax.Array], h_tm1: jax.Array, cell_tm1: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns h_t and the cell state, each [B, size], from inputs of [B, any]."""

        def forget_gates_open(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
            return jnp.zeros(shape, dtype).at[self.size : 2 * self.size].set(1.0)

        gates = Linear(4 * self.size, self.dtype, forget_gates_open, name="gates")(
            jnp.concatenate([*inputs, h_tm1], axis=-1)
        )
        return lstm_step(gates, cell_tm1)


@jax.custom_vjp
def lstm_step(gates: jax.Array, cell_tm1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns h_t and the cell state: sigma(o) tanh(cell), sigma(f) cell_tm1 + sigma(i) tanh(g).

    The gradient is written out so that one packed array of activations is all that stays between
    the passes; a test compares it with automatic differentiation.

    Args:
        gates: [..., 4 size], before their non-linearities, in the order i, f, o, g.
        cell_tm1: [..., size].
    """
    return _lstm_step_fwd(gates, cell_tm1)[0]


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


@jax.custom_vjp
def error_image(x: jax.Array, canvas: jax.Array) -> jax.Array:
    """Returns x - sigma(canvas), eq. 3 of Gregor et al. 2015; both of one shape [...].

    The gradient is written out so that this image is all that stays between the passes.
    """
    return x - 0.5 * (1 + jnp.tanh(0.5 * canvas))  # sigma by a vectorised tanh, as in lstm_step


def _error_image_fwd(x, canvas):
    x_err = error_image(x, canvas)
    return x_err, (x, x_err)


def _error_image_bwd(saved, d_x_err):
    x, x_err = saved
    mean = x - x_err
    return d_x_err, -d_x_err * mean * (1 - mean)


def _per_gate(packed: jax.Array, ifo: float, g: float) -> np.ndarray:
    """Returns one factor for the gates i, f, o and another for g, [1, ..., 4 size]."""
    size = packed.shape[-1] // 4
    factors = np.repeat(np.array([ifo, g], np.float32), [3 * size, size])
    return factors.reshape((1,) * (packed.ndim - 1) + (-1,))


lstm_step.defvjp(_lstm_step_fwd, _lstm_step_bwd)
error_image.defvjp(_error_image_fwd, _error_image_bwd)
