"""Raster pictures of finished arrays: the house look, grids, and attention rectangles.

Everything here takes NumPy arrays and gives pictures; no model, no file format of ours. Film
strips and animations are in `filmstrips`, curves in `plots`; all three share the look below.

Coordinates: the image pixel numbered a (1..A, eqs 19-24) has its centre at `(a - 0.5) * scale` in
a picture enlarged by `scale`, whose left edge is 0 and whose right edge is `A * scale`.
"""

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
BORDER_PER_SIGMA = 0.75  # border width / sigma, both in image pixels
MAX_BORDER = 1 / 8  # of the panel's shorter side, so that a very blurred window hides no picture


class Box(NamedTuple):
    """One window (eqs 22-24) as plain numbers, in pixels numbered from 1."""

    g_x: float
    g_y: float
    sigma_sq: float
    delta: float


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


def check_windows(windows: Any, steps: int, count: int, glimpse_size: int | None) -> int:
    """Returns `glimpse_size` after checking that `windows` are [steps, count] and finite."""
    if glimpse_size is None or glimpse_size < 2:
        raise ValueError(f"expected glimpse_size of at least 2 with windows, got {glimpse_size}")
    for name in Box._fields:
        values = np.asarray(getattr(windows, name))
        if values.shape != (steps, count):
            raise ValueError(
                f"expected windows [T, B] = [{steps}, {count}], got {name} {list(values.shape)}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"expected finite windows, got {name} with a value that is not")
    return int(glimpse_size)


def window_at(windows: Any, *index: int) -> Box:
    """Returns the window at one (t, b), or at one t, of arrays shaped [T, B], or [T]."""
    return Box(*(float(np.asarray(getattr(windows, name))[index]) for name in Box._fields))


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


def tile(pictures: np.ndarray, columns: int, padding: int = PADDING) -> np.ndarray:
    """Returns pictures laid out row by row: panel (i, j) starts `i * (height + padding) + padding`.

    Args:
        pictures: uint8 [N, height, width, 3].
        columns: panels in a row, at least 1; cells left over are background.
        padding: pixels of background between panels and around all of them, at least 0.

    Returns:
        uint8 [rows * (height + padding) + padding, columns * (width + padding) + padding, 3].
    """
    if columns < 1 or padding < 0:
        raise ValueError(f"expected columns >= 1 and padding >= 0, got {columns} and {padding}")
    count, height, width, _ = pictures.shape
    rows = math.ceil(count / columns)
    shape = (rows * (height + padding) + padding, columns * (width + padding) + padding, 3)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    for n, picture in enumerate(pictures):
        top = padding + n // columns * (height + padding)
        left = padding + n % columns * (width + padding)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def grid(
    images: np.ndarray,
    columns: int | None = None,
    scale: int | None = None,
    padding: int = PADDING,
) -> Image.Image:
    """Returns images side by side, row by row (figures 6, 8, 9 and 12 without neighbours).

    Args:
        images: [N, H, W, C] in [0, 1], C 1 or 3, N at least 1.
        columns: images in a row; None: as square as N allows.
        scale: whole-number enlargement; None: until a digit is readable.
        padding: pixels between panels and around them.

    Raises:
        ValueError: if an argument is not as described.
    """
    images = check_images(images)
    count, height, width, _ = images.shape
    if columns is None:
        columns = math.ceil(math.sqrt(count))
    scale = check_scale(scale, height, width)
    return Image.fromarray(tile(panels(images, scale), columns, padding))


def with_nearest(
    samples: np.ndarray,
    neighbours: np.ndarray,
    columns: int,
    scale: int | None = None,
) -> Image.Image:
    """Returns samples with a framed last column of nearest training images (figures 6, 9, 12).

    Args:
        samples: [R * columns, H, W, C] in [0, 1], laid out row by row.
        neighbours: [R, H, W, C] in [0, 1]: row r's is nearest to the last sample of row r.
        columns: samples in a row, at least 1.
        scale: whole-number enlargement; None: until a digit is readable.

    Raises:
        ValueError: if an argument is not as described, or the rows do not match.
    """
    samples, neighbours = check_images(samples), check_images(neighbours, name="neighbours")
    if len(samples) != columns * len(neighbours) or samples.shape[1:] != neighbours.shape[1:]:
        raise ValueError(
            "expected samples [R * columns, H, W, C] and neighbours [R, H, W, C], got "
            f"{list(samples.shape)} and {list(neighbours.shape)} with columns {columns}"
        )
    scale = check_scale(scale, *samples.shape[1:3])
    left = tile(panels(samples, scale), columns)
    right = tile(panels(neighbours, scale), 1)
    gap = right.shape[1] // 6
    frame = 3
    shape = (left.shape[0] + 2 * frame, left.shape[1] + gap + right.shape[1] + 2 * frame, 3)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    sheet[frame:-frame, frame : frame + left.shape[1]] = left
    sheet[:, -right.shape[1] - 2 * frame :] = ACCENT
    sheet[frame:-frame, -right.shape[1] - frame : -frame] = right
    return Image.fromarray(sheet)


def rectangle(window: Any, glimpse_size: int) -> tuple[float, float, float, float]:
    """Returns (left, top, right, bottom) = g -+ (N - 1) / 2 * delta: the outermost filter centres.

    Args:
        window: an object with scalars g_x, g_y, delta, in pixels numbered from 1 (eqs 22-24).
        glimpse_size: N, at least 2.
    """
    half = (glimpse_size - 1) / 2 * float(window.delta)
    g_x, g_y = float(window.g_x), float(window.g_y)
    return g_x - half, g_y - half, g_x + half, g_y + half


def border_width(sigma_sq: float, scale: int, height: int, width: int) -> int:
    """Returns the border in picture pixels: proportional to sigma, at least 1 (thick = blurred).

    Args:
        sigma_sq: variance of the filters, in squared image pixels.
        scale: enlargement of the picture.
        height: of the picture, in picture pixels; with `width` it bounds the border above.
        width: of the picture, in picture pixels.
    """
    border = BORDER_PER_SIGMA * math.sqrt(sigma_sq) * scale
    return max(1, round(min(border, MAX_BORDER * min(height, width))))


def draw_window(
    picture: np.ndarray, window: Any, glimpse_size: int, scale: int, colour: Colour = WRITE
) -> np.ndarray:
    """Returns a copy of one panel with a window's rectangle on it (figures 1, 3, 5, 7 and 10).

    The border is centred on the rectangle. What lies outside the panel is left out, so a side
    beyond the image is not seen, and a window wholly outside leaves the panel as it was.

    Args:
        picture: uint8 [H * scale, W * scale, 3], one enlarged image.
        window: an object with scalars g_x, g_y, sigma_sq, delta, in pixels numbered from 1.
        glimpse_size: N, at least 2.
        scale: enlargement of the picture, at least 1.
        colour: of the border; red writes and green reads.

    Raises:
        ValueError: if the window is not finite, or delta or sigma_sq is negative.
    """
    values = (window.g_x, window.g_y, window.sigma_sq, window.delta)
    if not all(math.isfinite(v) for v in values) or window.delta < 0 or window.sigma_sq < 0:
        raise ValueError(
            "expected a finite window with delta >= 0 and sigma_sq >= 0, got "
            "g_x {}, g_y {}, sigma_sq {}, delta {}".format(*values)
        )
    height, width = picture.shape[:2]
    border = border_width(float(window.sigma_sq), scale, height, width)

    def span(edge: float, size: int) -> tuple[int, int]:
        """Picture pixels [start, stop) of a border on an edge given in image coordinates."""
        start = math.floor((edge - 0.5) * scale - border / 2 + 0.5)
        return min(max(start, 0), size), min(max(start + border, 0), size)

    edges = rectangle(window, glimpse_size)
    (left, left_in), (right_in, right) = span(edges[0], width), span(edges[2], width)
    (top, top_in), (bottom_in, bottom) = span(edges[1], height), span(edges[3], height)
    result = picture.copy()
    result[top:top_in, left:right] = colour
    result[bottom_in:bottom, left:right] = colour
    result[top:bottom, left:left_in] = colour
    result[top:bottom, right_in:right] = colour
    return result


@functools.cache
def font(size: int = FONT_PIXELS) -> ImageFont.FreeTypeFont:
    """Returns the font of every figure: the one that matplotlib ships and uses."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def write_text(picture: Image.Image, xy: tuple[float, float], text: str, anchor: str) -> None:
    """Writes `text` on the picture in the house font; `anchor` as in Pillow, "mm" = centred."""
    ImageDraw.Draw(picture).text(xy, text, fill=INK, font=font(), anchor=anchor)


def save(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Writes a picture as PNG and returns its path; see `write_file`."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"expected a path ending in .png, got {path}")
    return write_file(path, lambda file: picture.save(file, format="PNG"))


def write_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> Path:
    """Writes a file whole or not at all and returns its path; makes missing folders.

    Args:
        path: where to; an existing file is replaced.
        write: called with the open file.

    Raises:
        OSError: if the folder cannot be made or written, naming it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                write(file)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(
            f"cannot write {path}: {error.strerror or error}; choose a folder that can be written"
        ) from error
    return path
