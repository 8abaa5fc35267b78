"""Exact passes over a whole split: every image once, whatever the batch size or the devices.

An image's noise comes from its index in the split, so a result depends on the weights, the split,
the seed and the number of samples, and on nothing else but the order of float32 sums.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from draw_jax.data.splits import Prepare, Split
from draw_jax.evaluation import importance
from draw_jax.evaluation.partial import Partial
from draw_jax.model.task import Task, Terms, Variables
from draw_jax.system import devices

_MOST_CLASSES = 100  # of which a confusion matrix is reported


class Interrupted(Exception):
    """The pass was asked to stop before its end."""


def evaluate(
    task: Task,
    variables: Variables,
    split: Split,
    prepare: Prepare,
    key: jax.Array,
    batch_size: int = 200,
    importance_samples: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
    on_samples: Callable[[int], None] = lambda done: None,
    images: int | None = None,
    partial: Partial | None = None,
) -> dict[str, Any]:
    """Returns the means over a split of the loss's terms and of other diagnostics of the model.

    Args:
        task: of the model.
        variables: {"params": ...}.
        split: of N images, N >= 1.
        prepare: makes one image the model's input, with the image's own key for binarising.
        key: of the noise; image i draws from `fold_in(key, i)`.
        batch_size: images at a time, made a multiple of the number of devices.
        importance_samples: K of the importance-weighted bound, 0 = do not compute it.
        on_batch: called with the number of images done; may raise to stop the pass.
        on_samples: called with the number of importance samples done, of all images together.
        images: how many, from the first on; None: all. No more than there are.
        partial: earlier results of the same pass, to continue from and to extend. None: nothing.

    Returns:
        `images`; the terms of the loss and their totals, each the mean over images beside its
        standard error `..._se`: of DRAW `nll`, `kl`, `elbo_loss` (eqs 9-12, one sample of z per
        image) and, with K > 0, `importance_weighted_nll` (an upper bound of -log p(x) that tightens
        with K), in nats, and of a discretized likelihood both bounds in bits per dimension, too
        (`bits_per_dim`, `importance_weighted_bits_per_dim`); then the task's other evaluation
        terms: of DRAW `kl_per_step` [T] and, per attention window (`read_`, `write_`), mean `sigma`
        and `delta` in pixels, mean `gamma` and the share `off_image`.

    Raises:
        ValueError: if the split is empty or endless, or importance samples are asked of a model without z.
    """
    check_split(split)
    if importance_samples and task.log_weight is None:
        raise ValueError("expected importance_samples 0: this model draws no z to weight")
    total = min(len(split), images or len(split))
    found = partial or Partial()
    replicated, sharded = devices.placement()
    variables = jax.device_put(variables, replicated)

    def weighted(images: jax.Array, indices: jax.Array, start: int, count: int) -> np.ndarray:
        """Returns the importance-weighted NLL of a batch, [B], whose first `count` images count."""

        def keep(done: int, log_sum: np.ndarray) -> None:
            found.at(done, log_sum)
            on_samples(start * importance_samples + count * done)

        begun = found.begun(len(indices))
        return importance.weighted_nll(
            task, prepare, variables, images, indices, key, importance_samples, begun, keep
        )

    for indices, count in devices.batches(total, batch_size, jax.device_count(), found.done):
        start = int(indices[0])
        batch = split.batch(indices)
        inputs = (batch.images, batch.labels, indices)
        x, labels, places = jax.device_put(inputs, sharded)
        terms, others = _terms(task, prepare, variables, x, labels, places, key)
        if importance_samples:
            terms["importance_weighted_nll"] = weighted(x, places, start, count)
            terms = task.with_totals(terms)
        terms, others = multihost_utils.process_allgather((terms, others), tiled=True)
        found.add(terms, others, count)
        on_batch(start + count)
    return {"images": total} | _means(found, task.classes)


def check_split(split: Split) -> None:
    """Raises ValueError unless a split has an end and at least one image before it."""
    if len(split) == 0:
        raise ValueError("expected a split of at least one image, got none")
    if split.endless:
        raise ValueError(
            "expected a split with an end, got endless training images: evaluate validation or test"
        )


def _means(found: Partial, classes: int) -> dict[str, Any]:
    """Returns the means over all images, those of the loss's terms with their standard errors."""
    result: dict[str, Any] = {}
    for name, parts in found.losses.items():
        column = np.concatenate(parts)
        error = column.std(ddof=1) / np.sqrt(len(column)) if len(column) > 1 else 0.0
        result |= {name: float(column.mean()), f"{name}_se": float(error)}
    others = {name: np.concatenate(parts) for name, parts in found.others.items()}
    if (answers := others.pop("answers", None)) is not None and classes <= _MOST_CLASSES:
        others["confusion"] = _confusion(answers.astype(int), classes)[None]
    return result | {name: column.mean(axis=0).tolist() for name, column in others.items()}


def _confusion(answers: np.ndarray, classes: int) -> np.ndarray:
    """Returns the share of images of each class that were taken for each, [classes, classes].

    Args:
        answers: label and answer of each image, whole numbers [N, 2].
        classes: how many there are.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (answers[:, 0], answers[:, 1]), 1)
    return counts / len(answers)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _terms(
    task: Task,
    prepare: Prepare,
    variables: Variables,
    images: jax.Array,
    labels: jax.Array | None,
    indices: jax.Array,
    key: jax.Array,
) -> tuple[Terms, Terms]:
    """Returns every image's terms of the loss with their totals, [B], and its other terms."""
    x, keys = importance.inputs(prepare, images, indices, key, 0)
    terms, others = task.evaluation_terms(variables, x, labels, keys)
    return task.with_totals(terms), others
