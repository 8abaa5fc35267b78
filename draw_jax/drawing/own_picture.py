"""A picture of one's own as a model's input: grey or colour, cropped, resized, binarised."""

import os

import numpy as np
from PIL import Image

from draw_jax.data import image_folder
from draw_jax.drawing.filters import NoPicture

# MNIST's own preparation: a digit fills a box of 20 pixels in a frame of 28, its centre of mass in
# the middle.
_BOX_SHARE = 20 / 28
_DECODE = 1024  # pixels of the longer side that a large JPEG keeps at least
_INK = 0.25  # of the range from paper to ink: darker than that belongs to the digit


def load(
    path: str | os.PathLike[str], image_shape: tuple[int, int, int], digit: bool, binary: bool
) -> np.ndarray:
    """Returns a picture as a model takes it, [1, H, W, C] in [0, 1].

    Args:
        path: a PNG, JPEG or WebP file.
        image_shape: (H, W, C) of the model, C 1 or 3.
        digit: prepare it as MNIST was: ink made white on black, cropped to the ink, centred by its
            mass. Otherwise the largest part of the model's aspect ratio is taken as it is.
        binary: every pixel to 0 or 1, at one half.

    Raises:
        NoPicture: if the file is missing, no picture, or holds no ink where a digit is wanted.
        ValueError: if the model's images are neither grey nor colour.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise ValueError(f"--image: expected a model of 1 or 3 channels, got {channels}")
    try:
        picture = image_folder.open_picture(path, channels, need=_DECODE)
    except Exception as error:  # noqa: BLE001 - whatever Pillow raises for what is no picture
        cause = getattr(error, "strerror", None) or "no PNG, JPEG or WebP picture, or broken"
        raise NoPicture(f"--image: cannot read {os.fspath(path)}: {cause}") from None
    if digit and channels == 1:
        values = _as_mnist(np.asarray(picture, np.float32) / 255, height, width, path)
    else:
        across = min(picture.width, picture.height * width / height)
        down = min(picture.height, picture.width * height / width)
        left, top = (picture.width - across) / 2, (picture.height - down) / 2
        box = (left, top, left + across, top + down)
        small = picture.resize((width, height), Image.Resampling.LANCZOS, box)
        values = np.asarray(small, np.float32) / 255
    values = np.clip(values.reshape(1, height, width, channels), 0, 1)
    return (values >= 0.5).astype(np.float32) if binary else values


def _as_mnist(
    grey: np.ndarray, height: int, width: int, path: str | os.PathLike[str]
) -> np.ndarray:
    """Returns [height, width] with the ink white, in a box of 20/28 of the frame, mass centred."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    ink = np.abs(grey - paper)
    if ink.max() < 0.1:
        raise NoPicture(f"--image: {os.fspath(path)} holds no ink: all of it is of one brightness")
    ink /= ink.max()
    ink[ink < _INK] = 0
    rows, columns = np.flatnonzero(ink.max(1)), np.flatnonzero(ink.max(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _BOX_SHARE * min(height / ink.shape[0], width / ink.shape[1])
    size = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
    small = Image.fromarray(ink).resize(size, Image.Resampling.BOX if scale < 1 else 2)
    digit = np.asarray(small) / max(float(np.asarray(small).max()), 1e-6)
    y, x = (np.average(np.arange(n), weights=digit.sum(1 - k)) for k, n in enumerate(digit.shape))
    top = int(np.clip(round(height / 2 - 0.5 - y), 0, height - digit.shape[0]))
    left = int(np.clip(round(width / 2 - 0.5 - x), 0, width - digit.shape[1]))
    frame = np.zeros((height, width), np.float32)
    frame[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return frame
