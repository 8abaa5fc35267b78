"""Clipping the gradient w.r.t. the LSTMs' state, against a backward pass written step by step."""

import jax
import numpy as np
import pytest

from draw_jax.model import gradients, losses
from tests.model.helpers import normal

B, T = 3, 4
CLIPPED = ("h_enc", "cell_enc", "h_dec", "cell_dec")


def step_by_step(model, variables, x, eps, highest):
    """Returns the gradients of the mean loss, and every norm that was compared with `highest`."""

    def first(variables):
        return model.apply(variables, B, method=lambda draw, size: draw.cell.initial_state(size))

    def step(variables, state, eps):
        after, (kl, _) = model.apply(
            variables, state, x, eps, method=lambda draw, *given: draw.cell.infer_step(*given)
        )
        return after, kl

    def last(state):
        return losses.bernoulli_nll(state.canvas, x).mean()

    states = [first(variables)]
    forward = jax.jit(step)
    for eps_t in eps:
        states.append(forward(variables, states[-1], eps_t)[0])

    @jax.jit
    def back(state, eps, d_after, d_kl):
        return jax.vjp(lambda variables, state: step(variables, state, eps), variables, state)[1](
            (d_after, d_kl)
        )

    d_state, norms, total = jax.jit(jax.grad(last))(states[-1]), [], None
    for t in reversed(range(T)):
        d_variables, d_state = back(states[t], eps[t], d_state, np.full(B, 1 / B, np.float32))
        total = d_variables if total is None else jax.tree.map(np.add, total, d_variables)
        for name in CLIPPED:
            rows = np.array(getattr(d_state, name), np.float64)
            for b in range(B):
                norms.append(B * np.sqrt(sum(value**2 for value in rows[b])))
                if norms[-1] > highest:
                    rows[b] *= highest / norms[-1]
            d_state = d_state._replace(**{name: np.float32(rows)})
    (d_variables,) = jax.vjp(first, variables)[1](d_state)
    return jax.tree.map(np.add, total, d_variables), np.array(norms)


def gradient(model, variables, x, eps):
    def loss(variables):
        output = model.apply(variables, x, eps)
        return output.nll.mean() + output.kl.sum(0).mean()

    return jax.jit(jax.grad(loss))(variables)


def assert_equal(found, expected, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_it_is_a_backward_pass_that_clips_at_every_step_and_image(tiny):
    model, variables = tiny()
    rng = np.random.default_rng(0)
    x = rng.random((B, *model.image_shape)).astype(np.float32)
    eps = normal(rng, T, B, model.latent_size)
    free, norms = step_by_step(model, variables, x, eps, np.inf)
    highest = float(np.median(norms[norms > 0]))
    expected, norms = step_by_step(model, variables, x, eps, highest)
    assert 5 < sum(norms > highest) < len(norms) - 5
    clipping, _ = tiny(state_clip_norm=highest)
    clipped = gradient(clipping, variables, x, eps)
    assert_equal(clipped, expected, 1e-4)
    with pytest.raises(AssertionError):
        assert_equal(clipped, free, 1e-2)


def test_the_clipped_gradient_of_every_row_by_hand():
    weights = np.float32([[3, 4], [0.3, 0.4], [0, 0], [-6, 8]])

    def loss(x):
        return (weights * gradients.clip_gradient(x, 5.0)).mean(axis=0).sum()

    # Each example's own loss has the gradient `weights`, of norms 5, 0.5, 0 and 10.
    expected = np.float32([[3, 4], [0.3, 0.4], [0, 0], [-3, 4]]) / 4
    x = np.ones((4, 2), np.float32)
    assert loss(x) == pytest.approx(weights.mean(axis=0).sum())
    np.testing.assert_allclose(jax.grad(loss)(x), expected, rtol=1e-6)
    assert not np.isfinite(jax.grad(lambda x: loss(x) * np.nan)(x)).any()  # found as diverged
    large = jax.grad(lambda x: loss(x) * 1e30)(x)  # whose squares overflow
    assert np.isfinite(large).all() and np.abs(large).max() <= 5 / 4


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["state_clip_norm", "window_init_scale"])
def test_a_number_that_cannot_be_is_named(tiny, name, value):
    with pytest.raises(ValueError, match=f"expected {name} >= 0, finite, got {value}"):
        tiny(**{name: value})
