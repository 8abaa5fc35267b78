"""The pictures that a run directory holds: of validations, and the report."""

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from draw_jax.data import splits
from draw_jax.data.splits import Split
from draw_jax.drawing import glimpses, sampling
from draw_jax.drawing.figures import curves, grids, look
from draw_jax.drawing.figures import glimpses as figures
from draw_jax.model.draw import Draw
from draw_jax.model.task import Model, Variables
from draw_jax.system import files

_SAMPLES = 64  # images in the sample grid
_LOOKED_AT = 4  # images with their glimpses
_PER_STEP = ("kl_per_step", "error_per_step", "confusion")  # of a validation


def validation_picture(
    run: Path,
    model: Model,
    variables: Variables,
    key: jax.Array,
    step: int,
    validation: Split,
    binarization: str,
) -> tuple[str, np.ndarray] | None:
    """Saves a validation's picture and returns its name and pixels [h, w, 3]; None for no picture.

    For a model that draws it is a grid of samples; for one that reads glimpses, those of the first
    validation images.

    Args:
        run: the run directory.
        model: of the run.
        variables: {"params": ...}, on this process's devices.
        key: of the samples, the same for all validations of a run.
        step: updates done.
        validation: the split.
        binarization: of its images.
    """
    path = picture_path(run, step)
    if isinstance(model, Draw):
        trace = sampling.generate(model, variables, key, _SAMPLES)
        means = sampling.mean_images(model, trace.canvases[-1])
        picture = grids.grid(means)
        look.save(picture, path)
        stored = np.rint(means * 255).astype(np.uint8)
        files.write_whole(path.with_suffix(".npy"), lambda file: np.save(file, stored))
        return "samples", np.asarray(picture)
    if glimpses.looks(model):
        images, labels = validation.batch(np.arange(min(_LOOKED_AT, len(validation))))
        x = np.asarray(splits.prepare(images, binarization, jax.random.key(0)))
        picture = figures.sheet(glimpses.seen(model, variables, x, labels, key))
        look.save(picture, path)
        return "glimpses", np.asarray(picture)
    return None


def write(run: Path, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """Writes the run at a glance, `report.png`, from what lies in the run directory.

    Args:
        run: the run directory.
        rows: of its metrics.
        columns: the metrics to show.
    """
    if not any(name in row for row in rows for name in columns):
        return
    paths = {_step(path): path for path in (run / "samples").glob("step_*.npy")}
    validated = {row["step"] for row in rows if row["split"] == "validation"}
    sheets = _sheets({step: paths[step] for step in paths.keys() & validated})  # not what a
    # rollback or a kill has undone
    latest = {name: np.array(row[name]) for row in rows for name in _PER_STEP if name in row}
    curves.report(
        rows,
        sheets,
        run / "report.png",
        title=run.name,
        kl_nats=latest.get("kl_per_step"),
        error_per_step=latest.get("error_per_step"),
        confusion=latest.get("confusion"),
    )


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def _sheets(paths: dict[int, Path]) -> list[tuple[int, np.ndarray]]:
    """Returns the samples of a few validations, evenly spaced, in [0, 1]: others are not read."""
    steps = sorted(paths)
    chosen = {steps[k]: _sheet(paths[steps[k]]) for k in grids.spaced(len(steps))}
    damaged = [step for step, sheet in chosen.items() if sheet is None]
    if damaged:
        return _sheets({step: paths[step] for step in steps if step not in damaged})
    return [(step, sheet / 255) for step, sheet in chosen.items() if sheet is not None]


def _sheet(path: Path) -> np.ndarray | None:
    """Returns the samples of a validation, uint8 [B, H, W, C]; None, with a warning, if damaged."""
    with contextlib.suppress(Exception):  # whatever is no whole array of NumPy's
        sheet = np.load(path)
        if sheet.dtype == np.uint8 and sheet.ndim == 4 and sheet.size:
            return sheet
    warnings.warn(f"{path} is damaged: report.png leaves it out", stacklevel=4)
    return None


def what_to_look_at(run: Path, model: Model, step: int) -> str:
    """Returns which picture of a finished run to open, with what it is."""
    path = picture_path(run, step)
    if not path.is_file():
        return f"at a glance: {run / 'report.png'}"
    return f"what it {'draws' if isinstance(model, Draw) else 'looks at'}: {path}"


def picture_path(run: Path, step: int) -> Path:
    """Returns where the picture of a step's validation lies."""
    return run / "samples" / f"step_{step:07d}.png"
