"""The linear map and the LSTM that DRAW's cell is made of."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from draw_jax.model.gradients import lstm_step, product

_FLOAT32 = jnp.float32


class Linear(nn.Module):
    """L(x) = x W + b, with W ~ N(0, 1 / fan_in)."""

    features: int
    dtype: str = "float32"
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns L(x), [B, features].

        The parameters' type decides: float32 ones give float32, from a product of operands rounded
        to `dtype`; float64 ones give float64, and nothing is rounded.
        """
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernel = self.param("kernel", init, (x.shape[-1], self.features), _FLOAT32)
        bias = self.param("bias", self.bias_init, (self.features,), _FLOAT32)
        return product(x, kernel, self.dtype) + bias[None]


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
