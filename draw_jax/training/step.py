"""What changes the weights: the optimiser, the state it works on and one update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from draw_jax.data import splits
from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.model.task import Model, Task
from draw_jax.system import devices
from draw_jax.training import objective

Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that changes from update to update."""

    params: Any
    average: Any  # EMA of params, the weights for use; None = not kept
    opt_state: optax.OptState
    rate: Any = None  # what rollbacks have left of the learning rate, float32; None = all of it


Update = Callable[[TrainState, Any, Batch], tuple[TrainState, Metrics]]


def make_optimizer(train: ConfigDict) -> optax.GradientTransformation:
    """Returns clipping by global norm, then Adam under a warm-up and a cosine decay.

    With a weight decay it is AdamW (Loshchilov and Hutter 2019), and only kernels decay: no bias,
    no initial state, no first canvas.
    """
    rate, b2 = learning_rate(train), float(train.adam_b2)
    return optax.chain(
        _clip(float(train.clip_norm)) if train.clip_norm else optax.identity(),
        optax.adamw(rate, b2=b2, weight_decay=float(train.weight_decay), mask=_kernels)
        if train.weight_decay
        else optax.adam(rate, b2=b2),
    )


def _kernels(params: Any) -> Any:
    """Returns True for each leaf that is the matrix or the filters of a layer."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _clip(highest: float) -> optax.GradientTransformation:
    """Returns `optax.clip_by_global_norm`, with a norm that is made once, for the metrics too."""

    def clip(gradients: Any, _: Any) -> Any:
        norm = _norm(gradients)
        return jax.tree.map(
            lambda g: jnp.where(norm < highest, g, g / norm * highest).astype(g.dtype), gradients
        )

    return optax.stateless(clip)


def _norm(tree: Any) -> jax.Array:
    """Returns the Euclidean norm of all leaves together.

    The leaves are joined first: GPUs then make one sum, not one per leaf and one of those.
    """
    leaves = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
    return jnp.sqrt(jnp.square(leaves).sum())


def learning_rate(train: ConfigDict) -> optax.Schedule:
    """Returns the learning rate as a function of the updates done."""
    peak = float(train.learning_rate)  # JAX would take a whole number for one of 32 bits
    warmup = optax.linear_schedule(0.0, peak, train.warmup_steps)
    after: optax.Schedule = optax.constant_schedule(peak)
    if train.decay_steps:
        after = optax.cosine_decay_schedule(
            peak,
            max(1, train.decay_steps - train.warmup_steps),
            float(train.final_learning_rate),
        )
    return optax.join_schedules([warmup, after], [train.warmup_steps])


def _slow_windows(updates: Any, outputs: int, rate: float) -> Any:
    """Returns updates with those of the weights that make windows (eq. 21) times `rate`.

    Args:
        updates: of all weights.
        outputs: how many of the last outputs of the map `heads` are a window's parameters.
        rate: any number.
    """

    def slowed(path: Any, update: jax.Array) -> jax.Array:
        if not outputs or "heads" not in [part.key for part in path]:
            return update
        return update.at[..., -outputs:].multiply(rate)

    return jax.tree_util.tree_map_with_path(slowed, updates)


def initial_state(model: Model, key: jax.Array, train: ConfigDict) -> TrainState:
    """Returns the state before the first update."""
    params = build.initial_variables(model, key)["params"]
    average = jax.tree.map(jnp.copy, params) if train.average_decay else None
    return TrainState(params, average, make_optimizer(train).init(params))


def make_update(task: Task, config: ConfigDict, key: jax.Array) -> Update:
    """Returns update(state, step, batch) -> (state, metrics), to be jitted.

    The noise and the binarisation of update number `step` (from 0) are drawn here, from the
    step's own key: a resumed run needs nothing but the step. Metrics are those of this update: the
    means over the batch of the task's terms with their totals, the `objective` where it is not the
    task's own, the norms of the gradient (before clipping), of the update and of the weights, and
    the learning rate.
    """
    optimizer = make_optimizer(config.train)
    schedule = learning_rate(config.train)
    loss_and_means = objective.make(task, config.train)
    window_rate = float(config.train.window_rate)

    def update(state: TrainState, step: jax.Array, batch: Batch) -> tuple[TrainState, Metrics]:
        x_key, noise_key = jax.random.split(jax.random.fold_in(key, step))
        x = splits.prepare(batch.images, config.data.binarization, x_key)
        labels = None if batch.labels is None else jnp.asarray(batch.labels)

        def loss(params: Any) -> tuple[jax.Array, Metrics]:
            return loss_and_means({"params": params}, objective.Given(x, labels, noise_key, step))

        gradients, means = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        if window_rate != 1:
            updates = _slow_windows(updates, task.window_outputs, window_rate)
        if state.rate is not None:
            updates = jax.tree.map(lambda u: u * state.rate, updates)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            # Early on the average is short, or the initial weights would linger in it.
            decay = jnp.minimum(config.train.average_decay, (1.0 + step) / (10.0 + step))
            average = optax.incremental_update(params, average, 1.0 - decay)
        metrics = means | {
            "grad_norm": _norm(gradients),
            "update_norm": _norm(updates),
            "param_norm": _norm(params),
            "learning_rate": schedule(step) * (1.0 if state.rate is None else state.rate),
        }
        return TrainState(params, average, opt_state, state.rate), metrics

    return update


def jit_update(update: Update, placement: devices.Placement) -> Update:
    """Returns an update compiled for a placement of its state and batch; it donates the state."""
    replicated, sharded = placement
    return jax.jit(
        update,
        donate_argnums=0,
        in_shardings=(replicated, replicated, sharded),
        out_shardings=(replicated, replicated),
    )
