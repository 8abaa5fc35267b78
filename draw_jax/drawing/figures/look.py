"""The look that all pictures share: colours, sizes, text and legends.

The modules of this folder take finished NumPy arrays and give pictures; they know no model.

Coordinates: the image pixel numbered a (1..A, eqs 19-24) has its centre at `(a - 0.5) * scale` in
a picture enlarged by `scale`, whose left edge is 0 and whose right edge is `A * scale`.
"""

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from draw_jax.system import files

Colour = tuple[int, int, int]

# The paper's red and green. To the 8 % of men with a red-green deficiency two such hues look alike
# unless one is much lighter, so this red is dark (CIE L* 49) and this green light (L* 74).
WRITE: Colour = (228, 32, 36)
READ: Colour = (64, 208, 96)
ACCENT: Colour = (0, 114, 178)  # blue: frames and marks that are not windows
BACKGROUND: Colour = (236, 236, 236)  # padding; apart from both black and white panels
SHADE: Colour = (190, 190, 190)
INK: Colour = (48, 48, 48)
FONT_PIXELS = 12
PADDING = 2
PANEL_PIXELS = 112  # a panel is enlarged until its longer side has about this many pixels
LINE = FONT_PIXELS + 8  # pixels of a line of text
MAX_PIXELS = 100_000_000  # of one picture: 300 MB
MAX_ANIMATION_PIXELS = 400_000_000  # of all pictures of an animation together
SCREEN = (1600, 1000)  # width and height in pixels that a large picture keeps to where it can
GAP = 14  # pixels between two blocks of panels
_SPACE = 6  # pixels around a swatch of a legend, and after a row's name


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


def check_size(width: int, height: int, frames: int = 1) -> None:
    """Refuses a picture, or an animation, that is too large, before any memory is asked for.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        frames: pictures of the animation; 1: a picture that stands still.

    Raises:
        ValueError: if it would have more than `MAX_PIXELS`, or all frames together more than
            `MAX_ANIMATION_PIXELS`.
    """
    allowed = MAX_PIXELS if frames == 1 else MAX_ANIMATION_PIXELS
    if width * height * frames <= allowed:
        return
    what = "a picture" if frames == 1 else f"an animation of {frames:,} frames"
    raise ValueError(
        f"expected {what} of at most {allowed // 10**6} million pixels, got {width:,} x {height:,}"
        f"{'' if frames == 1 else f' x {frames:,}'}; draw fewer rows or columns, or at a smaller "
        "scale"
    )


def check_sheet(
    rows: int,
    columns: int,
    height: int,
    width: int,
    scale: int | None,
    frames: int = 1,
    padding: int = PADDING,
) -> None:
    """Refuses a sheet of rows x columns images [height, width] as `check_size` does."""
    scale = check_scale(scale, height, width)
    sheet = (columns * (width * scale + padding), rows * (height * scale + padding))
    check_size(*sheet, frames)


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


def centred(glimpses: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns glimpses as large as fits amid panels.

    Args:
        glimpses: [B, N, N, C] in [0, 1], C 1 or 3, N at most the panels' shorter side.
        height: of the panels, in pixels.
        width: of the panels, in pixels.

    Returns:
        uint8 [B, height, width, 3].
    """
    size = glimpses.shape[1]
    scale = max(1, min(height, width) // size)
    result = np.full((len(glimpses), height, width, 3), BACKGROUND, np.uint8)
    top, left = (height - size * scale) // 2, (width - size * scale) // 2
    result[:, top : top + size * scale, left : left + size * scale] = panels(glimpses, scale)
    return result


@functools.cache
def font() -> ImageFont.FreeTypeFont:
    """Returns the font of every figure: the one that matplotlib ships and uses."""
    file = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(file, FONT_PIXELS)


def write_text(picture: Image.Image, xy: tuple[float, float], text: str, anchor: str) -> None:
    """Writes `text` on the picture in the house font; `anchor` as in Pillow, "mm" = centred."""
    ImageDraw.Draw(picture).text(xy, text, fill=INK, font=font(), anchor=anchor)


def line(text: str, width: int) -> Image.Image:
    """Returns a line of text, `width` pixels wide."""
    result = Image.new("RGB", (width, LINE), BACKGROUND)
    write_text(result, (PADDING, LINE / 2), text, "lm")
    return result


def name_rows(
    picture: Image.Image, names: Sequence[str], right: int, top: int, panel_height: int
) -> None:
    """Writes a name left of each row of panels.

    Args:
        picture: which holds the panels.
        names: from the top.
        right: where the panels begin, pixels from the left edge.
        top: of the sheet of panels with its padding, pixels from the upper edge.
        panel_height: of a row without its padding, pixels.
    """
    for row, name in enumerate(names):
        middle = top + PADDING + row * (panel_height + PADDING) + panel_height / 2
        write_text(picture, (right - _SPACE, middle), name, "rm")


def legend(entries: Sequence[tuple[np.ndarray, str]], width: int) -> Image.Image:
    """Returns what the marks of a picture mean, in as many lines as `width` asks for.

    Args:
        entries: (swatch uint8 [h, w, 3] with h at most `LINE`, what it means), at least one.
        width: pixels of the picture above; one long entry makes the legend wider.
    """
    sizes = [swatch.shape[1] + _SPACE + math.ceil(font().getlength(t)) for swatch, t in entries]
    width = max(width, max(sizes) + 2 * PADDING)
    placed, lines, left = [], 1, PADDING
    for (swatch, text), size in zip(entries, sizes, strict=True):
        if left > PADDING and left + size > width:
            lines, left = lines + 1, PADDING
        placed.append((left, LINE * (lines - 1), swatch, text))
        left += size + 3 * _SPACE
    result = Image.new("RGB", (width, LINE * lines), BACKGROUND)
    for left, top, swatch, text in placed:
        result.paste(Image.fromarray(swatch), (left, top + (LINE - swatch.shape[0]) // 2))
        write_text(result, (left + swatch.shape[1] + _SPACE, top + LINE / 2), text, "lm")
    return result


def stack(pictures: Sequence[Image.Image], left: int = 0) -> Image.Image:
    """Returns pictures one beneath the other, `left` pixels from the left edge."""
    size = (left + max(p.width for p in pictures), sum(p.height for p in pictures))
    result = Image.new("RGB", size, BACKGROUND)
    top = 0
    for picture in pictures:
        result.paste(picture, (left, top))
        top += picture.height
    return result


def save(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Writes a picture as PNG and returns its path; see `files.write_whole`."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"expected a path ending in .png, got {path}")
    return files.write_whole(path, lambda file: picture.save(file, format="PNG"))
