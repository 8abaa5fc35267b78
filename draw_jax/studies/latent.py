"""What each step's z decides: python -m draw_jax.studies.latent --workdir=RUN --classifier=RUN.

Fixes z of one time step and draws all else again. How often does a digit classifier then give two
samples the same class, for every time step, and how often if they share nothing? Prints a table
and writes into --out `agreement.png`, the same as a curve, `held.png`, samples that share z of one
step, and `interpolate.png`, ways through the latents of all steps at once. Exit codes: 0 done,
1 error, 2 bad flags.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from PIL import Image

from draw_jax.drawing import kinds, latents, sampling
from draw_jax.drawing.figures import estimates, grids, look, strips
from draw_jax.model.draw import Draw
from draw_jax.model.task import Variables
from draw_jax.studies import judged
from draw_jax.system import cli, files

_COLUMNS = 12  # samples of `held.png` and `interpolate.png` side by side
_ROWS = 12  # time steps of `held.png`, at most
_NAME = 86  # pixels left of a row, for its name
_MOST_PAIRS = 100_000

FLAGS = flags.FlagValues()
_MODELS = judged.define(FLAGS)
_PAIRS = flags.DEFINE_integer("pairs", 2_000, "Pairs of samples for each step", flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise", flag_values=FLAGS)
_OUT = flags.DEFINE_string("out", "samples", "The folder for pictures", flag_values=FLAGS)
_JSON = flags.DEFINE_string("json", "", "A file for the numbers", flag_values=FLAGS)
flags.register_validator("json", cli.check_writable, flag_values=FLAGS)


class Agreement(NamedTuple):
    """Shares of pairs of samples that a classifier gives one class."""

    held: np.ndarray  # of pairs that share z of time step n, [T]
    chance: float  # of pairs that share nothing
    pairs: int

    def error(self, share: np.ndarray | float) -> np.ndarray:
        """Returns the standard error of a share, for independent pairs."""
        share = np.asarray(share)
        return np.sqrt(share * (1 - share) / self.pairs)


def agreement(
    model: Draw,
    variables: Variables,
    name: Callable[[np.ndarray], np.ndarray],
    key: jax.Array,
    pairs: int,
) -> Agreement:
    """Returns how often two samples that share z of one time step are of one class.

    Pair k is image k and image pairs + k of the key's noise. For time step n, the second has z_n of
    the first; all else is its own.

    Args:
        model: a `Draw`.
        variables: its parameters, `{"params": ...}`.
        name: the classes, integers [B], of mean images [B, H, W, C].
        key: a JAX random key.
        pairs: at least 1.
    """
    noise = sampling.noise(key, 2 * pairs, model.time_steps, model.latent_size)
    first, second = noise[:, :pairs], noise[:, pairs:]

    def classes(z: np.ndarray) -> np.ndarray:
        return name(sampling.mean_images(model, sampling.last_canvases(model, variables, z)))

    ours = classes(first)
    chance = float((ours == classes(second)).mean())
    held = []
    for n in range(model.time_steps):
        shared = second.copy()
        shared[n] = first[n]
        held.append((ours == classes(shared)).mean())
    return Agreement(np.array(held), chance, pairs)


def table(found: Agreement) -> str:
    """Returns the shares as a table of Markdown, in percent with their standard errors.

    Note: both shares of a difference are taken as independent, though they have the first sample of
        each pair in common.
    """
    lines = ["| z held | pairs of one class, % | above chance |", "|---|---|---|"]
    chance_error = found.error(found.chance)
    for n, share in enumerate(found.held, start=1):
        above = np.hypot(found.error(share), chance_error)
        lines.append(
            f"| of step {n} | {100 * share:.1f} +- {100 * found.error(share):.1f} "
            f"| {100 * (share - found.chance):+.1f} +- {100 * above:.1f} |"
        )
    lines.append(f"| of none: chance | {100 * found.chance:.1f} +- {100 * chance_error:.1f} | |")
    return "\n".join(lines)


def held_picture(model: Draw, variables: Variables, key: jax.Array) -> Image.Image:
    """Returns samples that share z of one time step: a row for each, or for evenly spaced ones."""
    steps = strips.evenly_spaced(model.time_steps, _ROWS)
    rows = []
    for n in steps:
        trace = latents.fix_step(model, variables, key, n, _COLUMNS)
        rows.append(sampling.mean_images(model, trace.canvases[-1]))
    height, width, _ = model.image_shape
    scale = max(1, round(56 / max(height, width)))
    picture = look.stack([grids.grid(np.concatenate(rows), _COLUMNS, scale)], left=_NAME)
    look.name_rows(picture, [f"step {n} held" for n in steps], _NAME, 0, height * scale)
    return picture


def main() -> int:
    """Studies a run, prints the table and the pictures' names, and returns the exit code."""
    cli.check_seed("--seed", _SEED.value)
    if not 1 <= _PAIRS.value <= _MOST_PAIRS:
        raise ValueError(f"--pairs: expected 1 to {_MOST_PAIRS:,}, got {_PAIRS.value}")
    config, drawer, variables, logits = judged.load(_MODELS)
    out, key = Path(_OUT.value), jax.random.key(_SEED.value)

    def name(images: np.ndarray) -> np.ndarray:
        return logits(images).argmax(axis=-1)

    found = agreement(drawer, variables, name, key, _PAIRS.value)
    if _JSON.value:
        files.write_text(_JSON.value, f"{json.dumps(_numbers(found, config))}\n")
    print(f"{found.pairs:,} pairs of samples for each time step:\n{table(found)}")
    paths = [
        estimates.over_steps(
            100 * found.held,
            100 * found.error(found.held),
            (100 * found.chance, 100 * float(found.error(found.chance))),
            out / "agreement.png",
            y_label="pairs of one class, %",
            names=("pairs that share z of step n", "pairs that share nothing"),
            title="how often two samples are of one class",
        ),
        look.save(held_picture(drawer, variables, key), out / "held.png"),
        *kinds.interpolate(_job(drawer, variables, key, out)),
    ]
    for path in paths:
        print(path)
    return 0


def _job(model: Draw, variables: Variables, key: jax.Array, out: Path) -> kinds.Job[Draw]:
    def no_data(*asked: Any) -> Any:
        raise AssertionError("interpolation needs no data")

    return kinds.Job(model, variables, key, out, no_data, no_data, columns=_COLUMNS)


def _numbers(found: Agreement, config: Any) -> dict[str, Any]:
    return {
        "run": _MODELS.run(),
        "classifier": _MODELS.classifier.value,
        "data": config.data.name,
        "seed": _SEED.value,
        "pairs": found.pairs,
        "held": found.held.tolist(),
        "held_se": found.error(found.held).tolist(),
        "chance": found.chance,
        "chance_se": float(found.error(found.chance)),
    }


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, flag_values=FLAGS))
