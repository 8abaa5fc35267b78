import math

import pytest

from draw_jax.evaluation import classification


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
