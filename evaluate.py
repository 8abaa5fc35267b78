"""Measures a model: python evaluate.py --workdir=runs/mnist --split=test.

One exact pass over a whole split; the result depends on neither the batch size nor the devices.
Exit codes: 0 measured, 1 error, 2 bad flags.
"""

import json
import sys
from pathlib import Path

from absl import flags
from tqdm import tqdm

from draw_jax.data import splits
from draw_jax.evaluation import passes
from draw_jax.model import build
from draw_jax.runs import checkpoint
from draw_jax.system import cli, compilation

_WORKDIR = flags.DEFINE_string("workdir", "", "A run directory that train.py made")
_PRETRAINED = flags.DEFINE_string("pretrained", "", "Or the name of shipped weights")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; default: best on validation")
_SPLIT = flags.DEFINE_string("split", "test", "train, validation or test")
_SAMPLES = flags.DEFINE_integer("importance_samples", 0, "K of the importance-weighted bound")
_BATCH = flags.DEFINE_integer("batch_size", 200, "Images at a time; no effect on the result")
_SEED = flags.DEFINE_integer("seed", None, "Of the noise; default: the run's own")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data lies, if not as in the run")
_JSON = flags.DEFINE_string("json", "", "A file for the result, also printed")


def main() -> int:
    """Evaluates, prints and returns the exit code."""
    compilation.keep()
    for name, value, least in (("importance_samples", _SAMPLES, 0), ("batch_size", _BATCH, 1)):
        if value.value < least:
            raise ValueError(f"--{name}: expected >= {least}, got {value.value}")
    run = cli.which_run(_WORKDIR.value, _PRETRAINED.value)
    config, model, variables = checkpoint.load(run, _STEP.value)
    with config.unlocked():
        config.data.data_dir = _DATA_DIR.value or config.data.data_dir
    split = splits.load(config.data, _SPLIT.value, config.model.image_shape)
    splits.check_shape(split, model.image_shape)
    seed = config.seed if _SEED.value is None else _SEED.value
    with tqdm(total=len(split.images), unit="image", disable=None) as bar:
        result = passes.evaluate(
            model,
            variables,
            split.images,
            lambda image, key: splits.prepare(image, config.data.binarization, key),
            build.keys(seed).evaluate,
            batch_size=_BATCH.value,
            importance_samples=_SAMPLES.value,
            on_batch=lambda done: bar.update(done - bar.n),
        )
    result |= {
        "run": run,
        "data": config.data.name,
        "binarization": config.data.binarization,
        "split": _SPLIT.value,
        "seed": seed,
        "importance_samples": _SAMPLES.value,
    }
    print(f"{config.data.name} ({config.data.binarization}), {_SPLIT.value}, nats per image:")
    for name in ("nll", "kl", "elbo_loss", "importance_weighted_nll"):
        if name in result:
            print(f"  {name:24}{result[name]:10.3f} +- {result[f'{name}_se']:.3f}")
    text = json.dumps(result)
    print(text)
    if _JSON.value:
        Path(_JSON.value).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (checkpoint.CheckpointError, splits.DataNotFound)))
