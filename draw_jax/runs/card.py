"""The card of exported weights: what they are, on what data, how long trained, and their numbers."""

import math
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

# What evaluate.py's --json has for a split, in the order of its columns; * 100 = as a percentage.
_COLUMNS = {
    "elbo_loss": ("negative ELBO, nats", 1, 2),
    "bits_per_dim": ("bits per dimension", 1, 3),
    "nll": ("NLL", 1, 2),
    "kl": ("KL", 1, 2),
    "importance_weighted_nll": ("importance-weighted bound, nats", 1, 2),
    "importance_weighted_bits_per_dim": ("the same in bits per dimension", 1, 3),
    "error": ("error, %", 100, 2),
}
_BINARISED = {
    "fixed": "binarised once, the same for everyone (the set's own fixed binarisation)",
    "dynamic": "binarised anew at each update by their grey values (dynamic binarisation)",
    "none": "as they are, their values in [0, 1]",
}
_FILL_IN = "(to fill in)"


class Training(NamedTuple):
    """What a run tells of the training of its weights."""

    step: int  # of the checkpoint: updates done
    minutes: float  # of these updates only, by their median speed; nan if unknown


def text(
    name: str,
    config: ConfigDict,
    parameters: int,
    training: Training | None = None,
    results: Sequence[dict[str, Any]] = (),
    dtype: str = "float32",
) -> str:
    """Returns a card with all that is known, and "(to fill in)" for the rest.

    Args:
        name: of the weights: of their folder.
        config: that they were trained by.
        parameters: how many numbers they are.
        training: of the run; None where it is not known.
        results: of `evaluate.py --json` of these weights, one for each measurement.
        dtype: that they are kept in.
    """
    update = f"{training.step:,} updates" if training else f"{_FILL_IN} updates"
    lines = [
        f"# {name}: {config.kind} on {config.data.name}, {_size(config)}",
        f"Trained for {update}. Draw with it, or measure it:",
        _shell(
            f"draw-jax sample --pretrained={name} --out=samples",
            f"draw-jax evaluate --pretrained={name} --split=test",
        ),
        "## Data and protocol",
        "\n".join(_data(config, results)),
        "## Model",
        f"{_model(config)}; {parameters:,} parameters. [config.json](config.json) holds every field. "
        + _weights(config, dtype),
        "## Training",
        _training(config, training),
        _shell(
            f"draw-jax train --config={name}{_start(config)}",
            f"draw-jax export --workdir=runs/{name} --out=draw_jax/pretrained/{name} --dtype=float16",
        ),
        "## Numbers",
        _numbers(name, config, results),
        "## Limits",
        f"- {_FILL_IN}",
        "## Licence",
        f"Apache-2.0, as the package. {_FILL_IN}: whose data it is.",
    ]
    return "\n\n".join(lines) + "\n"


def _shell(*commands: str) -> str:
    return "\n".join(["```sh", *commands, "```"])


def _size(config: ConfigDict) -> str:
    height, width, channels = config.model.image_shape
    return f"{height}x{width}" + (" in colour" if channels == 3 else "")


def _data(config: ConfigDict, results: Sequence[dict[str, Any]]) -> list[str]:
    whole = [found for found in results if not found.get("first_images")]
    counts = {found["split"]: f"{found['split']} {found['images']:,}" for found in whole}
    measured = f" Measured: {', '.join(counts.values())} images." if counts else ""
    lines = [
        f"- Data set `{config.data.name}`, images {_BINARISED[config.data.binarization]}.{measured}",
        "- Only the training split was trained on. The checkpoint is the best on the validation split.",
    ]
    if "enc_size" in config.model:
        lines.append(
            "- The measure is the negative ELBO with one sample of z an image: the negative log-likelihood "
            "(NLL) of the image given the\n  canvas plus the KL divergence of the posterior from the prior. It "
            "is the mean over a split, with its standard error."
        )
    return lines


def _model(config: ConfigDict) -> str:
    model = config.model
    windows = [
        f"{kind} window {size}x{size}" if size else f"no attention for {use}"
        for kind, use in (("read", "reading"), ("write", "writing"))
        if (size := model.get(f"{kind}_size", None)) is not None
    ]
    if "enc_size" in model:
        sizes = [
            f"LSTMs of {model.enc_size} units in the encoder and {model.dec_size} units in the decoder"
        ]
        sizes += [f"{model.latent_size} latent dimensions a step"]
    elif "lstm_size" in model:
        sizes = [f"one LSTM of {model.lstm_size} units"]
    elif "core_size" in model:
        sizes = [f"a core of {model.core_size} units", f"{model.scales} patches a glimpse"]
    else:
        sizes = [f"{model.filters} filters", f"{model.hidden_size} units"]
    steps = [f"T = {model.time_steps} time steps"] if "time_steps" in model else []
    return ", ".join([*steps, *sizes, *windows])


def _training(config: ConfigDict, training: Training | None) -> str:
    train = config.train
    schedule = f"{'AdamW' if train.weight_decay else 'Adam'} at {train.learning_rate:g}"
    if train.warmup_steps:
        schedule += f", warmed up linearly over {train.warmup_steps:,} updates"
    if train.decay_steps:
        schedule += f", cosine decay until update {train.decay_steps:,}"
    if train.clip_norm:
        schedule += f", gradients clipped at {train.clip_norm:g}"
    if train.weight_decay:
        schedule += f", weight decay {train.weight_decay:g}"
    of = (
        f"about {_time(training.minutes)} of updates alone, by their median speed, on"
        if training and math.isfinite(training.minutes)
        else f"{_FILL_IN}: hours, on"
    )
    return f"Batch {train.batch_size}, {schedule}; {of} a machine {_FILL_IN}."


def _weights(config: ConfigDict, dtype: str) -> str:
    kept = "the EMA (exponential moving average) of the trained ones"
    rounded = ", rounded to float16" if dtype == "float16" else ""
    return f"The weights are {kept if config.train.average_decay else 'those after that update'}{rounded}."


def _time(minutes: float) -> str:
    whole = round(minutes)
    return f"{whole} minute{'s' * (whole != 1)}" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _start(config: ConfigDict) -> str:
    source = config.train.init_from
    return f" --init_from={shlex.quote(source)}" if source else ""


def _numbers(name: str, config: ConfigDict, results: Sequence[dict[str, Any]]) -> str:
    if not results:
        return f"{_FILL_IN}, by --results: what `draw-jax evaluate --json` wrote."
    shown = [key for key in _COLUMNS if any(key in found for found in results)]
    rows = [
        ["split", *(_COLUMNS[key][0] for key in shown), "images", "command"],
        ["---"] * (len(shown) + 3),
    ]
    for found in results:
        command = f"draw-jax evaluate --pretrained={name} --split={found['split']}"
        if found.get("importance_samples"):
            command += f" --importance_samples={found['importance_samples']}"
        if found.get("first_images"):
            command += f" --images={found['images']}"
        if (seed := found.get("seed", config.seed)) != config.seed:
            command += f" --seed={seed}"
        cells = [_cell(found, key) for key in shown]
        rows.append([found["split"], *cells, f"{found['images']:,}", f"`{command}`"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(found: dict[str, Any], key: str) -> str:
    if key not in found:
        return "-"
    _, times, places = _COLUMNS[key]
    if key == "error" and "error_low" in found:
        low, high = (times * found[f"error_{end}"] for end in ("low", "high"))
        return f"{times * found[key]:.{places}f} ({low:.{places}f} to {high:.{places}f})"
    return f"{times * found[key]:.{places}f} +- {times * found[f'{key}_se']:.{places}f}"
