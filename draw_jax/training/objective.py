"""The loss that an update minimises: the task's own, or for DRAW a variant of the negative ELBO.

The means of the task's own terms are always returned; a variant's value stands beside them as
`objective`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from draw_jax.model import draw
from draw_jax.model.draw import Draw, Output
from draw_jax.model.task import Task, Variables

# Values of config.train with which a task's own loss is minimised.
OWN = {"kl_warmup_steps": 0, "free_bits": 0, "importance_samples": 1}


class Given(NamedTuple):
    """What an update is given besides the weights."""

    x: jax.Array  # images [B, H, W, C], in [0, 1]
    labels: jax.Array | None  # int32 [B]
    key: jax.Array  # of the noise
    step: jax.Array  # updates done, from 0


Means = dict[str, jax.Array]  # of the terms over the batch, scalars
# (variables, what is given) -> (the loss, a scalar in nats per image; means)
Objective = Callable[[Variables, Given], tuple[jax.Array, Means]]


def make(task: Task, train: ConfigDict) -> Objective:
    """Returns the loss that an update minimises.

    Args:
        task: of any kind.
        train: `config.train`; of it kl_warmup_steps, free_bits and importance_samples.

    Raises:
        ValueError: as `check` does.
    """
    check(task, train)
    if train.importance_samples > 1:
        return _importance_weighted(task, train.importance_samples)
    if train.kl_warmup_steps or train.free_bits:
        return _weighted(task, train.kl_warmup_steps, float(train.free_bits))
    return _own(task)


def check(task: Task, train: ConfigDict) -> None:
    """Raises ValueError if a task has no such objective, or two are asked for."""
    asked = [name for name, own in OWN.items() if train[name] != own]
    draws = isinstance(task.model, Draw) and not task.classes
    if asked and not draws:
        raise ValueError(
            f"config.train.{asked[0]}: expected {OWN[asked[0]]}, as the loss of this config.kind is "
            f"not the negative ELBO alone, got {train[asked[0]]}"
        )
    if "importance_samples" in asked and len(asked) > 1:
        raise ValueError(
            f"config.train.{asked[0]}: expected 0 with importance_samples, whose objective has no KL, "
            f"got {train[asked[0]]}"
        )


def _own(task: Task) -> Objective:
    """Returns the loss that the task names."""

    def objective(variables: Variables, given: Given) -> tuple[jax.Array, Means]:
        terms = task.loss_terms(variables, given.x, given.labels, given.key)
        means = task.with_totals({name: term.mean() for name, term in terms.items()})
        return means[task.objective], means

    return objective


def _weighted(task: Task, warmup: int, free: float) -> Objective:
    """Returns NLL + weight sum_t max(free, KL_t), with KL_t the mean over the batch.

    The weight rises linearly from 0 to 1 over the first `warmup` updates (Bowman et al. 2016,
    arXiv 1511.06349; Sonderby et al. 2016, arXiv 1602.02282). Each time step is a group of latents
    whose first `free` nats cost nothing (free bits, Kingma et al. 2016, arXiv 1606.04934).
    """
    model = task.model
    assert isinstance(model, Draw)

    def objective(variables: Variables, given: Given) -> tuple[jax.Array, Means]:
        output = draw.infer(model, variables, given.x, given.key)
        weight = jnp.minimum(given.step / warmup, 1.0) if warmup else 1.0
        counted = jnp.maximum(output.kl.mean(axis=1), free).sum()
        return _with_means(task, output, output.nll.mean() + weight * counted)

    return objective


def _importance_weighted(task: Task, samples: int) -> Objective:
    """Returns -log of the mean over K samples of z of p(x, z) / q(z | x).

    Burda et al. 2016, arXiv 1509.00519, eq. 8. An update takes about K times as long. The means are
    those over all B K samples.
    """
    model = task.model
    assert isinstance(model, Draw)

    def objective(variables: Variables, given: Given) -> tuple[jax.Array, Means]:
        each = jnp.repeat(given.x, samples, axis=0)  # an image's samples stand together
        eps = draw.batch_noise(model, given.key, len(each))
        output, log_weight = draw.weighted(model, variables, each, eps)
        bound = jax.nn.logsumexp(log_weight.reshape(-1, samples), axis=1) - jnp.log(samples)
        return _with_means(task, output, -bound.mean())

    return objective


def _with_means(task: Task, output: Output, loss: jax.Array) -> tuple[jax.Array, Means]:
    """Returns a loss, and the means of a Draw's terms with it."""
    means = {name: term.mean() for name, term in draw.terms(output).items()}
    return loss, task.with_totals(means | {"objective": loss})
