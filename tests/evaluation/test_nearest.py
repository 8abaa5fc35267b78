"""Measure 7 of the follow-up study, against loops over images and pixels."""

import math
import weakref

import jax
import numpy as np
import pytest

from draw_jax.data.interface import ArraySplit
from draw_jax.drawing import latents, sampling
from draw_jax.evaluation import nearest

SHAPE = (4, 3, 1)


def rounded_by_loops(canvas, image):
    """Returns the NLL of an image given a canvas, both rounded, each p at least 1e-7 off 0 and 1."""
    nll = 0.0
    for c, x in zip(np.ravel(canvas), np.ravel(image), strict=True):
        p = round(1 / (1 + math.exp(-float(c))))
        p = min(max(p, 1e-7), 1 - 1e-7)
        x = round(float(x))
        nll -= x * math.log(p) + (1 - x) * math.log(1 - p)
    return nll


def by_loops(logits, training):
    """Returns the index and the NLL of the training image nearest to each mean, pixel by pixel."""
    found = []
    for canvas in logits:
        means = [1 / (1 + math.exp(-float(c))) for c in np.ravel(canvas)]
        distances = [
            sum((m - float(x)) ** 2 for m, x in zip(means, np.ravel(image), strict=True))
            for image in training
        ]
        index = min(range(len(training)), key=distances.__getitem__)
        nll = 0.0
        for m, x in zip(means, np.ravel(training[index]), strict=True):
            nll -= float(x) * math.log(m) + (1 - float(x)) * math.log(1 - m)
        found.append((index, nll))
    return found


@pytest.mark.parametrize("grey", [False, True])
def test_the_measure_is_that_of_the_loops(grey):
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((7, *SHAPE))).astype(np.float32)
    training = rng.random((30, *SHAPE)).astype(np.float32)
    training = training if grey else training.round()
    index, nll = nearest.of_canvases(logits, training)
    expected = by_loops(logits, training)
    assert index.shape == nll.shape == (7,) and len(set(index.tolist())) > 3
    np.testing.assert_array_equal(index, [i for i, _ in expected])
    np.testing.assert_allclose(nll, [value for _, value in expected], rtol=1e-5)


def test_a_certain_mean_costs_what_it_is_off_and_no_nan():
    training = np.zeros((1, *SHAPE), np.float32)
    logits = np.full((2, *SHAPE), -200.0, np.float32)
    logits[1, 0, 0] = 200.0
    _, nll = nearest.of_canvases(logits, training)
    np.testing.assert_allclose(nll, [0.0, 200.0], atol=1e-4)


def test_each_pixel_that_differs_costs_sixteen_nats():
    canvases = np.array([-3.0, 0.2, 5.0, -0.1]).reshape(1, 2, 2, 1)
    for images in (np.array([0.2, 0.6, 1.0, 0.9]), np.array([0, 200, 255, 129], np.uint8)):
        (nll,) = nearest.of_rounded(canvases, images.reshape(1, 2, 2, 1))
        assert nll == pytest.approx(-math.log(1e-7), rel=1e-6)


def split(count, seed=0):
    rng = np.random.default_rng(seed)
    return ArraySplit(rng.integers(0, 256, (count, 7, 5, 1), np.uint8), None, False)


def test_the_images_are_those_of_the_key_whatever_the_batch(tiny):
    model, variables = tiny()
    training, key = split(25), jax.random.key(3)
    result = nearest.measure(model, variables, key, training, 9)
    canvases = sampling.generate(model, variables, key, 9).canvases[-1]
    images = training.images / np.float64(255)
    found = by_loops(canvases, images)
    nll = [value for _, value in found]
    rounded = [rounded_by_loops(c, images[i]) for c, (i, _) in zip(canvases, found, strict=True)]
    assert result == {
        "nearest_nll": pytest.approx(np.mean(nll), rel=1e-5),
        "nearest_nll_std": pytest.approx(np.std(nll), rel=1e-4),
        "nearest_nll_max": pytest.approx(np.max(nll), rel=1e-5),
        "nearest_rounded_nll": pytest.approx(np.mean(rounded), rel=1e-5),
        "nearest_rounded_nll_std": pytest.approx(np.std(rounded), rel=1e-4),
        "nearest_rounded_nll_max": pytest.approx(np.max(rounded), rel=1e-5),
        "nearest_images": 9,
    }
    again = nearest.measure(model, variables, key, training, 9, batch_size=4)
    assert again == pytest.approx(result, rel=1e-5)
    assert nearest.measure(model, variables, jax.random.key(4), training, 9) != result


class InParts(ArraySplit):
    """A split of which more than a few images do not fit in memory."""

    def batch(self, indices):
        assert len(indices) <= 9
        return super().batch(indices)


def test_training_images_are_read_in_batches_to_the_last(tiny, monkeypatch):
    model, variables = tiny()
    monkeypatch.setattr(latents, "_ROOM", 12 * 35 * 4)
    means = sampling.mean_images(
        model, sampling.generate(model, variables, jax.random.key(3), 9).canvases[-1]
    )
    stored = np.concatenate([split(25).images, np.rint(255 * means).astype(np.uint8)])
    result = nearest.measure(model, variables, jax.random.key(3), InParts(stored, None, False), 9)
    monkeypatch.undo()
    whole = ArraySplit(stored, None, False)
    assert result == nearest.measure(model, variables, jax.random.key(3), whole, 9)
    without = nearest.measure(model, variables, jax.random.key(3), split(25), 9)
    assert result["nearest_nll_max"] < without["nearest_nll_max"]  # found those at the end


def test_the_caller_is_told_how_far(tiny):
    model, variables = tiny()
    told = []
    nearest.measure(
        *(model, variables, jax.random.key(0), split(5), 9), batch_size=4, on_batch=told.append
    )
    assert told == [4, 8, 9]


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_a_number_of_images_out_of_range_is_refused(tiny, count):
    model, variables = tiny()
    with pytest.raises(ValueError, match=f"expected 1 to 10,000 images, got {count}"):
        nearest.measure(model, variables, jax.random.key(0), split(5), count)


def test_an_endless_or_other_split_is_refused(tiny):
    model, variables = tiny()
    empty = ArraySplit(np.zeros((0, 7, 5, 1), np.uint8), None, False)
    with pytest.raises(ValueError, match="expected training images, got none"):
        nearest.measure(model, variables, jax.random.key(0), empty, 3)


def test_of_a_batch_only_the_last_canvases_are_kept(tiny, monkeypatch):
    model, variables = tiny()
    decode, traces = sampling.decode, []

    def watched(*arguments):
        assert sum(trace() is not None for trace in traces) <= 1  # the one before, at most
        trace = decode(*arguments)
        whole = np.array(trace.canvases)
        traces.append(weakref.ref(whole))
        return trace._replace(canvases=whole)

    monkeypatch.setattr(sampling, "decode", watched)
    pixels = np.full((3, *model.image_shape), 255, np.uint8)
    training = ArraySplit(pixels, None, True)
    nearest.measure(model, variables, jax.random.key(0), training, 9, batch_size=3)
    assert len(traces) == 3
