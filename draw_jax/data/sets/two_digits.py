"""Two digits at uniform places of a black canvas, of section 4.2 of Gregor et al. 2015 (figure 8).

Generated when read: an image is a pure function of (seed, split, index), whatever its batch.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from draw_jax.data.interface import Batch, Split
from draw_jax.data.sets.composing import ENDLESS, add, below, draws


class Places(NamedTuple):
    """What B images are made of: the two digits of each, and their first rows and columns, from 0."""

    digit: np.ndarray  # int64 [2, B]
    top: np.ndarray  # [2, B]
    left: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TwoDigits:
    """One split: validation and test as long as their digits; training never ends.

    Image `index`: two random digits of the split, independently drawn, each at a uniform place where
    nothing of its frame is cut off; where they overlap they are added, and values above white are
    white. There are no labels, as an image has two.
    """

    digits: Split  # of the same split, all of them, [N, h, w, 1]
    seed: int  # 0..2^32 - 1
    split: str  # train, validation or test
    size: int  # height and width of the images, pixels

    binary = False
    labels = None
    varied = False

    def __post_init__(self) -> None:
        """Checks the fields, as `config.data` gives them."""
        height, width, channels = self.digits.image_shape
        largest = max(height, width)
        if type(self.size) is not int or self.size < largest:
            raise ValueError(
                f"config.data.size: expected a whole number >= {largest}, the digits' longer side, "
                f"got {self.size!r}"
            )
        if channels != 1:
            raise ValueError(f"expected grey digits, got images of {channels} channels")

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

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the images at some indices, uint8 [B, size, size, 1], without labels.

        Args:
            indices: integers [B] in [0, len).
        """
        places = self.places(indices)
        canvas = np.zeros((len(indices), self.size, self.size), np.uint8)
        for digit, top, left in zip(*places, strict=True):
            add(canvas, self._images[digit], top, left)
        return Batch(canvas[..., None], None)

    def places(self, indices: np.ndarray) -> Places:
        """Return what the images at some indices [B] are made of."""
        height, width, _ = self.digits.image_shape
        drawn = draws(self.seed, self.split, indices, 6)
        return Places(
            below(drawn[0::3], len(self.digits)),
            below(drawn[1::3], self.size - height + 1),
            below(drawn[2::3], self.size - width + 1),
        )

    @functools.cached_property
    def _images(self) -> np.ndarray:
        """The digits, uint8 [N, h, w]."""
        images = self.digits.batch(np.arange(len(self.digits))).images
        return np.ascontiguousarray(images[..., 0])
