"""Your own picture as a model's input: grey or colour, cropped, resized, binarised."""

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from draw_jax.drawing.filters import NoPicture, opened

# The longer side of the box that a digit fills, as a share of the frame. MNIST has 20 pixels of 28,
# the digit's centre of mass in the middle; scikit-learn's digits fill their frame; OMNIGLOT's
# characters have 18 of 28 on average.
_BOXES = {"mnist": 20 / 28, "binarized_mnist": 20 / 28, "digits": 1.0, "omniglot28": 18 / 28}
_DIGIT = 20  # pixels of that longer side, where larger images hold digits at their size

_DECODE = 1024  # pixels of the longer side that a large JPEG keeps at least
_WORK = 10  # times the frame: finer than that, a photograph holds noise
_CONTRAST = 0.1  # between paper and ink, at least, of the range from black to white
_INK = 0.25  # of the range from paper to ink: what differs less from the paper belongs to it


def box(data: Any) -> float | None:
    """Returns the share of the frame that a digit fills in a data set; None: no set of digits.

    Args:
        data: `config.data`.
    """
    if data.name in ("cluttered_mnist", "two_digits"):
        return _DIGIT / data.size
    return _BOXES.get(data.name)


def load(
    path: str | os.PathLike[str],
    image_shape: tuple[int, int, int],
    box: float | None,
    binary: bool,
) -> np.ndarray:
    """Returns a picture as a model takes it, [1, H, W, C] in [0, 1].

    Args:
        path: a PNG, JPEG or WebP file.
        image_shape: (H, W, C) of the model, C 1 or 3.
        box: for a grey model of digits, the share of the frame that a digit fills: its ink is made
            white on black, cropped, and put with its centre of mass into the middle. None: the
            largest part of the model's aspect ratio is taken as it is, from the middle.
        binary: every pixel to 0 or 1, at one half.

    Raises:
        NoPicture: if the file is missing, no picture, or holds no ink where a digit is wanted.
        ValueError: if the model's images are neither grey nor colour.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise ValueError(f"--image: expected a model of 1 or 3 channels, got {channels}")
    picture = opened(path, channels, _DECODE, "--image: ")
    if box is not None and channels == 1:
        ink = _ink(picture, height, width)
        if ink is None:  # black on transparent, for one, which was read as black on black
            ink = _ink(_on_white(path), height, width)
        if ink is None:
            raise NoPicture(
                f"--image: {os.fspath(path)} holds no ink: all of it is of one brightness"
            )
        values = _framed(ink, height, width, box)
    else:
        values = _middle(picture, height, width)
    values = np.clip(values.reshape(1, height, width, channels), 0, 1)
    return (values >= 0.5).astype(np.float32) if binary else values


def _on_white(path: str | os.PathLike[str]) -> Image.Image:
    """Returns a picture in grey with its transparent parts white."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        layers = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(white, layers).convert("L")


def _middle(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """Returns the largest part of the frame's aspect ratio, as large as the frame, in [0, 1]."""
    across = min(picture.width, picture.height * width / height)
    down = min(picture.height, picture.width * height / width)
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    box = (left, top, left + across, top + down)
    small = picture.resize((width, height), Image.Resampling.LANCZOS, box)
    return np.asarray(small, np.float32) / 255


def _ink(picture: Image.Image, height: int, width: int) -> np.ndarray | None:
    """Returns how much each pixel of a grey picture differs from the paper, cropped to the ink.

    Returns:
        [h, w] in [0, 1], 0 for paper; None if nothing differs.
    """
    picture.thumbnail((_WORK * width, _WORK * height), Image.Resampling.BOX)
    grey = np.asarray(picture, np.float32) / 255
    paper = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    ink = np.abs(grey - paper)
    if ink.max() < _CONTRAST:
        return None
    ink /= ink.max()
    ink[ink < _INK] = 0
    rows, columns = np.flatnonzero(ink.max(1)), np.flatnonzero(ink.max(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _framed(ink: np.ndarray, height: int, width: int, share: float) -> np.ndarray:
    """Returns [height, width]: the ink in a box of this share, its centre of mass in the middle."""
    scale = share * min(height / ink.shape[0], width / ink.shape[1])
    size = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    digit = np.asarray(Image.fromarray(ink).resize(size, how))
    digit = digit / digit.max()  # otherwise thin strokes would fade into the paper
    y, x = (np.average(np.arange(n), weights=digit.sum(1 - k)) for k, n in enumerate(digit.shape))
    top = int(np.clip(round(height / 2 - 0.5 - y), 0, height - digit.shape[0]))
    left = int(np.clip(round(width / 2 - 0.5 - x), 0, width - digit.shape[1]))
    frame = np.zeros((height, width), np.float32)
    frame[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return frame
