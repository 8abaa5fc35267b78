"""What a classifier's errors on a split say of its error rate."""

from scipy import special


def interval(errors: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the exact binomial confidence interval of an error rate, two fractions.

    Args:
        errors: images classified wrongly, 0..images.
        images: at least 1, drawn independently.
        confidence: that the interval holds the rate, in (0, 1); a half of the rest on either side.

    Raises:
        ValueError: if an argument is out of range.

    The interval of Clopper and Pearson (1934), by quantiles of the beta distribution.
    """
    if images < 1 or not 0 <= errors <= images:
        raise ValueError(f"expected 0 <= errors <= images and images >= 1, got {errors}, {images}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence in (0, 1), got {confidence}")
    tail, right = (1 - confidence) / 2, images - errors
    low = special.betaincinv(errors, right + 1, tail) if errors else 0.0
    high = special.betaincinv(errors + 1, right, 1 - tail) if right else 1.0
    return float(low), float(high)
