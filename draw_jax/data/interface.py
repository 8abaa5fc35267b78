"""What a data set gives to its users: a split that cuts batches, or the reason why there is none."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from draw_jax.system.errors import UserError

# The last advice of an error about missing data.
NO_FILES = "python train.py --config=configs/digits.py, a model of small digits that need no files"


class DataNotFound(UserError):
    """A data set that is not on this machine, cannot be fetched, or cannot be read."""


class Batch(NamedTuple):
    """Some images of a split, with their labels."""

    images: np.ndarray  # uint8 [B, H, W, C]
    labels: np.ndarray | None  # int32 [B]; None where the set has no labels


class Split(Protocol):
    """One split of a data set, in memory or made as it is read."""

    @property
    def labels(self) -> np.ndarray | None:
        """All labels that can come up, int32 [N]; None where the set has none."""

    @property
    def binary(self) -> bool:
        """Whether the set itself is a fixed binarisation: values 0 and 255 only."""

    @property
    def endless(self) -> bool:
        """Whether it is a stream, of which training reads every image once."""

    @property
    def varied(self) -> bool:
        """Whether an image differs at each visit, such as a crop at a random place.

        Training then asks for index + len * epoch, and `batch` takes any index from 0 on.
        """

    def __len__(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of every image."""

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the images at some indices, in their order, with their labels.

        Args:
            indices: integers [B] in [0, N); of a varied split any from 0 on.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split in memory."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray | None  # int32 [N]
    binary: bool
    classes: int | None = None  # how many folders name the labels; None: no folders do
    endless = False
    varied = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of every image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def batch(self, indices: np.ndarray) -> Batch:
        """Return copies of the images at some indices [B], in their order, with their labels."""
        return Batch(self.images[indices], None if self.labels is None else self.labels[indices])


@dataclasses.dataclass(frozen=True, eq=False)
class LazyImages:
    """All images of a split as one array [N, H, W, C], of which only what is indexed is read."""

    split: Split  # with an end
    # Turns images uint8 [B, H, W, C] at indices [B] into a model's; None: they stay as stored.
    seen: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.split)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, C]."""
        return len(self), *self.split.image_shape

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Return the images of a slice, or at integers [B] in [0, N): [B, H, W, C]."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        images = self.split.batch(index).images
        return images if self.seen is None else self.seen(images, index)
