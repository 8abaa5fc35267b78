"""The scan of a cell over its time steps, whose gradient is written by hand.

Automatic differentiation of a scan keeps all that the backward pass needs of each step, and
multiplies and adds the gradient of every weight at every step. Here the forward loop keeps the
state before each step and the results of its linear maps. The backward loop replays each step from
those, without its matrix products, and pulls the gradient through it. The gradient of a kernel,
sum_t x_t^T g_t, is one product for all steps together.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from draw_jax.model.gradients.layers import weight_gradients
from draw_jax.model.gradients.rule import in_reverse_mode, without_own_gradients

# Variable collections through which a cell's `Linear` maps take part.
RESULTS = "linear_results"  # kept by the forward loop, read by the backward loop
INPUTS = "linear_inputs"  # set in the backward loop, each named by its products' type
PERTURBATIONS = "linear_perturbations"  # zeros, whose gradients are those w.r.t. the results

# (cell, state, constants, x of the step) -> (the next state, what the step gives)
Step = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Rows:
    """Some of the rows of a kernel, in blocks."""

    blocks: tuple[tuple[int, int], ...]  # of each: first row and one past the last, from 0

    def of(self, kernel: jax.Array) -> jax.Array:
        """Returns these rows of a kernel [K, features]."""
        return jnp.concatenate([kernel[first:end] for first, end in self.blocks])

    def others(self, count: int) -> "Rows":
        """Returns the other rows of a kernel with `count` rows; these rows ascend."""
        ends = [0, *(row for block in self.blocks for row in block), count]
        blocks = zip(ends[::2], ends[1::2], strict=True)
        return Rows(tuple((first, end) for first, end in blocks if first < end))

    def placed(self, rows: jax.Array, count: int) -> jax.Array:
        """Returns a kernel with `count` rows: these as given, [any, features], and 0 elsewhere."""
        ends = np.cumsum([end - first for first, end in self.blocks])
        blocks = dict(zip(self.blocks, jnp.split(rows, ends[:-1]), strict=True))
        blocks |= {
            (first, end): jnp.zeros((end - first, rows.shape[-1]), rows.dtype)
            for first, end in self.others(count).blocks
        }
        return jnp.concatenate([blocks[block] for block in sorted(blocks)])


class View(NamedTuple):
    """A constant that is part of a kernel: its gradient is in that of the kernel.

    A slice of a parameter within the loop would be copied at every step.
    """

    array: Any  # or a flag, in the trees of `_flags`
    rows: Rows  # of the kernel


class Told(NamedTuple):
    """What a linear map reports of a step in the backward loop."""

    x: jax.Array  # its inputs, except those shared by all steps, [B, any]
    rows: Rows | None  # of the kernel, by which they are multiplied; None: all


def unroll(
    step: Step,
    cell: nn.Module,
    state: Any,
    constants: Any,
    xs: Any,
    length: int,
    steps_a_pass: int = 1,
) -> tuple[Any, Any]:
    """Returns the state after the last time step and what all steps give, stacked along axis 0.

    All parameters that the cell uses in `step` get their gradients; those of its `Linear` maps in
    the cheap way, others by adding at every step.

    Args:
        step: called with the cell, the state before it, the constants and its own xs.
        cell: bound. Each of its `Linear` maps is used once in a step.
        state: before the first step, arrays.
        constants: arrays that every step is given, or None. A `View` is of a
            `Linear` map's kernel; the map's inputs and results give its gradient.
        xs: arrays [T, ...], of which each step is given its own, or None.
        length: T.
        steps_a_pass: time steps in one pass of the compiled loops: speed only.
    """

    def scanned(step: Step) -> Any:
        return nn.scan(
            step,
            variable_broadcast="params",
            variable_axes={RESULTS: 0},
            split_rngs={"params": False},
            in_axes=(nn.broadcast, 0),
            length=length,
            unroll=steps_a_pass,
        )

    if cell.is_initializing():
        return scanned(step)(cell, state, constants, xs)
    unbound, variables = cell.unbind()

    def keeping_states(cell: Any, state: Any, constants: Any, x: Any) -> Any:
        after, given = step(cell, state, constants, x)
        return after, (given, state)

    def run(params: Any, *arguments: Any) -> Any:
        return nn.apply(scanned(step), unbound)({"params": params}, *arguments)

    def forward(params: Any, *arguments: Any) -> Any:
        wanted = [_flags(argument) for argument in arguments[1:]]
        params, state, constants, xs = (_values(argument) for argument in (params, *arguments))
        keep = nn.apply(scanned(keeping_states), unbound, mutable=[RESULTS])
        with without_own_gradients():
            (last, (given, states)), kept = keep({"params": params}, state, constants, xs)
        replay = nn.apply(step, unbound, mutable=[INPUTS])

        def back(*saved: Any) -> Any:
            return _backward(replay, wanted, length, steps_a_pass, *saved)

        saved = (params, kept.get(RESULTS, {}), states, constants, xs)
        return (last, given), jax.tree_util.Partial(back, *saved)

    differentiable = jax.custom_vjp(run)
    differentiable.defvjp(forward, lambda back, d_out: back(d_out), symbolic_zeros=True)
    return in_reverse_mode("unroll", differentiable)(variables["params"], state, constants, xs)


def _backward(
    replay: Any,
    wanted: Any,
    length: int,
    steps_a_pass: int,
    params: Any,
    results: Any,
    states: Any,
    constants: Any,
    xs: Any,
    d_out: Any,
) -> Any:
    """Returns the gradients w.r.t. the parameters, the first state, the constants and xs.

    Args:
        replay: plays a step: (variables, state, constants, x) -> ((state, what it gives), inputs).
        wanted: for each leaf of the constants and of xs, whether its gradient is needed.
        length: T.
        steps_a_pass: time steps in one pass of the compiled loop.
        params: of the cell.
        results: of its linear maps, [T, ...].
        states: before each step, [T, ...].
        constants: as `unroll` was given them.
        xs: as `unroll` was given them.
        d_out: gradients w.r.t. the last state and what all steps give.
    """
    d_last, d_given = _instantiated(d_out)
    flat = flatten_dict(params)
    maps = {path[:-1] for path in flatten_dict(results)}
    others = {path: leaf for path, leaf in flat.items() if path[:-1] not in maps}

    def step_back(carry: Any, saved: Any) -> Any:
        d_state, d_others, d_constants = carry
        state, result, x, d_step = saved

        def played(others: Any, perturbations: Any, state: Any, constants: Any, x: Any) -> Any:
            known = {RESULTS: result, PERTURBATIONS: perturbations}
            variables = {"params": unflatten_dict(flat | others)} | known
            held = (_held(a, flags) for a, flags in zip((constants, x), wanted, strict=True))
            out, told = replay(variables, state, *held)
            return out, told.get(INPUTS, {})

        zeros = jax.tree.map(jnp.zeros_like, result)
        _, pull_back, inputs = jax.vjp(played, others, zeros, state, constants, x, has_aux=True)
        more_others, d_result, d_state, more_constants, d_x = pull_back((d_state, d_step))
        d_others, d_constants = _sum((d_others, d_constants), (more_others, more_constants))
        return (d_state, d_others, d_constants), (inputs, d_result, d_x)

    zeros = jax.tree.map(jnp.zeros_like, (others, constants))
    (d_state, d_others, d_constants), (inputs, d_results, d_xs) = jax.lax.scan(
        step_back,
        (d_last, *zeros),
        (states, results, xs, d_given),
        length=length,
        reverse=True,
        unroll=steps_a_pass,
    )
    d_maps: dict[tuple[str, ...], jax.Array] = {}
    d_flat = flatten_dict(d_results)
    for (*path, dtype), told in flatten_dict(inputs).items():
        d_kernel, d_bias = weight_gradients(told.x, d_flat[*path, "y"], dtype)
        if told.rows is not None:
            d_kernel = told.rows.placed(d_kernel, len(flat[*path, "kernel"]))
        d_maps |= {(*path, "kernel"): d_kernel, (*path, "bias"): d_bias}
    return unflatten_dict(d_maps | d_others), d_state, d_constants, d_xs


def _sum(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _held(tree: Any, wanted: Any) -> Any:
    """Returns the arrays, those that need no gradient as constants."""
    return jax.tree.map(lambda a, w: a if w else jax.lax.stop_gradient(a), tree, wanted)


def _flags(argument: Any) -> Any:
    def flag(leaf: Any) -> Any:
        return View(False, leaf.rows) if isinstance(leaf, View) else leaf.perturbed

    return jax.tree.map(flag, argument, is_leaf=lambda a: _is_primal(a) or isinstance(a, View))


def _values(argument: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.value, argument, is_leaf=_is_primal)


def _is_primal(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


def _instantiated(tree: Any) -> Any:
    """Returns gradients with arrays of zeros in place of JAX's symbolic zeros."""

    def zeros(leaf: Any) -> bool:
        return isinstance(leaf, jax.custom_derivatives.SymbolicZero)

    return jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) if zeros(leaf) else leaf, tree, is_leaf=zeros
    )
