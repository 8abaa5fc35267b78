"""Shared by sets that are generated when read: draws without a state, and parts put on canvases.

A draw is a pure function of (seed, split, index, k), so that an image is the same in any batch.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

ENDLESS = 2**62  # images of a stream
_SPLITS = ("train", "validation", "test")


def draws(seed: int, split: str, indices: np.ndarray, count: int) -> np.ndarray:
    """Returns 64 random bits for each (seed, split, index, k < count), uint64 [count, B].

    A hash of the four: the finaliser of SplitMix64 (Steele, Lea and Flood 2014). NumPy would
    need a new generator for every image, which takes longer than the image.

    Args:
        seed: 0..2^32 - 1.
        split: train, validation or test.
        indices: integers [B] >= 0.
        count: draws of an image.
    """
    key = _mix(np.array([seed * len(_SPLITS) + _SPLITS.index(split)], np.uint64))
    streams = _mix(key + np.asarray(indices).astype(np.uint64))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(streams[None] + steps[:, None])


def below(drawn: np.ndarray, limit: int) -> np.ndarray:
    """Returns whole numbers of [0, limit), int64, from 32 bits of each draw.

    Args:
        drawn: uint64 of any shape, from `draws`.
        limit: 1..2^31.
    """
    return ((drawn >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32)).astype(np.int64)


def add(canvas: np.ndarray, parts: np.ndarray, top: np.ndarray, left: np.ndarray) -> None:
    """Adds a part to each canvas, in place; sums above white are white.

    Args:
        canvas: uint8 [B, H, W].
        parts: uint8 [B, h, w].
        top: first row of each part, from 0, [B]; no part reaches past its canvas.
        left: first column, [B].
    """
    at = np.arange(len(canvas)), top, left
    places = windows(canvas, *parts.shape[1:])
    before = places[at]
    places[at] = before + np.minimum(parts, 255 - before)  # uint8, which would wrap around


def windows(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns every window of each image, a view [B, tops, lefts, height, width].

    Args:
        images: [B, H, W].
        height: of a window, at most H.
        width: of a window, at most W.
    """
    return sliding_window_view(images, (height, width), axis=(1, 2), writeable=True)


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
