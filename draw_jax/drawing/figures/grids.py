"""Pictures side by side: samples, and samples beside their nearest training images."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from draw_jax.drawing.figures.look import (
    ACCENT,
    BACKGROUND,
    PADDING,
    check_images,
    check_scale,
    check_sheet,
    legend,
    panels,
)

_FRAME = 3  # pixels of the frame around nearest training images


def even_columns(count: int) -> int:
    """Returns how many columns make `count` panels a sheet with few empty cells, none if possible.

    Among sheets that are no taller than wide, and at most 16 times as wide as tall (so that a
    prime number of panels makes a long row only while they are few), the fewest empty cells
    decide, then the squarest sheet: 8 panels are 4 x 2, 7 are 7 x 1, 64 are 8 x 8.
    """
    square = math.ceil(math.sqrt(count))
    return min(range(square, min(count, math.isqrt(16 * count)) + 1), key=lambda c: (-count % c, c))


def tile(pictures: np.ndarray, columns: int, padding: int = PADDING) -> np.ndarray:
    """Returns pictures laid out row by row: panel (i, j) starts `i * (height + padding) + padding`.

    Args:
        pictures: uint8 [N, height, width, 3].
        columns: panels in a row, at least 1; cells left over are background.
        padding: pixels of background between panels and around all of them, at least 0.

    Returns:
        uint8 [rows * (height + padding) + padding, columns * (width + padding) + padding, 3].
    """
    _check_layout(columns, padding)
    count, height, width, _ = pictures.shape
    rows = math.ceil(count / columns)
    shape = (rows * (height + padding) + padding, columns * (width + padding) + padding, 3)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    for n, picture in enumerate(pictures):
        top = padding + n // columns * (height + padding)
        left = padding + n % columns * (width + padding)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def _check_layout(columns: int, padding: int) -> None:
    if columns < 1 or padding < 0:
        raise ValueError(f"expected columns >= 1 and padding >= 0, got {columns} and {padding}")


def grid(
    images: np.ndarray,
    columns: int | None = None,
    scale: int | None = None,
    padding: int = PADDING,
) -> Image.Image:
    """Returns images side by side, row by row (figures 6, 8, 9 and 12 without neighbours).

    Args:
        images: [N, H, W, C] in [0, 1], C 1 or 3, N at least 1.
        columns: images in a row; None: as square as can be without an empty cell.
        scale: whole-number enlargement; None: until a digit is readable.
        padding: pixels between panels and around them.

    Raises:
        ValueError: if an argument is not as described.
    """
    images = check_images(images)
    count, height, width, _ = images.shape
    columns = even_columns(count) if columns is None else columns
    scale = check_scale(scale, height, width)
    _check_layout(columns, padding)
    check_sheet(math.ceil(count / columns), columns, height, width, scale, padding=padding)
    return Image.fromarray(tile(panels(images, scale), columns, padding))


def with_nearest(
    samples: np.ndarray,
    neighbours: np.ndarray,
    columns: int,
    scale: int | None = None,
) -> Image.Image:
    """Returns samples with a framed last column of nearest training images (figures 6, 9, 12).

    A line beneath says what the frame means.

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
    height, width = samples.shape[1:3]
    check_sheet(len(neighbours), columns + 2, height, width, scale)
    left = tile(panels(samples, scale), columns)
    right = tile(panels(neighbours, scale), 1)
    gap = max(_FRAME, right.shape[1] // 6)
    shape = (left.shape[0] + 2 * _FRAME, left.shape[1] + gap + right.shape[1] + 2 * _FRAME, 3)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    sheet[_FRAME:-_FRAME, _FRAME : _FRAME + left.shape[1]] = left
    sheet[:, -right.shape[1] - 2 * _FRAME :] = ACCENT
    sheet[_FRAME:-_FRAME, -right.shape[1] - _FRAME : -_FRAME] = right
    swatch = np.full((15, 15, 3), ACCENT, np.uint8)
    swatch[_FRAME:-_FRAME, _FRAME:-_FRAME] = 0
    text = "nearest training image (pixelwise L2) to the sample left of it"
    name = legend([(swatch, text)], 0)
    # Right-aligned, beneath the column that it names.
    picture = Image.new("RGB", (max(shape[1], name.width), shape[0] + name.height), BACKGROUND)
    picture.paste(Image.fromarray(sheet), (picture.width - shape[1], 0))
    picture.paste(name, (picture.width - name.width, shape[0]))
    return picture


def spaced(count: int) -> list[int]:
    """Returns at most five places of so many, evenly spaced, the first and the last among them."""
    return np.unique(np.rint(np.linspace(0, count - 1, min(count, 5))).astype(int)).tolist()


def picked(sample_grids: Sequence[tuple[int, np.ndarray]]) -> list[tuple[int, Image.Image]]:
    """Returns a picture of at most five sets of samples, evenly spaced, with the step of each.

    Args:
        sample_grids: (step, images [N, H, W, C] in [0, 1]) in the order of steps. Of five sets the
            first 16 images are shown, of fewer sets more each; in four rows, if there are enough.
    """
    if not len(sample_grids):
        return []
    chosen = spaced(len(sample_grids))
    columns = max(4, 16 // len(chosen))
    pictures = []
    for step, images in (sample_grids[k] for k in chosen):
        shown = images[: 4 * columns]
        pictures.append((step, grid(shown, columns if len(shown) == 4 * columns else None)))
    return pictures
