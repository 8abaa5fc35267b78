"""Cluttered translated MNIST: a digit at a uniform place of a black canvas, among crops of others.

Generated when read: an image is a pure function of (seed, split, index), whatever its batch.
The task is that of Mnih et al. 2014, arXiv 1406.6247, and of section 4.1 of Gregor et al. 2015.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from draw_jax.data.interface import Batch, Split
from draw_jax.data.sets.composing import ENDLESS, add, below, draws, windows

_MOST_CLUTTER = 1000  # crops in an image; far fewer fill any canvas


class Places(NamedTuple):
    """What B images are made of: top and left are first rows and columns, from 0."""

    digit: np.ndarray  # the one to name, int64 [B]
    top: np.ndarray  # where it lies on the canvas [B]
    left: np.ndarray
    source: np.ndarray  # the digits that are cropped [clutter, B]
    source_top: np.ndarray  # where the crop lies in its digit [clutter, B]
    source_left: np.ndarray
    crop_top: np.ndarray  # where it lies on the canvas [clutter, B]
    crop_left: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Cluttered:
    """One split. Validation and test have each of their digits once; training never ends.

    Image `index`: `clutter` crops of random digits of the split, each at a random place of its
    digit and added at a random place of the canvas; then the digit to name, added at a uniform
    place; values above white are white. All places are such that nothing is cut off.
    """

    digits: Split  # of the same split, all of them, [N, h, w, 1]
    seed: int  # 0..2^32 - 1
    split: str  # train, validation or test
    size: int  # height and width of the images, pixels
    clutter: int  # crops in an image
    crop_size: int  # height and width of a crop, pixels

    binary = False
    varied = False

    def __post_init__(self) -> None:
        """Checks the fields, as `config.data` gives them."""
        height, width, channels = self.digits.image_shape
        largest = max(height, width)
        for name, least in (("clutter", 0), ("crop_size", 1), ("size", largest)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                reason = f", the digits' longer side: {largest} pixels" if name == "size" else ""
                raise ValueError(
                    f"config.data.{name}: expected a whole number >= {least}{reason}, got {value!r}"
                )
        if self.clutter > _MOST_CLUTTER:
            raise ValueError(
                f"config.data.clutter: expected at most {_MOST_CLUTTER} crops, got {self.clutter}"
            )
        if self.crop_size > min(height, width):
            raise ValueError(
                f"config.data.crop_size: expected at most {min(height, width)}, the digits' shorter "
                f"side, got {self.crop_size}"
            )
        if channels != 1 or self.digits.labels is None:
            raise ValueError("expected grey digits with labels to make clutter of")

    @property
    def endless(self) -> bool:
        """Whether every index is a new image: of training only."""
        return self.split == "train"

    def __len__(self) -> int:
        return ENDLESS if self.endless else len(self.digits)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of every image."""
        return self.size, self.size, 1

    @property
    def labels(self) -> np.ndarray | None:
        """The labels of the digits, int32 [N], in their own order."""
        return self.digits.labels

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the images at some indices, uint8 [B, size, size, 1], with their labels.

        Args:
            indices: integers [B] in [0, len).
        """
        digits, labels = self._arrays
        places = self.places(indices)
        return Batch(paint(digits, places, self.size, self.crop_size), labels[places.digit])

    def places(self, indices: np.ndarray) -> Places:
        """Return what the images at some indices [B] are made of."""
        height, width, _ = self.digits.image_shape
        drawn = draws(self.seed, self.split, indices, 3 + 5 * self.clutter)
        digit, top, left = drawn[:3]
        source, source_top, source_left, crop_top, crop_left = (drawn[3 + j :: 5] for j in range(5))
        count, crop = len(self.digits), self.crop_size
        return Places(
            below(digit, count) if self.endless else np.asarray(indices, np.int64),
            below(top, self.size - height + 1),
            below(left, self.size - width + 1),
            below(source, count),
            below(source_top, height - crop + 1),
            below(source_left, width - crop + 1),
            below(crop_top, self.size - crop + 1),
            below(crop_left, self.size - crop + 1),
        )

    @functools.cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The digits, uint8 [N, h, w], and their labels, int32 [N]."""
        images, labels = self.digits.batch(np.arange(len(self.digits)))
        assert labels is not None  # as __post_init__ saw
        return np.ascontiguousarray(images[..., 0]), labels


def paint(digits: np.ndarray, places: Places, size: int, crop_size: int) -> np.ndarray:
    """Returns images of digits among crops of digits, uint8 [B, size, size, 1].

    Args:
        digits: uint8 [N, h, w], of which each part is taken.
        places: of B images.
        size: height and width of the images, pixels.
        crop_size: height and width of a crop, pixels.
    """
    canvas = np.zeros((len(places.digit), size, size), np.uint8)
    crops = windows(digits, crop_size, crop_size)
    chosen = places.source, places.source_top, places.source_left
    for source, top, left, crop_top, crop_left in zip(
        *chosen, places.crop_top, places.crop_left, strict=True
    ):
        add(canvas, crops[source, top, left], crop_top, crop_left)
    add(canvas, digits[places.digit], places.top, places.left)
    return canvas[..., None]
