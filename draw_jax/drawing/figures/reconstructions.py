"""Reconstructions: what each step of inference saw, drew and cost, for several images."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from draw_jax.drawing.figures import grids, look, rectangles, strips
from draw_jax.drawing.figures.look import BACKGROUND, INK, LINE, PADDING, READ, SHADE, WRITE

_GUTTER = 60  # pixels left of the blocks for their rows' names
_NARROWEST = 240  # pixels of a block that hold the line of text beneath its bars
_BARS = 40  # pixels of the tallest bar
_SMALLEST = 56  # pixels, about, of a panel's longer side: no less to fit a screen
_FEWEST = 5  # time steps, likewise


class _Layout(NamedTuple):
    """How many blocks stand side by side, the steps that each shows, and the enlargement."""

    columns: int
    steps: list[int]
    scale: int


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
    error), the glimpse, the canvas with the write window, and beneath them a bar for the KL of
    every time step, on one scale for all images. The blocks stand side by side so that the picture
    fits a screen if it can; a legend at the bottom explains its marks.

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
        steps: the columns, each in 1..T; None: five to ten, evenly spaced, with the last.
        scale: whole-number enlargement; None: as large as a screen allows.

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
    given = None if steps is None else strips.check_steps(steps, time_steps)
    kinds = 2 + (errors is not None) + (glimpses is not None)
    height, width = images.shape[1:3]
    layout = _layout(count, time_steps, kinds, height, width, given, scale)
    look.check_size(*_size(count, kinds, height, width, layout))
    columns, steps, scale = layout
    inputs = np.broadcast_to(images, frames.shape)
    rows = {"input": strips.strip(inputs, read_windows, read_size, READ, steps, scale)}
    if errors is not None:
        errors = look.check_images(errors, 5, "errors", low=-1.0)
        if errors.shape != frames.shape:
            raise ValueError(
                f"expected errors {list(frames.shape)} like frames, got {list(errors.shape)}"
            )
        shown = (errors + 1) / 2
        rows["error"] = strips.strip(shown, read_windows, read_size, READ, steps, scale)
    if glimpses is not None:
        glimpses = look.check_images(np.clip(glimpses, 0, 1), 5, "glimpses")
        rows["glimpse"] = _centred(glimpses, steps, rows["input"].shape)
    rows["canvas"] = strips.strip(frames, write_windows, write_size, WRITE, steps, scale)
    panel_height, panel_width = rows["input"].shape[2:4]
    header, tallest = strips.step_names(steps, panel_width), kl_nats.max()
    blocks = []
    for b in range(count):
        sheet = grids.tile(np.concatenate([row[b] for row in rows.values()]), len(steps))
        bars = _bars(kl_nats[:, b], tallest, steps, sheet.shape[1])
        blocks.append(look.stack([header, Image.fromarray(sheet), bars]))
    # Blocks side by side share their rows' names, which stand left of the first.
    lines = []
    for first in range(0, count, columns):
        line = _side_by_side(blocks[first : first + columns])
        look.name_rows(line, [*rows], _GUTTER, LINE, panel_height)
        look.write_text(line, (_GUTTER - 6, line.height - look.GAP - LINE - 2), "KL", "rs")
        lines.append(line)
    colours = [READ] * (read_windows is not None) + [WRITE] * (write_windows is not None)
    entries = rectangles.legend(*colours) if colours else []
    if errors is not None:
        shades = np.repeat(np.array([0, 128, 255], np.uint8), 12)
        swatch = np.broadcast_to(shades[None, :, None], (12, 36, 3))
        entries.append((swatch, "error, input - canvas: -1 black, 0 grey, 1 white"))
    entries += [
        (_swatch(INK), "KL in nats of the steps shown above"),
        (_swatch(SHADE), f"KL of the others, t = 1 to {time_steps} from left to right"),
    ]
    return look.stack([*lines, look.legend(entries, lines[0].width)])


def _layout(
    count: int,
    time_steps: int,
    kinds: int,
    height: int,
    width: int,
    steps: list[int] | None,
    scale: int | None,
) -> _Layout:
    """Returns how to lay out `count` blocks: on one screen if possible, with few empty places.

    Of such layouts it is the one with the most time steps, then the largest panels, then the most
    blocks side by side. What the caller chose stays as it is.
    """
    readable = look.check_scale(scale, height, width)
    smallest = min(readable, max(1, round(_SMALLEST / max(height, width))))
    numbers = range(min(time_steps, _FEWEST), min(time_steps, 10) + 1)
    choices = [
        _Layout(columns, shown, enlargement)
        for columns in range(1, min(count, look.SCREEN[0] // _SMALLEST) + 1)
        for shown in (
            [strips.evenly_spaced(time_steps, n) for n in numbers] if not steps else [steps]
        )
        for enlargement in (range(smallest, readable + 1) if scale is None else [readable])
    ]

    def cost(layout: _Layout) -> tuple[int, ...]:
        size = _size(count, kinds, height, width, layout)
        beyond = [max(0, pixels - most) for pixels, most in zip(size, look.SCREEN, strict=True)]
        empty = -count % layout.columns
        return (*beyond, empty, -len(layout.steps), -layout.scale, -layout.columns)

    return min(choices, key=cost)


def _size(count: int, kinds: int, height: int, width: int, layout: _Layout) -> tuple[int, int]:
    """Returns the width and height of the picture in pixels, with two lines for the legend."""
    panels = len(layout.steps) * (width * layout.scale + PADDING) + PADDING
    block = (
        max(panels, _NARROWEST) + look.GAP,
        LINE + kinds * (height * layout.scale + PADDING) + PADDING + _BARS + 8 + LINE + look.GAP,
    )
    lines = math.ceil(count / layout.columns)
    return _GUTTER + layout.columns * block[0], lines * block[1] + 2 * LINE


def _side_by_side(blocks: Sequence[Image.Image]) -> Image.Image:
    """Returns blocks right of the gutter, with a gap after and beneath each."""
    width, height = blocks[0].width + look.GAP, blocks[0].height + look.GAP
    result = Image.new("RGB", (_GUTTER + len(blocks) * width, height), BACKGROUND)
    for k, block in enumerate(blocks):
        result.paste(block, (_GUTTER + k * width, 0))
    return result


def _centred(glimpses: np.ndarray, steps: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Returns glimpses [T, B, N, N, C] as large as fits, amid panels of `shape` [B, S, h, w, 3]."""
    if glimpses.shape[1] != shape[0] or len(glimpses) < max(steps):
        raise ValueError(f"expected glimpses [T, B, N, N, C], got {list(glimpses.shape)}")
    size = glimpses.shape[2]
    if size > min(shape[2:4]):
        raise ValueError(f"expected glimpses no larger than the images, got N = {size}")
    return np.stack([look.centred(glimpses[t - 1], shape[2], shape[3]) for t in steps], axis=1)


def _bars(kl_nats: np.ndarray, tallest: float, steps: Sequence[int], width: int) -> Image.Image:
    """Returns a bar per time step, those of the steps shown dark, and their sum beneath.

    Args:
        kl_nats: [T], one image's.
        tallest: nats of the tallest bar, the same for all images.
        steps: those shown.
        width: of the panels above, in pixels.
    """
    picture = Image.new("RGB", (max(width, _NARROWEST), _BARS + 8 + LINE), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    base = _BARS + 6
    edges = np.linspace(PADDING, width - PADDING, len(kl_nats) + 1)
    for t, kl in enumerate(kl_nats, start=1):
        left, right = int(edges[t - 1]), max(int(edges[t]) - 2, int(edges[t - 1]))
        top = base - round(_BARS * float(kl) / max(tallest, 1e-12))
        draw.rectangle((left, top, right, base), fill=INK if t in steps else SHADE)
    draw.line((PADDING, base, width - PADDING - 1, base), fill=INK)
    text = f"{kl_nats.sum():.1f} nats, at most {kl_nats.max():.1f} in a step"
    look.write_text(picture, (PADDING, base + 2 + LINE / 2), text, "lm")
    return picture


def _swatch(colour: look.Colour) -> np.ndarray:
    """Returns a bar for the legend."""
    return np.full((12, 6, 3), colour, np.uint8)
