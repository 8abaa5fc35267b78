"""The DRAW network, the whole unroll as a scan of its cell; and its task, the negative ELBO.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623. Noise is an argument: the model
draws none, so a scan equals a Python loop, and `generate` on the posterior's z repeats the
training canvases exactly.
"""

import dataclasses
import math
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from draw_jax.model import attention, likelihood, losses
from draw_jax.model.cell import DrawCell, State, Trace
from draw_jax.model.gradients import unroll
from draw_jax.model.layers import check_fields, check_images
from draw_jax.model.task import Task, Terms, Variables

_GREATEST_FORGET_BIAS = 20.0  # beyond which a gate neither opens nor learns


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
    read_gamma: float = 1.0  # first read window: gamma, by which a patch is multiplied
    write_delta: float = 1.0  # first write window: delta~ of eq. 24
    write_sigma: float = 1.0  # first write window: sigma, pixels
    write_gamma: float = 1.0  # first write window: gamma, by which a patch is divided
    canvas_bias: float = 0.0  # first value of the learned c_0: logits, or means in [0, 1]
    dtype: str = "float32"  # of the products' operands; float32 or bfloat16
    unroll: int = 1  # time steps in one pass of the compiled loop: speed only
    likelihood: str = "bernoulli"  # D(X given c_T); see model/likelihood.py
    canvas_log_scale: float = -2.0  # first log-scale in c_0; for discretized_logistic only
    privy: bool = True  # whether the encoder is given h_dec, eq. 5
    encoder_input: str = "both"  # what it reads: both = image and error image, error = that alone
    recurrent_init: str = "normal"  # first weights of h_{t-1} in both LSTMs; or orthogonal
    forget_bias: float = 1.0  # first bias of the forget gates of both LSTMs
    scan_rows: int = 0  # rows in which the first windows run over the image; 0 = they stay
    window_init_scale: float = 1.0  # first weights that move windows, times this; 0 = they stay
    state_clip_norm: float = 0.0  # of an image's gradient w.r.t. each LSTM state; 0 = no clipping

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        _check_fields(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the one cell that `__call__` and `generate` share."""
        self.cell = self.make_cell()

    def make_cell(self, reader: nn.Module | None = None) -> DrawCell:
        """Returns a cell of these fields; `reader` is the cell's, made with parent=None."""
        own = {"reader", "parent", "name"}
        names = {field.name for field in dataclasses.fields(DrawCell)} - own
        return DrawCell(**{name: getattr(self, name) for name in names}, reader=reader)

    def features(self, x: jax.Array) -> jax.Array | None:
        """Returns features [B, K] of images, also given to the encoder at every step; or None.

        A Draw has none. Subclasses that override this make them once, outside the scan.
        """
        return None

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
        check_images(x, self.image_shape)
        self._check_noise("eps", eps, batch_size=len(x))

        def step(cell: DrawCell, state: State, seen: Any, eps: jax.Array) -> Any:
            state, (kl, step_trace) = cell.infer_step(state, seen[0], eps, *seen[1:])
            return state, (kl, step_trace if trace else None)

        first = self.cell.initial_state(len(x))
        features = self.features(x)
        share = None if self.is_initializing() else self.cell.share(x, features)
        seen = (x, features, share)
        state, (kl, steps) = unroll(step, self.cell, first, seen, eps, len(eps), self.unroll)
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
        scan = nn.scan(
            DrawCell.generate_step,
            variable_broadcast="params",
            split_rngs={"params": False},
            unroll=self.unroll,
        )
        _, trace = scan(self.cell, self.cell.initial_state(z.shape[1]), z)
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
    """Raises ValueError naming the first invalid field."""
    sizes = ("time_steps", "enc_size", "dec_size", "latent_size", "unroll")
    windows = [f"{way}_{name}" for way in ("read", "write") for name in ("delta", "sigma", "gamma")]
    check_fields(draw, dict.fromkeys(sizes, 1), positive=windows)
    for name in ("read_size", "write_size"):
        if getattr(draw, name) < 0 or getattr(draw, name) == 1:
            raise ValueError(
                f"expected {name} >= 2, or 0 for no attention, got {getattr(draw, name)}"
            )
    if likelihood.named(draw.likelihood).discretized:
        _check_first_canvas(draw)
    if draw.encoder_input not in ("both", "error"):
        raise ValueError(f"expected encoder_input both or error, got {draw.encoder_input!r}")
    if draw.recurrent_init not in ("normal", "orthogonal"):
        raise ValueError(
            f"expected recurrent_init normal or orthogonal, got {draw.recurrent_init!r}"
        )
    if not abs(draw.forget_bias) <= _GREATEST_FORGET_BIAS:
        raise ValueError(
            f"expected forget_bias within +-{_GREATEST_FORGET_BIAS}, got {draw.forget_bias}"
        )
    for name in ("window_init_scale", "state_clip_norm"):
        if not 0 <= getattr(draw, name) < math.inf:
            raise ValueError(f"expected {name} >= 0, finite, got {getattr(draw, name)}")
    if draw.scan_rows:
        _check_scan(draw)


def _check_scan(draw: Draw) -> None:
    """Raises ValueError if the first windows cannot run over the image."""
    most = (draw.time_steps - 1) // 2  # a row then takes more than 2 steps
    if not 0 < draw.scan_rows <= most:
        raise ValueError(
            f"expected scan_rows 0, or 1 to (time_steps - 1) / 2 = {most}, got {draw.scan_rows}"
        )
    if not (draw.read_size and draw.write_size):
        raise ValueError(
            f"expected scan_rows 0 without attention, got {draw.scan_rows} with read_size "
            f"{draw.read_size} and write_size {draw.write_size}"
        )
    if draw.dec_size < 4:
        raise ValueError(
            f"expected dec_size >= 4 with scan_rows {draw.scan_rows}, as the path takes four "
            f"units, got {draw.dec_size}"
        )


def _check_first_canvas(draw: Draw) -> None:
    """Raises ValueError if the first mean is outside [0, 1], or the first log-scale at a bound."""
    if not 0 <= draw.canvas_bias <= 1:
        raise ValueError(
            f"expected canvas_bias 0 to 1, the first mean of likelihood {draw.likelihood}, got "
            f"{draw.canvas_bias}; configs/cifar10_bits.py has 0.47"
        )
    least, greatest = losses.LEAST_LOG_SCALE, losses.GREATEST_LOG_SCALE
    if not least < draw.canvas_log_scale < greatest:
        raise ValueError(
            f"expected canvas_log_scale above {least:g} and below {greatest:g}, got "
            f"{draw.canvas_log_scale}"
        )


def task(model: Draw) -> Task:
    """Returns the task of a Draw: NLL (eq. 9) + KL (eq. 10) in nats, one sample of z per image."""

    def loss_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> Terms:
        return terms(infer(model, variables, x, key))

    def evaluation_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, keys: jax.Array
    ) -> tuple[Terms, Terms]:
        output, trace = traced(model, variables, x, noise(model, keys))
        return terms(output), {"kl_per_step": output.kl.T} | _windows(model, trace)

    def log_weight(variables: Variables, x: jax.Array, keys: jax.Array) -> jax.Array:
        return weighted(model, variables, x, noise(model, keys))[1]

    in_bits = likelihood.named(model.likelihood).discretized
    return Task(
        model,
        loss_terms,
        evaluation_terms,
        log_weight,
        totals=(("elbo_loss", ("nll", "kl")),),
        objective="elbo_loss",
        metric="elbo_loss",
        lower_is_better=True,
        columns=("elbo_loss", "nll", "kl", *(("bits_per_dim",) if in_bits else ())),
        floats_kept=_floats_kept(model),
        window_outputs=sum(5 for size in (model.write_size, model.read_size) if size),
        bits=_BITS if in_bits else (),
    )


# Bounds in nats per image that a discretized likelihood also reports in bits per dimension.
_BITS = (
    ("bits_per_dim", "elbo_loss"),
    ("importance_weighted_bits_per_dim", "importance_weighted_nll"),
)


def _floats_kept(model: Draw) -> int:
    """Returns about how many floats of an example an update holds at once, as `unroll` works."""
    height, width, channels = model.image_shape
    kind = likelihood.named(model.likelihood)
    canvas = math.prod(model.image_shape) * kind.canvas_channels
    images = 2 if model.read_size and model.encoder_input == "both" else 1  # that change
    read = images * channels * (model.read_size**2 or height * width)
    patch = model.write_size**2 * channels * kind.canvas_channels
    results = 4 * (model.enc_size + model.dec_size) + 2 * model.latent_size  # of the linear maps
    units = 2 * model.enc_size + (3 if model.privy else 2) * model.dec_size
    inputs = read + units + model.latent_size  # of them, too
    states = canvas + 2 * (model.enc_size + model.dec_size)
    return model.time_steps * (states + 2 * results + patch + inputs)  # 2: and their gradients


def infer(model: Draw, variables: Variables, x: jax.Array, key: jax.Array) -> Output:
    """Returns the terms of the loss of a batch [B, H, W, C], its noise from one key."""
    return cast(Output, model.apply(variables, x, batch_noise(model, key, len(x))))


def traced(model: Draw, variables: Variables, x: jax.Array, eps: jax.Array) -> tuple[Output, Trace]:
    """Returns the terms of the loss and the trace, of images [B, H, W, C] and noise [T, B, Z]."""
    output = cast(Output, model.apply(variables, x, eps, trace=True))
    return output, cast(Trace, output.trace)


def terms(output: Output) -> Terms:
    """Returns each example's terms of the loss, [B] nats, the KL summed over the time steps."""
    return {"nll": output.nll, "kl": output.kl.sum(axis=0)}


def weighted(
    model: Draw, variables: Variables, x: jax.Array, eps: jax.Array
) -> tuple[Output, jax.Array]:
    """Returns the terms of the loss and log p(x, z) - log q(z given x), [B] nats; see `traced`."""
    output, trace = traced(model, variables, x, eps)
    assert trace.mean is not None and trace.log_std is not None  # as it inferred
    return output, losses.importance_log_weight(output.nll, trace.mean, trace.log_std, eps)


def batch_noise(model: Draw, key: jax.Array, count: int) -> jax.Array:
    """Returns eps [T, count, Z], of all examples from one key."""
    return jax.random.normal(key, (model.time_steps, count, model.latent_size), jnp.float32)


def noise(model: Draw, keys: jax.Array) -> jax.Array:
    """Returns eps [T, B, Z], example b's from keys[b]."""
    shape = (model.time_steps, model.latent_size)
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys).swapaxes(0, 1)


def _windows(model: Draw, trace: Trace) -> Terms:
    """Returns what a validation reports on the windows, each example's mean over the time steps."""
    height, width, _ = model.image_shape
    terms: Terms = {}
    for name, windows, size in (
        ("read", trace.read_windows, model.read_size),
        ("write", trace.write_windows, model.write_size),
    ):
        if windows is not None:
            terms |= attention.summary(name, windows, size, height, width)
    return terms
