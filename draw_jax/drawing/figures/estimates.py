"""Estimates with their standard errors: over time steps, and one beneath the other."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from draw_jax.drawing.figures import curves, look


def over_steps(
    values: np.ndarray,
    errors: np.ndarray,
    level: tuple[float, float],
    path: str | os.PathLike[str],
    y_label: str,
    names: tuple[str, str],
    title: str = "",
) -> Path:
    """Draws an estimate per time step and a level to compare with; returns the PNG's path.

    Args:
        values: [T].
        errors: their standard errors [T].
        level: of the line, and its standard error.
        path: ends in .png.
        y_label: of the y axis.
        names: what the values and the level are.
        title: above the plot.

    Raises:
        ValueError: if values and errors are not [T].
        OSError: if the file cannot be written.
    """
    values, errors = _checked(values, errors)
    steps = np.arange(1, len(values) + 1)
    with style.context(["default", curves.SETTINGS]):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        colour, line = curves.rgb(look.ACCENT), curves.INK
        axes.errorbar(
            steps,
            values,
            errors,
            fmt="o-",
            color=colour,
            capsize=3,
            label=f"{names[0]}, +- standard error",
        )
        mean, error = level
        axes.axhline(
            mean, color=line, linestyle="--", linewidth=1, label=f"{names[1]}, +- standard error"
        )
        axes.axhspan(mean - error, mean + error, color=curves.rgb(look.SHADE), alpha=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="time step n", ylabel=y_label, title=title)
        axes.set_xlim(0.5, len(values) + 0.5)
        axes.legend()
        return curves.save(figure, path)


def beneath(
    names: Sequence[str],
    values: np.ndarray,
    errors: np.ndarray,
    path: str | os.PathLike[str],
    x_label: str,
    title: str = "",
) -> Path:
    """Draws named estimates, one beneath the other, about a line at 0; returns the PNG's path.

    Args:
        names: of the estimates, from the top.
        values: [N].
        errors: their standard errors [N]; nan: not known, and no bar.
        path: ends in .png.
        x_label: of the x axis.
        title: above the plot.

    Raises:
        ValueError: if there are no names, or not as many values.
        OSError: if the file cannot be written.
    """
    values, errors = _checked(values, errors)
    if len(names) != len(values):
        raise ValueError(f"expected a name for each of {len(values)} values, got {len(names)}")
    places = np.arange(len(names))
    with style.context(["default", curves.SETTINGS]):
        figure = Figure(figsize=(8.0, 0.9 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(places, values, height=0.55, color=curves.rgb(look.SHADE))
        known = np.isfinite(errors)
        axes.errorbar(
            values[known],
            places[known],
            xerr=errors[known],
            fmt="none",
            ecolor=curves.INK,
            capsize=3,
        )
        axes.axvline(0, color=curves.INK, linewidth=1)
        axes.grid(False, axis="y")
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        for place, value, error in zip(places, values, np.nan_to_num(errors), strict=True):
            sign = 1 if value >= 0 else -1
            axes.annotate(
                f"{value:+.1f}",
                (value + sign * error, place),
                (5 * sign, 0),
                textcoords="offset points",
                va="center",
                ha="left" if sign > 0 else "right",
            )
        axes.margins(x=0.15)
        # Of the whole figure: names may take half of its width.
        figure.supxlabel(x_label, fontsize=curves.SETTINGS["font.size"])
        figure.suptitle(title, fontsize=curves.SETTINGS["axes.titlesize"])
        return curves.save(figure, path)


def _checked(values: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    if values.ndim != 1 or not len(values) or values.shape != errors.shape:
        raise ValueError(
            "expected values and their standard errors of one length, got "
            f"{list(values.shape)} and {list(errors.shape)}"
        )
    return values, errors
