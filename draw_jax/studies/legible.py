"""How many samples are no digit: python -m draw_jax.studies.legible --pretrained=mnist.

A digit classifier looks at samples. One counts as no digit if no class gets a probability of
--confidence. Prints how many, and how many there are of each class, and draws the doubtful
ones into --out `doubtful.png`, the most doubtful first. Exit codes: 0 done, 1 error, 2 bad flags.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags
from scipy import special

from draw_jax.drawing import sampling
from draw_jax.drawing.figures import grids, look
from draw_jax.evaluation import classification
from draw_jax.studies import judged
from draw_jax.system import cli

_MOST_SAMPLES = 100_000
_MOST_SHOWN = 64

FLAGS = flags.FlagValues()
_MODELS = judged.define(FLAGS)
_SAMPLES = flags.DEFINE_integer("samples", 1_000, "Samples to draw and judge", flag_values=FLAGS)
_CONFIDENCE = flags.DEFINE_float(
    "confidence", 0.9, "Least class probability of a digit", flag_values=FLAGS
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise", flag_values=FLAGS)
_OUT = flags.DEFINE_string("out", "samples", "The folder for the picture", flag_values=FLAGS)


def main() -> int:
    """Judges a run's samples, prints what was found and returns the exit code."""
    cli.check_seed("--seed", _SEED.value)
    if not 1 <= _SAMPLES.value <= _MOST_SAMPLES:
        raise ValueError(f"--samples: expected 1 to {_MOST_SAMPLES:,}, got {_SAMPLES.value}")
    if not 0 < _CONFIDENCE.value < 1:
        raise ValueError(f"--confidence: expected above 0 and below 1, got {_CONFIDENCE.value}")
    _, model, variables, logits = judged.load(_MODELS)
    count = _SAMPLES.value
    noise = sampling.noise(
        jax.random.key(_SEED.value), count, model.time_steps, model.latent_size
    )  # sample k is that of `sample.py --seed`
    images = sampling.mean_images(model, sampling.last_canvases(model, variables, noise))
    found = logits(images)
    highest, classes = judge(found)
    doubtful = np.flatnonzero(highest < _CONFIDENCE.value)
    low, high = classification.interval(len(doubtful), count)
    print(
        f"{len(doubtful):,} of {count:,} samples are no digit: no class has a probability of "
        f"{_CONFIDENCE.value:g}\n{100 * len(doubtful) / count:.1f} %; 95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %"
    )
    counts = np.bincount(classes, minlength=found.shape[-1])
    of_classes = (f"{name}: {number:,}" for name, number in enumerate(counts))
    print(f"samples of each class: {', '.join(of_classes)}")
    if len(doubtful):
        order = doubtful[np.argsort(highest[doubtful], kind="stable")][:_MOST_SHOWN]
        print(look.save(grids.grid(images[order]), Path(_OUT.value) / "doubtful.png"))
    return 0


def judge(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the highest probability of each image [B], and the class that has it, int64 [B]."""
    probabilities = special.softmax(logits.astype(np.float64), axis=-1)
    return probabilities.max(axis=-1), logits.argmax(axis=-1)


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, flag_values=FLAGS))
