"""Raster pictures of finished arrays: the house look, grids, and attention rectangles.

Everything here takes NumPy arrays and gives pictures; no model, no file format of ours. Film
strips and animations are in `filmstrips`, curves in `plots`; all three share the look below.

Coordinates: the image pixel numbered a (1..A, eqs 19-24) has its centre at `(a - 0.5) * scale` in
a picture enlarged by `scale`, whose left edge is 0 and whose right edge is `A * scale`.
"""

import functools
import os
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from draw_jax.system import files

Colour = tuple[int, int, int]

# The one look of every picture. The paper's red (write) and green (read) cannot be told apart by
# the commonest forms of colour blindness, so ours are the vermillion and the bluish green of the
# Okabe-Ito palette, which differ in lightness and in blue as well.
WRITE: Colour = (213, 94, 0)
READ: Colour = (0, 158, 115)
ACCENT: Colour = (0, 114, 178)  # the palette's blue: frames and marks that are not windows
BACKGROUND: Colour = (236, 236, 236)  # padding; apart from both black and white panels
SHADE: Colour = (190, 190, 190)
INK: Colour = (48, 48, 48)
FONT_PIXELS = 12
PADDING = 2
PANEL_PIXELS = 112  # a panel is enlarged until its longer side has about this many pixels


def check_images(images: Any, ndim: int = 4, name: str = "images", low: float = 0.0) -> np.ndarray:
    """Returns `images` as float32 after checking their rank, channels and range.

    Args:
        images: [..., H, W, C] with C 1 or 3 and no empty axis, every value in [low, 1].
        ndim: the rank asked for, 3 to 5; the leading axes are named [T, N, H, W, C] in errors.
        name: what the error calls them.
        low: smallest value allowed, -1 for error images (eq. 3).

    Raises:
        ValueError: if the shape or a value is not as expected (a NaN is not).
    """
    axes = "[" + ", ".join(["T", "N", "H", "W", "C"][5 - ndim :]) + "]"
    expected = f"expected {name} {axes} in [{low:g}, 1] with C 1 or 3"
    array = np.asarray(images)
    if array.ndim != ndim or array.shape[-1] not in (1, 3) or array.size == 0:
        raise ValueError(f"{expected}, got shape {list(array.shape)}")
    smallest, largest = array.min(), array.max()
    if not (smallest >= low and largest <= 1):
        raise ValueError(f"{expected}, got values from {smallest} to {largest}")
    return array.astype(np.float32)


def check_scale(scale: int | None, height: int, width: int) -> int:
    """Returns the whole-number enlargement: `scale`, else one that makes a panel readable."""
    if scale is None:
        return max(1, round(PANEL_PIXELS / max(height, width)))
    if scale < 1 or scale != int(scale):
        raise ValueError(f"expected scale to be a whole number of at least 1, got {scale}")
    return int(scale)


def panels(images: np.ndarray, scale: int) -> np.ndarray:
    """Returns images enlarged by repeating pixels.

    Args:
        images: [N, H, W, C] in [0, 1], C 1 or 3.
        scale: whole number of at least 1.

    Returns:
        uint8 [N, H * scale, W * scale, 3], each value `round(255 * image)`.
    """
    rgb = np.rint(images * 255).astype(np.uint8)
    rgb = np.broadcast_to(rgb, (*rgb.shape[:-1], 3))
    return rgb.repeat(scale, axis=-3).repeat(scale, axis=-2)


@functools.cache
def font(size: int = FONT_PIXELS) -> ImageFont.FreeTypeFont:
    """Returns the font of every figure: the one that matplotlib ships and uses."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def write_text(picture: Image.Image, xy: tuple[float, float], text: str, anchor: str) -> None:
    """Writes `text` on the picture in the house font; `anchor` as in Pillow, "mm" = centred."""
    ImageDraw.Draw(picture).text(xy, text, fill=INK, font=font(), anchor=anchor)


def save(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Writes a picture as PNG and returns its path; see `files.write_whole`."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"expected a path ending in .png, got {path}")
    return files.write_whole(path, lambda file: picture.save(file, format="PNG"))
