"""The DRAW network: the whole unroll as a scan of its cell.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623. Noise is an argument: the model
draws none, so a scan equals a Python loop, and `generate` on the posterior's z repeats the
training canvases exactly.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax

from draw_jax.model import likelihood
from draw_jax.model.cell import DrawCell, State, Trace


class Output(NamedTuple):
    """The per-example terms of the loss: nll + kl.sum(0) is eq. 12 for one sample of z."""

    nll: jax.Array  # L_x, eq. 9 [B], nats
    kl: jax.Array  # L_z of each time step, eq. 10 [T, B], nats
    trace: Trace | None  # with trace=True


class Draw(nn.Module):
    """The Deep Recurrent Attentive Writer: infer with eqs 1-12, generate with eqs 13-16.

    `draw.apply(variables, x, eps)` gives the terms of the loss,
    `draw.apply(variables, z, method="generate")` draws. `init` through the former.
    """

    image_shape: tuple[int, int, int]  # (H, W, C)
    time_steps: int  # T that the configuration trains with; calls take theirs from eps or z
    enc_size: int  # LSTM units
    dec_size: int  # LSTM units
    latent_size: int  # Z, dimensions of z_t
    read_size: int  # N of the reader; 0 = no attention, eq. 17
    write_size: int  # N of the writer; 0 = no attention, eq. 18
    read_delta: float = 1.0  # first read window: delta~ of eq. 24, 1 = covers the image
    read_sigma: float = 1.0  # first read window: sigma, pixels
    write_delta: float = 1.0  # first write window: delta~ of eq. 24
    write_sigma: float = 1.0  # first write window: sigma, pixels
    canvas_bias: float = 0.0  # first value of the learned c_0; the data mean's logit is a good one
    dtype: str = "float32"  # of the products' operands; float32 or bfloat16
    unroll: int = 1  # time steps in one pass of the compiled loop: speed only
    likelihood: str = "bernoulli"  # D(X given c_T); see model/likelihood.py

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        _check_fields(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the one cell that `__call__` and `generate` share."""
        fields = DrawCell.__dataclass_fields__
        self.cell = DrawCell(
            **{
                name: getattr(self, name)
                for name in self.__dataclass_fields__
                if name in fields and name not in ("parent", "name")
            }
        )

    def __call__(self, x: jax.Array, eps: jax.Array, trace: bool = False) -> Output:
        """Returns the terms of the loss for one sample of z, eqs 1-12.

        Args:
            x: images [B, H, W, C], in [0, 1].
            eps: standard normal noise [T, B, Z]; its first axis sets T.
            trace: static; whether to return every step's canvas, windows and posterior.

        Returns:
            Output of nll [B], kl [T, B] in nats, and the Trace or None.

        Raises:
            ValueError: if a shape does not fit the model.
        """
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"expected images [B, H, W, C] with (H, W, C) = {self.image_shape}, got {x.shape}"
            )
        self._check_noise("eps", eps, batch_size=len(x))

        def step(cell: DrawCell, state: State, x: jax.Array, eps: jax.Array) -> Any:
            state, (kl, step_trace) = cell.infer_step(state, x, eps)
            return state, (kl, step_trace if trace else None)

        unroll = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=(nn.broadcast, 0),
            unroll=self.unroll,
        )
        state, (kl, steps) = unroll(self.cell, self.cell.initial_state(len(x)), x, eps)
        nll = likelihood.named(self.likelihood).nll(state.canvas, x)  # eq. 9
        return Output(nll, kl, steps)

    def generate(self, z: jax.Array) -> Trace:
        """Returns the trace of drawing from given latents; the encoder takes no part, eqs 13-16.

        Args:
            z: [T, B, Z], standard normal for samples of the model; its first axis sets T.

        Returns:
            Trace without the read. The mean of D is the likelihood's mean of canvases[-1].

        Raises:
            ValueError: if z's shape does not fit the model.
        """
        self._check_noise("z", z, batch_size=None)
        unroll = nn.scan(
            DrawCell.generate_step,
            variable_broadcast="params",
            split_rngs={"params": False},
            unroll=self.unroll,
        )
        _, trace = unroll(self.cell, self.cell.initial_state(z.shape[1]), z)
        return trace

    def _check_noise(self, name: str, noise: jax.Array, batch_size: int | None) -> None:
        expected = ("T >= 1", "B" if batch_size is None else batch_size, self.latent_size)
        if (
            noise.ndim != 3
            or noise.shape[0] < 1
            or noise.shape[2] != self.latent_size
            or batch_size not in (None, noise.shape[1])
        ):
            raise ValueError(
                f"expected {name} [T, B, Z] of shape ({', '.join(map(str, expected))}), "
                f"got {noise.shape}"
            )


def _check_fields(draw: Draw) -> None:
    """Raises ValueError naming the first field that cannot be."""
    if len(draw.image_shape) != 3 or min(draw.image_shape) < 1:
        raise ValueError(f"expected image_shape (H, W, C) of sizes >= 1, got {draw.image_shape}")
    for name in ("time_steps", "enc_size", "dec_size", "latent_size", "unroll"):
        if getattr(draw, name) < 1:
            raise ValueError(f"expected {name} >= 1, got {getattr(draw, name)}")
    for name in ("read_size", "write_size"):
        if getattr(draw, name) < 0 or getattr(draw, name) == 1:
            raise ValueError(
                f"expected {name} >= 2, or 0 for no attention, got {getattr(draw, name)}"
            )
    for name in ("read_delta", "read_sigma", "write_delta", "write_sigma"):
        if not getattr(draw, name) > 0:
            raise ValueError(f"expected {name} > 0, got {getattr(draw, name)}")
    likelihood.named(draw.likelihood)
    if draw.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"expected dtype float32 or bfloat16, got {draw.dtype!r}")
