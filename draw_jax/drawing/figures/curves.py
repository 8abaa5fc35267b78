"""Curves and a run's report, drawn with matplotlib.

Each call draws on a Figure of its own with fixed settings: neither pyplot nor a user's
matplotlibrc affects it.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from PIL import Image

from draw_jax.drawing.figures import grids, look


def rgb(colour: look.Colour) -> tuple[float, float, float]:
    """Returns a colour as matplotlib has it, each part in [0, 1]."""
    red, green, blue = (value / 255 for value in colour)
    return red, green, blue


INK = rgb(look.INK)
# Okabe and Ito's palette in the order in which the lines of a plot take it.
_LINES = [
    rgb((0, 114, 178)),
    rgb((213, 94, 0)),
    rgb((0, 158, 115)),
    rgb((204, 121, 167)),
    rgb((230, 159, 0)),
    rgb((86, 180, 233)),
]
SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": rgb(look.SHADE),
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": rgb(look.BACKGROUND),
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.dpi": 120,
    "savefig.dpi": "figure",
}
# What a report shows of a run's metrics, in this order, and what it calls them.
_METRICS = {
    "elbo_loss": "negative ELBO, nats",
    "nll": "reconstruction (nll), nats",
    "kl": "KL, nats",
    "bits_per_dim": "bits per dimension",
    "error": "classification error",
    "cross_entropy": "cross-entropy, nats",
}
_IN_A_ROW = 4  # metrics of a report side by side
_NUMBERED = 20  # time steps or classes at most, for numbers in the picture
_FEW = 10  # a curve of fewer points is shown whole
_MARKS = 40  # about the most on a validation curve
_MEANS = 40  # points of a training curve of more than twice as many batches


def curves(
    series: Mapping[str, tuple[Any, Any]],
    path: str | os.PathLike[str],
    x_label: str = "update",
    y_label: str = "nats per image",
    title: str = "",
    references: Mapping[str, float] | None = None,
    whole: bool = False,
    log: bool = False,
) -> Path:
    """Writes named curves over a common x, as in figure 11, to a PNG and returns its path.

    Args:
        series: name -> (x, y), two sequences of one length; y may hold NaN for a gap.
        path: ends in .png.
        x_label: of the x axis.
        y_label: of the y axis.
        title: above the plot.
        references: name -> y of a dashed level line, a published result for instance.
        whole: whether every point is in the picture; otherwise a long curve's steep start, as in
            training, is cut off, so that the rest can be read.
        log: whether the y axis is logarithmic; all y are above 0 then.

    Raises:
        ValueError: if there is no series, or x and y differ in length.
        OSError: if the file cannot be written.
    """
    if not series:
        raise ValueError("expected at least one series, got none")
    data = {name: (np.asarray(x, float), np.asarray(y, float)) for name, (x, y) in series.items()}
    for name, (x, y) in data.items():
        if x.ndim != 1 or x.shape != y.shape or not len(x):
            raise ValueError(
                f"expected x and y of one length for {name!r}, got {list(x.shape)}, {list(y.shape)}"
            )
    with style.context(["default", SETTINGS]):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for number, (name, (x, y)) in enumerate(data.items()):
            _curve(axes, x, y, name, _LINES[number % len(_LINES)])
        levels = dict(references or {})
        for number, (name, level) in enumerate(levels.items()):
            dashes = ["--", ":", "-."][number % 3]
            axes.axhline(level, color=INK, linestyle=dashes, linewidth=1, label=name)
        if not whole:
            _fit_y(axes, list(data.values()), list(levels.values()))
        if all((x == np.rint(x)).all() for x, _ in data.values()):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        axes.legend()
        return save(figure, path)


def report(
    rows: Sequence[Mapping[str, Any]],
    sample_grids: Sequence[tuple[int, np.ndarray]],
    path: str | os.PathLike[str],
    **more: Any,
) -> Path:
    """Writes one run at a glance to a PNG and returns its path; all else as for `report_figure`."""
    return save(report_figure(rows, sample_grids, **more), path)


def report_figure(
    rows: Sequence[Mapping[str, Any]],
    sample_grids: Sequence[tuple[int, np.ndarray]],
    kl_nats: np.ndarray | None = None,
    title: str = "",
    error_per_step: np.ndarray | None = None,
    confusion: np.ndarray | None = None,
) -> Figure:
    """Returns one run at a glance: curves of its metrics, samples over time, KL per time step.

    Of a classifier: its error after each glimpse, where there are several, and what it confuses.

    Args:
        rows: of metrics, each with `step`, `split` (train or validation) and any of `elbo_loss`,
            `nll`, `kl` (nats), `bits_per_dim`, `error` (a fraction), `cross_entropy` (nats);
            non-finite values are left out.
        sample_grids: (step, images [N, H, W, C] in [0, 1]) in the order of steps; of many, five
            evenly spaced are shown, the first 16 images of each, and more images of fewer grids.
        kl_nats: mean KL of each time step at the latest validation [T], eq. 10; None: no bars.
        title: above it all.
        error_per_step: of the latest validation, a fraction [T].
        confusion: of the latest validation, the fraction of its images that are of class i and
            were taken for class j, [classes, classes].

    Raises:
        ValueError: if no row holds a metric, or an array is not as described.
    """
    names = [name for name in _METRICS if any(name in row for row in rows)]
    if not names:
        raise ValueError(f"expected rows with any of {', '.join(_METRICS)}, got none")
    kl_nats = _checked("kl_nats [T]", kl_nats, 1)
    error_per_step = _checked("error_per_step [T]", error_per_step, 1)
    confusion = _checked("confusion [classes, classes]", confusion, 2)
    pictures = grids.picked(sample_grids)
    lines = np.array_split(names, -(-len(names) // _IN_A_ROW))
    with style.context(["default", SETTINGS]):
        heights = [2.9] * len(lines) + [2.9] * bool(pictures) + [2.2] * (kl_nats is not None)
        heights += [4.4] * (confusion is not None)
        figure = Figure(figsize=(12, sum(heights) + (0.3 if title else 0)), layout="constrained")
        if title:
            figure.suptitle(title, fontsize=12)
        bands = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for band, line in zip(bands, lines, strict=False):
            for axes, name in zip(np.ravel(band.subplots(1, len(line))), line, strict=True):
                _metric(axes, rows, name)
        if pictures:
            places = np.ravel(bands[len(lines)].subplots(1, len(pictures)))
            for axes, (step, picture) in zip(places, pictures, strict=True):
                axes.set_axis_off()
                axes.imshow(np.asarray(picture))
                axes.set_title(f"samples at update {step:,}")
        if kl_nats is not None:
            axes = bands[len(lines) + bool(pictures)].subplots()
            _bars(axes, kl_nats, "KL, nats")
            axes.set_title("KL of each time step, latest validation")
        if confusion is not None:
            bars = [] if error_per_step is None or len(error_per_step) == 1 else [error_per_step]
            *left, right = np.ravel(bands[-1].subplots(1, 1 + len(bars)))
            _confusion(right, confusion)
            for axes, errors in zip(left, bars, strict=True):
                _bars(axes, errors, "classification error", numbers=True)
                axes.set_title("error after each glimpse, latest validation")
    return figure


def _checked(name: str, values: Any, ndim: int) -> np.ndarray | None:
    array = None if values is None else np.asarray(values, float)
    if array is not None and (array.ndim != ndim or len({*array.shape, 0}) != 2):
        raise ValueError(f"expected {name}, got {list(array.shape)}")
    return array


def _bars(axes: Axes, values: np.ndarray, y_label: str, numbers: bool = False) -> None:
    """Draws a bar per time step."""
    bars = axes.bar(np.arange(1, len(values) + 1), values, color=_LINES[1])
    if numbers and len(values) <= _NUMBERED:
        axes.bar_label(bars, fmt="{:.3f}")
    axes.grid(False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="time step t", ylabel=y_label, xlim=(0.4, len(values) + 0.6))


def _confusion(axes: Axes, confusion: np.ndarray) -> None:
    """Draws what the images of each class were taken for, in percent of the class."""
    totals = confusion.sum(axis=1, keepdims=True)
    percent = 100 * confusion / np.where(totals > 0, totals, 1)
    axes.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100))  # so that 1 % is seen
    axes.grid(False)
    ticks = np.arange(0, len(percent), -(-len(percent) // _NUMBERED))
    axes.set(xticks=ticks, yticks=ticks, xlabel="answer", ylabel="label")
    axes.set_title("answers to the images of each label, %, latest validation")
    if len(percent) > _NUMBERED:
        return
    for row, column in np.argwhere(percent > 0):
        value = percent[row, column]
        text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.05 else "<.1"
        colour = "white" if value > 30 else INK
        axes.text(column, row, text, ha="center", va="center", size=8, color=colour)


def _metric(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draws one metric of a run: training thin, of many batches their means, validation marked."""
    data = []
    for split, colour in (("train", _LINES[0]), ("validation", _LINES[1])):
        mine = [row for row in rows if row.get("split") == split and row.get(name) is not None]
        if not mine:
            continue
        x = np.array([row["step"] for row in mine], float)
        y = np.array([row[name] for row in mine], float)
        label = split
        if split == "train" and len(x) > 2 * _MEANS:  # of single batches: noise would hide the rest
            shown = np.where(np.isfinite(y), y, np.nan)
            axes.plot(
                x, shown, color=colour, alpha=0.3, linewidth=0.8, label="train, single batches"
            )
            x, y = means(x, y, _MEANS)
            label = "their running mean"
        data.append((x, y))
        _curve(axes, x, y, label, colour, thin=split == "train")
    _fit_y(axes, data, [])
    axes.set(title=_METRICS[name], xlabel="update")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if data:
        axes.legend()


def means(x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means of `count` groups of points, x and y [N], without non-finite y."""
    groups = np.array_split(np.stack([x, y])[:, np.isfinite(y)], count, axis=1)
    x, y = np.array([group.mean(axis=1) for group in groups if group.size]).reshape(-1, 2).T
    return x, y


def _curve(
    axes: Axes, x: np.ndarray, y: np.ndarray, name: str, colour: Any, thin: bool = False
) -> None:
    y = np.where(np.isfinite(y), y, np.nan)
    axes.plot(
        x,
        y,
        color=colour,
        label=name,
        linewidth=0.8 if thin else 1.6,
        marker="o" if not thin or len(x) == 1 else "",
        markevery=-(-len(x) // _MARKS),
        markersize=3.5,
    )


def _fit_y(
    axes: Axes, data: Sequence[tuple[np.ndarray, np.ndarray]], levels: Sequence[float]
) -> None:
    """Fits the y axis to a curve without its first twentieth, the fall at the start.

    A curve of few points, over glimpses for instance, is shown whole.
    """
    kept = [np.asarray(levels, float)]
    for x, y in data:
        later = y if len(x) < _FEW else y[x >= x.min() + (x.max() - x.min()) / 20]
        kept.append(later[np.isfinite(later)])
    values = np.concatenate(kept)
    if not len(values) or values.min() == values.max():
        return
    margin = 0.05 * (values.max() - values.min())
    axes.set_ylim(values.min() - margin, values.max() + margin)


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure to a PNG, whole or not at all, and returns its path."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return look.save(Image.fromarray(np.ascontiguousarray(pixels)), path)
