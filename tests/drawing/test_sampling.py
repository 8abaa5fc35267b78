import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draw_jax.data.interface import ArraySplit, LazyImages
from draw_jax.drawing import latents, sampling

T, Z = 3, 4
SHAPE = (12, 10, 1)


@pytest.fixture(scope="module")
def drawer(tiny):
    return tiny(image_shape=SHAPE, time_steps=T, latent_size=Z, noise=0.3)


@pytest.fixture(scope="module")
def model(drawer):
    return drawer[0]


@pytest.fixture(scope="module")
def variables(drawer):
    return drawer[1]


def images(count, seed=2):
    return np.random.default_rng(seed).random((count, *SHAPE)).astype(np.float32)


def random_latents(count, seed=3):
    return np.random.default_rng(seed).standard_normal((T, count, Z)).astype(np.float32)


def assert_trees_close(a, b, atol=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol)


def test_noise_is_standard_normal_and_belongs_to_the_image():
    key = jax.random.key(5)
    few, many = sampling.noise(key, 3, 20, 10), sampling.noise(key, 50, 20, 10)
    assert few.shape == (20, 3, 10) and few.dtype == np.float32
    np.testing.assert_array_equal(few, many[:, :3])
    # 10,000 values: the standard error of the mean is 0.01, of the deviation 0.007.
    assert abs(many.mean()) < 0.05 and abs(many.std() - 1) < 0.05
    own = jax.random.normal(jax.random.fold_in(key, 2), (20, 10))
    np.testing.assert_array_equal(few[:, 2], own)
    assert np.abs(few[:, 0] - few[:, 1]).min() > 0


def test_generate_is_the_model_applied_to_the_noise(model, variables):
    key = jax.random.key(7)
    trace = sampling.generate(model, variables, key, 5)
    assert trace.canvases.shape == (T, 5, *SHAPE) and trace.write_windows.g_x.shape == (T, 5)
    assert trace.read_windows is None and trace.mean is None
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(trace))
    direct = model.apply(variables, sampling.noise(key, 5, T, Z), method="generate")
    assert_trees_close(trace, direct)


def test_generate_depends_on_the_key_and_nothing_else(model, variables):
    first = sampling.generate(model, variables, jax.random.key(7), 4)
    again = sampling.generate(model, variables, jax.random.key(7), 4)
    other = sampling.generate(model, variables, jax.random.key(8), 4)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.canvases - other.canvases).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_change_nothing(model, variables, batch_size):
    key = jax.random.key(9)
    whole = sampling.generate(model, variables, key, 7, batch_size=7)
    assert_trees_close(sampling.generate(model, variables, key, 7, batch_size=batch_size), whole)
    seen = sampling.reconstruct(model, variables, images(7), key, batch_size=7)
    assert_trees_close(
        sampling.reconstruct(model, variables, images(7), key, batch_size=batch_size), seen
    )


def test_generate_takes_other_lengths_and_temperatures(model, variables):
    key = jax.random.key(7)
    longer = sampling.generate(model, variables, key, 2, time_steps=5)
    assert longer.canvases.shape == (5, 2, *SHAPE)
    cold = sampling.generate(model, variables, key, 2, temperature=0.0).canvases
    np.testing.assert_allclose(cold[:, 0], cold[:, 1], atol=1e-6)
    half = sampling.generate(model, variables, key, 2, temperature=0.5)
    assert_trees_close(half, sampling.decode(model, variables, 0.5 * sampling.noise(key, 2, T, Z)))


def test_reconstruct_is_the_model_applied_to_the_noise(model, variables):
    key = jax.random.key(11)
    output = sampling.reconstruct(model, variables, images(4), key)
    assert output.nll.shape == (4,) and output.kl.shape == (T, 4)
    eps = sampling.noise(key, 4, T, Z)
    assert_trees_close(output, model.apply(variables, images(4), eps, trace=True), atol=1e-4)


def test_error_images_are_what_each_step_still_lacks(model):
    rng = np.random.default_rng(0)
    canvases, first = rng.normal(size=(T, 2, *SHAPE)), rng.normal(size=SHAPE)
    errors = sampling.error_images(model, images(2), canvases, first)
    assert errors.shape == (T, 2, *SHAPE)
    np.testing.assert_allclose(errors[0, 1], images(2)[1] - 1 / (1 + np.exp(-first)), atol=1e-6)
    np.testing.assert_allclose(errors[2], images(2) - 1 / (1 + np.exp(-canvases[1])), atol=1e-6)


def test_mean_images_stay_in_range_at_any_logit(model):
    means = sampling.mean_images(model, np.array([-1e9, -100.0, 0.0, 2.0, 100.0, 1e9]))
    np.testing.assert_allclose(means, [0, 0, 0.5, 1 / (1 + np.exp(-2.0)), 1, 1], atol=1e-6)
    assert means.min() >= 0 and means.max() <= 1


def test_drawn_images_are_binary_with_the_canvas_mean(model):
    key = jax.random.key(1)
    logits = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    drawn = sampling.draw_images(model, key, np.broadcast_to(logits, (2000, *SHAPE)))
    assert drawn.shape == (2000, *SHAPE) and set(np.unique(drawn)) == {0.0, 1.0}
    # The standard error of a mean of 2,000 coin flips is at most 0.011; 5 of them.
    np.testing.assert_allclose(drawn.mean(0), sampling.mean_images(model, logits), atol=0.056)
    few = sampling.draw_images(model, key, np.broadcast_to(logits, (3, *SHAPE)))
    np.testing.assert_array_equal(few, drawn[:3])


def test_drawn_pixels_owe_nothing_to_the_noise_of_the_same_key(model):
    key = jax.random.key(1)
    z = sampling.noise(key, 400, 1, SHAPE[0] * SHAPE[1])[0]
    drawn = sampling.draw_images(model, key, np.zeros((400, *SHAPE))).reshape(400, -1)
    # 48,000 pairs: the standard error of a correlation is below 0.005.
    assert abs(np.corrcoef(z.ravel(), drawn.ravel())[0, 1]) < 0.025


@pytest.mark.parametrize("spherical", [True, False])
def test_interpolation_ends_at_the_images_of_its_ends(model, variables, spherical):
    z = random_latents(2)
    canvases = latents.interpolate(model, variables, z[:, 0], z[:, 1], 6, spherical)
    ends = sampling.decode(model, variables, z).canvases
    assert canvases.shape == (T, 6, *SHAPE)
    np.testing.assert_allclose(canvases[:, [0, -1]], ends, atol=1e-5)
    assert np.abs(canvases[:, 2] - canvases[:, 3]).max() > 1e-3


def test_linear_interpolation_is_the_weighted_mean():
    z = random_latents(2)
    path = latents.between(z[:, 0], z[:, 1], 5, spherical=False)
    np.testing.assert_allclose(path[:, 1], 0.75 * z[:, 0] + 0.25 * z[:, 1], atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 9), st.integers(2, 7))
def test_spherical_interpolation_keeps_the_norm_and_turns_evenly(seed, steps, size, count):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, steps, size))
    b *= np.linalg.norm(a, axis=-1, keepdims=True) / np.linalg.norm(b, axis=-1, keepdims=True)
    path = latents.between(a, b, count).astype(np.float64)
    assert path.shape == (steps, count, size)
    norms = np.linalg.norm(path, axis=-1)
    # float32 results
    np.testing.assert_allclose(norms, np.broadcast_to(norms[:, :1], norms.shape), rtol=1e-4)
    units = path / norms[..., None]
    chords = np.linalg.norm(np.diff(units, axis=1), axis=-1)
    np.testing.assert_allclose(chords, np.broadcast_to(chords[:, :1], chords.shape), atol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.0, -1.0])
def test_spherical_interpolation_of_parallel_ends_is_linear(factor):
    a = random_latents(1)[:, 0]
    path = latents.between(a, factor * a, 5)
    assert np.isfinite(path).all()
    np.testing.assert_allclose(path, latents.between(a, factor * a, 5, False), atol=1e-5)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_fix_step_shares_that_step_and_varies_the_rest(model, variables, step):
    key = jax.random.key(3)
    canvases = latents.fix_step(model, variables, key, step, 5).canvases
    z = sampling.noise(key, 5, T, Z)
    free = sampling.decode(model, variables, z).canvases
    np.testing.assert_allclose(canvases[:, 0], free[:, 0], atol=1e-5)
    np.testing.assert_allclose(canvases[: step - 1], free[: step - 1], atol=1e-5)
    assert np.abs(canvases[step - 1, 1:] - free[step - 1, 1:]).max() > 1e-4
    expected = z.copy()
    expected[step - 1] = z[step - 1, 0]
    np.testing.assert_allclose(
        canvases, sampling.decode(model, variables, expected).canvases, atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 7, 50, 4096])
@pytest.mark.parametrize("kind", ["float", "uint8", "bool"])
def test_nearest_agrees_with_brute_force(kind, batch_size):
    rng = np.random.default_rng(4)
    training = rng.integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
    floats = training / 255
    if kind == "bool":
        training = training > 127
        floats = training.astype(float)
    elif kind == "float":
        training = floats.astype(np.float32)
    query = rng.random((9, 6, 5, 3)).astype(np.float32)
    query[3] = floats[17]
    brute = [int(((floats - q.astype(float)) ** 2).sum((1, 2, 3)).argmin()) for q in query]
    found = latents.nearest(query, training, batch_size)
    assert found.shape == (9,) and found.tolist() == brute and found[3] == 17


class Reads(ArraySplit):
    """A split that tells how many images are read at a time."""

    def batch(self, indices):
        self.__dict__.setdefault("sizes", []).append(len(indices))
        return super().batch(indices)


@pytest.mark.parametrize("seen", [None, lambda images, at: (255 - images) / np.float32(255)])
def test_nearest_reads_lazy_images_to_the_last_and_as_many_at_a_time_as_have_room(
    monkeypatch, seen
):
    rng = np.random.default_rng(5)
    split = Reads(rng.integers(0, 256, (50, 6, 5, 3), np.uint8), None, False)
    lazy = LazyImages(split, seen)
    floats = split.images / 255 if seen is None else 1 - split.images / 255
    query = np.concatenate([floats[[49, 0, 31]], rng.random((6, 6, 5, 3))]).astype(np.float32)
    brute = [
        min(range(50), key=lambda m: sum((x - y) ** 2 for x, y in zip(q, rows[m], strict=True)))
        for rows in [floats.reshape(50, -1).tolist()]
        for q in query.reshape(9, -1).tolist()
    ]
    monkeypatch.setattr(latents, "_ROOM", 12 * 6 * 5 * 3 * 8 - 1)  # of seven images
    monkeypatch.setattr(latents, "_AT_A_TIME", 4)
    found = latents.nearest(query, lazy)
    assert found.tolist() == brute and found[:3].tolist() == [49, 0, 31]
    assert split.sizes == [7] * 7 + [1]
    assert lazy.shape == (50, 6, 5, 3) and len(lazy) == 50
    np.testing.assert_allclose(lazy[found] / (255 if seen is None else 1), floats[found], rtol=1e-6)


def test_nearest_takes_the_first_of_equals():
    training = np.zeros((10, *SHAPE), np.float32)
    assert latents.nearest(np.zeros((1, *SHAPE)), training, batch_size=3).tolist() == [0]


def call(name, *args, **kwargs):
    function = getattr(sampling, name, None) or getattr(latents, name)
    return lambda model, variables: function(model, variables, *args, **kwargs)


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (call("generate", KEY, 0), "at least 1"),
        (call("generate", KEY, 2, time_steps=0), "at least 1"),
        (call("generate", KEY, 2, temperature=-1.0), "temperature"),
        (call("generate", KEY, 2, batch_size=0), "batch_size"),
        (call("decode", np.zeros((T, 2, Z + 1))), r"expected z \[T, B, Z = 4\]"),
        (call("decode", np.zeros((T, 0, Z))), r"got \[3, 0, 4\]"),
        (call("reconstruct", images(2)[:, :-1], KEY), r"\(12, 10, 1\), got \[2, 11, 10, 1\]"),
        (call("reconstruct", 2 * images(2), KEY), r"in \[0, 1\]"),
        (call("reconstruct", images(2) * np.nan, KEY), r"in \[0, 1\]"),
        (call("interpolate", np.zeros((T, Z)), np.zeros((T + 1, Z)), 3), "one shape"),
        (call("interpolate", np.zeros((T, Z)), np.zeros((T, Z)), 1), "count"),
        (call("fix_step", KEY, 0, 3), r"step in 1\.\.3, got 0"),
        (call("fix_step", KEY, 4, 3), r"step in 1\.\.3, got 4"),
        (
            lambda model, _: sampling.draw_images(model, KEY, np.zeros((T, 2, *SHAPE))),
            r"canvases\[-1\]",
        ),
        (lambda *_: latents.nearest(images(2), images(2)[:, 1:]), "training_images"),
        (lambda *_: latents.nearest(images(2), images(2)[:0]), "at least one"),
        (lambda *_: latents.nearest(images(2) * np.nan, images(2)), "finite"),
        (lambda *_: latents.nearest(images(2), np.ones((3, *SHAPE), np.uint8)), "0/1"),
        (lambda *_: latents.nearest(images(2), images(2), 0), "batch_size of at least 1"),
    ],
)
def test_bad_arguments_are_named(model, variables, run, message):
    with pytest.raises(ValueError, match=message):
        run(model, variables)


def test_a_batch_is_made_a_multiple_of_the_devices_and_spread_over_them(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    seen = []
    joined = sampling.in_batches(lambda part: seen.append(part) or part[None], 6, 3)
    assert [list(part) for part in seen] == [[0, 1, 2, 3], [4, 5, 5, 5]]
    np.testing.assert_array_equal(joined, np.arange(6)[None])


def test_spherical_interpolation_is_its_formula_for_ends_of_any_norm():
    z = random_latents(2)
    path = latents.between(z[:, 0], z[:, 1], 5)
    for t in range(T):
        a, b = z[t].astype(np.float64)
        theta = math.acos(a @ b / math.sqrt((a @ a) * (b @ b)))
        for k in range(5):
            w = k / 4
            expected = (math.sin((1 - w) * theta) * a + math.sin(w * theta) * b) / math.sin(theta)
            np.testing.assert_allclose(path[t, k], expected, rtol=1e-5, atol=1e-6)
