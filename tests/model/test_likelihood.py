"""The discretized logistic, against a table written from its definition; what its canvas means."""

import decimal
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draw_jax.model import build, likelihood, losses
from draw_jax.model.likelihood import BERNOULLI, DISCRETIZED_LOGISTIC
from tests.helpers import TINY

LEVELS = np.arange(256)


def probability(level, mean, scale):
    """Returns the probability of one level, of 0..255, from the definition, in 900 digits."""
    with decimal.localcontext(prec=900):
        mean, scale = decimal.Decimal(mean), decimal.Decimal(scale)

        def cdf(edge):
            power = -(decimal.Decimal(edge) / 255 - mean) / scale
            return 1 / (1 + power.exp())

        above = decimal.Decimal(1) if level == 255 else cdf(decimal.Decimal(level) + half())
        below = decimal.Decimal(0) if level == 0 else cdf(decimal.Decimal(level) - half())
        return above - below


def half():
    return decimal.Decimal(1) / 2


def nll_of_levels(mean, log_scale):
    """Returns what each of the 256 levels costs as a pixel of mean and log-scale, nats [256]."""
    images = (LEVELS / np.float32(255)).astype(np.float32).reshape(256, 1, 1, 1)
    canvas = np.broadcast_to(np.float32([mean, log_scale]), (256, 1, 1, 2))
    nll = DISCRETIZED_LOGISTIC.nll(jnp.asarray(canvas), jnp.asarray(images))
    assert nll.shape == (256,)
    return np.asarray(nll, np.float64)


@pytest.mark.parametrize("log_scale", [-7.0, -5.0, -3.5, -2.0, 0.0, 3.0])
@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.25, 0.502, 1.0, 1.7])
def test_every_level_costs_what_the_definition_says(mean, log_scale):
    nll = nll_of_levels(mean, log_scale)
    exact_mean, scale = float(np.float32(mean)), math.exp(log_scale)
    levels = [0, 1, 2, 17, 63, 64, 127, 128, 129, 200, 253, 254, 255]
    expected = [-float(probability(k, exact_mean, scale).ln()) for k in levels]
    # An edge less the mean has an error of 1e-7, which is divided by the scale.
    np.testing.assert_allclose(nll[levels], expected, rtol=1e-5, atol=1e-6 + 1e-7 / scale)


@settings(max_examples=40)
@given(st.floats(-3, 4, width=32), st.floats(-40, 12, width=32))
@pytest.mark.filterwarnings("error")
def test_the_256_levels_sum_to_1(mean, log_scale):
    nll = nll_of_levels(mean, log_scale)
    assert (nll >= 0).all()
    assert np.exp(-nll).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("log_scale", [-1e9, -20.0, -9.0, -5.0, -2.0, 0.0, 9.0, 1e9])
@pytest.mark.parametrize("mean", [-1e9, -2.0, 0.0, 1 / 510, 0.5, 100.5 / 255, 1.0, 3.0, 1e9])
def test_they_do_so_at_edges_of_levels_and_at_any_scale(mean, log_scale):
    assert np.exp(-nll_of_levels(mean, log_scale)).sum() == pytest.approx(1.0, abs=1e-5)


def test_a_certain_mean_costs_nothing_and_tails_belong_to_black_and_white():
    assert nll_of_levels(100 / 255, -10.0)[100] < 1e-6
    assert nll_of_levels(-5.0, -2.0)[0] < 1e-6 and nll_of_levels(6.0, -2.0)[255] < 1e-6
    wide = nll_of_levels(0.5, 9.0)
    np.testing.assert_allclose(wide[[0, 255]], math.log(2), rtol=1e-4)  # nearly 0 is left


@pytest.mark.parametrize("log_scale", [-1e9, -30.0, -1.0, 30.0, 1e9])
@pytest.mark.parametrize("mean", [-1e9, -1.0, 0.5, 1e9])
def test_values_and_gradients_are_finite_far_out(mean, log_scale):
    x = jnp.asarray(np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3, 1))
    canvas = jnp.broadcast_to(jnp.float32([mean, log_scale]), (2, 3, 2))
    nll, gradient = jax.value_and_grad(DISCRETIZED_LOGISTIC.nll)(canvas, x)
    assert np.isfinite(nll) and np.isfinite(gradient).all()
    d_error = jax.grad(lambda c: DISCRETIZED_LOGISTIC.error_image(x, c).sum())(canvas)
    assert np.isfinite(d_error).all()
    drawn = DISCRETIZED_LOGISTIC.sample(jax.random.key(0), canvas)
    assert np.isfinite(drawn).all() and (0 <= drawn).all() and (drawn <= 1).all()


def test_the_gradient_leads_back_from_beyond_the_bounds_of_the_scale():
    x = jnp.full((1, 1, 1), 100 / 255)

    def d_log_scale(mean, log_scale):
        canvas = jnp.float32([mean, log_scale]).reshape(1, 1, 2)
        return float(jax.grad(DISCRETIZED_LOGISTIC.nll)(canvas, x)[0, 0, 1])

    at_bound = d_log_scale(0.9, losses.LEAST_LOG_SCALE)
    assert at_bound < -1000 and d_log_scale(0.9, -25.0) == at_bound  # wants a larger scale
    assert d_log_scale(0.9, 25.0) == pytest.approx(1.0, abs=1e-3)  # a smaller one


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_finite_differences(seed):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.integers(0, 256, (3, 2, 2)) / 255)
    mean, log_scale = rng.uniform(-0.2, 1.2, x.shape), rng.uniform(-4, 0, x.shape)
    canvas = np.concatenate([mean, log_scale], -1)
    with jax.enable_x64(True):
        at = jnp.asarray(canvas)
        gradient = np.asarray(jax.grad(DISCRETIZED_LOGISTIC.nll)(at, x))
        direction = rng.standard_normal(canvas.shape)
        step = 1e-6
        higher, lower = (
            float(DISCRETIZED_LOGISTIC.nll(at + sign * step * direction, x)) for sign in (1, -1)
        )
    # Central differences of step h are off by h^2, and by the sum's rounding over h.
    assert (higher - lower) / (2 * step) == pytest.approx((gradient * direction).sum(), rel=1e-5)


def test_sums_over_pixels_and_channels_with_means_first():
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (2, 3, 4, 3)) / 255).astype(np.float32)
    canvas = rng.uniform(-3, 1, (2, 3, 4, 6)).astype(np.float32)
    nll = DISCRETIZED_LOGISTIC.nll(jnp.asarray(canvas), jnp.asarray(images))
    expected = np.zeros(2)
    for b, y, x, c in np.ndindex(images.shape):
        mean, log_scale = float(canvas[b, y, x, c]), float(canvas[b, y, x, 3 + c])
        level = round(255 * float(images[b, y, x, c]))
        expected[b] -= float(probability(level, mean, math.exp(log_scale)).ln())
    np.testing.assert_allclose(nll, expected, rtol=1e-5)


def test_the_mean_is_held_in_the_image_and_the_error_image_is_x_less_that():
    rng = np.random.default_rng(0)
    x = rng.random((2, 5, 4, 3)).astype(np.float32)
    canvas = rng.uniform(-1, 2, (2, 5, 4, 6)).astype(np.float32)
    mean = DISCRETIZED_LOGISTIC.mean(jnp.asarray(canvas))
    expected = np.minimum(np.maximum(canvas[..., :3], 0), 1)
    assert (expected == 0).any() and (expected == 1).any()
    np.testing.assert_array_equal(mean, expected)
    error = DISCRETIZED_LOGISTIC.error_image(jnp.asarray(x), jnp.asarray(canvas))
    np.testing.assert_array_equal(error, x - expected)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.4, -3.0), (0.02, -2.0), (1.1, -2.5)])
def test_samples_are_levels_as_often_as_their_probability_says(mean, log_scale):
    count = 100_000
    canvas = jnp.broadcast_to(jnp.float32([mean, log_scale]), (count, 1, 2))
    drawn = np.asarray(DISCRETIZED_LOGISTIC.sample(jax.random.key(0), canvas)) * 255
    assert drawn.shape == (count, 1, 1)
    np.testing.assert_allclose(drawn, np.round(drawn), atol=1e-4)
    found = np.bincount(np.round(drawn).astype(int).ravel(), minlength=256) / count
    expected = np.exp(-nll_of_levels(mean, log_scale))
    # Five standard deviations of a share, and a little for the rarest levels.
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / count) + 1e-4).all()


def test_the_names():
    assert likelihood.named("bernoulli") is BERNOULLI
    assert likelihood.named("discretized_logistic") is DISCRETIZED_LOGISTIC
    assert (BERNOULLI.canvas_channels, DISCRETIZED_LOGISTIC.canvas_channels) == (1, 2)
    with pytest.raises(ValueError, match="bernoulli or discretized_logistic, got 'gaussian'"):
        likelihood.named("gaussian")


def test_shapes_that_do_not_fit_are_refused():
    a, b = jnp.zeros((2, 3, 1)), jnp.zeros((2, 3, 2))
    with pytest.raises(ValueError, match=r"got \(2, 3, 1\), \(2, 3, 1\) and \(2, 3, 2\)"):
        losses.discretized_logistic_nll(a, a, b)
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(2, 3\) and \(2, 3\)"):
        losses.discretized_logistic_nll(a[..., 0], a[..., 0], a[..., 0])


COLOUR = {"image_shape": (7, 5, 3), "likelihood": "discretized_logistic"}


def test_the_first_canvas_is_the_mean_and_log_scale_of_the_fields(tiny):
    _, variables = tiny(initialised=True, canvas_bias=0.4, canvas_log_scale=-1.5, **COLOUR)
    canvas = variables["params"]["cell"]["canvas_0"]
    assert canvas.shape == (7, 5, 6)
    np.testing.assert_array_equal(canvas[..., :3], np.float32(0.4))
    np.testing.assert_array_equal(canvas[..., 3:], np.float32(-1.5))
    _, variables = tiny(initialised=True, canvas_bias=0.4)
    np.testing.assert_array_equal(variables["params"]["cell"]["canvas_0"], np.float32(0.4))


@pytest.mark.slow
@pytest.mark.parametrize("attention", [True, False])
def test_a_model_reads_three_channels_and_writes_six(tiny, attention):
    fields = COLOUR | ({} if attention else {"read_size": 0, "write_size": 0})
    model, variables = tiny(**fields)
    rng = np.random.default_rng(1)
    x = jnp.asarray((rng.integers(0, 256, (2, 7, 5, 3)) / 255).astype(np.float32))
    eps = jnp.asarray(rng.standard_normal((3, 2, TINY["latent_size"])).astype(np.float32))
    output = jax.jit(lambda *args: model.apply(*args, trace=True))(variables, x, eps)
    canvases = output.trace.canvases
    assert canvases.shape == (3, 2, 7, 5, 6)
    np.testing.assert_allclose(output.nll, DISCRETIZED_LOGISTIC.nll(canvases[-1], x), rtol=1e-6)
    z = output.trace.mean + jnp.exp(output.trace.log_std) * eps
    generate = jax.jit(lambda *args: model.apply(*args, method="generate"))
    again = generate(variables, z).canvases
    np.testing.assert_allclose(again, canvases, rtol=1e-5, atol=1e-6)  # z is rounded otherwise

    @jax.jit
    def loss(variables):
        output = model.apply(variables, x, eps)
        return (output.nll + output.kl.sum(0)).sum()

    gradient = jax.jit(jax.grad(loss))(variables)
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), variables)
    with jax.enable_x64(True):
        up, down = (
            float(
                loss(
                    jax.tree.map(
                        lambda a, d, s=sign: jnp.float64(a) + s * 1e-6 * d, variables, direction
                    )
                )
            )
            for sign in (1, -1)
        )
    along = sum(
        float((g * d).sum())
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    # The gradient is of float32, through three time steps.
    assert (up - down) / 2e-6 == pytest.approx(along, rel=1e-3)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_the_memory_of_an_update_has_the_channels_of_the_canvas(tiny):
    (ours, _), (theirs, _) = tiny(**COLOUR), tiny(**COLOUR | {"likelihood": "bernoulli"})
    more = build.task(ours).floats_kept - build.task(theirs).floats_kept
    # Of each time step the canvas, 7x5, and the patch, 3x3, in three channels more.
    assert more == TINY["time_steps"] * 3 * (7 * 5 + 3 * 3)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"canvas_bias": -2.0}, "expected canvas_bias 0 to 1, .*discretized_logistic, got -2.0"),
        ({"canvas_bias": 1.5}, "configs/cifar10_bits.py has 0.47"),
        ({"canvas_bias": math.nan}, "expected canvas_bias 0 to 1"),
        ({"canvas_log_scale": 1e9}, "expected canvas_log_scale above -10 and below 10, got 1000"),
    ],
    ids=str,
)
def test_a_first_canvas_that_is_no_image_is_refused(fields, told):
    whole = TINY | {"likelihood": "discretized_logistic"} | fields
    with pytest.raises(ValueError, match=told):
        build.Draw(**whole)
    build.Draw(**(whole | {"likelihood": "bernoulli"}))  # whose canvas holds logits
