"""A run's training and validation curves: python -m benchmarks.curve --workdir=runs/mnist.

In bits per dimension if the run has them, otherwise in nats, and of a classifier in percent of
errors. Published results are drawn beside them: --levels="DRAW (paper)=80.97", or at several updates
--points="DRAW (paper)=20000:5117.5,330000:5071.4". --settled=5000 tells how much both curves changed
over the last 5,000 updates.
"""

import math
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from draw_jax.drawing.figures import curves
from draw_jax.runs import checkpoint
from draw_jax.runs.metrics import MetricsFile
from draw_jax.system import cli

_MOST = 40  # points of the training curve
_WORKDIR = flags.DEFINE_string("workdir", "", "A run directory that train.py made")
_OUT = flags.DEFINE_string("out", "curve.png", "The picture")
_LEVELS = flags.DEFINE_list(
    "levels", [], "Published results to draw as lines: name=value, in the picture's unit"
)
_POINTS = flags.DEFINE_multi_string(
    "points", [], "A published curve to draw, name=update:value,update:value; may come again"
)
_SETTLED = flags.DEFINE_integer(
    "settled", None, "Print the change over the last N updates", lower_bound=1
)

Series = dict[str, tuple[Any, Any]]  # name -> (updates, values)


class Shown(NamedTuple):
    """What of the rows is drawn."""

    metric: str
    factor: float  # for the values shown
    label: str
    digits: int  # after the point, in the table


def main() -> int:
    """Draws the curves, prints the validation losses and returns the exit code."""
    run = Path(cli.which_run(_WORKDIR.value, ""))
    rows = MetricsFile(run / "metrics.jsonl").rows()
    if not rows:
        raise checkpoint.CheckpointError(f"{run} holds no metrics")
    metric, factor, label, digits = shown(rows)
    series = of_run(rows, metric, factor)
    for text in _POINTS.value:
        name, points = published(text)
        if name in series:
            raise ValueError(f"--points: the name {name!r} is taken")
        series[name] = points
    levels = dict(level(text) for text in _LEVELS.value)
    sentences = settled(rows, metric, _SETTLED.value) if _SETTLED.value else []
    curves.curves(series, _OUT.value, y_label=label, references=levels)
    print(f"| update | validation: {label} |\n|---|---|")
    for row in rows:
        if row["split"] == "validation":
            value, error = (factor * row[name] for name in (metric, f"{metric}_se"))
            print(f"| {row['step']:,} | {value:.{digits}f} +- {error:.{digits}f} |")
    for sentence in sentences:
        print(sentence)
    print(_OUT.value)
    return 0


def shown(rows: list[dict[str, Any]]) -> Shown:
    """Returns what is drawn of a run with these rows."""
    if any("bits_per_dim" in row for row in rows):
        return Shown("bits_per_dim", 1.0, "bits per dimension", 3)
    if any("elbo_loss" in row for row in rows):
        return Shown("elbo_loss", 1.0, "negative ELBO, nats per image", 2)
    return Shown("error", 100.0, "error, %", 2)


def of_run(rows: list[dict[str, Any]], metric: str, factor: float) -> Series:
    """Returns a run's curves: validation, and training (of many rows, the means of 40 groups)."""
    series: Series = {}
    for split in ("train", "validation"):
        points = [(r["step"], factor * r[metric]) for r in rows if r["split"] == split]
        if split == "train" and len(points) > _MOST:  # of single batches, and so noisy
            least, more = divmod(len(points), _MOST)
            steps, values = np.array(points).T
            points = list(zip(*curves.means(steps, values, _MOST), strict=True))
            split = f"train, means of {f'{least} or {least + 1}' if more else least} batches"
        if points:
            steps, values = zip(*points, strict=True)
            series[split] = steps, values
    return series


def settled(rows: list[dict[str, Any]], metric: str, over: int) -> list[str]:
    """Returns a sentence for each split: how much its curve changed over the last updates.

    For training it compares two means, each over the batches logged in `over` / 5 updates: one ends
    at the last validation, the other `over` updates before it.

    Raises:
        ValueError: if the run has no values there.
    """
    values: dict[str, dict[int, float]] = {"train": {}, "validation": {}}
    for row in rows:
        if row["split"] in values:
            values[row["split"]][row["step"]] = row[metric]
    steps = list(values["validation"])
    last, before = steps[-1] if steps else 0, (steps[-1] if steps else 0) - over
    if before not in steps:
        raise ValueError(
            f"--settled: expected updates between the last validation and another, got {over}; "
            f"it was at {', '.join(map(str, steps)) or 'no update'}"
        )
    wide = max(1, over // 5)

    def mean(end: int) -> tuple[float, float]:
        near = [value for step, value in values["train"].items() if end - wide < step <= end]
        if not near:
            raise ValueError(f"--settled: no training batch was logged near update {end}")
        spread = statistics.stdev(near) if len(near) > 1 else 0.0
        return statistics.fmean(near), spread / math.sqrt(len(near))

    (old, its), (new, error) = mean(before), mean(last)
    then, now = (values["validation"][step] for step in (before, last))
    return [
        f"{name}: {change} from update {before:,} to {last:,}"
        for name, change in (
            (
                f"training, means of {wide:,} updates",
                _change(old, new, math.hypot(its * new / old, error) if old else 0.0),
            ),
            ("validation", _change(then, now)),
        )
    ]


def _change(old: float, new: float, error: float = 0.0) -> str:
    """Returns a change in percent, with its standard error if there is one."""
    if not old:
        return f"{old:g} to {new:g}"
    after = f" +- {100 * error / abs(old):.2f}" if error else ""
    return f"{100 * (new / old - 1):+.2f}{after} %"


def level(text: str) -> tuple[str, float]:
    """Returns name and value of one of --levels, "name=value".

    Raises:
        ValueError: if it is something else.
    """
    name, _, value = text.rpartition("=")
    try:
        return _named(name), _finite(value)
    except ValueError:
        raise ValueError(f"--levels: expected name=value, got {text!r}") from None


def published(text: str) -> tuple[str, tuple[list[float], list[float]]]:
    """Returns the name of one of --points, "name=update:value,update:value", and its curve.

    Raises:
        ValueError: if it is something else.
    """
    name, _, pairs = text.rpartition("=")
    try:
        points = []
        for pair in pairs.split(","):
            update, value = pair.split(":")
            points.append((_finite(update), _finite(value)))
        updates, values = zip(*sorted(points), strict=True)
        return _named(name), (list(updates), list(values))
    except ValueError:
        raise ValueError(
            f"--points: expected name=update:value,update:value, got {text!r}"
        ) from None


def _named(name: str) -> str:
    if not name:
        raise ValueError("expected a name")
    return name


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("expected a number")
    return value


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
