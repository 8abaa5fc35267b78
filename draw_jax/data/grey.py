"""Colour images turned grey."""

import dataclasses

import numpy as np

from draw_jax.data.interface import ArraySplit, Batch, Split

_WEIGHTS = np.array([299, 587, 114], np.uint32)  # thousandths of red, green and blue
_BLOCK = 4096  # images at a time, as the sums take four times the memory of the images


def luma(images: np.ndarray) -> np.ndarray:
    """Return 0.299 R + 0.587 G + 0.114 B, rounded, halves up: the luma of ITU-R BT.601.

    Args:
        images: uint8 [N, H, W, 3].

    Returns:
        uint8 [N, H, W, 1].

    Raises:
        ValueError: for images of another type or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"expected images uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}"
        )
    result = np.empty((*images.shape[:3], 1), np.uint8)
    for start in range(0, len(images), _BLOCK):
        thousandths = images[start : start + _BLOCK].astype(np.uint32) @ _WEIGHTS
        result[start : start + _BLOCK, ..., 0] = (thousandths + 500) // 1000
    return result


@dataclasses.dataclass(frozen=True, eq=False)
class Turned:
    """A split of colour images that are not in memory, turned grey as they are read."""

    split: Split

    binary = False

    @property
    def labels(self) -> np.ndarray | None:
        """The split's labels."""
        return self.split.labels

    @property
    def endless(self) -> bool:
        """Whether the split is endless."""
        return self.split.endless

    @property
    def varied(self) -> bool:
        """Whether the split is varied."""
        return self.split.varied

    def __len__(self) -> int:
        return len(self.split)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, 1) of every image."""
        return *self.split.image_shape[:2], 1

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the images at some indices, uint8 [B, H, W, 1], with their labels."""
        images, labels = self.split.batch(indices)
        return Batch(luma(images), labels)


def turned(split: Split, name: str) -> Split:
    """Return a split of colour images as one of grey images, with its labels.

    Args:
        split: in memory, then turned at once, or made as it is read.
        name: of the data set, for the error.

    Raises:
        ValueError: if its images are grey, or of another number of channels.
    """
    channels = split.image_shape[2]
    if channels == 1:
        raise ValueError(f"data set {name!r} is grey already: set config.data.grey to False")
    if channels != 3:
        raise ValueError(
            f"config.data.grey: expected images in colour, data set {name!r} has {channels} channels: "
            "set config.data.grey to False and config.data.resize to True"
        )
    if not isinstance(split, ArraySplit):
        return Turned(split)
    images = luma(split.images)
    binary = bool(((images == 0) | (images == 255)).all())
    return dataclasses.replace(split, images=images, binary=binary)
