"""One time step of DRAW, as a cell that training and generation share (eqs 1-8, 13-15).

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.model import attention, gradients, likelihood, losses
from draw_jax.model.gradients.layers import WHOLE_FLOAT32
from draw_jax.model.layers import LSTM, NORMAL, Linear, Share

_FLOAT32 = jnp.float32
# Of a scan's first windows: how far their centres go, in halves of the image around its middle.
_REACH = 0.73


class State(NamedTuple):
    """What one time step hands to the next; B examples."""

    canvas: jax.Array  # c_t [B, H, W, C k]; model/likelihood.py defines k and the meaning
    h_enc: jax.Array  # [B, enc_size]
    cell_enc: jax.Array  # [B, enc_size]
    h_dec: jax.Array  # [B, dec_size]
    cell_dec: jax.Array  # [B, dec_size]
    read_raw: jax.Array  # eq. 21 of the next read [B, 5]; [B, 0] without attention


class Trace(NamedTuple):
    """Every time step of an unroll: T steps of B examples. Generation has no reads, mean, log_std."""

    canvases: jax.Array  # c_1..c_T [T, B, H, W, C k]; of a Bernoulli logits (k = 1)
    read_windows: attention.Window | None  # arrays [T, B]; None without attention
    write_windows: attention.Window | None  # arrays [T, B]; None without attention
    mean: jax.Array | None  # of the posterior [T, B, Z]
    log_std: jax.Array | None  # of the posterior [T, B, Z]


class DrawCell(nn.Module):
    """One time step of DRAW. Its fields are those of `Draw`, but for the last, `reader`."""

    image_shape: tuple[int, int, int]
    time_steps: int
    enc_size: int
    dec_size: int
    latent_size: int
    read_size: int
    write_size: int
    read_delta: float
    read_sigma: float
    read_gamma: float
    write_delta: float
    write_sigma: float
    write_gamma: float
    canvas_bias: float
    canvas_log_scale: float
    dtype: str
    likelihood: str
    privy: bool
    encoder_input: str
    recurrent_init: str
    forget_bias: float
    scan_rows: int
    window_init_scale: float
    state_clip_norm: float
    # Images [B, H, W, 1 or 2 C] -> r_t [B, any]; None = as they are.
    reader: nn.Module | None = None

    def setup(self) -> None:
        """Makes the learned initial state, both LSTMs and the linear maps."""
        zeros = nn.initializers.zeros_init()
        self.canvas_0 = self.param("canvas_0", self._first_canvas, self.canvas_shape, _FLOAT32)
        self.h_enc_0 = self.param("h_enc_0", zeros, (self.enc_size,), _FLOAT32)
        self.cell_enc_0 = self.param("cell_enc_0", zeros, (self.enc_size,), _FLOAT32)
        # Of a scan, the decoder's clocks: one for the columns of its path, one for its rows.
        down_and_up = 2.0 * self.time_steps
        clocks = (down_and_up / self.scan_rows, down_and_up) if self.scan_rows else ()
        self.encoder = LSTM(self.enc_size, self.dtype, self.recurrent_init, self.forget_bias)
        self.decoder = decoder = LSTM(
            self.dec_size, self.dtype, self.recurrent_init, self.forget_bias, clocks
        )
        h_dec, cell_dec = (jnp.asarray(first, _FLOAT32) for first in decoder.first_state())
        self.h_dec_0 = self.param("h_dec_0", lambda key: h_dec)
        self.cell_dec_0 = self.param("cell_dec_0", lambda key: cell_dec)
        self.posterior = Linear(2 * self.latent_size, self.dtype)
        # Everything that is linear in h_dec is one product: what to write (eq. 18 or 28), where
        # to write it and where to read next (eq. 21 twice).
        height, width, channels = self.canvas_shape
        patch = (self.write_size or height) * (self.write_size or width) * channels
        write = attention.raw_bias(self.write_delta, self.write_sigma, self.write_gamma)
        read = attention.raw_bias(self.read_delta, self.read_sigma, self.read_gamma)
        bias = np.concatenate(
            [np.zeros(patch), write if self.write_size else [], read if self.read_size else []]
        )
        self._splits = [patch, patch + (5 if self.write_size else 0)]

        def kernels(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
            kernel: jax.Array = NORMAL(key, shape, dtype)
            kernel = kernel.at[:, patch:].multiply(self.window_init_scale)
            for first, lead in zip(self._splits, (0, 1), strict=True):  # of writing, of reading
                for axis in range(len(clocks)):  # g~_x, g~_y
                    path = _REACH * decoder.clock_weights(axis, lead)
                    kernel = kernel.at[:, first + axis].set(jnp.asarray(path, dtype))
            return kernel

        # Windows are in pixels: fewer bits would move them enough to turn the gradient.
        self.heads = Linear(
            len(bias),
            WHOLE_FLOAT32 if self.read_size or self.write_size else self.dtype,
            lambda key, shape, dtype: jnp.asarray(bias, dtype),
            kernels,
        )

    @property
    def canvas_shape(self) -> tuple[int, int, int]:
        """Returns (H, W, C k), with the k canvas channels of the likelihood."""
        height, width, channels = self.image_shape
        return height, width, channels * likelihood.named(self.likelihood).canvas_channels

    def _first_canvas(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Returns the first value of c_0, the same at every pixel and for every channel of the image."""
        kinds = likelihood.named(self.likelihood).canvas_channels
        first = np.array([self.canvas_bias, self.canvas_log_scale][:kinds])
        return jnp.broadcast_to(first.repeat(self.image_shape[2]).astype(dtype), shape)

    def initial_state(self, batch_size: int) -> State:
        """Returns the learned state before the first step, the same for all examples."""

        def repeat(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x, (batch_size, *x.shape))

        h_dec = repeat(self.h_dec_0)
        read_raw = self._heads(h_dec)[2] if self.read_size else h_dec[:, :0]
        return State(
            canvas=repeat(self.canvas_0),
            h_enc=repeat(self.h_enc_0),
            cell_enc=repeat(self.cell_enc_0),
            h_dec=h_dec,
            cell_dec=repeat(self.cell_dec_0),
            read_raw=read_raw,
        )

    @property
    def _reads_image_whole(self) -> bool:
        """Returns whether the image itself is the first half of what is read, eq. 17."""
        return not self.read_size and self.encoder_input == "both" and self.reader is None

    def share(self, x: jax.Array, features: jax.Array | None) -> Share | None:
        """Returns the share of inputs that are the same at every step, made once; None = nothing.

        Args:
            x: [B, H, W, C].
            features: of the images, as for `infer_step`.
        """
        alike = {0: x.reshape(len(x), -1)} if self._reads_image_whole else {}
        if features is not None:  # right behind what is read
            height, width, channels = self.image_shape
            images = 1 if self.encoder_input == "error" else 2
            alike[images * channels * (self.read_size**2 or height * width)] = features
        return self.encoder.share(alike) if alike else None

    def infer_step(
        self,
        state: State,
        x: jax.Array,
        eps: jax.Array,
        features: jax.Array | None = None,
        share: Share | None = None,
    ) -> tuple[State, tuple[jax.Array, Trace]]:
        """Returns the next state, the step's KL [B] and its trace, eqs 3-8.

        Args:
            state: after step t - 1.
            x: [B, H, W, C], in [0, 1].
            eps: standard normal noise of this step, [B, Z].
            features: of the images, also given to the encoder, [B, K]; None for none.
            share: of images and features, from the method `share`; None = made here.
        """
        state = self._clipped(state)
        x_err = likelihood.named(self.likelihood).error_image(x, state.canvas)  # eq. 3
        known = share is not None and self._reads_image_whole
        r, read_window = self._read(None if known else x, x_err, state.read_raw)  # eq. 4
        seen = [r] if features is None or share is not None else [r, features]
        inputs = [*seen, state.h_dec] if self.privy else seen
        h_enc, cell_enc = self.encoder(inputs, state.h_enc, state.cell_enc, share)  # eq. 5
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

    def _clipped(self, state: State) -> State:
        """Returns the state, with the gradients w.r.t. the LSTMs' state clipped, image by image."""
        if not self.state_clip_norm:
            return state
        names = ("h_enc", "cell_enc", "h_dec", "cell_dec")
        clip = gradients.clip_gradient
        return state._replace(
            **{name: clip(getattr(state, name), self.state_clip_norm) for name in names}
        )

    def _heads(self, h_dec: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns patch [B, N N C k or H W C k], write_raw [B, 5 or 0] and read_raw [B, 5 or 0]."""
        patch, write_raw, read_raw = jnp.split(self.heads(h_dec), self._splits, axis=-1)
        return patch, write_raw, read_raw

    def _read(
        self, x: jax.Array | None, x_err: jax.Array, raw: jax.Array
    ) -> tuple[jax.Array, attention.Window | None]:
        """Returns r_t [B, 2 N N C] and its window, eq. 27; or [B, 2 H W C] and None, eq. 17.

        With `encoder_input` "error", or x None, it is only the half of x_err; with a `reader`, that
        module's output for the same images.
        """
        images = [x_err] if x is None or self.encoder_input == "error" else [x, x_err]
        window = None
        if self.read_size:
            height, width, _ = self.image_shape
            window = attention.window(raw, self.read_size, height, width)
            images = [attention.read(image, window, self.read_size) for image in images]
        if self.reader is not None:
            return self.reader(jnp.concatenate(images, axis=-1)), window
        return jnp.concatenate([image.reshape(len(image), -1) for image in images], -1), window

    def _write(self, patch: jax.Array, raw: jax.Array) -> tuple[jax.Array, attention.Window | None]:
        """Returns what to add to the canvas, [B, H, W, C k], and its window, eq. 29 or 18."""
        height, width, channels = self.canvas_shape
        if not self.write_size:
            return patch.reshape(-1, height, width, channels), None
        window = attention.window(raw, self.write_size, height, width)
        patch = patch.reshape(-1, self.write_size, self.write_size, channels)
        return attention.write(patch, window, height, width), window
