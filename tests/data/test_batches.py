import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit


@pytest.mark.parametrize("binarization", ["fixed", "none"])
def test_prepare_divides_by_255(binarization):
    images = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1)
    prepare = jax.jit(splits.prepare, static_argnums=1)
    for result in (splits.prepare(images, binarization), prepare(images, binarization)):
        assert result.shape == images.shape and result.dtype == jnp.float32
        np.testing.assert_allclose(result, images / 255, rtol=1e-6)
        assert result.min() == 0 and result.max() == 1


def test_dynamic_binarization_has_the_right_mean_and_repeats_by_key():
    images = np.tile(np.array([0, 51, 128, 204, 255], np.uint8), (4000, 1)).reshape(-1, 5, 1, 1)
    prepare = jax.jit(splits.prepare, static_argnums=1)
    bits = np.asarray(prepare(images, "dynamic", jax.random.key(0)))
    assert bits.shape == images.shape and bits.dtype == np.float32
    assert set(np.unique(bits)) == {0, 1}
    mean = bits.mean((0, 2, 3))
    assert mean[0] == 0 and mean[4] == 1
    # Four standard errors of the mean of 4,000 draws.
    np.testing.assert_allclose(mean, np.array([0, 51, 128, 204, 255]) / 255, atol=4 * 0.5 / 63)
    np.testing.assert_array_equal(bits, prepare(images, "dynamic", jax.random.key(0)))
    assert (bits != np.asarray(prepare(images, "dynamic", jax.random.key(1)))).any()


def test_a_preparation_is_prepare_and_one_function_for_each_binarization():
    images, key = np.full((2, 3, 4, 1), 99, np.uint8), jax.random.key(1)
    for binarization in splits.BINARIZATIONS:
        prepare = splits.preparation(binarization)
        assert prepare is splits.preparation(binarization)
        expected = splits.prepare(images, binarization, key)
        np.testing.assert_array_equal(prepare(images, key), expected)


def test_prepare_refuses_what_it_cannot_use():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="key"):
        splits.prepare(images, "dynamic")
    with pytest.raises(ValueError, match="fixed, dynamic, none"):
        splits.prepare(images, "bernoulli")
    with pytest.raises(ValueError, match="uint8"):
        splits.prepare(images / 255, "none")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    size=st.integers(1, 60),
    batch_size=st.integers(1, 150),
    epochs=st.integers(1, 4),
)
def test_every_image_comes_once_an_epoch(seed, size, batch_size, epochs):
    steps = -(-epochs * size // batch_size)  # the last batch may straddle the end
    batches = [splits.batch_indices(seed, step, size, batch_size) for step in range(steps)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    stream = np.concatenate(batches)[: epochs * size].reshape(epochs, size)
    np.testing.assert_array_equal(np.sort(stream), np.tile(np.arange(size), (epochs, 1)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), step=st.integers(0, 10**7), batch_size=st.integers(1, 100))
def test_a_batch_depends_on_seed_and_step_only(seed, step, batch_size):
    first = splits.batch_indices(seed, step, 37, batch_size)
    for other in (0, step + 1, 10**6):
        splits.batch_indices(seed + 1, other, 37, batch_size)
    first_again = splits.batch_indices(seed, np.int32(step), 37, batch_size)
    np.testing.assert_array_equal(first, first_again)
    first[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(splits.batch_indices(seed, step, 37, batch_size), first_again)


def test_epochs_and_seeds_differ():
    epochs = [splits.batch_indices(seed, step, 500, 500) for seed in (0, 1) for step in (0, 1)]
    assert len({epoch.tobytes() for epoch in epochs}) == 4


@pytest.mark.parametrize("arguments", [(-1, 0, 5, 2), (0, -1, 5, 2), (0, 0, 0, 2), (0, 0, 5, 0)])
def test_batch_indices_refuses_numbers_out_of_range(arguments):
    with pytest.raises(ValueError, match="expected seed >= 0"):
        splits.batch_indices(*arguments)


def test_an_epoch_is_shuffled_once(monkeypatch):
    make, calls = np.random.default_rng, []

    def count(seed):
        calls.append(seed)
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", count)
    for step in range(1200):  # 100 of 50,000: two and a half epochs
        splits.batch_indices(77, step, 50_000, 100)
    assert calls == [(77, 0), (77, 1), (77, 2)]


@pytest.mark.parametrize("labelled", [False, True])
def test_a_split_cuts_batches(labelled):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)
    labels = np.arange(9, dtype=np.int32) if labelled else None
    split = ArraySplit(images, labels, binary=False)
    assert len(split) == 9 and split.image_shape == (4, 5, 3)
    indices = np.array([3, 0, 3, 8])
    batch = split.batch(indices)
    assert isinstance(batch, splits.Batch) and batch.images.dtype == np.uint8
    np.testing.assert_array_equal(batch.images, np.stack([images[i] for i in (3, 0, 3, 8)]))
    if labelled:
        assert batch.labels.tolist() == [3, 0, 3, 8] and batch.labels.dtype == np.int32
    else:
        assert batch.labels is None
    before = images.copy()
    batch.images[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(images, before)
