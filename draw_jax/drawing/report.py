"""The pictures that a run directory holds: sample grids and the report."""

from pathlib import Path
from typing import Any

import numpy as np

from draw_jax.drawing import sampling
from draw_jax.drawing.figures import curves, grids, look
from draw_jax.system import files


def save_samples(run: Path, step: int, canvases: np.ndarray) -> np.ndarray:
    """Saves a step's samples, the means of D (eq. 16), and returns the picture [h, w, 3].

    Args:
        run: the run directory.
        step: updates done.
        canvases: c_T [N, H, W, C], logits.
    """
    means = sampling.mean_images(canvases)
    picture = grids.grid(means)
    path = grid_path(run, step)
    look.save(picture, path)
    stored = np.rint(means * 255).astype(np.uint8)
    files.write_whole(path.with_suffix(".npy"), lambda file: np.save(file, stored))
    return np.asarray(picture)


def write_report(run: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the run at a glance, `report.png`, from what lies in the run directory."""
    grids = [
        (int(path.stem.removeprefix("step_")), np.load(path) / 255)
        for path in sorted((run / "samples").glob("step_*.npy"))
    ]
    steps = [row["kl_per_step"] for row in rows if "kl_per_step" in row]
    kl_nats = np.array(steps[-1]) if steps else None
    if rows:
        curves.report(rows, grids, run / "report.png", kl_nats, title=run.name)


def grid_path(run: Path, step: int) -> Path:
    """Returns where a step's sample grid lies."""
    return run / "samples" / f"step_{step:07d}.png"
