"""Scikit-learn's 1,797 scans of digits, which need no download, in seeded splits."""

import numpy as np

from draw_jax.data.interface import ArraySplit

_SPLITS = {"train": (0, 1437), "validation": (1437, 1617), "test": (1617, 1797)}


def read(split: str, box: int = 28) -> ArraySplit:
    """Return one split of them, 28x28 pixels with labels.

    Args:
        split: train, validation or test.
        box: height and width of a scan in the middle of its image, pixels; the rest is black.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    start, stop = _SPLITS[split]
    chosen = np.random.default_rng(0).permutation(len(digits.images))[start:stop]
    scans = (digits.images[chosen] * (255 / 16)).astype(np.float32)  # [N, 8, 8], 0..255
    large = [Image.fromarray(s).resize((box, box), Image.Resampling.BICUBIC) for s in scans]
    images = np.stack([np.asarray(image) for image in large])[..., None]
    images = images.clip(0, 255).round().astype(np.uint8)
    margin = ((28 - box) // 2, 28 - box - (28 - box) // 2)
    images = np.pad(images, ((0, 0), margin, margin, (0, 0)))
    return ArraySplit(images, digits.target[chosen].astype(np.int32), binary=False)
