"""Measures a model: draw-jax evaluate --workdir=runs/mnist --split=test.

One exact pass over a whole split; the result depends on neither the batch size nor the devices.
With --json=FILE, a long pass keeps its results so far in FILE.part, and the same command continues.
Exit codes: 0 measured, 1 error, 2 bad flags.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict

from draw_jax import __version__
from draw_jax.commands import model_flags
from draw_jax.system import cli

if TYPE_CHECKING:
    from draw_jax.data.splits import Split
    from draw_jax.evaluation.partial import Partial
    from draw_jax.model.task import Model, Task, Variables

_HASHED = 1_000  # images at a time
_TERMS = 2  # version of what is kept of an image, in files of an evaluation that goes on

FLAGS = flags.FlagValues()
_MODEL = model_flags.define_model(FLAGS, pretrained="Or the name of shipped weights")
_SPLIT = flags.DEFINE_string("split", "test", "train, validation or test", flag_values=FLAGS)
_SAMPLES = flags.DEFINE_integer(
    "importance_samples", 0, "K of the importance-weighted bound", flag_values=FLAGS
)
_IMAGES = flags.DEFINE_integer(
    "images", None, "Only the first N images of the split", flag_values=FLAGS
)
_NEAREST = flags.DEFINE_integer(
    "nearest_nll",
    None,
    "Generate N images, and measure the NLL of each one's nearest training image, given it",
    flag_values=FLAGS,
)
_ACTIVE = flags.DEFINE_boolean(
    "active_units",
    False,
    "Count the active latent units, in two more passes",
    flag_values=FLAGS,
)
_BATCH = flags.DEFINE_integer(
    "batch_size", 200, "Images at a time; no effect on the result", flag_values=FLAGS
)
_SEED = flags.DEFINE_integer(
    "seed", None, "Of the noise; default: the run's own", flag_values=FLAGS
)
_DATA = model_flags.define_data(FLAGS)
_JSON = flags.DEFINE_string("json", "", "A file for the result, also printed", flag_values=FLAGS)
flags.register_validator("json", cli.check_writable, flag_values=FLAGS)


def main() -> int:
    """Evaluates, prints and returns the exit code."""
    _check_flags()
    run = _MODEL.run()

    from draw_jax.data import splits
    from draw_jax.evaluation import passes
    from draw_jax.model import build
    from draw_jax.runs import export
    from draw_jax.system import compilation, devices, files

    compilation.keep()
    devices.share_cores(devices.cores())
    config, model, variables, step = model_flags.load(run, _MODEL, _DATA)
    _check_model(config, model)
    split = splits.load(config.data, _SPLIT.value, config.model.image_shape, flags="--", still=True)
    splits.check_shape(split, model.image_shape, config.data.name)
    passes.check_split(split)  # before its images are read
    seed = config.seed if _SEED.value is None else _SEED.value
    training = _training(config) if _NEAREST.value else None  # before hours of work
    task = build.task(model)
    splits.check_labels(split, task.classes, config.data.name)
    count = min(len(split), _IMAGES.value or len(split))
    if _ACTIVE.value and count < 2:
        raise ValueError(
            f"--active_units: expected two images or more, for a variance, got {count}; leave it out"
        )
    partial = _begun(config, variables, split, seed, count)
    result = _measured(config, model, variables, split, training, seed, count, partial) | {
        "run": run,
        "checkpoint": step,
        "weights": export.of_weights(variables["params"]),
        "data": config.data.name,
        "binarization": config.data.binarization,
        "split": _SPLIT.value,
        "seed": seed,
        "importance_samples": _SAMPLES.value,
        "first_images": count < len(split),
    }
    if task.classes:
        result |= _interval(result)
    if _JSON.value:  # before printing, as the reader of the output may be gone
        files.write_text(_JSON.value, f"{json.dumps(result)}\n")
        partial.finish()
    _print(result, task)
    return 0


def _check_flags() -> None:
    """Raises ValueError for a number that is out of its range, before anything is loaded."""
    for flag, least in ((_SAMPLES, 0), (_BATCH, 1), (_IMAGES, 1)):
        if flag.value is not None and not least <= flag.value <= 10**6:
            raise ValueError(f"--{flag.name}: expected {least} to 1,000,000, got {flag.value}")
    if _NEAREST.value is not None and not 1 <= _NEAREST.value <= 10_000:
        raise ValueError(f"--nearest_nll: expected 1 to 10,000 images, got {_NEAREST.value}")
    if _SEED.value is not None:
        cli.check_seed("--seed", _SEED.value)


def _check_model(config: ConfigDict, model: "Model") -> None:
    """Raises ValueError where a flag asks for what the model does not have."""
    from draw_jax.model.draw import Draw

    latents = "has no latent units"
    asked = [(_NEAREST, "generates no images"), (_ACTIVE, latents), (_SAMPLES, latents)]
    for flag, lacks in asked:
        if flag.value and not isinstance(model, Draw):
            raise ValueError(
                f"--{flag.name}: a model of config.kind {config.kind!r} {lacks}; leave it out"
            )


def _begun(
    config: ConfigDict, variables: "Variables", split: "Split", seed: int, count: int
) -> "Partial":
    """Returns the same pass's results so far, from beside the file of --json; else none."""
    from draw_jax.evaluation.partial import Partial

    if not _JSON.value:
        return Partial()
    file = Path(f"{_JSON.value}.part")
    found = Partial(file, _identity(config, variables, split, seed, count))
    if found.damaged:
        print(f"{file} is damaged: the pass begins anew")
    if found.done or found.samples:
        print(f"going on from {file}: {found.done:,} of {count:,} images are done")
    return found


def _measured(
    config: ConfigDict,
    model: "Model",
    variables: "Variables",
    split: "Split",
    training: "Split | None",
    seed: int,
    count: int,
    partial: "Partial",
) -> dict[str, Any]:
    """Returns all that the flags ask for, of the first `count` images of the split."""
    from draw_jax.data import splits
    from draw_jax.evaluation import activity, nearest, passes
    from draw_jax.model import build
    from draw_jax.system.counting import Counting

    samples = _SAMPLES.value  # of each image: what takes the time
    unit = "sample" if samples else "image"
    prepare, keys = splits.preparation(config.data.binarization), build.keys(seed)
    with Counting(count * (samples or 1), unit, "measuring") as so_far:
        result = passes.evaluate(
            build.task(model),
            variables,
            split,
            prepare,
            keys.evaluate,
            batch_size=_BATCH.value,
            importance_samples=samples,
            on_batch=lambda done: so_far.to(done * (samples or 1)),
            on_samples=so_far.to,
            images=count,
            partial=partial,
        )
    if _ACTIVE.value:
        with Counting(count, "image", "active units") as so_far:
            result |= activity.measure(
                build.drawing(model),
                variables,
                split,
                prepare,
                keys.evaluate,
                batch_size=_BATCH.value,
                images=count,
                on_batch=so_far.to,
            )
    if training is not None and _NEAREST.value:
        with Counting(_NEAREST.value, "image", "nearest") as so_far:
            result |= nearest.measure(
                build.drawing(model),
                variables,
                keys.sample,
                training,
                _NEAREST.value,
                batch_size=_BATCH.value,
                on_batch=so_far.to,
            )
    return result


def _print(result: dict[str, Any], task: "Task") -> None:
    """Prints a table of the result, and the result as JSON in the last line."""
    print(f"{result['data']} ({result['binarization']}), {result['split']}, per image:")
    more = ("importance_weighted_nll", "importance_weighted_bits_per_dim")
    shown = [name for name in (*task.columns, *more) if name in result]
    width = max(24, *map(len, shown))
    for name in shown:
        print(f"  {name:{width}}{result[name]:10.3f} +- {result[f'{name}_se']:.3f}")
    if task.classes:
        print(_errors(result))
    if "active_units" in result:
        active = f"{result['active_units']:,} of {result['latent_units']:,}"
        print(f"  active latent units: {active}, the means of which vary by more than 0.01")
    if "nearest_nll" in result:
        print(
            f"nearest training image to each of {result['nearest_images']:,} generated ones, its NLL "
            f"given that, nats:\n  {_three(result, 'nearest_nll')}"
        )
    if "nearest_rounded_nll" in result:
        print(
            "the same of both rounded to 0 and 1, the probabilities held within 1e-7 of them:\n"
            f"  {_three(result, 'nearest_rounded_nll')}"
        )
    print(json.dumps(result))


def _three(result: dict[str, Any], name: str) -> str:
    mean, deviation, most = (result[f"{name}{end}"] for end in ("", "_std", "_max"))
    return f"mean {mean:.1f}, standard deviation {deviation:.1f}, maximum {most:.1f}"


def _identity(
    config: ConfigDict, variables: "Variables", split: "Split", seed: int, count: int
) -> dict[str, Any]:
    """Returns by name what decides each image's terms: the weights, the images and the flags."""
    import numpy as np

    from draw_jax.runs import leaves

    images = hashlib.sha256()
    for start in range(0, count, _HASHED):
        batch = split.batch(np.arange(start, min(start + _HASHED, count)))
        images.update(batch.images.tobytes())
        images.update(b"" if batch.labels is None else batch.labels.tobytes())
    fields = json.loads(config.to_json())
    for place in ("data_dir", "manual_dir"):  # the images themselves count
        del fields["data"][place]
    return {
        "weights": {name: leaves.digest(leaf) for name, leaf in leaves.flatten(variables).items()},
        "config.kind": fields["kind"],
        "config.model": fields["model"],
        "config.data": fields["data"],
        "images": [count, images.hexdigest()],
        "--split": _SPLIT.value,
        "--seed": seed,
        "--importance_samples": _SAMPLES.value,
        "version": [__version__, _TERMS],
    }


def _training(config: ConfigDict) -> "Split":
    """Returns the training images, of SVHN the middle crops; --nearest_nll finds the nearest."""
    from draw_jax.data import splits

    shape = config.model.image_shape
    training = splits.load(config.data, "train", shape, "--", seed=config.seed, still=True)
    if training.endless:
        raise ValueError(
            f"--nearest_nll: the training images of data set {config.data.name!r} have no end, so that "
            "none is the nearest; leave it out"
        )
    return training


def _interval(result: dict[str, Any]) -> dict[str, Any]:
    """Returns how many images a classifier got wrong, and the error rate's 95 % interval."""
    from draw_jax.evaluation import classification

    errors = round(result["error"] * result["images"])
    low, high = classification.interval(errors, result["images"])
    return {"errors": errors, "error_low": low, "error_high": high}


def _errors(result: dict[str, Any]) -> str:
    """Returns in words what a classifier got wrong."""
    errors, images = result["errors"], result["images"]
    text = (
        f"  {errors:,} of {images:,} images wrong: {100 * errors / images:.2f} %; 95 % interval "
        f"{100 * result['error_low']:.2f} to {100 * result['error_high']:.2f} %"
    )
    if len(result["error_per_step"]) > 1:
        rates = "  ".join(f"{100 * rate:.2f}" for rate in result["error_per_step"])
        text += f"\n  after each glimpse, %: {rates}"
    return text


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, argv, flag_values=FLAGS)
