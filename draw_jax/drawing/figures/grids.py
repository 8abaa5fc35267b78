"""Pictures side by side: samples, and samples beside their nearest training images."""

import math

import numpy as np
from PIL import Image

from draw_jax.drawing.figures.look import (
    ACCENT,
    BACKGROUND,
    PADDING,
    check_images,
    check_scale,
    panels,
)


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
