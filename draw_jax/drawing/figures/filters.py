"""The attention filters on a picture, figures 3 and 4, drawn with matplotlib like `curves`."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from draw_jax.drawing.figures import curves, look, rectangles


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
    image = look.check_images(image, 3, "image")
    centres_x, centres_y = np.asarray(centres_x, float), np.asarray(centres_y, float)
    if centres_x.ndim != 1 or len(centres_x) < 2 or centres_x.shape != centres_y.shape:
        raise ValueError(
            "expected centres [N] with N >= 2, got "
            f"{list(centres_x.shape)} and {list(centres_y.shape)}"
        )
    if not 0 < sigma_sq < math.inf:
        raise ValueError(f"expected sigma_sq above 0, got {sigma_sq}")
    colour = curves.rgb(look.READ)
    with style.context(["default", curves.SETTINGS]):
        figure = Figure(figsize=(5, 5 * image.shape[0] / image.shape[1]), layout="constrained")
        axes = figure.subplots()
        _show(axes, image)
        for x in centres_x:
            for y in centres_y:
                axes.add_patch(Circle((x, y), math.sqrt(sigma_sq), color=colour, fill=False))
                axes.plot(x, y, "o", color=colour, markersize=5)
        g_x, g_y = centres_x.mean(), centres_y.mean()
        axes.plot(g_x, g_y, "+", color=curves.rgb(look.WRITE), markersize=14, markeredgewidth=2)
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
        axes.annotate("$(g_X, g_Y)$", (g_x, g_y), (15, 13), textcoords="offset points", bbox=box)
        ends = {"arrowstyle": "<->", "color": curves.rgb(look.WRITE), "linewidth": 1.5}
        axes.annotate(
            "", (centres_x[1], centres_y[0]), (centres_x[0], centres_y[0]), arrowprops=ends
        )
        middle = ((centres_x[0] + centres_x[1]) / 2, centres_y[0])
        axes.annotate(
            r"$\delta$", middle, (0, 7), textcoords="offset points", ha="center", bbox=box
        )
        axes.set_title(
            r"dots: centres of the filters; circles: their standard deviation $\sigma$", y=-0.08
        )
        return curves.save(figure, path)


def filter_figure(
    image: np.ndarray,
    windows: Any,
    glimpses: np.ndarray,
    path: str | os.PathLike[str],
    reconstructions: np.ndarray | None = None,
    filters: np.ndarray | None = None,
) -> Path:
    """Writes figures 3 and 4: an image's windows, what they read, and that written back.

    A row per window: the image with the rectangle, the glimpse, the reconstruction through the
    transposed filters, and two of the filters alone. Each row's title tells the window's zoom and
    precision.

    Args:
        image: [H, W, C] in [0, 1].
        windows: arrays [K], in pixels numbered from 1.
        glimpses: [K, N, N, C] with gamma = 1, clipped to [0, 1].
        path: ends in .png.
        reconstructions: [K, H, W, C], clipped to [0, 1]; None: no such column.
        filters: [K, 2, H, W, 1] in [0, 1], the filters of the glimpse's first and last pixel; None:
            no such columns.

    Raises:
        ValueError: if an argument is not as described.
        OSError: if the file cannot be written.
    """
    image = look.check_images(image, 3, "image")
    glimpses = look.check_images(np.clip(glimpses, 0, 1), name="glimpses")
    count, size = glimpses.shape[:2]
    columns, names = [glimpses], [f"{size} x {size} glimpse"]
    if reconstructions is not None:
        columns.append(look.check_images(np.clip(reconstructions, 0, 1), name="reconstructions"))
        names.append("written back")
    if filters is not None:
        filters = look.check_images(filters, 5, "filters")
        if filters.shape[1] != 2:
            raise ValueError(f"expected filters [K, 2, H, W, 1], got {list(filters.shape)}")
        columns += [filters[:, 0], filters[:, 1]]
        names += ["first filter, $F_Y^1$, $F_X^1$", f"last, $F_Y^{{{size}}}$, $F_X^{{{size}}}$"]
    if any(np.shape(windows.g_x) != (len(column),) for column in columns):
        raise ValueError(
            f"expected windows [K] and as many of each picture, got g_x {np.shape(windows.g_x)} "
            f"and {[len(column) for column in columns]}"
        )
    scale = max(1, round(1000 / max(image.shape[:2])))  # finer than it is shown
    enlarged = look.panels(image, scale)
    with style.context(["default", curves.SETTINGS]):
        height = 3 * image.shape[0] / image.shape[1]
        figure = Figure(
            figsize=(3 * (1 + len(columns)), (height + 0.5) * count), layout="constrained"
        )
        places = figure.subplots(count, 1 + len(columns), squeeze=False)
        for k in range(count):
            window = rectangles.window_at(windows, k)
            drawn = rectangles.draw_window(enlarged, window, size, scale, look.READ)
            _show(places[k, 0], image)
            places[k, 0].images[0].set_data(drawn)
            places[k, 0].images[0].set_interpolation("antialiased")
            for axes, column, name in zip(places[k, 1:], columns, names, strict=True):
                _show(axes, column[k])
                axes.set_title(name)
            sigma = math.sqrt(window.sigma_sq)
            places[k, 0].set_title(
                rf"window, $\delta$ = {window.delta:.2g}, $\sigma$ = {sigma:.2g} pixels"
            )
        return curves.save(figure, path)


def _show(axes: Axes, image: np.ndarray) -> None:
    """Shows an image [H, W, C] with its pixels numbered from 1 and no ticks."""
    height, width = image.shape[:2]
    axes.imshow(
        look.panels(image, 1),
        interpolation="nearest",
        extent=(0.5, width + 0.5, height + 0.5, 0.5),
    )
    axes.set_axis_off()
