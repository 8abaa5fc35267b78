"""Cluttered translated MNIST: a digit at a uniform place of a black canvas, among crops of others.

Made as it is read: an image is a pure function of (seed, split, index), whatever batch it is in.
The task is that of Mnih et al. 2014, arXiv 1406.6247, and of section 4.1 of Gregor et al. 2015.
"""

import dataclasses

import numpy as np

from draw_jax.data.interface import Batch, Split

_SPLITS = ("train", "validation", "test")
_ENDLESS = 2**62  # images of a stream


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
        return _ENDLESS if self.endless else len(self.digits)

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
        digits, labels = self._arrays()
        count, height, width = digits.shape
        draws = _draws(self.seed, self.split, indices, 3 + 5 * self.clutter)
        chosen = _below(draws[0], count) if self.endless else np.asarray(indices)
        canvas = np.zeros((len(chosen), self.size, self.size), np.uint16)
        crop = self.crop_size
        for k in range(self.clutter):
            source, top, left, y, x = draws[3 + 5 * k : 8 + 5 * k]
            corner = (_below(top, height - crop + 1), _below(left, width - crop + 1))
            place = (_below(y, self.size - crop + 1), _below(x, self.size - crop + 1))
            _add(canvas, place, digits, _below(source, count), corner, (crop, crop))
        place = (_below(draws[1], self.size - height + 1), _below(draws[2], self.size - width + 1))
        _add(canvas, place, digits, chosen, (0, 0), (height, width))
        images = np.minimum(canvas, 255).astype(np.uint8)[..., None]
        return Batch(images, labels[chosen])

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the digits, uint8 [N, h, w], and their labels, int32 [N]."""
        if "arrays" not in self.__dict__:
            images, labels = self.digits.batch(np.arange(len(self.digits)))
            assert labels is not None  # as __post_init__ saw
            self.__dict__["arrays"] = np.ascontiguousarray(images[..., 0]), labels
        return self.__dict__["arrays"]


def _add(
    canvas: np.ndarray,
    place: tuple[np.ndarray, np.ndarray],
    digits: np.ndarray,
    chosen: np.ndarray,
    corner: tuple[np.ndarray | int, np.ndarray | int],
    shape: tuple[int, int],
) -> None:
    """Adds a part of one digit to each canvas [B, H, W]: flat indices, the fastest in NumPy."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])

    def flat(array: np.ndarray, n: np.ndarray, y: np.ndarray | int, x: np.ndarray | int):
        height, width = array.shape[1:]
        first = (n * height + y) * width + x
        return first[:, None] + (rows * width + columns).reshape(-1)

    onto = flat(canvas, np.arange(len(canvas)), *place)
    pixels = digits.reshape(-1)[flat(digits, chosen, *corner)]
    canvas.reshape(-1)[onto] += pixels  # each canvas pixel once


def _below(draws: np.ndarray, limit: int) -> np.ndarray:
    """Returns whole numbers of [0, limit), int64 [B], from 32 random bits each, limit <= 2^31."""
    return ((draws >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32)).astype(np.int64)


def _draws(seed: int, split: str, indices: np.ndarray, count: int) -> np.ndarray:
    """Returns 64 random bits for each (seed, split, index, k < count), uint64 [count, B].

    A hash of the four: the finaliser of SplitMix64 (Steele, Lea and Flood 2014). NumPy's generators
    would have to be made anew for every image, which takes longer than the image.
    """
    key = _mix(np.array([seed * len(_SPLITS) + _SPLITS.index(split)], np.uint64))
    streams = _mix(key + np.asarray(indices).astype(np.uint64))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(streams[None] + steps[:, None])


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
