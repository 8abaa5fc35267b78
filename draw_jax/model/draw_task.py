"""DRAW's task: the negative ELBO, eq. 12, and what a validation tells of its windows."""

import math
from typing import cast

import jax
import jax.numpy as jnp

from draw_jax.model import attention, losses
from draw_jax.model.draw import Draw, Output, Trace
from draw_jax.model.task import Task, Terms, Variables


def task(model: Draw) -> Task:
    """Returns the task of a Draw: NLL (eq. 9) + KL (eq. 10) in nats, one sample of z per image."""

    def loss_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> Terms:
        shape = (model.time_steps, len(x), model.latent_size)
        eps = jax.random.normal(key, shape, jnp.float32)
        output = _infer(model, variables, x, eps)
        return {"nll": output.nll, "kl": output.kl.sum(axis=0)}

    def evaluation_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, keys: jax.Array
    ) -> tuple[Terms, Terms]:
        output, trace = _traced(model, variables, x, _noise(model, keys))
        terms = {"nll": output.nll, "kl": output.kl.sum(axis=0)}
        return terms, {"kl_per_step": output.kl.T} | _windows(model, trace)

    def log_weight(variables: Variables, x: jax.Array, keys: jax.Array) -> jax.Array:
        eps = _noise(model, keys)
        output, trace = _traced(model, variables, x, eps)
        assert trace.mean is not None and trace.log_std is not None  # as it inferred
        return losses.importance_log_weight(output.nll, trace.mean, trace.log_std, eps)

    return Task(
        model,
        loss_terms,
        evaluation_terms,
        log_weight,
        totals=(("elbo_loss", ("nll", "kl")),),
        objective="elbo_loss",
        metric="elbo_loss",
        lower_is_better=True,
        columns=("elbo_loss", "nll", "kl"),
        floats_kept=_floats_kept(model),
    )


def _floats_kept(model: Draw) -> int:
    """Returns about how many floats of an example stay until the backward pass: canvas and gates."""
    return model.time_steps * (math.prod(model.image_shape) + 6 * (model.enc_size + model.dec_size))


def _infer(model: Draw, variables: Variables, x: jax.Array, eps: jax.Array) -> Output:
    return cast(Output, model.apply(variables, x, eps))


def _traced(
    model: Draw, variables: Variables, x: jax.Array, eps: jax.Array
) -> tuple[Output, Trace]:
    output = cast(Output, model.apply(variables, x, eps, trace=True))
    return output, cast(Trace, output.trace)


def _noise(model: Draw, keys: jax.Array) -> jax.Array:
    """Returns eps [T, B, Z], example b's from keys[b]."""
    shape = (model.time_steps, model.latent_size)
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys).swapaxes(0, 1)


def _windows(model: Draw, trace: Trace) -> Terms:
    """Returns each example's mean window over the time steps, [B], and how many are off the image."""
    height, width, _ = model.image_shape
    terms = {}
    for name, windows, size in (
        ("read", trace.read_windows, model.read_size),
        ("write", trace.write_windows, model.write_size),
    ):
        if windows is not None:
            off = attention.off_image(windows, size, height, width)
            terms[f"{name}_sigma"] = jnp.sqrt(windows.sigma_sq).mean(axis=0)
            terms[f"{name}_delta"] = windows.delta.mean(axis=0)
            terms[f"{name}_gamma"] = windows.gamma.mean(axis=0)
            terms[f"{name}_off_image"] = off.mean(axis=0)
    return terms
