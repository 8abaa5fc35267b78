"""The linear map and the LSTM that DRAW's cell is made of, each one matrix product a step."""

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
        product = jnp.matmul(
            x.astype(self.dtype), kernel.astype(self.dtype), preferred_element_type=_FLOAT32
        )
        return product + bias[None]


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


def _per_gate(packed: jax.Array, ifo: float, g: float) -> np.ndarray:
    """Returns one factor for the gates i, f, o and another for g, [1, ..., 4 size]."""
    size = packed.shape[-1] // 4
    factors = np.repeat(np.array([ifo, g], np.float32), [3 * size, size])
    return factors.reshape((1,) * (packed.ndim - 1) + (-1,))


lstm_step.defvjp(_lstm_step_fwd, _lstm_step_bwd)
