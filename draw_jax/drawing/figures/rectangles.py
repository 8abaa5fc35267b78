"""A window's rectangle on a picture: red writes, green reads, a thick border is blurred."""

import math
from typing import Any, NamedTuple

import numpy as np

from draw_jax.drawing.figures.look import BACKGROUND, PADDING, READ, WRITE, Colour

# Strokes beneath a border show through by half, except under a thin line on the rectangle
# itself, which says where the window is.
OPACITY = 0.5
LINE_PER_PANEL = 1 / 150  # width of the line / the panel's shorter side; at least one pixel
BORDER_PER_SIGMA = 0.75  # border width / sigma, both in image pixels
MAX_BORDER = 1 / 8  # of the panel's shorter side, so that a very blurred window hides no picture
_SWATCH = 15  # height and width of a legend's panel, pixels


class Box(NamedTuple):
    """One window (eqs 22-24) as plain numbers, in pixels numbered from 1."""

    g_x: float
    g_y: float
    sigma_sq: float
    delta: float


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


def blend(under: np.ndarray, colour: Colour) -> np.ndarray:
    """Returns pixels as they look beneath a border: uint8 [..., 3] from uint8 [..., 3]."""
    mixed = OPACITY * np.array(colour, np.float32) + (1 - OPACITY) * under.astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def draw_window(
    picture: np.ndarray, window: Any, glimpse_size: int, scale: int, colour: Colour = WRITE
) -> np.ndarray:
    """Returns a copy of one panel with a window's rectangle on it (figures 1, 3, 5, 7 and 10).

    A thin line is the rectangle, and the border, centred on it and half transparent, is as wide
    as `border_width` says. What lies outside the panel is left out, so a side beyond the image is
    not seen, and a window wholly outside leaves the panel as it was. A window that contains the
    whole image has a dashed line at the panel's edge instead.

    Args:
        picture: uint8 [H * scale, W * scale, 3], one enlarged image.
        window: an object with scalars g_x, g_y, sigma_sq, delta, in pixels numbered from 1.
        glimpse_size: N, at least 2.
        scale: enlargement of the picture, at least 1.
        colour: of the rectangle; red writes and green reads.

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
    edges = rectangle(window, glimpse_size)
    line = max(1, round(LINE_PER_PANEL * min(height, width)))
    border = max(line, border_width(float(window.sigma_sq), scale, height, width))
    result = picture.copy()
    beneath = _outline(edges, border, scale, height, width)
    result[beneath] = blend(picture[beneath], colour)
    result[_outline(edges, line, scale, height, width)] = colour
    if max(edges[:2]) < 0.5 and edges[2] > width / scale + 0.5 and edges[3] > height / scale + 0.5:
        result[_dashes(line, height, width)] = colour
    return result


def _dashes(line: int, height: int, width: int) -> np.ndarray:
    """Returns which pixels are on a dashed line at a panel's edge: bool [height, width]."""
    rows, columns = np.indices((height, width))
    off = np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))
    return (off < line) & ((rows + columns) // (4 * line) % 2 == 0)


def _outline(
    edges: tuple[float, float, float, float], border: int, scale: int, height: int, width: int
) -> np.ndarray:
    """Returns which pixels are on a rectangle's border: bool [height, width].

    Args:
        edges: left, top, right, bottom in image coordinates.
        border: in picture pixels, centred on the edges.
        scale: picture pixels in an image pixel.
        height: of the picture, in picture pixels.
        width: of the picture, in picture pixels.
    """

    def span(edge: float, size: int) -> tuple[int, int]:
        """Picture pixels [start, stop) of a border on an edge."""
        start = math.floor((edge - 0.5) * scale - border / 2 + 0.5)
        return min(max(start, 0), size), min(max(start + border, 0), size)

    (left, left_in), (right_in, right) = span(edges[0], width), span(edges[2], width)
    (top, top_in), (bottom_in, bottom) = span(edges[1], height), span(edges[3], height)
    mask = np.zeros((height, width), bool)
    mask[top:top_in, left:right] = True
    mask[bottom_in:bottom, left:right] = True
    mask[top:bottom, left:left_in] = True
    mask[top:bottom, right_in:right] = True
    return mask


def legend(*colours: Colour) -> list[tuple[np.ndarray, str]]:
    """Returns the entries of `look.legend` that explain rectangles of these colours."""
    names = {READ: "read window", WRITE: "write window"}
    entries = [(_swatch(colour, 2), names.get(colour, "window")) for colour in colours]
    text = "thick border: blurred (width proportional to \N{GREEK SMALL LETTER SIGMA})"
    larger = np.zeros((_SWATCH, _SWATCH, 3), np.uint8)
    larger[_dashes(1, _SWATCH, _SWATCH)] = colours[0]
    return [
        *entries,
        (_swatch(colours[0], 1, 5), text),
        (larger, "dashed: larger than the image; none: off it"),
    ]


def _swatch(colour: Colour, *borders: int) -> np.ndarray:
    """Returns small panels side by side, each with a rectangle of one of the border widths."""
    edges, size = (3.5, 3.5, 12.5, 12.5), _SWATCH
    parts: list[np.ndarray] = []
    for border in borders:
        panel = np.zeros((size, size, 3), np.uint8)
        beneath = _outline(edges, border, 1, size, size)
        panel[beneath] = blend(panel[beneath], colour)
        panel[_outline(edges, 1, 1, size, size)] = colour
        parts += [np.full((size, PADDING, 3), BACKGROUND, np.uint8), panel]
    return np.concatenate(parts[1:], axis=1)
