"""What changes the weights: the optimiser, the state it works on and one update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from draw_jax.data import splits
from draw_jax.model import build


class TrainState(NamedTuple):
    """All that changes from update to update."""

    params: Any
    average: Any  # moving average of params, the weights for use; None = not kept
    opt_state: optax.OptState


def make_optimizer(train: ConfigDict) -> optax.GradientTransformation:
    """Returns clipping by global norm, then Adam under a warm-up and a cosine decay."""
    return optax.chain(
        optax.clip_by_global_norm(train.clip_norm) if train.clip_norm else optax.identity(),
        optax.adam(learning_rate(train)),
    )


def learning_rate(train: ConfigDict) -> optax.Schedule:
    """Returns the learning rate as a function of the updates done."""
    warmup = optax.linear_schedule(0.0, train.learning_rate, train.warmup_steps)
    after: optax.Schedule = optax.constant_schedule(train.learning_rate)
    if train.decay_steps:
        after = optax.cosine_decay_schedule(
            train.learning_rate,
            max(1, train.decay_steps - train.warmup_steps),
            train.final_learning_rate,
        )
    return optax.join_schedules([warmup, after], [train.warmup_steps])


def initial_state(model: Any, key: jax.Array, train: ConfigDict) -> TrainState:
    """Returns the state before the first update."""
    params = jax.jit(build.initial_variables, static_argnums=0)(model, key)["params"]
    average = jax.tree.map(jnp.copy, params) if train.average_decay else None
    return TrainState(params, average, make_optimizer(train).init(params))


def loss_terms(model: Any, params: Any, x: jax.Array, eps: jax.Array) -> dict[str, jax.Array]:
    """Returns the batch means of eq. 9, eq. 10 and their sum, eq. 12, in nats per image.

    Args:
        model: a Draw.
        params: its parameters.
        x: [B, H, W, C], in [0, 1].
        eps: [T, B, Z].
    """
    output = model.apply({"params": params}, x, eps)
    nll, kl = output.nll.mean(), output.kl.sum(axis=0).mean()
    return {"nll": nll, "kl": kl, "elbo_loss": nll + kl}


def make_update(model: Any, config: ConfigDict, key: jax.Array) -> Callable[..., Any]:
    """Returns update(state, step, images) -> (state, metrics), to be jitted.

    The noise and the binarisation of update number `step` (from 0) are drawn here, from the
    step's own key: a resumed run needs nothing but the step.
    """
    optimizer = make_optimizer(config.train)
    schedule = learning_rate(config.train)

    def update(state: TrainState, step: jax.Array, images: jax.Array) -> Any:
        x_key, eps_key = jax.random.split(jax.random.fold_in(key, step))
        x = splits.prepare(images, config.data.binarization, x_key)
        eps_shape = (model.time_steps, len(x), model.latent_size)
        eps = jax.random.normal(eps_key, eps_shape, jnp.float32)

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            terms = loss_terms(model, params, x, eps)
            return terms["elbo_loss"], terms

        gradients, terms = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            # Early on the average is short, or the initial weights would linger in it.
            decay = jnp.minimum(config.train.average_decay, (1.0 + step) / (10.0 + step))
            average = optax.incremental_update(params, average, 1.0 - decay)
        metrics = terms | {
            "grad_norm": optax.tree.norm(gradients),
            "update_norm": optax.tree.norm(updates),
            "param_norm": optax.tree.norm(params),
            "learning_rate": schedule(step),
        }
        return TrainState(params, average, opt_state), metrics

    return update
