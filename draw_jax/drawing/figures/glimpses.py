"""What a classifier looks at and answers, glimpse by glimpse: figure 5, and the same in motion."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import special

from draw_jax.drawing.figures import animations, grids, look, rectangles, strips
from draw_jax.drawing.figures.look import ACCENT, BACKGROUND, INK, LINE, PADDING, READ, SHADE

BARS = 40  # pixels of a bar of probability 1
_MARK = 3  # pixels of the line beneath the label's number
_NUMBERS = look.FONT_PIXELS + 2  # pixels of the line of numbers
_CLASSES = BARS + _NUMBERS + _MARK  # height of a panel of probabilities
_PAPER = (255, 255, 255)
_SECONDS = 0.8  # for a glimpse of an animation


class Seen(NamedTuple):
    """What a classifier saw of B images in T glimpses of S scales, and what it answered."""

    images: np.ndarray  # [B, H, W, C] in [0, 1]
    glimpses: np.ndarray  # [S, T, B, N, N, C], shown clipped to [0, 1]
    logits: np.ndarray  # of the classes after each glimpse [T, B, classes]
    windows: Any  # of the first scale, arrays [T, B]
    labels: np.ndarray | None  # integers [B]; None: not known
    blurred: bool = True  # whether sigma is shown: patches of whole pixels have none
    finer: np.ndarray | None = None  # read again through the windows, by a net [T, B, M, M, C]


def sheet(seen: Seen, scale: int | None = None) -> Image.Image:
    """Returns a block of rows per image, as in figure 5: a column per glimpse, at most ten.

    The rows are the image with the window, what was read through it (a row per scale), and the
    probability of every class after that glimpse. Above them stand label and answer, beneath all
    blocks what the marks mean. As many blocks stand side by side as a screen needs.

    Args:
        seen: at least one image.
        scale: whole-number enlargement; None: until a digit is readable.

    Raises:
        ValueError: if an argument is not as described, or the picture would be too large.
    """
    images, glimpses, after = _checked(seen)
    labels, windows, glimpse_size = seen.labels, seen.windows, glimpses[0].shape[2]
    count, height, width = images.shape[:3]
    steps = strips.evenly_spaced(len(after))
    scale = look.check_scale(scale, height, width)
    titles = [_title(after[-1, b], labels, b, last=True) for b in range(count)]
    names = _names(seen)
    gutter = max(_text_width(name) for name in [*names, "classes"]) + 10
    panel, across = height * scale + PADDING, len(steps) * (width * scale + PADDING) + PADDING
    block = (
        max(across, *map(_text_width, titles)) + look.GAP,
        2 * LINE + len(names) * panel + _CLASSES + 2 * PADDING + look.GAP,
    )
    columns = _columns(count, block, gutter)
    lines = math.ceil(count / columns)
    look.check_size(gutter + columns * block[0], lines * block[1] + 2 * LINE)

    frames = np.broadcast_to(images, (len(after), *images.shape))
    shown = [strips.strip(frames, windows, glimpse_size, READ, steps, scale)]  # [B, S, h, w, 3]
    shape = shown[0].shape
    for glimpse in glimpses:
        panels = [look.centred(glimpse[t - 1], shape[2], shape[3]) for t in steps]
        shown.append(np.stack(panels, axis=1))
    sheets = []
    for line in range(lines):
        picture = Image.new("RGB", (gutter + columns * block[0], block[1]), BACKGROUND)
        for place, b in enumerate(range(line * columns, min(count, (line + 1) * columns))):
            rows = Image.fromarray(grids.tile(np.concatenate([r[b] for r in shown]), len(steps)))
            bars = [_classes(after[t - 1, b], _of(labels, b), shape[3]) for t in steps]
            parts = [
                _line(titles[b]),
                strips.step_names(steps, shape[3]),
                rows,
                Image.fromarray(grids.tile(np.stack(bars), len(steps))),
            ]
            picture.paste(look.stack(parts), (gutter + place * block[0], 0))
        look.name_rows(picture, names, gutter, 2 * LINE, height * scale)
        centre = 2 * LINE + len(names) * panel + 2 * PADDING + BARS / 2
        look.write_text(picture, (gutter - 6, centre), "classes", "rm")
        sheets.append(picture)
    return look.stack([*sheets, look.legend(_entries(seen), sheets[0].width)])


def animation(seen: Seen, path: str | os.PathLike[str], scale: int | None = None) -> Path:
    """Writes a looping GIF or WebP, a picture per glimpse, and returns its path.

    Each image has its window, beside it what was read, named where there is room, and beneath it
    the probabilities of the classes.

    Args:
        seen: at least one image.
        path: ends in .gif or .webp.
        scale: whole-number enlargement; None: until a digit is readable.

    Raises:
        ValueError: if an argument is not as described, or the pictures would be too large.
        OSError: if the file cannot be written.
    """
    is_grey, steps = seen.images.shape[-1] == 1, len(seen.logits)
    pictures = _frames(seen, scale)
    seconds = _SECONDS * steps
    return animations.save(
        pictures, path, steps, is_grey, (READ, ACCENT, _PAPER), seconds, longest=_SECONDS
    )


def _frames(seen: Seen, scale: int | None) -> Iterator[Image.Image]:
    """Yields the pictures of `animation`."""
    images, glimpses, after = _checked(seen)
    labels, windows, glimpse_size = seen.labels, seen.windows, glimpses[0].shape[2]
    (count, height, width), time_steps = images.shape[:3], len(after)
    scale = look.check_scale(scale, height, width)
    titles = [
        [_title(after[t - 1, b], labels, b, t == time_steps) for b in range(count)]
        for t in range(1, time_steps + 1)
    ]
    longest = max(_text_width(title) for line in titles for title in line)
    across = max((1 + len(glimpses)) * (width * scale + PADDING) - PADDING, longest)
    names = _names(seen)
    named = max(_text_width(name) for name in names) <= width * scale + PADDING
    over = [strips.column_names(names, width * scale, left=0)] if named else []
    down = (1 + named) * LINE + height * scale + PADDING + _CLASSES
    columns = _columns(count, (across + look.GAP, down + look.GAP))
    rows = math.ceil(count / columns)
    look.check_size(columns * (across + look.GAP), rows * (down + look.GAP) + 3 * LINE, time_steps)
    still = np.broadcast_to(images, (time_steps, *images.shape))
    legend = look.legend(_entries(seen), columns * (across + look.GAP) + look.GAP)
    for t in range(1, time_steps + 1):
        shown = strips.strip(still, windows, glimpse_size, READ, [t], scale)[:, 0]
        beside = [look.centred(glimpse[t - 1], *shown.shape[1:3]) for glimpse in glimpses]
        cells = []
        for b in range(count):
            panels = np.stack([part[b] for part in (shown, *beside)])
            top = grids.tile(panels, len(panels))[PADDING:, PADDING:-PADDING]
            bars = _classes(after[t - 1, b], _of(labels, b), top.shape[1])
            parts = [_line(titles[t - 1][b]), *over, Image.fromarray(top), Image.fromarray(bars)]
            cells.append(_padded(look.stack(parts), across, down))
        picture = Image.fromarray(grids.tile(np.stack(cells), columns, look.GAP))
        clock = animations.clock(t, time_steps, max(picture.width, legend.width))
        yield look.stack([picture, clock, legend])


def _checked(seen: Seen) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Returns images, what was read [T, B, N, N, C] and probabilities, after checking `seen`."""
    images = look.check_images(seen.images)
    logits, glimpses = np.asarray(seen.logits, np.float64), np.asarray(seen.glimpses)
    if logits.ndim != 3 or logits.shape[1] != len(images) or not logits.size:
        raise ValueError(
            f"expected logits [T, B = {len(images)}, classes], got {list(logits.shape)}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("expected finite logits, got one that is not")
    time_steps, count, classes = logits.shape
    if glimpses.ndim != 6 or glimpses.shape[1:3] != (time_steps, count):
        raise ValueError(
            f"expected glimpses [S, T = {time_steps}, B = {count}, N, N, C], got "
            f"{list(glimpses.shape)}"
        )
    read = [*glimpses] if seen.finer is None else [*glimpses, np.asarray(seen.finer)]
    for patches in read:
        if patches.shape[2] > min(images.shape[1:3]):
            raise ValueError(
                f"expected glimpses no larger than the images, got N = {patches.shape[2]}"
            )
    if seen.labels is not None:
        labels = np.asarray(seen.labels)
        if labels.shape != (count,) or not (0 <= labels.min() and labels.max() < classes):
            raise ValueError(
                f"expected labels [B = {count}] from 0 to {classes - 1}, got {labels.tolist()}"
            )
    clipped = [np.clip(patches, 0, 1).astype(np.float32) for patches in read]
    return images, clipped, special.softmax(logits, axis=-1)


def _title(probabilities: np.ndarray, labels: Any, b: int, last: bool) -> str:
    """Returns label and answer, and after the last glimpse whether they agree."""
    answer = int(probabilities.argmax())
    text = f"answer {answer} ({probabilities[answer]:.2f})"
    label = _of(labels, b)
    if label is None:
        return text
    verdict = f": {'right' if label == answer else 'wrong'}" if last else ""
    return f"label {label}, {text}{verdict}"


def _of(labels: Any, b: int) -> int | None:
    return None if labels is None else int(labels[b])


def _classes(probabilities: np.ndarray, label: int | None, width: int) -> np.ndarray:
    """Returns a bar per class on paper as high as probability 1, the numbers beneath.

    The answer's bar is dark, the label's number is underlined. Numbers that do not fit are left out.

    Args:
        probabilities: [classes].
        label: of the image; None: not known.
        width: of the panel, in pixels.

    Returns:
        uint8 [_CLASSES, width, 3].
    """
    picture = Image.new("RGB", (width, _CLASSES), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, BARS - 1), fill=_PAPER)
    classes, answer = len(probabilities), int(probabilities.argmax())
    edges = np.linspace(0, width, classes + 1)
    numbers = look.font().getlength(str(classes - 1)) <= width / classes
    for k, probability in enumerate(probabilities):
        gap = 1 if width >= 4 * classes else 0
        left, right = round(edges[k]) + gap, max(round(edges[k + 1]) - 1 - gap, round(edges[k]))
        pixels = round(BARS * float(probability))
        if pixels:
            fill = INK if k == answer else SHADE
            draw.rectangle((left, BARS - pixels, right, BARS - 1), fill=fill)
        if numbers:
            centre = ((edges[k] + edges[k + 1]) / 2, BARS + _NUMBERS / 2)
            look.write_text(picture, centre, str(k), "mm")
        if k == label:
            draw.rectangle((left, BARS + _NUMBERS, right, _CLASSES - 1), fill=ACCENT)
    return np.asarray(picture)


def _names(seen: Seen) -> list[str]:
    """Returns what the panels of an image show: it, and what was read of it on each scale."""
    scales = len(seen.glimpses)
    wider = [f"{2**k} \N{MULTIPLICATION SIGN} as wide" for k in range(1, scales)]
    first = "glimpse" if scales == 1 else "narrowest patch"
    return ["image", first, *wider, *([] if seen.finer is None else ["read by the net"])]


def _entries(seen: Seen) -> list[tuple[np.ndarray, str]]:
    """Returns the entries of the legend."""
    paper = np.full((12, 18, 3), _PAPER, np.uint8)
    paper[6:, 1:5], paper[1:, 7:11], paper[8:, 13:17] = SHADE, INK, SHADE
    (swatch, name), thick, larger = rectangles.legend(READ)
    narrowest = name if len(seen.glimpses) == 1 else "window of the narrowest patch"
    if seen.finer is not None:
        narrowest += " and of the net"
    entries = [(swatch, narrowest), *([thick] if seen.blurred else []), larger]
    entries.append((paper, "probability of each class after the glimpse (full height: 1)"))
    entries.append((np.full((12, 6, 3), INK, np.uint8), "answer: the most probable class"))
    if seen.labels is not None:
        entries.append((np.full((_MARK, 10, 3), ACCENT, np.uint8), "label: the true class"))
    return entries


def _columns(count: int, block: tuple[int, int], gutter: int = 0) -> int:
    """Returns how many blocks stand side by side, so that a screen must shrink them least.

    Ties go to the number with the fewest empty places, then the largest, as screens are wide.
    """

    def cost(columns: int) -> tuple[float, ...]:
        size = (gutter + columns * block[0], math.ceil(count / columns) * block[1] + 2 * LINE)
        shrunk = max(pixels / most for pixels, most in zip(size, look.SCREEN, strict=True))
        return (max(1.0, shrunk), -count % columns, -columns)

    return min(range(1, count + 1), key=cost)


def _line(text: str) -> Image.Image:
    return look.line(text, _text_width(text))


def _text_width(text: str) -> int:
    return math.ceil(look.font().getlength(text)) + 2 * PADDING


def _padded(picture: Image.Image, width: int, height: int) -> np.ndarray:
    """Returns a picture at the top left of a panel, uint8 [height, width, 3]."""
    result = Image.new("RGB", (width, height), BACKGROUND)
    result.paste(picture, (0, 0))
    return np.asarray(result)
