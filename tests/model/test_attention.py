import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from draw_jax.model import attention
from draw_jax.model.attention import Window
from tests import reference
from tests.model.helpers import (
    CASES,
    PLACES,
    SHAPES,
    finite_differences,
    make_windows,
    normal,
    pull_back,
)


def at(window, index):
    """Returns one of many windows, for the reference."""
    return reference.Window(*(float(field[index]) for field in window))


def one_window(g_x, g_y, sigma, delta, gamma=1.0):
    return Window(*(jnp.float32(v) for v in (g_x, g_y, sigma**2, delta, gamma)))


def as_raw(glimpse_size, height, width, g_x, g_y, sigma, delta):
    """Returns the five network outputs that stand for a window: eqs 21-24 solved for them."""
    g_x, g_y = 2 * g_x / (width + 1) - 1, 2 * g_y / (height + 1) - 1
    delta = delta * (glimpse_size - 1) / (max(height, width) - 1)
    return np.array([g_x, g_y, 2 * np.log(sigma), np.log(delta), 0.0], np.float32)


filterbanks = jax.jit(attention.filterbanks, static_argnums=(1, 2, 3))
read = jax.jit(attention.read, static_argnums=2)
write = jax.jit(attention.write, static_argnums=(2, 3))


# --- windows, eqs 21-24


@pytest.mark.parametrize(("glimpse_size", "height", "width"), SHAPES)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_window_is_the_reference(glimpse_size, height, width, leading):
    raw = normal(np.random.default_rng(0), *leading, 5)
    window = attention.window(raw, glimpse_size, height, width)
    assert all(field.shape == leading and field.dtype == jnp.float32 for field in window)
    for index in np.ndindex(*leading):
        expected = reference.window(raw[index], glimpse_size, height, width)
        np.testing.assert_allclose(at(window, index), expected, rtol=1e-5)


@pytest.mark.parametrize(("glimpse_size", "height", "width"), SHAPES)
def test_zeros_give_a_centred_grid_from_the_first_pixel_to_the_last(glimpse_size, height, width):
    window = attention.window(np.zeros(5, np.float32), glimpse_size, height, width)
    assert window.g_x == (width + 1) / 2 and window.g_y == (height + 1) / 2
    assert window.sigma_sq == 1 and window.gamma == 1
    g, pixels = (window.g_x, width) if width >= height else (window.g_y, height)
    first, last = (
        reference.centre(float(g), i, glimpse_size, float(window.delta)) for i in (1, glimpse_size)
    )
    np.testing.assert_allclose([first, last], [1, pixels], rtol=1e-6)


def test_the_order_of_the_raw_values_is_that_of_eq_21():
    # One value at a time: +1 in g~ moves by half the image, log 2 doubles the other three.
    still = np.array(attention.window(np.zeros(5, np.float32), 3, 6, 10))
    for k, (step, change) in enumerate([(1, 5.5), (1, 3.5)]):
        moved = np.array(
            attention.window(np.float32(step) * np.eye(5, dtype=np.float32)[k], 3, 6, 10)
        )
        np.testing.assert_allclose(moved - still, change * np.eye(5)[k], atol=1e-5)
    for k in (2, 3, 4):
        raw = np.float32(np.log(2)) * np.eye(5, dtype=np.float32)[k]
        moved = np.array(attention.window(raw, 3, 6, 10))
        np.testing.assert_allclose(moved / still, 1 + np.eye(5)[k], rtol=1e-6)


# --- filterbanks, eqs 19, 20, 25, 26


@pytest.mark.parametrize(("glimpse_size", "height", "width"), SHAPES)
@pytest.mark.parametrize("place", PLACES)
def test_filterbanks_are_the_reference(glimpse_size, height, width, place):
    window = make_windows(np.random.default_rng(0), glimpse_size, height, width, place, (4,))
    off = attention.off_image(window, glimpse_size, height, width)
    assert off.shape == (4,) and bool(off.any()) == bool(off.all()) == (place == "outside")
    f_x, f_y = filterbanks(window, glimpse_size, height, width)
    assert f_x.shape == (4, glimpse_size, width) and f_y.shape == (4, glimpse_size, height)
    for b in range(4):
        expected = reference.filterbanks(at(window, b), glimpse_size, height, width)
        for ours, theirs in zip((f_x[b], f_y[b]), expected, strict=True):
            assert ours.shape == theirs.shape
            # Exponents reach -100 in float32, whose rounding is 1e-7 of that.
            np.testing.assert_allclose(ours, theirs, rtol=5e-5, atol=1e-6)


@given(
    shape=st.sampled_from(SHAPES),
    centre=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    log_sigma=st.floats(-7, 7),
    log_delta=st.floats(-10, 10),
)
def test_rows_sum_to_1_for_any_window(shape, centre, log_sigma, log_delta):
    glimpse_size, height, width = shape
    window = one_window(*centre, np.exp(log_sigma), np.exp(log_delta))
    for f, pixels in zip(filterbanks(window, *shape), (width, height), strict=True):
        assert f.shape == (glimpse_size, pixels)
        assert f.min() >= 0
        np.testing.assert_allclose(f.sum(-1), np.ones(glimpse_size), rtol=1e-5)


@functools.cache
def read_then_written(glimpse_size, height, width, count):
    """Returns, compiled, raw [count, 5] -> a sum over what is written of what is read; gradients."""
    rng = np.random.default_rng(0)
    image = normal(rng, count, height, width, 2)
    weights = normal(rng, count, height, width, 2)

    def loss(raw):
        window = attention.window(raw, glimpse_size, height, width)
        glimpse = attention.read(image, window, glimpse_size)
        # gamma cancels between reading and writing: e^15 squared would hide all else.
        return (attention.write(glimpse, window, height, width) * weights).sum(axis=(1, 2, 3))

    return jax.jit(lambda raw: (loss(raw), jax.grad(lambda r: loss(r).sum())(raw)))


@pytest.mark.parametrize("glimpse_size", [2, 5])
@pytest.mark.parametrize("size", [50.0, 1e3, 1e20, 3e38])
def test_extreme_outputs_of_the_network_give_finite_values_and_gradients(size, glimpse_size):
    height, width = 6, 9
    signs = np.array(np.meshgrid(*[[-1, 0, 1]] * 5)).reshape(5, -1).T  # all 3^5 corners
    raw = (size * signs).astype(np.float32)
    values, gradient = read_then_written(glimpse_size, height, width, len(signs))(raw)
    assert values.shape == (len(signs),) and gradient.shape == raw.shape
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    window = attention.window(raw, glimpse_size, height, width)
    f_x, f_y = filterbanks(window, glimpse_size, height, width)
    for f in (f_x, f_y):
        np.testing.assert_allclose(f.sum(-1), np.ones(f.shape[:-1]), rtol=1e-5)


@functools.cache
def read_and_write_back(glimpse_size, height, width):
    """Returns everything that attention computes from five raw values, with its gradients."""
    rng = np.random.default_rng(0)
    image = normal(rng, height, width, 2)
    patch = normal(rng, glimpse_size, glimpse_size, 2)

    def glimpse(raw, image):
        return attention.read(image, attention.window(raw, *shape), glimpse_size)

    def written(raw, patch):
        return attention.write(patch, attention.window(raw, *shape), height, width)

    def everything(raw):
        window = attention.window(raw, *shape)
        seen, by_read = jax.vjp(glimpse, raw, image)
        canvas, by_write = jax.vjp(written, raw, patch)
        filters = attention.filterbanks(window, *shape)
        return filters, (window, seen, canvas, by_read(patch), by_write(image))

    shape = (glimpse_size, height, width)
    return jax.jit(everything)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=300)
@given(shape=st.sampled_from([*SHAPES, (2, 64, 64)]), raw=st.lists(finite, min_size=5, max_size=5))
@example(shape=SHAPES[0], raw=[1e38, 0.0, 0.0, 0.0, 0.0])
@example(shape=SHAPES[0], raw=[-3.4e38, 3.4e38, -3.4e38, 3.4e38, -3.4e38])
@example(shape=(2, 64, 64), raw=[3.4e38, 1e30, -3.4e38, -3.4e38, 3.4e38])
def test_every_finite_output_of_the_network_gives_finite_values_and_gradients(shape, raw):
    filters, rest = read_and_write_back(*shape)(np.array(raw, np.float32))
    for f in filters:
        np.testing.assert_allclose(f.sum(-1), np.ones(f.shape[:-1]), rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rest))


@pytest.mark.parametrize("g", [1e3, -1e6, 1e6])
def test_a_centre_within_a_million_half_widths_is_taken_as_it_is(g):
    window = attention.window(np.array([g, -g, 0, 0, 0], np.float32), 3, 8, 6)
    assert window.g_x == np.float32(3.5) * np.float32(g + 1)
    assert window.g_y == np.float32(4.5) * np.float32(1 - g)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("sigma", "black"), [(1, 1), (1, 5), (2, 5), (0.5, 1)])
def test_how_far_outside_a_filter_still_has_a_gradient(sigma, black, side):
    """The rule in the docstring of `filterbanks`, and its two numbers, in steps of half a pixel."""
    image = np.ones((28, 28, 1), np.float32)
    image[:, 28 - black :] = 0
    image = image[:, ::side]

    @jax.jit
    def value_and_gradient(distance):
        # N = 2 and a stride of 1e-3: both filters lie as good as at g.
        def total(g_x):
            return attention.read(image, one_window(g_x, 14.5, sigma, 1e-3), 2).sum()

        return jax.value_and_grad(total)(28 + distance if side > 0 else 1 - distance)

    numbers = {}
    for distance in np.arange(0, 100, 0.5, dtype=np.float32):
        numbers[float(distance)] = np.array(value_and_gradient(distance))
        exponent = black * (2 * distance + black) / sigma**2
        assert exponent > 170 or numbers[distance].all(), distance
        assert exponent < 175 or not numbers[distance].any(), distance
    if sigma == 1:
        out = {1: 87, 5: 15}[black]
        assert numbers[out - 0.5].all() and not numbers[out].any()


def gradients_outside(pixels, sigma, side, away=1.0):
    """Returns the derivatives by g, delta and sigma^2 of a random sum of filters outside the image.

    Their nearest centre is `away` image widths out. Two arrays [3]: in float32 from the package, and
    exact, from the centred form of the derivatives in float64.
    """
    glimpse_size, delta = 3, 2.0
    rng = np.random.default_rng(pixels)
    weights = rng.standard_normal((glimpse_size, pixels))
    edge = pixels if side > 0 else 1
    g = edge + side * (away * pixels + delta)

    def total(g, delta, sigma_sq):
        window = Window(g, g, sigma_sq, delta, jnp.float32(1))
        f_x, _ = attention.filterbanks(window, glimpse_size, pixels, pixels)
        return (f_x * weights.astype(np.float32)).sum()

    ours = jax.jit(jax.grad(total, (0, 1, 2)))(*map(jnp.float32, (g, delta, sigma**2)))
    exact = np.zeros(3)
    f = reference.filters(g, delta, sigma**2, glimpse_size, pixels)
    for i, (row, weight) in enumerate(zip(f, weights, strict=True), 1):
        place = i - glimpse_size / 2 - 0.5  # of eqs 19 and 20
        a = np.arange(1.0, pixels + 1)
        # Covariances under the filter, all less their values at the edge.
        w, square = weight - weight[edge - 1], (a - g - place * delta) ** 2
        a, square = a - a[edge - 1], square - square[edge - 1]
        by_mu, by_square = (
            (row * w * b).sum() - (row * w).sum() * (row * b).sum() for b in (a, square)
        )
        exact += by_mu / sigma**2, place * by_mu / sigma**2, by_square / (2 * sigma**4)
    return np.array(ours), exact


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("pixels", "sigma"), [(28, 1.0), (28, 3.0), (60, 1.0), (100, 2.0)])
def test_peer_bug_6_a_lost_window_keeps_a_gradient(pixels, sigma, side):
    # One image width out. In 100 pixels sigma = 1 is beyond float32: e^-100.5 = 2e-44 is below the
    # smallest normal number, the gradient is 0 (in any form; sigma = 1.1 would still be seen).
    ours, exact = gradients_outside(pixels, sigma, side)
    assert ours.all() and np.isfinite(ours).all() and exact.all()


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("away", [0.25, 0.5, 0.75, 1.0, 2.0])
@pytest.mark.parametrize(("pixels", "sigma"), [(28, 1.0), (28, 3.0), (60, 2.0), (100, 3.0)])
def test_the_gradient_of_a_lost_window_is_right(pixels, sigma, away, side):
    ours, exact = gradients_outside(pixels, sigma, side, away)
    assert ours.shape == (3,)
    # Filters that differ in few pixels only: nothing cancels, float32's rounding remains.
    np.testing.assert_allclose(ours, exact, rtol=2e-5)


@pytest.mark.parametrize("place", PLACES)
def test_peer_bug_6_no_epsilon_in_the_normaliser(place):
    # With an epsilon of 1e-8 or more the rows of a window far out would sum to 0.
    window = make_windows(np.random.default_rng(1), 3, 9, 6, place, (20,))
    window = window._replace(sigma_sq=np.full(20, 0.3**2, np.float32))
    for f in filterbanks(window, 3, 9, 6):
        assert f.shape[:2] == (20, 3)
        np.testing.assert_allclose(f.sum(-1), np.ones((20, 3)), rtol=1e-5)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5])
def test_peer_bug_1_the_exponent_is_the_squared_distance_over_2_sigma_squared(sigma):
    f_x, _ = filterbanks(one_window(20, 20, sigma, 1), 3, 40, 40)
    assert f_x.shape == (3, 40)
    a = np.arange(1, 41)
    near = slice(12, 27)  # within 7 pixels of pixel 20; further out sigma = 1 underflows
    log_ratio = np.log(f_x[1, near] / f_x[1, 19])
    np.testing.assert_allclose(log_ratio, -((a[near] - 20) ** 2) / (2 * sigma**2), rtol=1e-5)
    # What a filter with sigma should be: standard deviation sigma (of a sampled Gaussian).
    np.testing.assert_allclose((f_x[1] * (a - 20) ** 2).sum(), sigma**2, rtol=1e-4)


def test_peer_bug_4_f_y_is_built_from_its_own_centre():
    window = one_window(g_x=3, g_y=11, sigma=0.1, delta=1)
    f_x, f_y = filterbanks(window, 3, 14, 6)
    assert f_x.shape == (3, 6) and f_y.shape == (3, 14)
    # Narrow filters are rows of the identity: pixels 2, 3, 4 across and 10, 11, 12 down.
    np.testing.assert_allclose(f_x, np.eye(6)[[1, 2, 3]], atol=1e-6)
    np.testing.assert_allclose(f_y, np.eye(14)[[9, 10, 11]], atol=1e-6)
    # g_y moves the filters down and leaves those across alone; g_x the other way round.
    down_x, down_y = filterbanks(window._replace(g_y=window.g_y - 4), 3, 14, 6)
    np.testing.assert_array_equal(down_x, f_x)
    np.testing.assert_allclose(down_y, np.eye(14)[[5, 6, 7]], atol=1e-6)


@pytest.mark.parametrize("glimpse_size", [2, 3, 4, 5])
@pytest.mark.parametrize("pixels", [7, 8])
def test_peer_bug_5_the_grid_is_centred_at_g_and_the_image_at_half_of_a_plus_1(
    glimpse_size, pixels
):
    # From raw zeros: mirroring the image must mirror the glimpse, so nothing is off by a stride or
    # by a pixel; a 0-based i or a 0-based pixel shifts everything one way.
    rng = np.random.default_rng(0)
    for delta in (0.3, 0.7):
        raw = as_raw(glimpse_size, pixels, pixels, (pixels + 1) / 2, (pixels + 1) / 2, 0.6, delta)
        np.testing.assert_allclose(raw[:2], 0, atol=1e-6)
        window = attention.window(raw, glimpse_size, pixels, pixels)
        image = normal(rng, pixels, pixels, 1)
        glimpse = read(image, window, glimpse_size)
        assert glimpse.shape == (glimpse_size, glimpse_size, 1)
        mirrored = read(image[::-1, ::-1], window, glimpse_size)
        np.testing.assert_allclose(mirrored[::-1, ::-1], glimpse, atol=1e-5)
    # Pixel numbers: well inside, the mean over all filters of the mean pixel number is g itself.
    f_x, f_y = filterbanks(one_window(15.3, 12.8, 1.0, 1.5), glimpse_size, 28, 28)
    for f, g in ((f_x, 15.3), (f_y, 12.8)):
        means = f @ np.arange(1, 29, dtype=np.float32)
        np.testing.assert_allclose(means.mean(), g, rtol=1e-5)
        np.testing.assert_allclose(np.diff(means), 1.5, rtol=1e-4)  # means carry 1e-6 each


@pytest.mark.parametrize(("glimpse_size", "height", "width"), SHAPES)
def test_narrow_filters_at_unit_stride_are_an_exact_crop(glimpse_size, height, width):
    size = min(glimpse_size, height, width)
    image = normal(np.random.default_rng(0), height, width, 2)
    for top in range(height - size + 1):
        for left in range(width - size + 1):
            # Rows top + 1 .. top + size in the paper's numbers, so their middle is the centre.
            g_x, g_y = left + (size + 1) / 2, top + (size + 1) / 2
            glimpse = read(image, one_window(g_x, g_y, 0.1, 1.0), size)
            crop = image[top : top + size, left : left + size]
            assert glimpse.shape == crop.shape == (size, size, 2)
            np.testing.assert_allclose(glimpse, crop, atol=1e-6)
            # Written back at the same place, and nowhere else.
            canvas = write(crop, one_window(g_x, g_y, 0.1, 1.0), height, width)
            expected = np.zeros_like(image)
            expected[top : top + size, left : left + size] = crop
            np.testing.assert_allclose(canvas, expected, atol=1e-6)


def test_the_first_and_the_last_pixel_are_numbered_1_and_a():
    image = normal(np.random.default_rng(0), 5, 8, 1)
    for g_x, g_y, expected in ((1.5, 1.5, image[:2, :2]), (7.5, 4.5, image[-2:, -2:])):
        np.testing.assert_allclose(
            read(image, one_window(g_x, g_y, 0.1, 1.0), 2), expected, atol=1e-6
        )


def test_off_image_means_every_centre():
    # N = 3, stride 2: the grid reaches 2 pixels to each side; the image is 1..9 by 1..5, and a
    # pixel reaches half a pixel around its number.
    def off(g_x, g_y):
        return bool(attention.off_image(one_window(g_x, g_y, 1.0, 2.0), 3, 5, 9))

    assert not off(5, 3) and not off(-1.4, 3) and not off(11.4, 3)
    assert off(-1.6, 3) and off(11.6, 3)
    assert not off(5, 7.4) and not off(5, -1.4)
    assert off(5, 7.6) and off(5, -1.6)


# --- read and write, eqs 27-29


@pytest.mark.parametrize(("glimpse_size", "height", "width", "leading", "channels"), CASES)
def test_read_and_write_are_the_reference(glimpse_size, height, width, leading, channels):
    rng = np.random.default_rng(0)
    place = PLACES[len(leading)]
    window = make_windows(rng, glimpse_size, height, width, place, leading)
    image = normal(rng, *leading, height, width, channels)
    patch = normal(rng, *leading, glimpse_size, glimpse_size, channels)
    glimpse = read(image, window, glimpse_size)
    written = write(patch, window, height, width)
    assert glimpse.shape == patch.shape and glimpse.dtype == jnp.float32
    assert written.shape == image.shape and written.dtype == jnp.float32
    for index in np.ndindex(*leading):
        one = at(window, index)
        expected = reference.read(image[index], one, glimpse_size)
        # Absolute: sums of terms of either sign, up to 3 / 0.3 in size; filters as above.
        np.testing.assert_allclose(glimpse[index], expected, rtol=1e-5, atol=5e-5)
        expected = reference.write(patch[index], one, height, width)
        np.testing.assert_allclose(written[index], expected, rtol=1e-5, atol=5e-5)


@settings(max_examples=30)
@given(
    shape=st.sampled_from([(*SHAPES[0], 3), (*SHAPES[1], 1), (*SHAPES[2], 1), (*SHAPES[3], 3)]),
    place=st.sampled_from(PLACES),
    seed=st.integers(0, 2**32 - 1),
)
def test_write_is_the_adjoint_of_read(shape, place, seed):
    glimpse_size, height, width, channels = shape
    rng = np.random.default_rng(seed)
    window = make_windows(rng, glimpse_size, height, width, place, (2,))
    window = window._replace(gamma=np.ones(2, np.float32))
    image = normal(rng, 2, height, width, channels)
    patch = normal(rng, 2, glimpse_size, glimpse_size, channels)
    left = (read(image, window, glimpse_size) * patch).sum()
    right = (image * write(patch, window, height, width)).sum()
    size = np.linalg.norm(image) * np.linalg.norm(patch)
    assert abs(left - right) < 1e-5 * size


@given(gamma=st.floats(0.01, 100), seed=st.integers(0, 2**32 - 1))
def test_gamma_multiplies_what_is_read_and_divides_what_is_written(gamma, seed):
    rng = np.random.default_rng(seed)
    window = make_windows(rng, 3, 11, 7, "inside", (2,))._replace(gamma=np.ones(2, np.float32))
    scaled = window._replace(gamma=np.full(2, gamma, np.float32))
    image, patch = normal(rng, 2, 11, 7, 1), normal(rng, 2, 3, 3, 1)
    np.testing.assert_allclose(
        read(image, scaled, 3), gamma * read(image, window, 3), rtol=1e-5, atol=1e-5 * gamma
    )
    np.testing.assert_allclose(
        write(patch, scaled, 11, 7),
        write(patch, window, 11, 7) / gamma,
        rtol=1e-5,
        atol=1e-5 / gamma,
    )


def test_one_set_of_filters_serves_all_channels():
    rng = np.random.default_rng(0)
    window = make_windows(rng, 3, 7, 11, "inside", (2,))
    image = normal(rng, 2, 7, 11, 3)
    apart = [read(image[..., c : c + 1], window, 3) for c in range(3)]
    np.testing.assert_allclose(
        read(image, window, 3), np.concatenate(apart, axis=-1), rtol=1e-5, atol=1e-6
    )


def test_arguments_that_do_not_fit_are_refused():
    window = one_window(3, 3, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"raw window parameters \[..., 5\], got \(2, 4\)"):
        attention.window(np.zeros((2, 4), np.float32), 3, 5, 5)
    with pytest.raises(ValueError, match=r"raw window parameters \[..., 5\], got \(\)"):
        attention.window(np.float32(0), 3, 5, 5)
    for call in (
        lambda: attention.window(np.zeros(5, np.float32), 1, 5, 5),
        lambda: attention.filterbanks(window, 1, 5, 5),
        lambda: attention.read(np.zeros((5, 5, 1), np.float32), window, 1),
        lambda: attention.write(np.zeros((1, 1, 1), np.float32), window, 5, 5),
    ):
        with pytest.raises(ValueError, match="glimpse size N >= 2 .* got 1"):
            call()
    with pytest.raises(ValueError, match=r"image \[..., H, W, C\], got \(5, 5\)"):
        attention.read(np.zeros((5, 5), np.float32), window, 3)
    with pytest.raises(ValueError, match=r"square patch \[..., N, N, C\], got \(3, 2, 1\)"):
        attention.write(np.zeros((3, 2, 1), np.float32), window, 5, 5)


# --- gradients


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("glimpse_size", "height", "width"), [(2, 4, 5), (3, 5, 4)])
def test_gradients_of_read_and_write_are_finite_differences_of_the_loops(
    glimpse_size, height, width, place
):
    rng = np.random.default_rng(0)
    window = make_windows(rng, glimpse_size, height, width, place)
    image = normal(rng, height, width, 1)
    patch = normal(rng, glimpse_size, glimpse_size, 1)

    def loop_read(image, *window):
        return (reference.read(image, reference.Window(*window), glimpse_size) * patch).sum()

    def loop_write(patch, *window):
        return (reference.write(patch, reference.Window(*window), height, width) * image).sum()

    def our_read(image, *window):
        return attention.read(image, Window(*window), glimpse_size)

    def our_write(patch, *window):
        return attention.write(patch, Window(*window), height, width)

    for ours, loop, inside, weights in (
        (our_read, loop_read, image, patch),
        (our_write, loop_write, patch, image),
    ):
        gradients = pull_back(ours, weights, inside, *window)
        expected = finite_differences(loop, (inside, *window))
        for a, b in zip(gradients, expected, strict=True):
            assert a.shape == b.shape
            # float64 differences are right to 1e-9. float32 keeps 1e-5 of a gradient's largest
            # term, and the terms of a sum over pixels nearly cancel: so relative to its size.
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max()))


BROADCASTS = [  # leading axes of the image or patch, axes of the window
    ((), (3,)),
    ((3,), ()),
    ((2, 3), (3,)),
    ((2, 1), (3,)),
    ((1,), (2,)),
]


@pytest.mark.parametrize(("leading", "axes"), BROADCASTS)
@pytest.mark.parametrize("writes", [False, True], ids=["read", "write"])
def test_leading_axes_broadcast_in_both_directions(leading, axes, writes):
    glimpse_size, height, width, shape = 2, 4, 3, np.broadcast_shapes(leading, axes)
    rng = np.random.default_rng(0)
    window = make_windows(rng, glimpse_size, height, width, "inside", axes)
    inside, outside = (height, width, 1), (glimpse_size, glimpse_size, 1)
    if writes:
        inside, outside = outside, inside
    array, weights = normal(rng, *leading, *inside), normal(rng, *shape, *outside)

    def ours(array, *window):
        if writes:
            return attention.write(array, Window(*window), height, width)
        return attention.read(array, Window(*window), glimpse_size)

    def loop(array, *window):
        array = np.broadcast_to(array, (*shape, *inside))
        window = [np.broadcast_to(field, shape) for field in window]
        out = np.zeros((*shape, *outside))
        for index in np.ndindex(*shape):
            one = reference.Window(*(float(field[index]) for field in window))
            if writes:
                out[index] = reference.write(array[index], one, height, width)
            else:
                out[index] = reference.read(array[index], one, glimpse_size)
        return out

    out = jax.jit(ours)(array, *window)
    found = pull_back(ours, weights, array, *window)
    assert out.shape == weights.shape
    np.testing.assert_allclose(out, loop(array, *window), rtol=1e-5, atol=5e-5)
    expected = finite_differences(lambda *args: (loop(*args) * weights).sum(), (array, *window))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        # As above: float32, relative to the size of the largest gradient.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max()))


def test_axes_that_do_not_broadcast_are_refused():
    rng = np.random.default_rng(0)
    window = make_windows(rng, 3, 7, 5, "inside", (4,))
    message = r"broadcast by NumPy's rules, got an array \(2, {0}, 1\) and a window of \(4,\)"
    with pytest.raises(ValueError, match=message.format("7, 5")):
        attention.read(normal(rng, 2, 7, 5, 1), window, 3)
    with pytest.raises(ValueError, match=message.format("3, 3")):
        attention.write(normal(rng, 2, 3, 3, 1), window, 7, 5)


def test_equal_axes_add_nothing_to_the_program():
    image, window = np.ones((3, 7, 5, 1), np.float32), Window(*np.ones((5, 3), np.float32))
    image, window = jax.tree.map(jnp.asarray, (image, window))
    program = jax.make_jaxpr(attention._broadcast)(image, window)
    assert not program.eqns


def test_a_summary_is_each_examples_mean_over_its_own_time_steps():
    steps, size, height, width = 4, 3, 5, 9
    away = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], bool)  # which are off the image
    rng = np.random.default_rng(0)
    near, far = (
        make_windows(rng, size, height, width, p, away.shape) for p in ("inside", "outside")
    )
    windows = Window(*(np.where(away, f, n) for f, n in zip(far, near, strict=True)))
    found = attention.summary("write", windows, size, height, width)
    for b in range(3):
        sigma, delta, gamma = (
            np.sqrt(windows.sigma_sq[:, b]),
            windows.delta[:, b],
            windows.gamma[:, b],
        )
        for name, values in {
            "sigma": sigma,
            "delta": delta,
            "gamma": gamma,
            "off_image": away[:, b],
        }.items():
            expected = sum(map(float, values)) / steps
            np.testing.assert_allclose(found[f"write_{name}"][b], expected, rtol=1e-5)
