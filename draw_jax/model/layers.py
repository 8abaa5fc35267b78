"""The linear map and the LSTM that the models are made of, and checks that they share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.model.gradients.layers import (
    gate_activations,
    lstm_step,
    operand_type,
    product,
    replayed,
)
from draw_jax.model.gradients.unroll import INPUTS, PERTURBATIONS, RESULTS, Rows, Told, View

_FLOAT32 = jnp.float32
NORMAL = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class Share(NamedTuple):
    """A linear map's share from the inputs that are the same at every step of an unroll."""

    added: jax.Array  # their product with their rows of the kernel, [B, features]
    kernel: View  # its rows for the other inputs


class Linear(nn.Module):
    """L(x) = x W + b, with W ~ N(0, 1 / fan_in) at first unless told otherwise."""

    features: int
    dtype: str = "float32"
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    kernel_init: nn.initializers.Initializer = NORMAL
    gates: bool = False  # whether L(x) are an LSTM's gates, and their activations the result

    @nn.compact
    def __call__(self, x: jax.Array, share: Share | None = None) -> jax.Array:
        """Returns L(x), [B, features]; with `gates`, what `gate_activations` makes of it.

        The parameters' type decides: float32 ones give float32, from a product of operands rounded
        to `dtype`; float64 ones give float64, and nothing is rounded.

        Args:
            x: [B, K].
            share: of the inputs that x lacks, from the method `share`.
        """
        if share is None:
            kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), _FLOAT32)
        else:
            kernel = share.kernel.array
        bias = self.param("bias", self.bias_init, (self.features,), _FLOAT32)
        if self.has_variable(PERTURBATIONS, "y"):  # in the backward loop of `unroll`
            told = Told(x, None if share is None else share.kernel.rows)
            self.put_variable(INPUTS, operand_type(kernel, self.dtype), told)
            result: jax.Array = self.get_variable(RESULTS, "y")
            perturbation: jax.Array = self.get_variable(PERTURBATIONS, "y")
            if share is not None:
                perturbation += share.added  # whose gradient is the same
            return replayed(x, kernel, result, perturbation, self.dtype, self.gates)
        y = product(x, kernel, self.dtype) + bias[None]
        if share is not None:
            y += share.added
        if self.gates:
            y = gate_activations(y)
        if self.is_mutable_collection(RESULTS) and not self.is_initializing():
            self.put_variable(RESULTS, "y", y)
        return y

    def share(self, inputs: Mapping[int, jax.Array]) -> Share:
        """Returns the share of some of the inputs; the module must already have parameters.

        Args:
            inputs: one or more of [B, any], each by its first row in the kernel, from 0, in
                ascending order.
        """
        kernel: jax.Array = self.get_variable("params", "kernel")
        rows = Rows(tuple((first, first + x.shape[-1]) for first, x in inputs.items()))
        given = jnp.concatenate([*inputs.values()], axis=-1)
        others = rows.others(len(kernel))
        return Share(product(given, rows.of(kernel), self.dtype), View(others.of(kernel), others))


_CLOCK_GAIN, _CLOCK_LENGTH, _GATE_OPEN = 1.3, 0.75, 6.0


class LSTM(nn.Module):
    """A long short-term memory with forget gates, all four gates from one product.

    With `clocks`, its last units oscillate at first, in pairs (c, s), as they do in no paper: their
    gates i and o are open, whatever the input; forget gates of cos w hold each of a pair, and the
    other's output enters it by sin w, so that it turns by the angle w at each step. A gain makes up for
    the two tanh on that way and keeps (h_c, h_s) at a length of about 0.75. Training may change it all.
    """

    size: int
    dtype: str = "float32"
    recurrent_init: str = "normal"  # of h_{t-1}'s weights; or orthogonal (arXiv 1312.6120)
    forget_bias: float = 1.0  # first bias of the forget gates; below 0, a step keeps little
    clocks: tuple[float, ...] = ()  # periods, > 4 steps, of pairs of units that oscillate at first

    def setup(self) -> None:
        """Makes the linear map that gives the gates."""

        def biases(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
            bias = np.zeros((4, self.size))  # i, f, o, g
            bias[1] = self.forget_bias
            for pair, angle in self._turns():
                cosine = math.cos(angle)
                forget = math.log(cosine / (1 - cosine))
                bias[:, pair] = np.array([[_GATE_OPEN, forget, _GATE_OPEN, 0]]).T
            return jnp.asarray(bias.reshape(shape), dtype)

        def orthogonal_rows(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
            """Returns a kernel whose last rows, h_{t-1}'s, are orthogonal for each gate."""
            orthogonal = nn.initializers.orthogonal()
            keys = jax.random.split(key, 5)
            gates = [orthogonal(each, (self.size, self.size), dtype) for each in keys[1:]]
            kernel: jax.Array = NORMAL(keys[0], shape, dtype)
            return kernel.at[-self.size :].set(jnp.concatenate(gates, axis=1))

        drawn = orthogonal_rows if self.recurrent_init == "orthogonal" else NORMAL

        def kernels(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
            kernel: jax.Array = drawn(key, shape, dtype)
            gates = kernel.reshape(-1, 4, self.size)  # i, f, o, g
            h_tm1 = shape[0] - self.size  # its first row
            for (c, s), angle in self._turns():
                weight = _CLOCK_GAIN * math.sin(angle)
                gates = gates.at[:, :, jnp.array([c, s])].set(0)  # nothing disturbs them at first
                gates = gates.at[h_tm1 + s, 3, c].set(-weight).at[h_tm1 + c, 3, s].set(weight)
            return gates.reshape(shape)

        self.gates = Linear(4 * self.size, self.dtype, biases, kernel_init=kernels, gates=True)

    def _turns(self) -> list[tuple[list[int], float]]:
        """Returns each clock's two units and its angle per step, radians."""
        pairs = [[self.size - 2 * n, self.size - 2 * n + 1] for n in range(1, len(self.clocks) + 1)]
        return [(pair, 2 * math.pi / t) for pair, t in zip(pairs, self.clocks, strict=True)]

    def first_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns h and the cell state before the first step, each [size]: 0, but clocks at -c."""
        h, cell = np.zeros(self.size), np.zeros(self.size)
        for (c, _), _ in self._turns():
            h[c], cell[c] = -_CLOCK_LENGTH, -math.atanh(_CLOCK_LENGTH)
        return h, cell

    def clock_weights(self, clock: int, lead: int) -> np.ndarray:
        """Returns weights [size] of h_t for which a clock runs as -cos, from -1 to 1 and back.

        Args:
            clock: which of `clocks`.
            lead: steps that the result is ahead of h_t.
        """
        (c, s), angle = self._turns()[clock]
        weights = np.zeros(self.size)
        weights[c] = math.cos(lead * angle) / _CLOCK_LENGTH
        weights[s] = -math.sin(lead * angle) / _CLOCK_LENGTH
        return weights

    def __call__(
        self,
        inputs: list[jax.Array],
        h_tm1: jax.Array,
        cell_tm1: jax.Array,
        share: Share | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns h_t and the cell state, each [B, size], from inputs of [B, any].

        Args:
            inputs: of this step.
            h_tm1: [B, size].
            cell_tm1: [B, size].
            share: of the inputs that are not among them, from the method `share`.
        """
        return lstm_step(self.gates(jnp.concatenate([*inputs, h_tm1], axis=-1), share), cell_tm1)

    def share(self, inputs: Mapping[int, jax.Array]) -> Share:
        """Returns the share of inputs that are the same at every step, each by its first row."""
        return self.gates.share(inputs)


class Convolutions(nn.Module):
    """Layers of filters at every `stride`-th pixel, a rectifier after each."""

    filters: tuple[int, ...]  # of each layer
    filter_size: int  # height and width of a filter, pixels; odd
    stride: int  # from one place of a filter to the next, pixels
    dtype: str = "float32"

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        """Returns the last layer's maps [B, h, w, filters] of images [B, H, W, C].

        Place (i, j) of a filter, from 0, is about pixel (i stride, j stride); outside the image
        is 0. So a layer has ceil(H / stride) x ceil(W / stride) places. The first weights are
        N(0, 2 / fan_in): maps are then about as large as the images (He et al. 2015,
        arXiv 1502.01852).
        """
        half = self.filter_size // 2
        for number, filters in enumerate(self.filters, start=1):
            layer = nn.Conv(
                filters,
                (self.filter_size, self.filter_size),
                self.stride,
                padding=[(half, half), (half, half)],
                dtype=self.dtype,
                kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
                name=f"layer_{number}",
            )
            maps = nn.relu(layer(maps))
        return maps.astype(_FLOAT32)


def check_images(x: jax.Array, image_shape: tuple[int, int, int]) -> None:
    """Raises ValueError unless images are [B, H, W, C] of the shape that a model is built for."""
    if x.shape[1:] != image_shape:
        raise ValueError(
            f"expected images [B, H, W, C] with (H, W, C) = {image_shape}, got {x.shape}"
        )


def check_fields(module: Any, least: Mapping[str, int], positive: Sequence[str] = ()) -> None:
    """Raises ValueError naming the first invalid field of a module.

    Args:
        module: with the fields image_shape and dtype.
        least: the minimum of each whole-number field, by name.
        positive: names of fields that must be above 0.
    """
    if len(module.image_shape) != 3 or min(module.image_shape) < 1:
        raise ValueError(f"expected image_shape (H, W, C) of sizes >= 1, got {module.image_shape}")
    for name, lowest in least.items():
        if getattr(module, name) < lowest:
            raise ValueError(f"expected {name} >= {lowest}, got {getattr(module, name)}")
    for name in positive:
        if not 0 < getattr(module, name) < math.inf:
            raise ValueError(f"expected {name} > 0, finite, got {getattr(module, name)}")
    if module.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"expected dtype float32 or bfloat16, got {module.dtype!r}")


def check_convolutions(module: Any, shape: tuple[int, int] | None = None) -> None:
    """Raises ValueError naming the first invalid one of filters, filter_size and stride.

    Args:
        module: with these fields.
        shape: height and width of what the first layer is given; None: of the module's images.
    """
    if not module.filters or any(type(n) is not int or n < 1 for n in module.filters):
        raise ValueError(f"expected filters >= 1 of one layer or more, got {module.filters}")
    shorter = min(shape or module.image_shape[:2])
    side = "the size of what is read" if shape else "the image's shorter side"
    if not 1 <= module.filter_size <= shorter or module.filter_size % 2 == 0:
        raise ValueError(
            f"expected an odd filter_size of at most {shorter}, {side}, got {module.filter_size}"
        )
    if module.stride < 1:
        raise ValueError(f"expected stride >= 1, got {module.stride}")


def floats_of_maps(
    module: Any, shape: tuple[int, int] | None = None, layers: tuple[int, ...] | None = None
) -> int:
    """Returns how many floats per example the maps of a module's convolutions hold.

    Args:
        module: as for `check_convolutions`.
        shape: the same.
        layers: filters of each; None: the module's own `filters`.
    """
    height, width = shape or module.image_shape[:2]
    kept = 0
    for filters in module.filters if layers is None else layers:
        height, width = (math.ceil(pixels / module.stride) for pixels in (height, width))
        kept += height * width * filters
    return kept
