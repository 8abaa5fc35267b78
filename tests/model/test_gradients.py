import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from draw_jax.model import gradients
from tests import reference
from tests.model.helpers import CASES, SHAPES, finite_differences, make_windows, normal, pull_back

# --- against automatic differentiation and the slow loops


def plain_filters(g, delta, sigma_sq, glimpse_size, pixels):
    """Eqs 19 and 25 in JAX with no gradient of their own."""
    ones = (1,) * g.ndim
    i = jnp.arange(1, glimpse_size + 1, dtype=jnp.float32).reshape(*ones, glimpse_size, 1)
    a = jnp.arange(1, pixels + 1, dtype=jnp.float32).reshape(*ones, 1, pixels)
    g, delta, sigma_sq = (v[..., None, None] for v in (g, delta, sigma_sq))
    mu = g + (i - glimpse_size / 2 - 0.5) * delta
    return jax.nn.softmax(-jnp.square(a - mu) / (2 * sigma_sq))


def plain_filter(f_y, image, f_x):
    return jnp.einsum("...nh,...hwc,...mw->...nmc", f_y, image, f_x)


def plain_spread(f_y, patch, f_x):
    return jnp.einsum("...nh,...nmc,...mw->...hwc", f_y, patch, f_x)


@pytest.mark.parametrize(
    ("glimpse_size", "height", "width", "leading"), [case[:4] for case in CASES]
)
def test_the_gradient_of_the_filters_is_the_automatic_one(glimpse_size, height, width, leading):
    rng = np.random.default_rng(0)
    window = make_windows(rng, glimpse_size, height, width, "inside", leading)
    for g, pixels in ((window.g_x, width), (window.g_y, height)):
        weights = normal(rng, *leading, glimpse_size, pixels)
        ours, automatic = (
            pull_back(
                lambda g, delta, sigma_sq, f=f, n=pixels: f(g, delta, sigma_sq, glimpse_size, n),
                weights,
                g,
                window.delta,
                window.sigma_sq,
            )
            for f in (gradients.filters, plain_filters)
        )
        for a, b in zip(ours, automatic, strict=True):
            assert a.shape == b.shape == leading
            # Both are float32 sums of terms up to 50 times their sum.
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_sums_over_pixels_are_products_in_full_precision():
    """Which CPUs give unasked; on GPUs and TPUs sums would lose half their digits."""
    jaxpr = jax.make_jaxpr(gradients._sum)(np.ones((2, 3), np.float32))
    (product,) = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}


@pytest.mark.parametrize(("leading", "channels"), [((), 1), ((3,), 3), ((2, 2), 3)])
def test_the_gradients_of_both_products_are_the_automatic_ones(leading, channels):
    rng = np.random.default_rng(0)
    glimpse_size, height, width = 3, 7, 5
    f_y, f_x = (
        normal(rng, *leading, glimpse_size, height),
        normal(rng, *leading, glimpse_size, width),
    )
    image = normal(rng, *leading, height, width, channels)
    patch = normal(rng, *leading, glimpse_size, glimpse_size, channels)
    for ours, plain, inside, weights in (
        (gradients.filter_image, plain_filter, image, patch),
        (gradients.spread_patch, plain_spread, patch, image),
    ):
        np.testing.assert_allclose(
            ours(f_y, inside, f_x), plain(f_y, inside, f_x), rtol=1e-5, atol=1e-5
        )
        both = [pull_back(f, weights, f_y, inside, f_x) for f in (ours, plain)]
        for a, b, arg in zip(*both, (f_y, inside, f_x), strict=True):
            assert a.shape == b.shape == arg.shape
            # Sums of up to 105 products of size 1, in another order.
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


@settings(max_examples=20)
@given(
    shape=st.sampled_from(SHAPES[:2]),
    sigma=st.floats(0.5, 5),
    delta=st.floats(0.2, 3),
    offset=st.floats(-0.7, 0.7),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_gradient_of_any_window_in_reach_is_that_of_the_loops(
    shape, sigma, delta, offset, seed
):
    glimpse_size, height, _ = shape
    args = tuple(np.float32(v) for v in ((0.5 + offset) * height, delta, sigma**2))
    # Beyond a few sigma outside, the float32 sums cancel; the test above that names lost windows.
    reach = (glimpse_size - 1) / 2 * delta + abs(offset) * height
    assume(reach < height / 2 + 3 * sigma)
    weights = normal(np.random.default_rng(seed), glimpse_size, height)

    def loop(g, delta, sigma_sq):
        return (reference.filters(g, delta, sigma_sq, glimpse_size, height) * weights).sum()

    ours = _filters_gradients(glimpse_size, height)(weights, *args)
    for a, b in zip(ours, finite_differences(loop, args), strict=True):
        # Cancelling terms of up to height / sigma^2 times the weights' size, in float32.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * height / sigma**2 + 1e-5)


@functools.cache
def _filters_gradients(glimpse_size, pixels):
    def of(weights, *args):
        return jax.grad(
            lambda *args: (gradients.filters(*args, glimpse_size, pixels) * weights).sum(),
            argnums=(0, 1, 2),
        )(*args)

    return jax.jit(of)
