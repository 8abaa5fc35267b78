"""Ours, beyond the paper: a glimpse classifier finds the object, convolutions name it; the task.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623. The first state from a coarse
image is the context network of Ba et al. 2014, arXiv 1412.7755.
"""

import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from draw_jax.model import attention, classifier
from draw_jax.model.classifier import GlimpseClassifier, Glimpses, State
from draw_jax.model.layers import (
    Convolutions,
    Linear,
    check_convolutions,
    check_fields,
    floats_of_maps,
)
from draw_jax.model.task import Task, Terms, Variables


class GlimpseConvNet(GlimpseClassifier):
    """A GlimpseClassifier, and a convolutional net that reads again, finer, through its windows.

    A glimpse's logits are the classifier's plus the net's. Both have a loss: the classifier that of
    its own logits, the net that of the sum. So the classifier learns to find the object whatever
    the net does; the net's loss moves the windows, too, but not the classifier's logits.
    Convolutions before the LSTM, inside its loop, made training unstable.

    The answer after a glimpse is the mean log-probability of the last `loss_steps` glimpses, as
    many as are in the loss, which saw the object through different windows.

    With `context_filters`, convolutions of the whole image, made coarse, give each image its own
    first state, which shows where the object may be before the first glimpse.
    """

    fine_size: int = 24  # N of the second reading
    filters: tuple[int, ...] = (32, 64)  # of each layer of convolutions
    filter_size: int = 3  # height and width of a filter, pixels; odd
    stride: int = 2  # from one place of a filter to the next, pixels
    hidden_size: int = 128  # units of the dense layer after them
    context_filters: tuple[int, ...] = ()  # of each layer over the coarse image; none: no context
    context_pool: int = 4  # height and width of the pixels that become one of the coarse image

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        for name in ("filters", "context_filters"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        super().__post_init__()
        check_fields(self, {"fine_size": 2, "hidden_size": 1, "context_pool": 1})
        check_convolutions(self, (self.fine_size, self.fine_size))
        if any(type(n) is not int or n < 1 for n in self.context_filters):
            raise ValueError(
                f"expected context_filters >= 1 of each layer, got {self.context_filters}"
            )

    def setup(self) -> None:
        """Makes the classifier's layers, the net's and those of the context."""
        super().setup()
        if self.context_filters:
            self.context = Convolutions(
                self.context_filters, self.filter_size, self.stride, self.dtype
            )
            self.context_state = Linear(2 * self.lstm_size, self.dtype)
        self.convolutions = Convolutions(self.filters, self.filter_size, self.stride, self.dtype)
        self.hidden = Linear(self.hidden_size, self.dtype)
        self.classification = Linear(self.classes, "float32")

    def glimpses(self, x: jax.Array, trace: bool) -> Glimpses:
        """Returns every glimpse, with the answer after it; without `trace` the windows are None."""
        logits, windows = self.both(x, self.time_steps)[1]
        return Glimpses(agreed(logits, self.loss_steps), windows if trace else None)

    def initial_state(self, x: jax.Array) -> State:
        """Returns the state before the first glimpse of images x [B, H, W, C], by their context."""
        learned = super().initial_state(x)
        if not self.context_filters:
            return learned
        maps = self.context(coarse(x, self.context_pool))
        h, cell = jnp.split(self.context_state(maps.reshape(len(x), -1)), 2, axis=-1)
        h = jnp.tanh(learned.h + h)
        return State(h, learned.cell + cell, self._heads(h)[1])

    def both(self, x: jax.Array, steps: int) -> tuple[jax.Array, Glimpses]:
        """Returns the classifier's own logits [S, B, classes], and all of the last S glimpses.

        Args:
            x: images [B, H, W, C], in [0, 1].
            steps: static; S >= 1, all T where it is more.
        """
        found, windows = jax.tree.map(lambda a: a[-steps:], super().glimpses(x, trace=True))
        named = self._named(attention.read(x, self.finer(windows), self.fine_size))
        return found, Glimpses(jax.lax.stop_gradient(found) + named, windows)

    def finer(self, window: attention.Window) -> attention.Window:
        """Returns a window over the same area with `fine_size` filters along each axis."""
        ratio = (self.read_size - 1) / (self.fine_size - 1)
        return classifier.widened(window, ratio)

    def _named(self, read: jax.Array) -> jax.Array:
        """Returns the net's logits [S, B, classes] of what was read, [S, B, N, N, C]."""
        maps = self.convolutions(read.reshape(-1, *read.shape[2:]))
        hidden = nn.relu(self.hidden(maps.reshape(len(maps), -1)))
        logits = cast(jax.Array, self.classification(hidden))
        return logits.reshape(*read.shape[:2], -1)


def agreed(logits: jax.Array, last: int) -> jax.Array:
    """Returns after each glimpse the mean log-probabilities, nats, of the latest `last` ones.

    Args:
        logits: of each glimpse alone, [T, B, classes].
        last: at least 1; fewer where there have not been so many yet.
    """
    log_p = jax.nn.log_softmax(logits)
    means = [log_p[max(t - last, 0) : t].mean(axis=0) for t in range(1, len(logits) + 1)]
    return jnp.stack(means)


def coarse(x: jax.Array, size: int) -> jax.Array:
    """Returns the means of blocks of size x size pixels of images x [B, H, W, C], [B, h, w, C].

    (h, w) = ceil((H, W) / size); outside the image is 0.
    """
    after = [(0, -pixels % size) for pixels in x.shape[1:3]]
    return cast(jax.Array, nn.avg_pool(x, (size, size), (size, size), after))


def task(model: GlimpseConvNet) -> Task:
    """Returns the task: the loss of the classifier's own logits plus that of the summed logits.

    `cross_entropy` and `error` are of the answer.
    """
    whole = classifier.task(model)

    def answered(
        variables: Variables, x: jax.Array, labels: jax.Array | None, steps: int
    ) -> tuple[Terms, Glimpses]:
        found, glimpses = cast(
            tuple[jax.Array, Glimpses], model.apply(variables, x, steps, method="both")
        )
        own, both = (
            classifier.terms(logits, labels, model.loss_steps)["loss"]
            for logits in (found, glimpses.logits)
        )
        answers = agreed(glimpses.logits, model.loss_steps)
        terms = classifier.terms(answers, labels) | {"loss": own + both}
        return terms, glimpses._replace(logits=answers)

    def loss_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> Terms:
        return answered(variables, x, labels, model.loss_steps)[0]

    def evaluation_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, keys: jax.Array
    ) -> tuple[Terms, Terms]:
        terms, glimpses = answered(variables, x, labels, model.time_steps)
        return terms, classifier.glimpse_diagnostics(model, glimpses, labels)

    fine = (model.fine_size, model.fine_size)
    steps = min(model.loss_steps, model.time_steps)
    net = steps * (floats_of_maps(model, fine) + model.hidden_size)
    height, width, channels = model.image_shape
    blocks = -(-height // model.context_pool), -(-width // model.context_pool)
    if model.context_filters:
        net += math.prod(blocks) * channels + floats_of_maps(model, blocks, model.context_filters)
    return whole._replace(
        loss_terms=loss_terms,
        evaluation_terms=evaluation_terms,
        floats_kept=whole.floats_kept + net,
    )
