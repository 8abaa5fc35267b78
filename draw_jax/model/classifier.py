"""The classifier of section 4.1: DRAW's reader before one LSTM; and the task of any classifier.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

import math
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from draw_jax.model import attention
from draw_jax.model.gradients import unroll
from draw_jax.model.gradients.layers import WHOLE_FLOAT32
from draw_jax.model.layers import LSTM, Linear, check_fields, check_images
from draw_jax.model.task import Model, Task, Terms, Variables

_FLOAT32 = jnp.float32
_MOST_SCALES = 16  # the widest grid is then 32,768 times as wide as the first


class Glimpses(NamedTuple):
    """Every glimpse of an unroll: T time steps of B images."""

    logits: jax.Array  # of the classes, after each glimpse [T, B, classes]; the last decide
    windows: attention.Window | None  # that were read through; arrays [T, B]; None without trace


class State(NamedTuple):
    """What one time step hands to the next; B images."""

    h: jax.Array  # [B, lstm_size]
    cell: jax.Array  # [B, lstm_size]
    read_raw: jax.Array  # eq. 21 of the next window [B, 5]


class GlimpseClassifier(nn.Module):
    """An LSTM that reads one glimpse a time step and names the class after the last, section 4.1.

    `classifier.apply(variables, x)` gives the logits after every glimpse; `init` through it.

    Note: the paper leaves gamma unbounded. Fed back through the LSTM, it then sooner or later grows
    until training collapses, so that `max_gamma` bounds it here; 0 is the paper's.
    """

    image_shape: tuple[int, int, int]  # (H, W, C)
    time_steps: int  # T, glimpses
    lstm_size: int  # LSTM units
    read_size: int  # N of the reader
    classes: int
    scales: int = 1  # grids of each glimpse about one centre, each twice as wide as the one before
    loss_steps: int = 1  # the last glimpses whose mean cross-entropy is the loss; 1 = as the paper
    read_delta: float = 1.0  # first window: delta~ of eq. 24, 1 = covers the image
    read_sigma: float = 4.0  # first window: sigma, pixels
    max_gamma: float = 1.0  # no glimpse is more intense; 0 = unbounded
    dtype: str = "float32"  # of the products' operands; float32 or bfloat16
    unroll: int = 1  # time steps in one pass of the compiled loop: speed only

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        _check_fields(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the learned initial state, the LSTM and what is linear in its output."""
        zeros = nn.initializers.zeros_init()
        self.h_0 = self.param("h_0", zeros, (self.lstm_size,), _FLOAT32)
        self.cell_0 = self.param("cell_0", zeros, (self.lstm_size,), _FLOAT32)
        self.lstm = LSTM(self.lstm_size, self.dtype)
        window = attention.raw_bias(self.read_delta, self.read_sigma)
        # Windows are in pixels: fewer bits would move them.
        self.heads = Linear(
            self.classes + 5,
            WHOLE_FLOAT32,
            lambda key, shape, dtype: jnp.zeros(shape, dtype).at[-5:].set(jnp.asarray(window)),
        )

    def __call__(self, x: jax.Array, trace: bool = False) -> Any:
        """Returns the logits after each glimpse [T, B, classes]; with `trace`, Glimpses.

        Args:
            x: images [B, H, W, C], in [0, 1].
            trace: static; whether to return the windows, too.

        Raises:
            ValueError: if the images do not have the shape that the model is built for.
        """
        check_images(x, self.image_shape)
        glimpses = self.glimpses(x, trace)
        return glimpses if trace else glimpses.logits

    def glimpses(self, x: jax.Array, trace: bool) -> Glimpses:
        """Returns every glimpse; without `trace` the windows are None. Arguments as of `__call__`."""

        def step(module: GlimpseClassifier, state: State, x: jax.Array, _: None) -> Any:
            state, logits, window = module.step(state, x)
            return state, (logits, window if trace else None)

        first = self.initial_state(x)
        _, (logits, windows) = unroll(step, self, first, x, None, self.time_steps, self.unroll)
        return Glimpses(logits, windows)

    def initial_state(self, x: jax.Array) -> State:
        """Returns the learned state before the first glimpse, the same for all images x [B, ...]."""
        h, cell = (jnp.broadcast_to(a, (len(x), *a.shape)) for a in (self.h_0, self.cell_0))
        return State(h, cell, self._heads(h)[1])

    def step(self, state: State, x: jax.Array) -> tuple[State, jax.Array, attention.Window]:
        """Returns the next state, the logits [B, classes] and the window that was read through.

        Args:
            state: after time step t - 1.
            x: [B, H, W, C], in [0, 1].
        """
        height, width, _ = self.image_shape
        window = attention.window(self._bounded(state.read_raw), self.read_size, height, width)
        glimpses = [
            attention.read(x, widened(window, 2**k), self.read_size).reshape(len(x), -1)
            for k in range(self.scales)
        ]  # eq. 27
        h, cell = self.lstm(glimpses, state.h, state.cell)
        logits, read_raw = self._heads(h)
        return State(h, cell, read_raw), logits, window

    def _heads(self, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the logits [B, classes] and the next window's five values [B, 5], eq. 21."""
        logits, read_raw = jnp.split(self.heads(h), [self.classes], axis=-1)
        return logits, read_raw

    def _bounded(self, raw: jax.Array) -> jax.Array:
        """Returns eq. 21's values with log gamma below its bound, smoothly."""
        if not self.max_gamma:
            return raw
        highest = math.log(self.max_gamma)
        log_gamma = highest - jax.nn.softplus(highest - raw[..., 4:])
        return jnp.concatenate([raw[..., :4], log_gamma], axis=-1)


def widened(window: attention.Window, factor: float) -> attention.Window:
    """Returns a window about the same centre, its stride and sigma times a factor."""
    return window._replace(delta=factor * window.delta, sigma_sq=factor**2 * window.sigma_sq)


def _check_fields(model: GlimpseClassifier) -> None:
    """Raises ValueError naming the first invalid field."""
    least = {"time_steps": 1, "lstm_size": 1, "read_size": 2, "classes": 2}
    least |= {"scales": 1, "loss_steps": 1, "unroll": 1}
    check_fields(model, least, positive=("read_delta", "read_sigma"))
    if not model.max_gamma >= 0:
        raise ValueError(f"expected max_gamma > 0, or 0 for no bound, got {model.max_gamma}")
    if model.scales > _MOST_SCALES:
        raise ValueError(f"expected scales <= {_MOST_SCALES}, got {model.scales}")


# --- the task


def task(model: GlimpseClassifier) -> Task:
    """Returns the task of a glimpse classifier: cross-entropy after the last glimpses, in nats."""

    def loss_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> Terms:
        return terms(cast(jax.Array, model.apply(variables, x)), labels, model.loss_steps)

    def evaluation_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, keys: jax.Array
    ) -> tuple[Terms, Terms]:
        glimpses = cast(Glimpses, model.apply(variables, x, trace=True))
        found = terms(glimpses.logits, labels, model.loss_steps)
        return found, glimpse_diagnostics(model, glimpses, labels)

    pixels = math.prod(model.image_shape)
    glimpse = model.scales * (model.read_size**2 + 2 * model.read_size * sum(model.image_shape[:2]))
    kept = pixels + model.time_steps * (glimpse + 6 * model.lstm_size)
    whole = of_classes(model, model.classes, loss_terms, evaluation_terms, kept)
    return whole._replace(window_outputs=5)


def of_classes(
    model: Model, classes: int, loss_terms: Any, evaluation_terms: Any, floats_kept: int
) -> Task:
    """Returns the task of a classifier, which ranks checkpoints by their error."""
    return Task(
        model,
        loss_terms,
        evaluation_terms,
        log_weight=None,
        totals=(),
        objective="loss",
        metric="error",
        lower_is_better=True,
        columns=("error", "cross_entropy"),
        floats_kept=floats_kept,
        classes=classes,
    )


def terms(logits: jax.Array, labels: jax.Array | None, loss_steps: int = 1) -> Terms:
    """Returns the loss and the cross-entropy, nats [B], and whether the answers are wrong, 0 or 1.

    The cross-entropy and the answers are those of the last logits, the loss is the mean
    cross-entropy of the last `loss_steps`.

    Args:
        logits: [T, B, classes].
        labels: integers [B], in [0, classes).
        loss_steps: at least 1; all T where it is more.
    """
    assert labels is not None  # as `splits.check_labels` saw
    last = logits[-loss_steps:]
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(
        last, jnp.broadcast_to(labels, last.shape[:-1])
    )
    return {
        "loss": cross_entropy.mean(axis=0),
        "cross_entropy": cross_entropy[-1],
        "error": zero_one_error(logits[-1], labels),
    }


def glimpse_diagnostics(
    model: GlimpseClassifier, glimpses: Glimpses, labels: jax.Array | None
) -> Terms:
    """Returns the `diagnostics` of the logits of glimpses, and a summary of their windows."""
    assert glimpses.windows is not None  # as it was traced
    height, width, _ = model.image_shape
    windows = attention.summary("read", glimpses.windows, model.read_size, height, width)
    return diagnostics(glimpses.logits, labels) | windows


def diagnostics(logits: jax.Array, labels: jax.Array | None) -> Terms:
    """Returns whether each time step is wrong, [B, T], and `answers`: (label, last answer), [B, 2].

    Args:
        logits: [T, B, classes].
        labels: integers [B], in [0, classes).
    """
    assert labels is not None  # as `splits.check_labels` saw
    return {
        "error_per_step": zero_one_error(logits, labels[None]).T,
        "answers": jnp.stack([labels, logits[-1].argmax(axis=-1)], axis=-1),
    }


def zero_one_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns 1 where the largest of the logits [..., classes] is not the label's, else 0 [...]."""
    return (logits.argmax(axis=-1) != labels).astype(_FLOAT32)
