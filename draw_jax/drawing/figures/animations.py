"""Animations of samples being drawn: GIF and WebP, in the conventions of `strips`."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from draw_jax.drawing.figures import grids, look, rectangles, strips
from draw_jax.drawing.figures.look import BACKGROUND, INK, LINE, PADDING, SHADE, WRITE, Colour
from draw_jax.system import files

_SIDES = {"gif": 65_535, "webp": 16_383}  # pixels of a side, what the formats allow
_TINTS = 84  # of a GIF's 256 colours; the rest are our own and greys


def animation(
    frames: np.ndarray,
    path: str | os.PathLike[str],
    windows: Any = None,
    glimpse_size: int | None = None,
    colour: Colour = WRITE,
    columns: int | None = None,
    scale: int | None = None,
    seconds: float = 4.0,
    hold_seconds: float = 2.0,
) -> Path:
    """Writes a looping grid of samples being drawn, a picture per time step, and returns its path.

    Beneath it stands t, and a bar that fills up with it, so that no two pictures are alike; with
    windows, a legend as well, and at last one picture more without them.

    Args:
        frames: [T, B, H, W, C] in [0, 1], mean images sigma(c_t).
        path: ends in .gif (colours rounded to 256) or .webp (exact).
        windows: [T, B], drawn on the frame of their own step; None: without attention.
        glimpse_size: N of the windows.
        colour: of the rectangles.
        columns: samples in a row; None: as square as can be without an empty cell.
        scale: whole-number enlargement; None: until a digit is readable.
        seconds: for all of the drawing, above 0; no picture stays for less than 0.04 s or more
            than 0.4 s.
        hold_seconds: for the last picture, above 0.

    Raises:
        ValueError: if an argument is not as described.
        OSError: if the file cannot be written.
    """
    kind = _checked_kind(path, seconds, hold_seconds)
    frames = look.check_images(frames, 5, "frames")
    time_steps, count = frames.shape[:2]
    height, width = frames.shape[2:4]
    scale = look.check_scale(scale, height, width)
    columns = grids.even_columns(count) if columns is None else columns
    if columns < 1:
        raise ValueError(f"expected columns >= 1, got {columns}")
    rows = math.ceil(count / columns)
    count_pictures = time_steps + (windows is not None)  # the last without a mark on it
    look.check_sheet(rows, columns, height, width, scale, count_pictures)
    longest = max(rows * (height * scale + PADDING), columns * (width * scale + PADDING))
    _check_sides(kind, longest, 4 * LINE)
    entries = [] if windows is None else rectangles.legend(colour)

    def pictures() -> Iterator[Image.Image]:
        for k in range(1, count_pictures + 1):
            t, shown = min(k, time_steps), windows if k <= time_steps else None
            panels = strips.strip(frames, shown, glimpse_size, colour, [t], scale)[:, 0]
            sheet = Image.fromarray(grids.tile(panels, columns))
            legend = [look.legend(entries, sheet.width)] if entries else []
            wide = max(part.width for part in (sheet, *legend))
            yield look.stack([sheet, clock(t, time_steps, wide), *legend])

    is_grey = frames.shape[-1] == 1
    return save(pictures(), path, count_pictures, is_grey, (colour,), seconds, hold_seconds)


def save(
    pictures: Iterator[Image.Image],
    path: str | os.PathLike[str],
    count: int,
    is_grey: bool,
    colours: Sequence[Colour],
    seconds: float = 4.0,
    hold_seconds: float = 2.0,
    longest: float = 0.4,
) -> Path:
    """Writes a looping animation, a picture per time step, and returns its path.

    Args:
        pictures: of one size, whose text is grey.
        path: as for `animation`, like the times that follow.
        count: of the pictures.
        is_grey: whether the pictures are grey except for `colours`.
        colours: first that of the rectangles, which are half transparent, then those of other marks.
        seconds: for all of them.
        hold_seconds: for the last picture.
        longest: seconds that any other picture stays at most.

    Raises:
        ValueError: if an argument is not as described.
        OSError: if the file cannot be written.
    """
    kind = _checked_kind(path, seconds, hold_seconds)
    drawn = pictures
    if kind == "gif":
        drawn = _in_greys(drawn, colours) if is_grey else _with_one_palette(list(drawn), colours)
    # GIF counts in hundredths of a second.
    each = int(np.clip(round(seconds / count, 2), 0.04, longest) * 1000)
    durations = [each] * (count - 1) + [max(each, round(hold_seconds * 1000))]
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {"optimize": False}
    first = next(drawn)
    _check_sides(kind, max(first.size))
    return files.write_whole(
        Path(path),
        lambda file: first.save(
            file,
            format=kind,
            save_all=True,
            append_images=drawn,
            duration=durations,
            loop=0,
            **options,
        ),
    )


def _checked_kind(path: str | os.PathLike[str], seconds: float, hold_seconds: float) -> str:
    """Returns gif or webp, after checking the path and the times."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in ("gif", "webp"):
        raise ValueError(f"expected a path ending in .gif or .webp, got {path}")
    if not (0 < seconds < np.inf and 0 < hold_seconds < np.inf):
        raise ValueError(f"expected times above 0 s, got {seconds} and {hold_seconds}")
    return kind


def _check_sides(kind: str, longest: int, text: int = 0) -> None:
    """Refuses pictures whose longest side, with lines of text, a format does not allow."""
    if longest + text > _SIDES[kind]:
        raise ValueError(
            f"expected a {kind} of at most {_SIDES[kind]:,} pixels a side, got {longest:,}; draw "
            "fewer rows or columns, or at a smaller scale"
        )


def clock(t: int, time_steps: int, width: int) -> Image.Image:
    """Returns a line "t = 12 / 64" with a bar that is full at the last step.

    It is wide enough for the bar to grow in every picture, even if `width` is less.
    """
    texts = [f"t = {step} / {time_steps}" for step in (t, time_steps)]
    left = PADDING + math.ceil(look.font().getlength(texts[1])) + 8
    width = max(width, left + time_steps + PADDING)
    line = np.full((LINE, width, 3), BACKGROUND, np.uint8)
    track = line[LINE // 2 - 2 : LINE // 2 + 2, left : width - PADDING]
    track[:] = SHADE
    track[:, : track.shape[1] * t // time_steps] = INK
    picture = Image.fromarray(line)
    look.write_text(picture, (PADDING, LINE / 2), texts[0], "lm")
    return picture


def _in_greys(pictures: Iterator[Image.Image], colours: Sequence[Colour]) -> Iterator[Image.Image]:
    """Yields grey pictures with rectangles on them in one palette of 256.

    It holds our own colours exactly, and so many greys and greys beneath a border that each is
    off by at most one part in 255.
    """
    colour = colours[0]
    ours = np.array([*colours, BACKGROUND, SHADE, INK], np.uint8)
    greys, tints = (
        np.rint(np.linspace(0, 255, size)).astype(np.uint8)[:, None].repeat(3, 1)
        for size in (256 - _TINTS - len(ours), _TINTS)
    )
    tints = rectangles.blend(tints, colour)
    palette = np.concatenate([greys, tints, ours]).tobytes()
    every = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    index_of = np.zeros(2**24, np.uint8)  # of every colour that can occur
    near = np.rint(np.linspace(0, _TINTS - 1, 256)).astype(np.uint8)
    index_of[_packed(rectangles.blend(every, colour))] = len(greys) + near
    index_of[_packed(every)] = np.rint(np.linspace(0, len(greys) - 1, 256)).astype(np.uint8)
    index_of[_packed(ours)] = len(greys) + _TINTS + np.arange(len(ours), dtype=np.uint8)
    for picture in pictures:
        indexed = Image.fromarray(index_of[_packed(np.asarray(picture))])
        indexed.putpalette(palette)
        yield indexed


def _packed(colours: np.ndarray) -> np.ndarray:
    """Returns colours uint8 [..., 3] as whole numbers [...]."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue


def _with_one_palette(
    pictures: Sequence[Image.Image], colours: Sequence[Colour]
) -> Iterator[Image.Image]:
    """Yields coloured pictures in one palette of 256: our own colours exactly, the images' others.

    One palette for all keeps still pixels still; Pillow's own choice differs from picture to
    picture, and loses a thin rectangle's colour.
    """
    ours = np.array([*colours, BACKGROUND, SHADE, INK], np.uint8)
    others = 256 - len(ours)
    some = [np.asarray(pictures[t - 1]) for t in strips.evenly_spaced(len(pictures), 8)]
    palette = Image.fromarray(np.concatenate(some)).quantize(others, Image.Quantize.MEDIANCUT)
    theirs = np.zeros((others, 3), np.uint8)
    found = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)[:others]
    theirs[: len(found)] = found
    for picture in pictures:
        index = np.array(picture.quantize(palette=palette, dither=Image.Dither.NONE))
        for k, own in enumerate(ours):
            index[(np.asarray(picture) == own).all(-1)] = others + k
        indexed = Image.fromarray(index)
        indexed.putpalette(np.concatenate([theirs, ours]).tobytes())
        yield indexed
