"""Animations of samples being drawn: GIF and WebP.

Finished NumPy arrays in, files out, in the look of `figures` and the conventions of `filmstrips`.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from draw_jax.drawing.figures import grids, look, strips
from draw_jax.drawing.figures.look import BACKGROUND, INK, SHADE, WRITE, Colour
from draw_jax.system import files


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
    """Writes a grid of samples being drawn, a picture a time step, for ever, and returns its path.

    A bar at the bottom fills up with t, so that no two pictures are alike.

    Args:
        frames: [T, B, H, W, C] in [0, 1], mean images sigma(c_t).
        path: ends in .gif (colours rounded to 256) or .webp (exact).
        windows: [T, B], drawn on the frame of their own step; None: without attention.
        glimpse_size: N of the windows.
        colour: of the rectangles.
        columns: samples in a row; None: as square as B allows.
        scale: whole-number enlargement; None: until a digit is readable.
        seconds: for all of the drawing, above 0; no picture stays for less than 0.04 s or more
            than 0.4 s.
        hold_seconds: for the last picture, above 0.

    Raises:
        ValueError: if an argument is not as described.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("gif", "webp"):
        raise ValueError(f"expected a path ending in .gif or .webp, got {path}")
    if not (0 < seconds < np.inf and 0 < hold_seconds < np.inf):
        raise ValueError(f"expected times above 0 s, got {seconds} and {hold_seconds}")
    frames = look.check_images(frames, 5, "frames")
    time_steps, count = frames.shape[:2]
    scale = look.check_scale(scale, *frames.shape[2:4])
    columns = int(np.ceil(np.sqrt(count))) if columns is None else columns
    steps = range(1, time_steps + 1)

    def sheets() -> Iterator[np.ndarray]:
        for t in steps:
            panels = strips.strip(frames, windows, glimpse_size, colour, [t], scale)[:, 0]
            sheet = grids.tile(panels, columns)
            height, width = sheet.shape[:2]
            # At least as wide as there are steps, so that the bar grows in every picture.
            picture = np.full((height + 4, max(width, time_steps), 3), BACKGROUND, np.uint8)
            picture[:height, :width] = sheet
            picture[height:] = SHADE
            picture[height:, : picture.shape[1] * t // time_steps] = INK
            yield picture

    pictures = [Image.fromarray(sheet) for sheet in sheets()]
    if kind == "gif":
        pictures = _with_one_palette(pictures, colour)
    # GIF counts in hundredths of a second.
    each = int(np.clip(round(seconds / time_steps, 2), 0.04, 0.4) * 1000)
    durations = [each] * (time_steps - 1) + [max(each, round(hold_seconds * 1000))]
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {"optimize": False}
    return files.write_whole(
        path,
        lambda file: pictures[0].save(
            file,
            format=kind,
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            **options,
        ),
    )


def _with_one_palette(pictures: Sequence[Image.Image], colour: Colour) -> list[Image.Image]:
    """Returns pictures in one palette of 256: our own colours exactly, the rest of the images'.

    One palette for all keeps still pixels still; Pillow's own choice differs from picture to
    picture, and loses a thin rectangle's colour.
    """
    ours = np.array([colour, BACKGROUND, SHADE, INK], np.uint8)
    pixels = [np.asarray(picture) for picture in pictures]
    is_ours = [(p[:, :, None] == ours).all(-1) for p in pixels]  # [h, w, 4] each
    if all(
        ((p == p[..., :1]).all(-1) | own.any(-1)).all()
        for p, own in zip(pixels, is_ours, strict=True)
    ):
        greys = np.rint(np.linspace(0, 255, 252)).astype(np.uint8)
        theirs = np.repeat(greys[:, None], 3, axis=1)
        indices = [np.rint(p[..., 0] * (251 / 255)).astype(np.uint8) for p in pixels]
    else:
        some = np.concatenate([pixels[t - 1] for t in strips.evenly_spaced(len(pixels), 8)])
        palette = Image.fromarray(some).quantize(252, Image.Quantize.MEDIANCUT)
        theirs = np.zeros((252, 3), np.uint8)
        found = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)[:252]
        theirs[: len(found)] = found
        indices = [
            np.array(p.quantize(palette=palette, dither=Image.Dither.NONE)) for p in pictures
        ]
    result = []
    for index, own in zip(indices, is_ours, strict=True):
        for k in range(len(ours)):
            index[own[..., k]] = 252 + k
        picture = Image.fromarray(index)
        picture.putpalette(np.concatenate([theirs, ours]).tobytes())
        result.append(picture)
    return result
