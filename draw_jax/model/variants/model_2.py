"""Model II of the 2016 follow-up study: a digit classifier's maps join the encoder's input."""

import math
from typing import cast

import flax.linen as nn
import jax

from draw_jax.model import classifier, draw
from draw_jax.model.draw import Draw
from draw_jax.model.layers import (
    Convolutions,
    Linear,
    check_convolutions,
    check_fields,
    floats_of_maps,
)
from draw_jax.model.task import Task, Terms, Variables


class Model2(Draw):
    """DRAW with a supervised encoder.

    A classifier of two layers of convolutions and two dense ones names the image's class. The last
    maps of its convolutions are made once an image and given to the encoder at every step. Both
    losses train them.
    """

    classes: int = 10  # labels are 0..classes-1
    filters: tuple[int, ...] = (8, 16)  # of each layer
    filter_size: int = 5  # height and width of a filter, pixels; odd
    stride: int = 2  # from one place of a filter to the next, pixels
    hidden_size: int = 128  # units of the first dense layer
    class_weight: float = 1.0  # of the cross-entropy in the loss

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "filters", tuple(self.filters))
        super().__post_init__()
        check_convolutions(self)
        check_fields(self, {"classes": 2, "hidden_size": 1})
        if not 0 <= self.class_weight < math.inf:
            raise ValueError(f"expected class_weight >= 0, finite, got {self.class_weight}")

    def setup(self) -> None:
        """Makes the cell and the classifier."""
        super().setup()
        self.convolutions = Convolutions(self.filters, self.filter_size, self.stride, self.dtype)
        self.hidden = Linear(self.hidden_size, self.dtype)
        self.classification = Linear(self.classes, "float32")

    def features(self, x: jax.Array) -> jax.Array:
        """Returns the last maps of images, flat [B, K]."""
        maps = self.convolutions(x).reshape(len(x), -1)
        if self.is_initializing():  # so that `init` makes the dense layers, too
            self._logits(maps)
        return maps

    def classify(self, x: jax.Array) -> jax.Array:
        """Returns the logits of the classes [1, B, classes] of images [B, H, W, C]."""
        return self._logits(self.features(x))[None]

    def _logits(self, maps: jax.Array) -> jax.Array:
        hidden: jax.Array = nn.relu(self.hidden(maps))
        return cast(jax.Array, self.classification(hidden))


def task(model: Model2) -> Task:
    """Returns the task of a Draw with the classifier's: their sum is the loss.

    Checkpoints are ranked by the negative ELBO alone. `classification` is the cross-entropy times
    its weight.
    """
    whole = draw.task(model)

    def logits(variables: Variables, x: jax.Array) -> jax.Array:
        return cast(jax.Array, model.apply(variables, x, method="classify"))

    def terms(logits: jax.Array, labels: jax.Array | None) -> Terms:
        found = classifier.terms(logits, labels)
        weighted = model.class_weight * found["cross_entropy"]
        return {name: found[name] for name in ("cross_entropy", "error")} | {
            "classification": weighted
        }

    def loss_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> Terms:
        return whole.loss_terms(variables, x, labels, key) | terms(logits(variables, x), labels)

    def evaluation_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, keys: jax.Array
    ) -> tuple[Terms, Terms]:
        found, others = whole.evaluation_terms(variables, x, labels, keys)
        answers = logits(variables, x)
        return found | terms(answers, labels), others | classifier.diagnostics(answers, labels)

    return whole._replace(
        loss_terms=loss_terms,
        evaluation_terms=evaluation_terms,
        totals=(*whole.totals, ("loss", ("nll", "kl", "classification"))),
        objective="loss",
        columns=(*whole.columns, "error"),
        floats_kept=whole.floats_kept + floats_of_maps(model),
        classes=model.classes,
    )
