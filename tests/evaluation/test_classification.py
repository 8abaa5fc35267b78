import math

import jax
import numpy as np
import pytest

from draw_jax.data.interface import ArraySplit
from draw_jax.evaluation import classification, passes
from draw_jax.model.task import Task


def binomial_tail(low, high, images, rate):
    """Returns the probability of low..high errors among images, term by term."""
    return math.fsum(
        math.comb(images, k) * rate**k * (1 - rate) ** (images - k) for k in range(low, high + 1)
    )


@pytest.mark.parametrize(
    ("errors", "images", "confidence"), [(3, 20, 0.95), (1, 7, 0.9), (19, 20, 0.99), (50, 200, 0.5)]
)
def test_each_end_leaves_half_of_the_rest(errors, images, confidence):
    low, high = classification.interval(errors, images, confidence)
    assert low < errors / images < high
    # At the low end so many errors or more, at the high end so many or fewer, are that improbable.
    tail = (1 - confidence) / 2
    assert binomial_tail(errors, images, images, low) == pytest.approx(tail, rel=1e-9)
    assert binomial_tail(0, errors, images, high) == pytest.approx(tail, rel=1e-9)


def test_no_error_and_nothing_but_errors():
    low, high = classification.interval(0, 30)
    assert low == 0 and (1 - high) ** 30 == pytest.approx(0.025)
    assert classification.interval(30, 30) == pytest.approx((1 - high, 1))


@pytest.mark.parametrize("bad", [(-1, 5), (6, 5), (0, 0), (1, 5, 0.0), (1, 5, 1.0)])
def test_what_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        classification.interval(*bad)


@pytest.mark.parametrize("most", [3, 4])
def test_the_confusion_is_the_share_of_images_of_each_class_taken_for_each(most, monkeypatch):
    """Of more classes than a hundred it is left out: it grows with their square."""
    monkeypatch.setattr(passes, "_MOST_CLASSES", most)
    answers = np.array([[0, 0], [1, 3], [1, 3], [3, 0], [2, 2], [1, 1], [0, 0]])

    def evaluation_terms(variables, x, labels, keys):
        given = variables["answers"][x[:, 0, 0, 0].astype(int)]
        return {"error": (given[:, 0] != given[:, 1]).astype(float)}, {"answers": given}

    task = Task(
        *(None, None, evaluation_terms, None, (), "error", "error", True, ("error",), 1),
        classes=4,
    )
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)
    found = passes.evaluate(
        task,
        {"answers": answers},
        ArraySplit(images, answers[:, 0], True),
        lambda image, key: image,
        jax.random.key(0),
        batch_size=3,
    )
    assert "answers" not in found and found["error"] == pytest.approx(3 / 7)
    expected = [[2, 0, 0, 0], [0, 1, 0, 2], [0, 0, 1, 0], [1, 0, 0, 0]]
    if most < 4:
        assert "confusion" not in found
    else:
        np.testing.assert_allclose(found["confusion"], np.array(expected) / 7, rtol=1e-15)
