"""Curves, a run's report, and the pictures of the attention filters, drawn with matplotlib.

Finished NumPy arrays and plain rows in, PNG files out, in the look of `figures`. Each call draws
on a Figure of its own with fixed settings: neither pyplot nor a user's matplotlibrc has a say.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image

from draw_jax import figures


def _rgb(colour: figures.Colour) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in colour)
    return red, green, blue


_INK = _rgb(figures.INK)
# Okabe and Ito's palette in the order in which the lines of a plot take it.
_LINES = [
    _rgb(figures.ACCENT),
    _rgb(figures.WRITE),
    _rgb(figures.READ),
    _rgb((204, 121, 167)),
    _rgb((230, 159, 0)),
    _rgb((86, 180, 233)),
]
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": _rgb(figures.SHADE),
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _rgb(figures.BACKGROUND),
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.dpi": 120,
    "savefig.dpi": "figure",
}
_METRICS = {
    "elbo_loss": "bound, nats",
    "nll": "reconstruction (nll), nats",
    "kl": "KL, nats",
    "error": "classification error",
}
_SHOWN = 16  # samples of each grid in a report


def curves(
    series: Mapping[str, tuple[Any, Any]],
    path: str | os.PathLike[str],
    x_label: str = "update",
    y_label: str = "nats per image",
    title: str = "",
    references: Mapping[str, float] | None = None,
) -> Path:
    """Writes named curves over a common x, as in figure 11, to a PNG and returns its path.

    Args:
        series: name -> (x, y), two sequences of one length; y may hold NaN for a gap.
        path: ends in .png.
        x_label: of the x axis.
        y_label: of the y axis.
        title: above the plot.
        references: name -> y of a dashed level line, a published result for instance.

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
    with style.context(["default", _SETTINGS]):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for number, (name, (x, y)) in enumerate(data.items()):
            _curve(axes, x, y, name, _LINES[number % len(_LINES)])
        levels = dict(references or {})
        for number, (name, level) in enumerate(levels.items()):
            dashes = ["--", ":", "-."][number % 3]
            axes.axhline(level, color=_INK, linestyle=dashes, linewidth=1, label=name)
        _fit_y(axes, list(data.values()), list(levels.values()))
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        axes.legend()
        return _save(figure, path)


def report(
    rows: Sequence[Mapping[str, Any]],
    sample_grids: Sequence[tuple[int, np.ndarray]],
    path: str | os.PathLike[str],
    kl_nats: np.ndarray | None = None,
    title: str = "",
) -> Path:
    """Writes one run at a glance to a PNG, training curves and samples, and returns its path.

    Args:
        rows: of metrics, each with `step`, `split` (train or validation) and any of `elbo_loss`,
            `nll`, `kl` (nats), `error`; non-finite values are left out.
        sample_grids: (step, images [N, H, W, C] in [0, 1]) in the order of steps; of many, five
            evenly spaced are shown, the first 16 images of each.
        path: ends in .png.
        kl_nats: mean KL of each time step at the latest validation [T], eq. 10; None: no bars.
        title: above it all.

    Raises:
        ValueError: if no row holds a metric, or an array is not as described.
        OSError: if the file cannot be written.
    """
    names = [name for name in _METRICS if any(name in row for row in rows)]
    if not names:
        raise ValueError(f"expected rows with any of {', '.join(_METRICS)}, got none")
    kl_nats = None if kl_nats is None else np.asarray(kl_nats, float)
    if kl_nats is not None and (kl_nats.ndim != 1 or not len(kl_nats)):
        raise ValueError(f"expected kl_nats [T], got {list(kl_nats.shape)}")
    picked = np.unique(np.rint(np.linspace(0, len(sample_grids) - 1, 5)).astype(int))
    shown = [sample_grids[k] for k in picked] if len(sample_grids) else []
    pictures = [(step, figures.grid(images[:_SHOWN])) for step, images in shown]
    with style.context(["default", _SETTINGS]):
        heights = [2.9] + ([2.9] if pictures else []) + ([2.2] if kl_nats is not None else [])
        figure = Figure(figsize=(12, sum(heights) + (0.3 if title else 0)), layout="constrained")
        if title:
            figure.suptitle(title, fontsize=12)
        bands = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, name in zip(np.ravel(bands[0].subplots(1, len(names))), names, strict=True):
            _metric(axes, rows, name)
        if pictures:
            # Five places whatever the count, so that all reports show samples at one size.
            places = np.ravel(bands[1].subplots(1, 5))
            for axes in places:
                axes.set_axis_off()
            for axes, (step, picture) in zip(places, pictures, strict=False):
                axes.imshow(np.asarray(picture))
                axes.set_title(f"samples at update {step:,}")
        if kl_nats is not None:
            axes = bands[-1].subplots()
            axes.bar(np.arange(1, len(kl_nats) + 1), kl_nats, color=_LINES[1])
            axes.grid(False, axis="x")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(xlabel="time step t", ylabel="KL, nats", xlim=(0.4, len(kl_nats) + 0.6))
            axes.set_title("what each time step costs, latest validation")
        return _save(figure, path)


def filter_grid(
    image: np.ndarray,
    centres_x: np.ndarray,
    centres_y: np.ndarray,
    sigma_sq: float,
    path: str | os.PathLike[str],
) -> Path:
    """Writes figure 3's left half, an N x N grid of filters on an image, and returns its path.

    Dots are the filter centres, eqs 19 and 20, circles one standard deviation; the cross is the
    grid's centre (g_X, g_Y) and the arrow its stride delta.

    Args:
        image: [H, W, C] in [0, 1].
        centres_x: mu_X [N], pixels numbered from 1, N at least 2.
        centres_y: mu_Y [N], pixels numbered from 1.
        sigma_sq: variance of the filters, squared pixels, above 0.
        path: ends in .png.

    Raises:
        ValueError: if an argument is not as described.
        OSError: if the file cannot be written.
    """
    image = figures.check_images(image, 3, "image")
    centres_x, centres_y = np.asarray(centres_x, float), np.asarray(centres_y, float)
    if centres_x.ndim != 1 or len(centres_x) < 2 or centres_x.shape != centres_y.shape:
        raise ValueError(
            "expected centres [N] with N >= 2, got "
            f"{list(centres_x.shape)} and {list(centres_y.shape)}"
        )
    if not 0 < sigma_sq < math.inf:
        raise ValueError(f"expected sigma_sq above 0, got {sigma_sq}")
    colour = _rgb(figures.READ)
    with style.context(["default", _SETTINGS]):
        figure = Figure(figsize=(5, 5 * image.shape[0] / image.shape[1]), layout="constrained")
        axes = figure.subplots()
        _show(axes, image)
        for x in centres_x:
            for y in centres_y:
                axes.add_patch(Circle((x, y), math.sqrt(sigma_sq), color=colour, fill=False))
                axes.plot(x, y, "o", color=colour, markersize=5)
        g_x, g_y = centres_x.mean(), centres_y.mean()
        axes.plot(g_x, g_y, "+", color=_rgb(figures.WRITE), markersize=14, markeredgewidth=2)
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
        axes.annotate("$(g_X, g_Y)$", (g_x, g_y), (8, 8), textcoords="offset points", bbox=box)
        ends = {"arrowstyle": "<->", "color": _rgb(figures.WRITE), "linewidth": 1.5}
        axes.annotate(
            "", (centres_x[1], centres_y[0]), (centres_x[0], centres_y[0]), arrowprops=ends
        )
        middle = ((centres_x[0] + centres_x[1]) / 2, centres_y[0])
        axes.annotate(
            r"$\delta$", middle, (0, 7), textcoords="offset points", ha="center", bbox=box
        )
        return _save(figure, path)


def filter_figure(
    image: np.ndarray,
    windows: Any,
    glimpses: np.ndarray,
    path: str | os.PathLike[str],
    reconstructions: np.ndarray | None = None,
    colour: figures.Colour = figures.READ,
) -> Path:
    """Writes figures 3 and 4: an image's windows, what they read, and that written back.

    A row per window: the image with the rectangle, the glimpse, and the reconstruction through
    the transposed filters. Each row's title tells the window's zoom and precision.

    Args:
        image: [H, W, C] in [0, 1].
        windows: arrays [K], in pixels numbered from 1.
        glimpses: [K, N, N, C] with gamma = 1, clipped to [0, 1].
        path: ends in .png.
        reconstructions: [K, H, W, C], clipped to [0, 1]; None: no such column.
        colour: of the rectangles.

    Raises:
        ValueError: if an argument is not as described.
        OSError: if the file cannot be written.
    """
    image = figures.check_images(image, 3, "image")
    glimpses = figures.check_images(np.clip(glimpses, 0, 1), name="glimpses")
    columns = [glimpses]
    if reconstructions is not None:
        columns.append(figures.check_images(np.clip(reconstructions, 0, 1), name="reconstructions"))
    count, size = glimpses.shape[:2]
    if any(np.shape(windows.g_x) != (len(column),) for column in columns):
        raise ValueError(
            f"expected windows [K] and as many of each picture, got g_x {np.shape(windows.g_x)} "
            f"and {[len(column) for column in columns]}"
        )
    scale = max(1, round(1000 / max(image.shape[:2])))  # finer than it is shown
    enlarged = figures.panels(image, scale)
    names = [f"{size} x {size} glimpse", "written back"]
    with style.context(["default", _SETTINGS]):
        height = 3 * image.shape[0] / image.shape[1]
        figure = Figure(
            figsize=(3 * (1 + len(columns)), (height + 0.5) * count), layout="constrained"
        )
        places = figure.subplots(count, 1 + len(columns), squeeze=False)
        for k in range(count):
            window = figures.window_at(windows, k)
            drawn = figures.draw_window(enlarged, window, size, scale, colour)
            _show(places[k, 0], image)
            places[k, 0].images[0].set_data(drawn)
            places[k, 0].images[0].set_interpolation("antialiased")
            for axes, column, name in zip(places[k, 1:], columns, names, strict=False):
                _show(axes, column[k])
                axes.set_title(name)
            sigma = math.sqrt(window.sigma_sq)
            places[k, 0].set_title(rf"$\delta$ = {window.delta:.2g}, $\sigma$ = {sigma:.2g} pixels")
        return _save(figure, path)


def _show(axes: Axes, image: np.ndarray) -> None:
    """Shows an image [H, W, C] with its pixels numbered from 1 and no ticks."""
    height, width = image.shape[:2]
    axes.imshow(
        figures.panels(image, 1),
        interpolation="nearest",
        extent=(0.5, width + 0.5, height + 0.5, 0.5),
    )
    axes.set_axis_off()


def _metric(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draws one metric of a run: training thin, validation marked."""
    data = []
    for split, colour in (("train", _LINES[0]), ("validation", _LINES[1])):
        mine = [row for row in rows if row.get("split") == split and row.get(name) is not None]
        if not mine:
            continue
        x = np.array([row["step"] for row in mine], float)
        y = np.array([row[name] for row in mine], float)
        data.append((x, y))
        _curve(axes, x, y, split, colour, thin=split == "train")
    _fit_y(axes, data, [])
    axes.set(title=_METRICS[name], xlabel="update")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if data:
        axes.legend()


def _curve(
    axes: Axes, x: np.ndarray, y: np.ndarray, name: str, colour: Any, thin: bool = False
) -> None:
    y = np.where(np.isfinite(y), y, np.nan)
    few = not thin and len(x) <= 40
    axes.plot(
        x,
        y,
        color=colour,
        label=name,
        linewidth=0.8 if thin else 1.6,
        marker="o" if few or len(x) == 1 else "",
        markersize=3.5,
    )


def _fit_y(
    axes: Axes, data: Sequence[tuple[np.ndarray, np.ndarray]], levels: Sequence[float]
) -> None:
    """Fits the y axis to what comes after a curve's first twentieth, the fall from the start."""
    kept = [np.asarray(levels, float)]
    for x, y in data:
        later = y[x >= x.min() + (x.max() - x.min()) / 20]
        kept.append(later[np.isfinite(later)])
    values = np.concatenate(kept)
    if not len(values) or values.min() == values.max():
        return
    margin = 0.05 * (values.max() - values.min())
    axes.set_ylim(values.min() - margin, values.max() + margin)


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return figures.save(Image.fromarray(np.ascontiguousarray(pixels)), path)
