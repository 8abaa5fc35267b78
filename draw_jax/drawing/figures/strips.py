"""Pictures of a canvas over time: film strips and reconstructions.

Finished NumPy arrays in, pictures out, in the look of `figures`. Frames are the canvases' mean
images sigma(c_t), steps are numbered 1..T as in the paper, and windows are any object with arrays
g_x, g_y, sigma_sq and delta in pixels numbered from 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from draw_jax.drawing.figures import grids, look, rectangles
from draw_jax.drawing.figures.look import BACKGROUND, INK, PADDING, READ, SHADE, WRITE, Colour

_HEADER = look.FONT_PIXELS + 8  # pixels of a line of text
_GUTTER = 64  # pixels left of a strip for its rows' names
_BARS = 48  # pixels of the tallest bar


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
    steps = _check_steps(steps, len(frames))
    scale = look.check_scale(scale, *frames.shape[2:4])
    rows = strip(frames, windows, glimpse_size, colour, steps, scale)  # [B, S, h, w, 3]
    sheet = grids.tile(rows.reshape(-1, *rows.shape[2:]), len(steps))
    return _stack([_step_names(steps, rows.shape[3]), Image.fromarray(sheet)])


def reconstruction(
    images: np.ndarray,
    frames: np.ndarray,
    kl_nats: np.ndarray,
    errors: np.ndarray | None = None,
    glimpses: np.ndarray | None = None,
    read_windows: Any = None,
    read_size: int | None = None,
    write_windows: Any = None,
    write_size: int | None = None,
    steps: Sequence[int] | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Returns what each step saw, drew and cost: a block of rows per image, a column per step.

    The rows are the input with the read window, the error image with the same window (grey is no
    error), the glimpse, the canvas with the write window, and beneath them the KL of every time
    step, the steps shown in red.

    Args:
        images: x [B, H, W, C] in [0, 1].
        frames: [T, B, H, W, C] in [0, 1], mean images sigma(c_t).
        kl_nats: [T, B], at least 0, eq. 10.
        errors: x - sigma(c_{t-1}) [T, B, H, W, C] in [-1, 1], eq. 3; None: no such row.
        glimpses: [T, B, N, N, C], the image part of eq. 27, clipped to [0, 1]; None: no such row.
        read_windows: [T, B]; None: the reader has no attention.
        read_size: N of the read windows.
        write_windows: [T, B]; None: the writer has no attention.
        write_size: N of the write windows.
        steps: the columns, each in 1..T; None: about ten, evenly spaced, with the last.
        scale: whole-number enlargement; None: until a digit is readable.

    Raises:
        ValueError: if an argument is not as described.
    """
    images = look.check_images(images)
    frames = look.check_images(frames, 5, "frames")
    time_steps, count = frames.shape[:2]
    if frames.shape[1:] != images.shape:
        raise ValueError(
            "expected images [B, H, W, C] and frames [T, B, H, W, C], got "
            f"{list(images.shape)} and {list(frames.shape)}"
        )
    kl_nats = np.asarray(kl_nats, np.float64)
    if kl_nats.shape != (time_steps, count) or not (kl_nats.min() >= 0 and kl_nats.max() < np.inf):
        raise ValueError(
            f"expected finite kl_nats [T, B] = [{time_steps}, {count}] of at least 0, got shape "
            f"{list(kl_nats.shape)}"
        )
    steps = _check_steps(steps, time_steps)
    scale = look.check_scale(scale, *images.shape[1:3])
    inputs = np.broadcast_to(images, frames.shape)
    rows = {"input": strip(inputs, read_windows, read_size, READ, steps, scale)}
    if errors is not None:
        errors = look.check_images(errors, 5, "errors", low=-1.0)
        if errors.shape != frames.shape:
            raise ValueError(
                f"expected errors {list(frames.shape)} like frames, got {list(errors.shape)}"
            )
        shown = (errors + 1) / 2
        rows["error"] = strip(shown, read_windows, read_size, READ, steps, scale)
    if glimpses is not None:
        glimpses = look.check_images(np.clip(glimpses, 0, 1), 5, "glimpses")
        rows["glimpse"] = _centred(glimpses, steps, rows["input"].shape)
    rows["canvas"] = strip(frames, write_windows, write_size, WRITE, steps, scale)
    panel_height, panel_width = rows["input"].shape[2:4]
    parts = [_step_names(steps, panel_width)]
    for b in range(count):
        panels = np.concatenate([row[b] for row in rows.values()])
        sheet = Image.fromarray(grids.tile(panels, len(steps)))
        parts += [sheet, _bars(kl_nats[:, b], steps, sheet.width)]
    picture = _stack(parts, left=_GUTTER)
    block_height = (picture.height - _HEADER) // count
    for b in range(count):
        top = _HEADER + b * block_height
        for k, name in enumerate(rows):
            centre = top + PADDING + k * (panel_height + PADDING) + panel_height / 2
            look.write_text(picture, (_GUTTER - 6, centre), name, "rm")
        look.write_text(picture, (_GUTTER - 6, top + block_height - _HEADER), "KL", "rs")
    return picture


def _check_steps(steps: Sequence[int] | None, time_steps: int) -> list[int]:
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


def _centred(glimpses: np.ndarray, steps: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Returns glimpses [T, B, N, N, C] as large as fits, amid panels of `shape` [B, S, h, w, 3]."""
    if glimpses.shape[1] != shape[0] or len(glimpses) < max(steps):
        raise ValueError(f"expected glimpses [T, B, N, N, C], got {list(glimpses.shape)}")
    size = glimpses.shape[2]
    scale = max(1, min(shape[2:4]) // size)
    if size * scale > min(shape[2:4]):
        raise ValueError(f"expected glimpses no larger than the images, got N = {size}")
    panels = np.full(shape, BACKGROUND, np.uint8)
    top, left = (shape[2] - size * scale) // 2, (shape[3] - size * scale) // 2
    shown = np.stack([look.panels(glimpses[t - 1], scale) for t in steps], axis=1)
    panels[:, :, top : top + size * scale, left : left + size * scale] = shown
    return panels


def _step_names(steps: Sequence[int], panel_width: int) -> Image.Image:
    """Returns a line of text that numbers the columns of a strip."""
    width = PADDING + len(steps) * (panel_width + PADDING)
    line = Image.new("RGB", (width, _HEADER), BACKGROUND)
    for column, t in enumerate(steps):
        text = f"t = {t}" if panel_width >= 48 else str(t)
        centre = PADDING + column * (panel_width + PADDING) + panel_width / 2
        look.write_text(line, (centre, _HEADER / 2), text, "mm")
    return line


def _bars(kl_nats: np.ndarray, steps: Sequence[int], width: int) -> Image.Image:
    """Returns a bar per time step, the steps shown in red, and a line with the sum beneath."""
    picture = Image.new("RGB", (width, _BARS + 8 + _HEADER), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    base = _BARS + 6
    edges = np.linspace(PADDING, width - PADDING, len(kl_nats) + 1)
    largest = max(float(kl_nats.max()), 1e-12)
    for t, kl in enumerate(kl_nats, start=1):
        left, right = int(edges[t - 1]), max(int(edges[t]) - 2, int(edges[t - 1]))
        top = base - round(_BARS * float(kl) / largest)
        draw.rectangle((left, top, right, base), fill=WRITE if t in steps else SHADE)
    draw.line((PADDING, base, width - PADDING - 1, base), fill=INK)
    text = f"{kl_nats.sum():.1f} nats in {len(kl_nats)} steps, at most {kl_nats.max():.1f} in one"
    look.write_text(picture, (PADDING, base + 2 + _HEADER / 2), text, "lm")
    return picture


def _stack(pictures: Sequence[Image.Image], left: int = 0) -> Image.Image:
    """Returns pictures one beneath the other, `left` pixels from the left edge."""
    size = (left + max(p.width for p in pictures), sum(p.height for p in pictures))
    result = Image.new("RGB", size, BACKGROUND)
    top = 0
    for picture in pictures:
        result.paste(picture, (left, top))
        top += picture.height
    return result
