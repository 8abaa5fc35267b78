"""Film strips: canvases over time, a row per sample and a column per time step.

Frames are the canvases' mean images (of a Bernoulli sigma(c_t)), steps are numbered 1..T as in the paper, and
windows are any object with arrays g_x, g_y, sigma_sq and delta in pixels numbered from 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from draw_jax.drawing.figures import grids, look, rectangles
from draw_jax.drawing.figures.look import BACKGROUND, LINE, PADDING, WRITE, Colour


def evenly_spaced(time_steps: int, count: int = 10) -> list[int]:
    """Returns at most `count` of the steps 1..T, evenly spaced, always with the first and last."""
    return np.unique(np.rint(np.linspace(1, time_steps, count)).astype(int)).tolist()


def film_strip(
    frames: np.ndarray,
    windows: Any = None,
    glimpse_size: int | None = None,
    colour: Colour = WRITE,
    steps: Sequence[int] | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Returns the sequences of figures 1, 7 and 10: a row per sample, a column per time step.

    With windows, a line beneath says what the rectangles mean.

    Args:
        frames: [T, B, H, W, C] in [0, 1], mean images sigma(c_t).
        windows: [T, B], drawn on the frame of their own step; None: without attention.
        glimpse_size: N of the windows.
        colour: of the rectangles; red for writing, green for reading.
        steps: the columns, each in 1..T; None: about ten, evenly spaced, with the last.
        scale: whole-number enlargement; None: until a digit is readable.

    Raises:
        ValueError: if an argument is not as described.
    """
    frames = look.check_images(frames, 5, "frames")
    steps = check_steps(steps, len(frames))
    count, height, width = frames.shape[1:4]
    scale = look.check_scale(scale, height, width)
    look.check_sheet(count, len(steps), height, width, scale)
    rows = strip(frames, windows, glimpse_size, colour, steps, scale)  # [B, S, h, w, 3]
    sheet = Image.fromarray(grids.tile(rows.reshape(-1, *rows.shape[2:]), len(steps)))
    parts = [step_names(steps, rows.shape[3]), sheet]
    if windows is not None:
        parts.append(look.legend(rectangles.legend(colour), sheet.width))
    return look.stack(parts)


def check_steps(steps: Sequence[int] | None, time_steps: int) -> list[int]:
    """Returns `steps` after checking that each is in 1..T; None: about ten, evenly spaced."""
    if steps is None:
        return evenly_spaced(time_steps)
    if not len(steps) or not all(1 <= t <= time_steps and t == int(t) for t in steps):
        raise ValueError(f"expected steps in 1..{time_steps}, got {list(steps)}")
    return [int(t) for t in steps]


def strip(
    frames: np.ndarray,
    windows: Any,
    glimpse_size: int | None,
    colour: Colour,
    steps: Sequence[int],
    scale: int,
) -> np.ndarray:
    """Returns the panels of the steps asked for, with rectangles: uint8 [B, S, h, w, 3]."""
    time_steps, count = frames.shape[:2]
    shown = np.stack([look.panels(frames[t - 1], scale) for t in steps], axis=1)
    if windows is None:
        return shown
    size = rectangles.check_windows(windows, time_steps, count, glimpse_size)
    for b in range(count):
        for column, t in enumerate(steps):
            window = rectangles.window_at(windows, t - 1, b)
            shown[b, column] = rectangles.draw_window(shown[b, column], window, size, scale, colour)
    return shown


def step_names(steps: Sequence[int], panel_width: int) -> Image.Image:
    """Returns a line of text that numbers the columns of a strip."""
    return column_names([f"t = {t}" if panel_width >= 40 else str(t) for t in steps], panel_width)


def column_names(names: Sequence[str], panel_width: int, left: int = PADDING) -> Image.Image:
    """Returns a line of text with a name over each panel, the first of which begins at `left`."""
    line = Image.new("RGB", (left + len(names) * (panel_width + PADDING), LINE), BACKGROUND)
    for column, name in enumerate(names):
        centre = left + column * (panel_width + PADDING) + panel_width / 2
        look.write_text(line, (centre, LINE / 2), name, "mm")
    return line
