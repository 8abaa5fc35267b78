"""The DRAW network: one step as a cell, the whole unroll as a scan of it.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623. Noise is an argument: the model
draws none, so a scan equals a Python loop, and `generate` on the posterior's z repeats the
training canvases exactly.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.model import attention, losses
from draw_jax.model.gradients import error_image
from draw_jax.model.layers import LSTM, Linear

_FLOAT32 = jnp.float32


class State(NamedTuple):
    """What one time step hands to the next; B examples."""

    canvas: jax.Array  # c_t [B, H, W, C], logits
    h_enc: jax.Array  # [B, enc_size]
    cell_enc: jax.Array  # [B, enc_size]
    h_dec: jax.Array  # [B, dec_size]
    cell_dec: jax.Array  # [B, dec_size]
    read_raw: jax.Array  # eq. 21 of the next read [B, 5]; [B, 0] without attention


class Trace(NamedTuple):
    """Every step of an unroll, T steps of B examples; None where a part takes no part."""

    canvases: jax.Array  # c_1..c_T [T, B, H, W, C], logits
    read_windows: attention.Window | None  # arrays [T, B]; None without attention or encoder
    write_windows: attention.Window | None  # arrays [T, B]; None without attention
    mean: jax.Array | None  # of the posterior [T, B, Z]; None in generation
    log_std: jax.Array | None  # of the posterior [T, B, Z]; None in generation


class Output(NamedTuple):
    """The per-example terms of the loss: nll + kl.sum(0) is eq. 12 for one sample of z."""

    nll: jax.Array  # L_x, eq. 9 [B], nats
    kl: jax.Array  # L_z of each time step, eq. 10 [T, B], nats
    trace: Trace | None  # with trace=True


class DrawCell(nn.Module):
    """One time step of DRAW. Its fields are those of `Draw`."""

    image_shape: tuple[int, int, int]
    enc_size: int
    dec_size: int
    latent_size: int
    read_size: int
    write_size: int
    read_delta: float
    read_sigma: float
    write_delta: float
    write_sigma: float
    canvas_bias: float
    dtype: str

    def setup(self) -> None:
        """Makes the learned initial state, both LSTMs and the linear maps."""
        zeros = nn.initializers.zeros_init()
        self.canvas_0 = self.param(
            "canvas_0", nn.initializers.constant(self.canvas_bias), self.image_shape, _FLOAT32
        )
        self.h_enc_0 = self.param("h_enc_0", zeros, (self.enc_size,), _FLOAT32)
        self.cell_enc_0 = self.param("cell_enc_0", zeros, (self.enc_size,), _FLOAT32)
        self.h_dec_0 = self.param("h_dec_0", zeros, (self.dec_size,), _FLOAT32)
        self.cell_dec_0 = self.param("cell_dec_0", zeros, (self.dec_size,), _FLOAT32)
        self.encoder = LSTM(self.enc_size, self.dtype)
        self.decoder = LSTM(self.dec_size, self.dtype)
        self.posterior = Linear(2 * self.latent_size, self.dtype)
        # Everything that is linear in h_dec is one product: what to write (eq. 18 or 28), where
        # to write it and where to read next (eq. 21 twice).
        height, width, channels = self.image_shape
        patch = (self.write_size or height) * (self.write_size or width) * channels
        bias = np.concatenate(
            [
                np.zeros(patch),
                _window_bias(self.write_delta, self.write_sigma) if self.write_size else [],
                _window_bias(self.read_delta, self.read_sigma) if self.read_size else [],
            ]
        )
        self._splits = [patch, patch + (5 if self.write_size else 0)]
        # Windows are pixels: in bfloat16 they move by enough to turn the gradient.
        self.heads = Linear(
            len(bias),
            "float32" if self.read_size or self.write_size else self.dtype,
            lambda key, shape, dtype: jnp.asarray(bias, dtype),
        )

    def initial_state(self, batch_size: int) -> State:
        """Returns the learned state before the first step, the same for all examples."""

        def repeat(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x, (batch_size, *x.shape))

        h_dec = repeat(self.h_dec_0)
        _, _, read_raw = self._heads(h_dec)
        return State(
            canvas=repeat(self.canvas_0),
            h_enc=repeat(self.h_enc_0),
            cell_enc=repeat(self.cell_enc_0),
            h_dec=h_dec,
            cell_dec=repeat(self.cell_dec_0),
            read_raw=read_raw,
        )

    def infer_step(
        self, state: State, x: jax.Array, eps: jax.Array
    ) -> tuple[State, tuple[jax.Array, Trace]]:
        """Returns the next state, the step's KL [B] and its trace, eqs 3-8.

        Args:
            state: after step t - 1.
            x: [B, H, W, C], in [0, 1].
            eps: standard normal noise of this step, [B, Z].
        """
        x_err = error_image(x, state.canvas)  # eq. 3
        r, read_window = self._read(x, x_err, state.read_raw)  # eq. 4
        h_enc, cell_enc = self.encoder([r, state.h_dec], state.h_enc, state.cell_enc)  # eq. 5
        mean, log_std = jnp.split(self.posterior(h_enc), 2, axis=-1)  # eqs 1, 2
        z = mean + jnp.exp(log_std) * eps  # eq. 6
        state, trace = self.generate_step(
            state._replace(h_enc=h_enc, cell_enc=cell_enc), z
        )  # eqs 7, 8
        trace = trace._replace(read_windows=read_window, mean=mean, log_std=log_std)
        return state, (losses.gaussian_kl(mean, log_std), trace)

    def generate_step(self, state: State, z: jax.Array) -> tuple[State, Trace]:
        """Returns the next state and the step's trace, eqs 7 and 8 (14 and 15).

        Args:
            state: after step t - 1; its encoder part is handed on untouched.
            z: [B, Z].
        """
        h_dec, cell_dec = self.decoder([z], state.h_dec, state.cell_dec)  # eq. 7
        patch, write_raw, read_raw = self._heads(h_dec)
        written, write_window = self._write(patch, write_raw)
        canvas = state.canvas + written  # eq. 8
        state = state._replace(canvas=canvas, h_dec=h_dec, cell_dec=cell_dec, read_raw=read_raw)
        return state, Trace(canvas, None, write_window, None, None)

    def _heads(self, h_dec: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns patch [B, N N C or H W C], write_raw [B, 5 or 0] and read_raw [B, 5 or 0]."""
        patch, write_raw, read_raw = jnp.split(self.heads(h_dec), self._splits, axis=-1)
        return patch, write_raw, read_raw

    def _read(
        self, x: jax.Array, x_err: jax.Array, raw: jax.Array
    ) -> tuple[jax.Array, attention.Window | None]:
        """Returns r_t [B, 2 N N C] and its window, eq. 27; or [B, 2 H W C] and None, eq. 17."""
        window = None
        if self.read_size:
            height, width, _ = self.image_shape
            window = attention.window(raw, self.read_size, height, width)
            x, x_err = (attention.read(image, window, self.read_size) for image in (x, x_err))
        return jnp.concatenate([x.reshape(len(x), -1), x_err.reshape(len(x), -1)], -1), window

    def _write(self, patch: jax.Array, raw: jax.Array) -> tuple[jax.Array, attention.Window | None]:
        """Returns what to add to the canvas, [B, H, W, C], and its window, eq. 29 or 18."""
        height, width, channels = self.image_shape
        if not self.write_size:
            return patch.reshape(-1, height, width, channels), None
        window = attention.window(raw, self.write_size, height, width)
        patch = patch.reshape(-1, self.write_size, self.write_size, channels)
        return attention.write(patch, window, height, width), window


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
        return Output(losses.bernoulli_nll(state.canvas, x), kl, steps)  # eq. 9

    def generate(self, z: jax.Array) -> Trace:
        """Returns the trace of drawing from given latents; the encoder takes no part, eqs 13-16.

        Args:
            z: [T, B, Z], standard normal for samples of the model; its first axis sets T.

        Returns:
            Trace without the read. The mean of D is sigma(canvases[-1]).

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


def _window_bias(delta: float, sigma: float) -> list[float]:
    """Returns eq. 21's five values for a centred window: delta~ without unit, sigma in pixels."""
    return [0.0, 0.0, 2 * float(np.log(sigma)), float(np.log(delta)), 0.0]


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
    if draw.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"expected dtype float32 or bfloat16, got {draw.dtype!r}")
