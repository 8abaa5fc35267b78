"""What a kind of model brings to training and evaluation, in one value."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Variables = Mapping[str, Any]  # {"params": ...}
Terms = dict[str, jax.Array]


class Model(Protocol):
    """A Flax module of any kind."""

    image_shape: tuple[int, int, int]  # (H, W, C)

    def __hash__(self) -> int:
        """Returns the same number for models with equal fields."""

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Returns its variables, {"params": ...}."""

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what it computes with its variables."""


class Task(NamedTuple):
    """Functions of a model and the names of what they return.

    All terms are per example, arrays [B]; means and conversions are the callers'. Images x are
    [B, H, W, C] in [0, 1], labels int32 [B], or None where the data has none. Each function draws
    the noise that it needs.
    """

    model: Model
    # (variables, x, labels, key) -> terms of the loss, of a whole batch with one key
    loss_terms: Callable[[Variables, jax.Array, jax.Array | None, jax.Array], Terms]
    # (variables, x, labels, keys [B]) -> the same terms, each example's noise from its own key, and
    # what else a validation should report, arrays [B] or [B, T]
    evaluation_terms: Callable[
        [Variables, jax.Array, jax.Array | None, jax.Array], tuple[Terms, Terms]
    ]
    # (variables, x, keys [B]) -> log p(x, z) - log q(z | x) of one z, [B] nats; None: has no z
    log_weight: Callable[[Variables, jax.Array, jax.Array], jax.Array] | None
    totals: tuple[tuple[str, tuple[str, ...]], ...]  # sums of terms, told beside them
    objective: str  # the term or total that training minimises
    metric: str  # the term or total by which validation ranks checkpoints
    lower_is_better: bool  # of the metric
    columns: tuple[str, ...]  # what progress, evaluation and reports show first
    floats_kept: int  # about as many as an update keeps per example for the backward pass
    classes: int = 0  # labels are 0..classes-1; 0: labels are not used
    # Outputs of the linear map `heads`, the last ones, from which windows are made (eq. 21); 0: none.
    window_outputs: int = 0
    # (name, what it is of): nats of an image that are also reported in bits per dimension
    bits: tuple[tuple[str, str], ...] = ()

    def with_totals(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """Returns terms (or their means) with the totals: {"elbo_loss": nll + kl}, for instance.

        And with bits per dimension, nats / (H W C ln 2), for those of `bits` that are present.
        """
        sums = {}
        for name, parts in self.totals:
            total = terms[parts[0]]
            for part in parts[1:]:
                total = total + terms[part]
            sums[name] = total
        found = dict(terms) | sums
        for name, of in self.bits:
            if of in found:
                found[name] = found[of] / (math.prod(self.model.image_shape) * math.log(2))
        return found
