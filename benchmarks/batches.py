"""Larger batches at equal images seen: python -m benchmarks.batches --workdir=runs/batches.

Trains a configuration once for each batch, rule and seed, until it has seen --images, and prints the
loss on all validation images at the end. The rules say how the configuration's learning rate follows
the batch: `same` leaves it, `root` multiplies it by the square root of (batch / the configuration's
batch), `linear` by that ratio itself. What else counts in updates is kept equal in images: the warm-up,
the cosine's length and how far back the average of the weights reaches.

Each run has its own directory below --workdir, so that the same command continues after a stop and
prints finished runs at once.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring
from draw_jax.model import build
from draw_jax.runs.metrics import MetricsFile
from draw_jax.system import cli
from draw_jax.training import loop

_EXPONENTS = {"same": 0.0, "root": 0.5, "linear": 1.0}  # of the ratio of batches
_BATCHES = flags.DEFINE(
    measuring.Sizes(), "batches", (100, 400, 1600), "Images an update, the first for comparison"
)
_RULES = flags.DEFINE_list("rules", list(_EXPONENTS), "How the learning rate follows the batch")
_SEEDS = flags.DEFINE(measuring.Sizes(), "seeds", (1,), "Seeds, a run each")
_IMAGES = flags.DEFINE_integer("images", 240_000, "Images that each run sees", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", "", "A folder for the run directories")
flags.adopt_module_key_flags(measuring)


class Row(NamedTuple):
    """Runs of one batch and learning rate, which differ in their seed."""

    batch: int
    rule: str
    rate: float
    updates: int


def rows(config: ConfigDict, batches: tuple[int, ...], rules: list[str], images: int) -> list[Row]:
    """Returns the rows of the table; rules that give the same learning rate share one.

    Raises:
        ValueError: if a rule is not known, or a batch larger than `images`.
    """
    if unknown := [rule for rule in rules if rule not in _EXPONENTS]:
        raise ValueError(f"--rules: expected some of {', '.join(_EXPONENTS)}, got {unknown[0]!r}")
    if max(batches) > images:
        raise ValueError(f"--images: expected at least the largest batch, got {images}")
    found: dict[tuple[int, float], Row] = {}
    for batch in batches:
        for rule in rules:
            ratio = batch / config.train.batch_size
            rate = config.train.learning_rate * ratio ** _EXPONENTS[rule]
            found.setdefault((batch, rate), Row(batch, rule, rate, images // batch))
    return list(found.values())


def configured(config: ConfigDict, row: Row, seed: int) -> ConfigDict:
    """Returns the configuration of one run."""
    config = config.copy_and_resolve_references()
    ratio = row.batch / config.train.batch_size
    config.seed = seed
    config.train.batch_size = row.batch
    config.train.learning_rate = row.rate
    config.train.num_steps = config.train.decay_steps = row.updates
    # Not past the end of a run that is shorter than the configuration's.
    config.train.warmup_steps = min(round(config.train.warmup_steps / ratio), row.updates // 2)
    config.train.kl_warmup_steps = round(config.train.kl_warmup_steps / ratio)
    config.train.average_decay = config.train.average_decay**ratio
    config.train.log_every = max(1, row.updates // 50)
    config.train.eval_every = row.updates
    config.train.checkpoint_every = max(1, row.updates // 4)
    return config


def result(config: ConfigDict, run: Path) -> float | None:
    """Returns the loss on validation at the end of a run, trained now if it has not been.

    None if it diverged.

    Raises:
        KeyboardInterrupt: if a signal stopped it.
    """
    code = loop.train(config, run)
    if code == loop.STOPPED:
        raise KeyboardInterrupt
    if code == loop.DIVERGED:
        return None
    objective = build.task(build.build(config)).objective
    last = [
        row for row in MetricsFile(run / "metrics.jsonl").rows() if row["split"] == "validation"
    ]
    return last[-1][objective]


def main() -> int:
    """Trains, prints the table and returns the exit code."""
    config = measuring.CONFIG.value
    if not _WORKDIR.value:
        raise ValueError("where do the runs go? --workdir=DIR")
    table = rows(config, _BATCHES.value, _RULES.value, _IMAGES.value)
    names = ["batch", "rule", "learning rate", "updates", *(f"seed {s}" for s in _SEEDS.value)]
    cells, figures = [], []
    for row in table:
        losses = []
        for seed in _SEEDS.value:
            run = Path(_WORKDIR.value, f"{row.batch}_{row.rate:.4g}_seed_{seed}")
            losses.append(result(configured(config, row, seed), run))
        texts = ["diverged" if loss is None else f"{loss:.2f}" for loss in losses]
        cells.append([f"{row.batch:,}", row.rule, f"{row.rate:.4g}", f"{row.updates:,}", *texts])
        figures.append(row._asdict() | {"losses": losses})
    print(measuring.table(names, cells))
    print(f"\nvalidation losses after {_IMAGES.value:,} images")
    measuring.write_json({"rows": figures})
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
