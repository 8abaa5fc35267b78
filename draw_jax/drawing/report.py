"""The pictures that a run directory holds: sample grids and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from draw_jax.drawing import sampling
from draw_jax.drawing.figures import curves, grids, look
from draw_jax.model.draw import Draw
from draw_jax.model.task import Model, Variables
from draw_jax.system import files

_SAMPLES = 64  # images in the sample grid


def validation_picture(
    run: Path, model: Model, variables: Variables, key: jax.Array, step: int
) -> tuple[str, np.ndarray] | None:
    """Saves the picture of a validation, a grid of samples, and returns its name and it [h, w, 3].

    A model that does not draw has none.

    Args:
        run: the run directory.
        model: of the run.
        variables: {"params": ...}, on this process's devices.
        key: of the samples, the same for all validations of a run.
        step: updates done.
    """
    if not isinstance(model, Draw):
        return None
    trace = sampling.generate(model, variables, key, _SAMPLES)
    means = sampling.mean_images(model, trace.canvases[-1])
    picture = grids.grid(means)
    path = grid_path(run, step)
    look.save(picture, path)
    stored = np.rint(means * 255).astype(np.uint8)
    files.write_whole(path.with_suffix(".npy"), lambda file: np.save(file, stored))
    return "samples", np.asarray(picture)


def write(run: Path, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """Writes the run at a glance, `report.png`, from what lies in the run directory.

    Args:
        run: the run directory.
        rows: of its metrics.
        columns: the metrics to show.
    """
    sheets = [
        (int(path.stem.removeprefix("step_")), np.load(path) / 255)
        for path in sorted((run / "samples").glob("step_*.npy"))
    ]
    steps = [row["kl_per_step"] for row in rows if "kl_per_step" in row]
    kl_nats = np.array(steps[-1]) if steps else None
    if any(name in row for row in rows for name in columns):
        curves.report(rows, sheets, run / "report.png", kl_nats, title=run.name)


def grid_path(run: Path, step: int) -> Path:
    """Returns where a step's sample grid lies."""
    return run / "samples" / f"step_{step:07d}.png"
