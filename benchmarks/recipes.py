"""Runs at equal updates, a row each: python -m benchmarks.recipes --workdirs=runs/a,runs/b.

Shows in which fields a run's configuration differs from the first's, the minutes of its updates
only, and how good its weights for use are: the negative ELBO on validation, that on as many
training images, and the gap between the two with its standard error. The weights are those that
evaluate.py measures: of the checkpoint that is best on validation, their moving average where it is
kept; with --raw never that. Runs of different images, likelihoods or numbers of updates are refused.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from flax import traverse_util
from ml_collections import ConfigDict

from benchmarks import measuring
from draw_jax.data import splits
from draw_jax.evaluation import passes
from draw_jax.model import build
from draw_jax.runs import checkpoint, directory, metrics, stored
from draw_jax.runs.leaves import unflatten
from draw_jax.system import cli, devices
from draw_jax.system.counting import Counting

_WORKDIRS = flags.DEFINE_list("workdirs", [], "Run directories, the first for comparison")
_IMAGES = flags.DEFINE_integer(
    "images",
    None,
    "Only the first N images of both splits; default: all of validation, and as many of training",
    lower_bound=1,
)
_RAW = flags.DEFINE_boolean("raw", False, "The trained weights, in place of their EMA")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data lies, if not as in the runs")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "Original files, in place of a download")
flags.declare_key_flag("json")

_PLACES = ("data.data_dir", "data.manual_dir")  # fields that say where data lies, not what it is
_OF_FILES = ("image_folder", "npz")  # sets defined by what lies at data_dir
_ALIKE = ("model.image_shape", "model.likelihood")  # and all of data: otherwise nats do not compare

Images = dict[str, tuple[splits.Split, int]]  # of validation and train: the split, how many


class Run(NamedTuple):
    """A run and what its files tell."""

    path: Path
    config: ConfigDict
    fields: dict[str, Any]  # of the configuration, by names such as train.batch_size
    updates: int  # done


def main() -> int:
    """Prints the table and returns the exit code."""
    measuring.refuse(("config", "repeats"), "the runs decide; give --workdirs instead")
    if not _WORKDIRS.value:
        raise ValueError("--workdirs: expected run directories that train.py made, got none")
    devices.share_cores(devices.cores())
    first, *others = runs = [read(Path(path)) for path in _WORKDIRS.value]
    for run in others:
        check_alike(first, run)
    images = load(runs, _IMAGES.value)
    counts = {name: count for name, (_, count) in images.items()}

    figures = []
    for run in runs:
        figure = {"run": str(run.path), "changed": changed(first, run), "updates": run.updates}
        figure["minutes"] = minutes(run)
        figures.append(figure | losses(run, images))
    names = ["changed", "updates", "minutes", "weights of update"]
    names += ["negative ELBO, validation", "training", "gap"]
    print(measuring.table(names, [row(figure) for figure in figures]))
    print(
        f"\nnats an image and standard errors, of the first {counts['validation']:,} images of "
        f"validation and {counts['train']:,} of training{', without the EMA' * _RAW.value}"
    )
    shared = {
        "images": counts,
        "raw": _RAW.value,
        "device": measuring.device_name(jax.device_count()),
    }
    measuring.write_json({"rows": figures} | shared)
    return 0


def read(path: Path) -> Run:
    """Returns a run, with the data where the flags say.

    Raises:
        ValueError: if its model has no ELBO, or there is no such directory.
        CheckpointError: if it is no run, or has no checkpoint yet.
    """
    if not path.is_dir():
        raise ValueError(f"--workdirs: {str(path)!r} is no directory")
    config = directory.read_config(path)
    with config.unlocked():
        config.data.data_dir = _DATA_DIR.value or config.data.data_dir
        config.data.manual_dir = _MANUAL_DIR.value or config.data.manual_dir
    if "elbo_loss" not in dict(build.task(build.build(config)).totals):
        raise ValueError(
            f"--workdirs: {path} is of config.kind {config.kind!r}, which has no negative ELBO"
        )
    steps = stored.steps(path / "checkpoints")
    if not steps:
        raise checkpoint.CheckpointError(f"{path} holds no checkpoint yet")
    fields = traverse_util.flatten_dict(json.loads(config.to_json()), sep=".")
    return Run(path, config, fields, steps[-1])


def check_alike(first: Run, run: Run) -> None:
    """Raises ValueError, naming why, if the nats or the minutes of two runs cannot be compared."""
    free = _PLACES[1:] if first.fields["data.name"] in _OF_FILES else _PLACES
    pairs = {"updates done": (first.updates, run.updates)} | {
        f"config.{name}": (first.fields.get(name), run.fields.get(name))
        for name in sorted(first.fields | run.fields)
        if name in _ALIKE or (name.startswith("data.") and name not in free)
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise ValueError(
                f"--workdirs: expected runs of the same {name}, got {ours!r} in {first.path} and "
                f"{theirs!r} in {run.path}"
            )


def changed(first: Run, run: Run) -> dict[str, Any]:
    """Returns the fields of a run that differ from the first's; None for a field it lacks."""
    names = sorted((first.fields | run.fields).keys() - set(_PLACES))
    ours = {name: run.fields.get(name) for name in names}
    return {name: value for name, value in ours.items() if value != first.fields.get(name)}


def load(runs: list[Run], most: int | None) -> Images:
    """Returns the validation and the training split of some runs, and how many images are measured.

    Args:
        runs: of the same images.
        most: images of each; None: all of validation, and as many of training.

    Raises:
        ValueError: if the training images have no end, or do not fit a model.
        DataNotFound: as it says.
    """
    config, images = runs[0].config, Images()
    for name in ("validation", "train"):
        split = splits.load(config.data, name, config.model.image_shape, flags="--", still=True)
        if split.endless:
            raise ValueError(
                f"--workdirs: the training images of data set {config.data.name!r} have no end, so "
                "that there is no gap to validation"
            )
        for task in (build.task(build.build(run.config)) for run in runs):
            splits.check_shape(split, task.model.image_shape, config.data.name)
            splits.check_labels(split, task.classes, config.data.name)
        most = most or len(split)
        images[name] = split, min(len(split), most)
    return images


def minutes(run: Run) -> float | None:
    """Returns the minutes of a run's updates only; None if its metrics have no speed."""
    rows = metrics.MetricsFile(run.path / "metrics.jsonl").rows()
    found = metrics.minutes(rows, run.config.train.batch_size, run.updates)
    return None if math.isnan(found) else found


def losses(run: Run, images: Images) -> dict[str, float]:
    """Returns the negative ELBO of both splits, and the gap, each with its standard error in nats.

    And `checkpoint`, after how many updates they were saved.

    Args:
        run: whose weights for use are measured, with the noise of evaluate.py.
        images: from `load`.
    """
    _, model, variables, step = checkpoint.load_with_step(run.path)
    assert step is not None  # a run has checkpoints
    if _RAW.value:
        leaves = stored.read(run.path / "checkpoints", step, ["params"])["params"]
        variables = {"params": unflatten(leaves, variables["params"], str(run.path))}
    found: dict[str, float] = {"checkpoint": step}
    prepare = splits.preparation(run.config.data.binarization)
    key = build.keys(run.config.seed).evaluate
    for name, (split, count) in images.items():
        with Counting(count, "image", f"{run.path}, {name}") as so_far:
            result = passes.evaluate(
                build.task(model), variables, split, prepare, key, on_batch=so_far.to, images=count
            )
        found |= {f"{name}{end}": result[f"elbo_loss{end}"] for end in ("", "_se")}
    gap = found["validation"] - found["train"]
    return found | {"gap": gap, "gap_se": math.hypot(found["validation_se"], found["train_se"])}


def row(figures: dict[str, Any]) -> list[str]:
    """Returns a run's cells of the table."""
    fields = ", ".join(f"`{name}={value}`" for name, value in figures["changed"].items())
    took = "-" if figures["minutes"] is None else measuring.number(figures["minutes"])
    cells = [fields or "none", f"{figures['updates']:,}", took, f"{figures['checkpoint']:,}"]
    for name, sign in (("validation", ""), ("train", ""), ("gap", "+")):
        cells.append(f"{figures[name]:{sign}.2f} +- {figures[f'{name}_se']:.2f}")
    return [cell.replace("|", "\\|") for cell in cells]


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
