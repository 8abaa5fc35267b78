"""The gradient of the unroll, against automatic differentiation of a Python loop over the cell."""

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from draw_jax.model.gradients import unroll
from draw_jax.model.layers import LSTM, Linear
from tests.model.helpers import normal


class Cell(nn.Module):
    """An LSTM, a linear map and a convolution, whose kernel is no linear map's."""

    dtype: str = "float32"

    def setup(self):
        self.first = self.param("first", nn.initializers.normal(), (3,))
        self.lstm = LSTM(3, self.dtype)
        self.out = Linear(4, self.dtype)
        self.convolution = nn.Conv(1, (2, 2))

    def step(self, state, image, x):
        h, cell = state
        seen = self.convolution(image).reshape(len(x), -1)
        h, cell = self.lstm([x, seen * x.mean()], h, cell)
        return (h, cell), self.out(h) + x


class Model(nn.Module):
    """The cell's unroll, or the same as a Python loop without a gradient of its own."""

    loop: bool
    dtype: str = "float32"
    steps_a_pass: int = 1

    def setup(self):
        self.cell = Cell(self.dtype)

    def __call__(self, x, image):
        first = jnp.broadcast_to(self.cell.first, (x.shape[1], 3))
        state = (first, 2 * first)
        if not self.loop:
            return unroll(Cell.step, self.cell, state, image, x, len(x), self.steps_a_pass)
        given = []
        for x_t in x:
            state, y = self.cell.step(state, image, x_t)
            given.append(y)
        return state, jnp.stack(given)


def both_gradients(steps, wanted=(0, 1, 2), **fields):
    """Returns the gradients of a weighted sum of all results by the unroll and by the loop."""
    rng = np.random.default_rng(0)
    x, image = normal(rng, steps, 2, 4), normal(rng, 2, 3, 3, 1)
    variables = Model(loop=True).init(jax.random.key(0), x[:1], image)
    variables = jax.tree.map(lambda leaf: leaf + normal(rng, *leaf.shape), variables)
    weights = normal(rng, 2, 3), normal(rng, 2, 3), normal(rng, steps, 2, 4)

    def weighted(loop):
        def loss(variables, x, image):
            (h, cell), given = Model(loop=loop, **fields).apply(variables, x, image)
            return sum((w * a).sum() for w, a in zip(weights, (h, cell, given), strict=True))

        return jax.jit(jax.value_and_grad(loss, argnums=wanted))(variables, x, image)

    return weighted(False), weighted(True)


def assert_equal(found, expected, tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(("steps", "steps_a_pass"), [(1, 1), (5, 1), (11, 2), (12, 1), (16, 3)])
def test_every_gradient_is_that_of_the_loop(steps, steps_a_pass):
    # Sums of up to 16 steps' float32 terms, in another order.
    assert_equal(*both_gradients(steps, steps_a_pass=steps_a_pass), tolerance=2e-5)


def test_bfloat16_rounds_what_the_loop_rounds():
    # The loop adds the gradients of the steps in another order; each is rounded alike.
    assert_equal(*both_gradients(6, dtype="bfloat16"), tolerance=1e-4)


def test_a_gradient_that_is_not_asked_for_is_not_made():
    found, expected = both_gradients(6, wanted=(0,))
    assert_equal(found, expected, tolerance=2e-5)


def test_the_loop_back_makes_no_product_of_the_loop_forward_again():
    """One product forward; back one for x a step, and one for the kernel after all steps."""
    rng = np.random.default_rng(0)
    x, image = normal(rng, 8, 2, 4), normal(rng, 2, 3, 3, 1)
    variables = Model(loop=False).init(jax.random.key(0), x, image)

    def loss(variables):
        return Model(loop=False).apply(variables, x, image)[1].sum()

    def products(jaxpr, found):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                found.append(tuple(v.aval.shape for v in equation.invars))
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                products(inner, found)
        return found

    forward = products(jax.make_jaxpr(loss)(variables).jaxpr, [])
    assert sorted(forward) == [((2, 3), (3, 4)), ((2, 16), (16, 12))]
    both = products(jax.make_jaxpr(jax.grad(loss))(variables).jaxpr, [])
    kernels = [((8, 2, 16), (8, 2, 12)), ((8, 2, 3), (8, 2, 4))]
    back = [((2, 12), (12, 16)), ((2, 4), (4, 3)), *kernels]
    assert sorted(both) == sorted([*forward, *back])


class Seeing(nn.Module):
    """An LSTM that is given the same images at every step, in a Python loop or by their share."""

    loop: bool
    dtype: str = "float32"

    def setup(self):
        self.lstm = LSTM(3, self.dtype)

    def __call__(self, x, first, later):
        def step(module, state, constants, x):
            inputs = [first, x, later] if module.loop else [x]
            state = module.lstm(inputs, *state, constants)
            return state, state[0]

        state = (jnp.ones((x.shape[1], 3)), jnp.ones((x.shape[1], 3)))
        if not self.loop:
            share = self.lstm.share({0: first, 9: later})
            return unroll(step, self, state, share, x, len(x))
        given = []
        for x_t in x:
            state, h = step(self, state, None, x_t)
            given.append(h)
        return state, jnp.stack(given)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 1e-2)])
def test_what_images_add_at_every_step_may_be_made_once(dtype, tolerance):
    """In bfloat16 the gradient by the share is rounded once, not at every step."""
    rng = np.random.default_rng(0)
    given = normal(rng, 6, 2, 4), normal(rng, 2, 5), normal(rng, 2, 3)  # 9 rows before the last
    variables = Seeing(loop=True, dtype=dtype).init(jax.random.key(0), *given)
    weights = normal(rng, 6, 2, 3)

    def loss(loop, *arguments):
        return (weights * Seeing(loop, dtype).apply(*arguments)[1]).sum()

    def gradients(loop):
        made = jax.jit(jax.value_and_grad(loss, argnums=(1, 2, 3, 4)), static_argnums=0)
        return made(loop, variables, *given)

    assert_equal(gradients(False), gradients(True), tolerance)
