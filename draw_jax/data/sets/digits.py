"""Scikit-learn's 1,797 scans of digits, which need no download, in seeded splits."""

import gzip
from importlib.util import find_spec
from pathlib import Path

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

    pixels, labels = scans()
    start, stop = _SPLITS[split]
    chosen = np.random.default_rng(0).permutation(len(pixels))[start:stop]
    small = (pixels[chosen] * (255 / 16)).astype(np.float32)  # [N, 8, 8], 0..255
    large = [Image.fromarray(s).resize((box, box), Image.Resampling.BICUBIC) for s in small]
    images = np.stack([np.asarray(image) for image in large])[..., None]
    images = images.clip(0, 255).round().astype(np.uint8)
    margin = ((28 - box) // 2, 28 - box - (28 - box) // 2)
    images = np.pad(images, ((0, 0), margin, margin, (0, 0)))
    return ArraySplit(images, labels[chosen], binary=False)


def scans() -> tuple[np.ndarray, np.ndarray]:
    """Return all pixels [1797, 8, 8] float64, 0..16, and labels [1797] int32.

    As `sklearn.datasets.load_digits`, from the same file: importing scikit-learn takes most of a second.
    """
    spec = find_spec("sklearn")
    assert spec is not None and spec.submodule_search_locations  # a dependency
    file = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not file.exists():
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.images, digits.target.astype(np.int32)
    with gzip.open(file, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int32)
