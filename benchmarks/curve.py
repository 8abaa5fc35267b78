"""A run's training and validation curves: python -m benchmarks.curve --workdir=runs/mnist."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from draw_jax.drawing.figures import curves
from draw_jax.runs import checkpoint
from draw_jax.runs.metrics import MetricsFile
from draw_jax.system import cli

_MOST = 40  # points of the training curve
_WORKDIR = flags.DEFINE_string("workdir", "", "A run directory that train.py made")
_OUT = flags.DEFINE_string("out", "curve.png", "The picture")
_LEVELS = flags.DEFINE_list("levels", [], "Published results to draw as lines: name=value")


def main() -> int:
    """Draws the curves, prints the validation losses and returns the exit code."""
    run = Path(cli.which_run(_WORKDIR.value, ""))
    rows = MetricsFile(run / "metrics.jsonl").rows()
    if not rows:
        raise checkpoint.CheckpointError(f"{run} holds no metrics")
    metric, factor, label = _shown(rows)
    series = {}
    for split in ("train", "validation"):
        points = [(r["step"], factor * r[metric]) for r in rows if r["split"] == split]
        if split == "train" and len(points) > _MOST:  # of single batches, and so noisy
            groups = np.array_split(points, _MOST)
            points = [group.mean(axis=0) for group in groups]
            split = f"train, means of {len(groups[0])} batches"
        if points:
            steps, values = zip(*points, strict=True)
            series[split] = steps, values
    levels = {}
    for level in _LEVELS.value:
        name, equals, value = level.rpartition("=")
        if not equals:
            raise ValueError(f"--levels: expected name=value, got {level!r}")
        levels[name] = float(value)
    curves.curves(series, _OUT.value, y_label=label, references=levels)
    print(f"| update | validation: {label} |\n|---|---|")
    for row in rows:
        if row["split"] == "validation":
            value, error = (factor * row[name] for name in (metric, f"{metric}_se"))
            print(f"| {row['step']:,} | {value:.2f} +- {error:.2f} |")
    print(_OUT.value)
    return 0


def _shown(rows: list[dict[str, Any]]) -> tuple[str, float, str]:
    """Returns the metric that the rows tell, the factor that it is shown with, and its name."""
    if any("error" in row for row in rows):
        return "error", 100.0, "error, %"
    return "elbo_loss", 1.0, "negative ELBO, nats per image"


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (checkpoint.CheckpointError,)))
