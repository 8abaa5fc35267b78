"""A run's training and validation curves: python -m benchmarks.curve --workdir=runs/mnist."""

import sys
from pathlib import Path

from absl import flags

from draw_jax.drawing.figures import curves
from draw_jax.runs import checkpoint
from draw_jax.runs.metrics import MetricsFile
from draw_jax.system import cli

_WORKDIR = flags.DEFINE_string("workdir", "", "A run directory that train.py made")
_OUT = flags.DEFINE_string("out", "curve.png", "The picture")
_LEVELS = flags.DEFINE_list("levels", [], "Published results to draw as lines: name=nats")


def main() -> int:
    """Draws the curves, prints the validation losses and returns the exit code."""
    run = Path(cli.which_run(_WORKDIR.value, ""))
    rows = MetricsFile(run / "metrics.jsonl").rows()
    if not rows:
        raise checkpoint.CheckpointError(f"{run} holds no metrics")
    series = {}
    for split in ("train", "validation"):
        points = [(r["step"], r["elbo_loss"]) for r in rows if r["split"] == split]
        if points:
            steps, losses = zip(*points, strict=True)
            series[split] = steps, losses
    levels = {}
    for level in _LEVELS.value:
        name, equals, nats = level.rpartition("=")
        if not equals:
            raise ValueError(f"--levels: expected name=nats, got {level!r}")
        levels[name] = float(nats)
    curves.curves(
        series,
        _OUT.value,
        y_label="bound, nats per image",
        references=levels,
    )
    print("| update | validation loss, nats |\n|---|---|")
    for row in rows:
        if row["split"] == "validation":
            print(f"| {row['step']:,} | {row['elbo_loss']:.2f} +- {row['elbo_loss_se']:.2f} |")
    print(_OUT.value)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (checkpoint.CheckpointError,)))
