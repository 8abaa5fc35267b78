import functools

import jax
import jax.extend
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from draw_jax.model import build, gradients
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.model.gradients import windows
from draw_jax.model.variants.ram import Ram
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
    jaxpr = jax.make_jaxpr(windows._sum)(np.ones((2, 3), np.float32))
    (product,) = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}


def products(jaxpr):
    """Yields the operands' types and the precision of all products with weights."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            if any(equation.params["dimension_numbers"][1]):  # filters and images, by examples
                continue
            types = {str(operand.aval.dtype) for operand in equation.invars}
            yield types, equation.params["precision"]
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("kind", ["draw", "read alone", "write alone", "classifier", "ram"])
def test_what_gives_a_window_is_multiplied_in_full_precision_on_every_device(tiny, kind):
    """With bfloat16, what is left in float32 is all of the windows, forward and backward."""
    sizes = {"draw": {}, "read alone": {"write_size": 0}, "write alone": {"read_size": 0}}
    if kind in sizes:
        model, variables = tiny(dtype="bfloat16", **sizes[kind])
    else:
        fields = {"image_shape": (9, 7, 1), "time_steps": 3, "read_size": 3, "classes": 4}
        make = GlimpseClassifier if kind == "classifier" else Ram
        fields |= {"lstm_size": 6} if kind == "classifier" else {"core_size": 6, "scales": 2}
        model = make(dtype="bfloat16", **fields)
        variables = build.initial_variables(model, jax.random.key(0))
    x, labels = jnp.zeros((2, *model.image_shape)), jnp.zeros(2, int)

    def loss(params):
        terms = build.task(model).loss_terms({"params": params}, x, labels, jax.random.key(0))
        return sum(term.sum() for term in terms.values())

    found = list(products(jax.make_jaxpr(jax.grad(loss))(variables["params"]).jaxpr))
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert {str(p) for types, p in found if types == {"bfloat16"}} == {"None"}
    whole = [p for types, p in found if types == {"float32"}]
    if kind == "ram":  # has other heads, and no gradient from its location to its core
        assert whole.count(highest) == 2
    else:
        assert len(whole) >= 3 and set(whole) == {highest}


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


# --- derivatives of derivatives, forward mode, types


def tiny_loss(tiny):
    """Returns the loss of a tiny Draw as a function of a vector of its parameters, and those."""
    model, variables = tiny(image_shape=(4, 3, 1), enc_size=2, dec_size=2, latent_size=1)
    rng = np.random.default_rng(0)
    x, eps = rng.random((2, 4, 3, 1)).astype(np.float32), normal(rng, 2, 2, 1)
    vector, unravel = jax.flatten_util.ravel_pytree(variables)

    def loss(vector):
        output = model.apply(unravel(vector), x, eps)
        return output.nll.mean() + output.kl.sum(0).mean()

    return loss, vector


@pytest.mark.slow
def test_the_hessian_of_the_loss_is_differences_of_its_gradient(tiny):
    loss, vector = tiny_loss(tiny)
    gradient = jax.jit(jax.grad(loss))
    direction = normal(np.random.default_rng(1), len(vector))
    direction /= np.linalg.norm(direction)
    step = 2e-2  # large for float32; of the fourth order, so right to step^4
    ends = [gradient(vector + k * step * direction) for k in (1, -1, 2, -2)]
    expected = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * step)
    products = [
        jax.jit(jax.hessian(loss))(vector) @ direction,
        jax.jvp(gradient, (vector,), (direction,))[1],
        jax.grad(lambda v: gradient(v) @ direction)(vector),
    ]
    for ours in products:
        assert ours.shape == vector.shape
        # Differences of float32 gradients: 1e-6 of their size over the step.
        np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max())
        np.testing.assert_allclose(ours, products[0], atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_forward_mode_is_refused_in_one_line_that_names_reverse_mode(tiny):
    loss, vector = tiny_loss(tiny)
    square = np.ones((3, 3), np.float32)
    for name, function in (
        ("product", lambda a: gradients.product(a, square, "float32")),
        ("error_image", lambda a: gradients.error_image(a, square)),
        ("lstm_step", lambda a: gradients.lstm_step(jnp.tile(a, 4), a)[0]),
        ("gate_activations", lambda a: gradients.gate_activations(jnp.tile(a, 4))),
        ("filters", lambda a: gradients.filters(a, a, a, 2, 4)),
        ("filter_image", lambda a: gradients.filter_image(a, a[:, :, None], a)),
        ("spread_patch", lambda a: gradients.spread_patch(a, a[:, :, None], a)),
    ):
        message = f"^{name} has no forward-mode derivative .*use reverse mode: jax.grad"
        with pytest.raises(TypeError, match=message):
            jax.jvp(function, (square,), (square,))
        jax.vjp(function, square)
    with pytest.raises(TypeError, match="use reverse mode: jax.grad, jax.vjp or jax.jacrev"):
        jax.jvp(loss, (vector,), (vector,))
    with pytest.raises(TypeError, match="use reverse mode: jax.grad, jax.vjp or jax.jacrev"):
        jax.jit(jax.jacfwd(loss))(vector)


def test_other_type_errors_keep_their_own_words():
    with pytest.raises(TypeError, match="dot_general|matmul|contracting|shape"):
        gradients.product(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), "float32")


@pytest.mark.parametrize("narrow", [0, 1, 2])
def test_each_gradient_has_the_type_of_its_argument(narrow):
    rng = np.random.default_rng(0)
    f_y, patch, f_x = normal(rng, 2, 3, 6), normal(rng, 2, 3, 3, 1), normal(rng, 2, 3, 5)
    args = [jnp.asarray(a) for a in (f_y, patch, f_x)]
    args[narrow] = args[narrow].astype(jnp.bfloat16)
    out, vjp = jax.vjp(gradients.spread_patch, *args)
    assert out.dtype == jnp.float32
    assert [g.dtype for g in vjp(out)] == [a.dtype for a in args]


def test_images_may_be_integers():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 2, (2, 6, 5, 1), np.uint8)
    f_y, f_x = normal(rng, 2, 3, 6), normal(rng, 2, 3, 5)
    found, expected = (
        jax.value_and_grad(lambda f_y, x=x: gradients.filter_image(f_y, x, f_x).sum())(f_y)
        for x in (image, image.astype(np.float32))
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
