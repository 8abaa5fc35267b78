"""Draws with a model: python sample.py --workdir=runs/digits --out=samples [--kind=nearest].

Repeatable by --seed. Exit codes: 0 drawn, 1 error, 2 bad flags.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags

from draw_jax.data import splits
from draw_jax.drawing import kinds
from draw_jax.runs import checkpoint
from draw_jax.system import cli, compilation

_WORKDIR = flags.DEFINE_string("workdir", "", "A run directory that train.py made")
_PRETRAINED = flags.DEFINE_string("pretrained", "", "Or the name of shipped weights")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; default: best on validation")
_OUT = flags.DEFINE_string("out", "samples", "The folder for pictures and arrays, made if missing")
_KIND = flags.DEFINE_list("kind", ["samples", "sequence"], f"Of {', '.join(kinds.KINDS)}; or all")
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise")
_ROWS = flags.DEFINE_integer("rows", 8, "Rows of a grid; images of a sequence", lower_bound=1)
_COLUMNS = flags.DEFINE_integer("columns", 8, "Columns of a grid", lower_bound=1)
_SCALE = flags.DEFINE_integer("scale", None, "Whole-number enlargement; default: readable")
_DRAWS = flags.DEFINE_bool("draws", False, "samples: draws from D instead of its means")
_LINEAR = flags.DEFINE_bool("linear", False, "interpolate: straight lines instead of arcs")
_FIXED = flags.DEFINE_integer("fixed_step", 1, "fix_step: the time step whose z is shared")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data lies, if not as in the run")


def main() -> int:
    """Draws every kind asked for, prints the files and returns the exit code."""
    compilation.keep()
    wanted = list(kinds.KINDS) if _KIND.value == ["all"] else _KIND.value
    for kind in wanted:
        if kind not in kinds.KINDS:
            raise ValueError(f"--kind: expected of {', '.join(kinds.KINDS)}; got {kind!r}")
    run = cli.which_run(_WORKDIR.value, _PRETRAINED.value)
    config, model, variables = checkpoint.load(run, _STEP.value)
    with config.unlocked():
        config.data.data_dir = _DATA_DIR.value or config.data.data_dir

    def images(split: str) -> np.ndarray:
        """Returns a split as the model sees it; one fixed draw where it binarises."""
        stored = splits.load(config.data, split, config.model.image_shape)
        splits.check_shape(stored, model.image_shape)
        return np.asarray(
            splits.prepare(stored.images, config.data.binarization, jax.random.key(0))
        )

    job = kinds.Job(
        model,
        variables,
        jax.random.key(_SEED.value),
        Path(_OUT.value),
        images,
        rows=_ROWS.value,
        columns=_COLUMNS.value,
        scale=_SCALE.value,
        draws=_DRAWS.value,
        linear=_LINEAR.value,
        step=_FIXED.value,
    )
    job.out.mkdir(parents=True, exist_ok=True)
    for kind in wanted:
        for path in kinds.KINDS[kind](job):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (checkpoint.CheckpointError, splits.DataNotFound)))
