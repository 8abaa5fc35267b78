"""What a configuration may hold, and which fields may differ between a run and its continuation."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from draw_jax.model import build, likelihood
from draw_jax.model.draw import Draw
from draw_jax.model.task import Model, Task
from draw_jax.runs import directory, legacy, stored
from draw_jax.runs.directory import RunConflictError
from draw_jax.runs.leaves import CheckpointError
from draw_jax.system import cli, devices
from draw_jax.system.errors import UserError
from draw_jax.training import objective

# Fields that may differ between a run and its continuation: where data lies, how often to look,
# how the loop is compiled and shared among cores, what to do when a run diverges.
_FREE = {
    "model.unroll",
    "train.cpu_devices",
    "data.data_dir",
    "data.manual_dir",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.on_divergence",
    "train.max_rollbacks",
    "train.rollback_rate",
}
_WHOLE = {  # field -> least value
    "train.batch_size": 1,
    "train.num_steps": 1,
    "train.cpu_devices": 0,
    "train.warmup_steps": 0,
    "train.decay_steps": 0,
    "train.log_every": 1,
    "train.eval_every": 1,
    "train.checkpoint_every": 1,
    "train.keep_checkpoints": 1,
    "train.max_rollbacks": 0,
    "train.kl_warmup_steps": 0,
    "train.importance_samples": 1,
}
_REAL = (
    "train.learning_rate",
    "train.window_rate",
    "train.clip_norm",
    "train.final_learning_rate",
    "train.weight_decay",
    "train.adam_b2",
    "train.free_bits",
    "train.average_decay",
    "train.rollback_rate",
)
_TEXT = (
    "kind",
    "data.name",
    "data.data_dir",
    "data.manual_dir",
    "data.binarization",
    "train.init_from",
    "train.on_divergence",
)
_BOOL = ("data.grey", "data.resize")
_ON_DIVERGENCE = ("stop", "rollback", "continue")
_FLOAT32 = float(np.finfo(np.float32).max)
_LARGEST = 2**20  # of a layer; a model far below it fills any machine
_MOST_DEVICES = 1024  # that a CPU is made of


def check(config: ConfigDict) -> Task:
    """Returns the task of a configuration that can be trained here.

    Raises:
        ValueError: naming the first field that is missing, of another type or out of range, or if
            the training needs more memory than there is.
        UserError: if other programs use the memory.
    """
    for name in ("seed", "model", *_WHOLE, *_REAL, *_TEXT, *_BOOL):
        _field(config, name)
    _check_can_be_kept(config)
    cli.check_seed("config.seed", config.seed)
    for name in _TEXT:
        value = _field(config, name)
        _expect(isinstance(value, str) and "\0" not in value, config, name, "text")
    for name in _BOOL:
        _expect(type(_field(config, name)) is bool, config, name, "True or False")
    for name, least in _WHOLE.items():
        _expect(type(_field(config, name)) is int, config, name, "a whole number")
        _expect(_field(config, name) >= least, config, name, f">= {least}")
        _expect(_field(config, name) < 2**31, config, name, "< 2147483648 (2^31)")
    for name in _REAL:
        _expect(type(_field(config, name)) in (int, float), config, name, "a number")
        _expect(not _field(config, name) > _FLOAT32, config, name, f"<= {_FLOAT32:g}, finite")
    train = config.train
    few = train.cpu_devices <= _MOST_DEVICES
    _expect(few, config, "train.cpu_devices", f"at most {_MOST_DEVICES:,}")
    for name in ("clip_norm", "final_learning_rate", "weight_decay", "free_bits"):
        _expect(0 <= train[name] < math.inf, config, f"train.{name}", ">= 0, finite")
    for name in ("learning_rate", "window_rate"):
        _expect(0 < train[name] < math.inf, config, f"train.{name}", "> 0, finite")
    for name in ("average_decay", "adam_b2"):
        _expect(0 <= train[name] < 1, config, f"train.{name}", "0 or more and below 1")
    _expect(0 < train.rollback_rate <= 1, config, "train.rollback_rate", "above 0, at most 1")
    ways = ", ".join(_ON_DIVERGENCE)
    known = train.on_divergence in _ON_DIVERGENCE
    _expect(known, config, "train.on_divergence", f"one of: {ways}")
    shape = _field(config, "model.image_shape")
    whole = isinstance(shape, tuple | list) and all(type(n) is int and n >= 1 for n in shape)
    _expect(whole and len(shape) == 3, config, "model.image_shape", "(height, width, channels)")
    _expect(shape[2] in (1, 3), config, "model.image_shape", "1 channel (grey) or 3 (colour)")
    model = build.build(config)  # which looks at the type of every field
    _check_binarization(model, config)
    _check_can_be_kept(config, allow_nan=False)  # after the checks of the known fields
    _check_sizes(config.model)
    task = build.task(model)
    objective.check(task, train)
    devices.check_divides(train.batch_size)
    _check_memory(task, config)
    return task


def cpu_devices(config: ConfigDict, run: Path | None = None) -> int:
    """Returns into how many devices a run splits a CPU; to be called before JAX starts any work.

    That is `config.train.cpu_devices`. If it is 0: the number that the run started with, so that it
    continues with the same rounding, otherwise what `devices.for_cores` finds best.

    Args:
        config: a configuration, not checked yet.
        run: the run directory, if there is one.
    """
    train = config.get("train")
    if not isinstance(train, ConfigDict):
        return 1  # and `check` refuses it
    asked, batch_size = train.get("cpu_devices", 0), train.get("batch_size")
    if type(asked) is not int or not 0 <= asked <= _MOST_DEVICES or type(batch_size) is not int:
        return 1  # and `check` refuses it
    with contextlib.suppress(CheckpointError, OSError):
        if run and not asked:
            asked = directory.read_config(run).train.get("cpu_devices", 0)
    return asked or devices.for_cores(max(1, batch_size))


def with_devices(config: ConfigDict) -> ConfigDict:
    """Returns a configuration with the number of devices into which this process split its CPU."""
    told = config.copy_and_resolve_references()
    if jax.default_backend() == "cpu" and jax.process_count() == 1:
        told.train.cpu_devices = jax.device_count()
    return told.lock()


def _check_binarization(model: Model, config: ConfigDict) -> None:
    """Raises ValueError if a likelihood of 8-bit images is to be trained on others."""
    discretized = isinstance(model, Draw) and likelihood.named(model.likelihood).discretized
    if discretized and config.data.binarization != "none":
        raise ValueError(
            "config.data.binarization: expected none, as config.model.likelihood "
            f"{config.model.likelihood!r} is of 8-bit images, got {config.data.binarization!r}"
        )


def _expect(holds: bool, config: ConfigDict, name: str, wanted: str) -> None:
    if not holds:
        raise ValueError(f"config.{name}: expected {wanted}, got {_field(config, name)!r}")


def _field(config: ConfigDict, name: str) -> Any:
    value = config
    for part in name.split("."):
        if not isinstance(value, ConfigDict) or part not in value:
            raise ValueError(f"config.{name}: missing; configs/mnist.py has every field")
        value = value[part]
    return value


def _check_can_be_kept(config: ConfigDict, prefix: str = "config", allow_nan: bool = True) -> None:
    """Raises ValueError naming a field whose value config.json cannot hold, such as bytes.

    Also nan and infinity, unless allowed: nan would not even equal itself when a run continues.
    """
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            _check_can_be_kept(value, f"{prefix}.{name}", allow_nan)
            continue
        try:
            json.dumps(json.loads(ConfigDict({"value": value}).to_json()), allow_nan=allow_nan)
        except (TypeError, ValueError) as error:
            got = value if isinstance(value, float) else type(value).__name__
            raise ValueError(f"{prefix}.{name}: expected what JSON can hold, got {got}") from error


def _check_sizes(model: ConfigDict) -> None:
    """Raises ValueError naming an absurd number, or a size that would compile for hours."""
    for name, value in model.items():
        if isinstance(value, int | float) and not abs(value) < 2**31:
            raise ValueError(
                f"config.model.{name}: expected -2147483647 to 2147483647 (2^31 - 1), got {value!r}"
            )
        if name.endswith("_size") and isinstance(value, int) and value > _LARGEST:
            raise ValueError(f"config.model.{name}: expected <= {_LARGEST}, got {value}")
    longer = max(model.image_shape[:2])
    for name in ("read_size", "write_size"):
        if isinstance(model.get(name), int) and model[name] > longer:
            raise ValueError(
                f"config.model.{name}: expected at most {longer}, the image's longer side, "
                f"got {model[name]}"
            )
    unroll, steps = model.get("unroll"), model.get("time_steps")
    if isinstance(unroll, int) and isinstance(steps, int) and unroll > steps:
        raise ValueError(
            f"config.model.unroll: expected at most {steps}, the time steps, got {unroll}"
        )


def _check_memory(task: Task, config: ConfigDict) -> None:
    """Raises if an update's estimated memory is more than there is.

    Raises:
        UserError: if other programs use what is missing, so that the same command may do later.
        ValueError: if the machine has too little.
    """
    limit, whole = devices.memory_bytes(), devices.memory_bytes(free=False)
    weights, kept = _memory_needed(task, config)
    if limit is not None and weights + kept > limit:
        gib, samples = 1024**3, config.train.importance_samples
        times = f", {samples} samples each" if samples > 1 else ""
        fewer = ", or take fewer config.train.importance_samples" if samples > 1 else ""
        in_use = whole is not None and weights + kept <= whole
        wait = "wait for the programs that use the rest, or " if in_use else ""
        raise (UserError if in_use else ValueError)(
            f"config.model, config.train.batch_size: an update needs about "
            f"{(weights + kept) / gib:,.1f} GiB ({weights / gib:,.1f} for the weights and their "
            f"moments, {kept / gib:,.1f} for a batch of {config.train.batch_size}{times}), and "
            f"{limit / gib:,.1f} GiB are free: {wait}make the batch or the model smaller{fewer}"
        )


def _memory_needed(task: Task, config: ConfigDict) -> tuple[int, int]:
    """Returns the bytes on one device of an update's weights, and of what it keeps of a batch.

    A low estimate, so that nothing that fits is refused: XLA's own figures for a batch are
    1.3 to 1.7 times as large for configs/mnist.py, mnist_no_attention.py and image_folder.py.
    """
    variables = build.shapes(task.model)
    copies = 5 if config.train.average_decay else 4  # weights, gradient, Adam's two moments, EMA
    weights = 4 * copies * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    rows = config.train.batch_size // jax.device_count()
    return weights, 4 * rows * task.floats_kept * config.train.importance_samples


def flat(config: ConfigDict) -> dict[str, Any]:
    """Returns the fields of a configuration by names such as train.batch_size, as JSON has them.

    A field that it lacks, as one of an earlier version, has its legacy value.
    """
    return flatten_dict(legacy.filled(json.loads(config.to_json())), sep=".")


def differing_fields(ours: ConfigDict, theirs: ConfigDict) -> list[str]:
    """Returns "config.field: theirs -> ours" for the settings that make another run, [] for none.

    Where data lies and how often to look may change; `train.num_steps` may grow. A field that one
    of them lacks has its legacy value.
    """
    new, old = (flat(config) for config in (ours, theirs))
    names = [n for n in sorted(new | old) if new.get(n) != old.get(n) and n not in _FREE]
    steps = [of.get("train.num_steps", 0) for of in (new, old)]
    if "train.num_steps" in names and all(type(n) is int for n in steps) and steps[0] > steps[1]:
        names.remove("train.num_steps")
    return [f"config.{n}: {old.get(n, '(none)')} -> {new.get(n, '(none)')}" for n in names]


def changed(config: ConfigDict, run: Path) -> bool:
    """Returns whether the newest checkpoint of a run has other settings, changed on purpose since."""
    told = stored.newest_told_of_run(run / "checkpoints").get("config")
    return bool(told and differing_fields(config, ConfigDict(told)))


def check_continues(config: ConfigDict, run: Path) -> None:
    """Raises RunConflictError if the run directory holds a run of different settings.

    One that ended before its first checkpoint holds nothing that could be lost.
    """
    if directory.has_begun(run):
        told = stored.newest_told_of_run(run / "checkpoints", config)
        theirs = (told or stored.newest_told_of_run(run / "checkpoints")).get("config")
        if (run / "config.json").exists():
            own = directory.read_config(run)
            if not theirs or directory.is_unsigned(run):  # which was changed on purpose, or is old
                theirs = own
        fields = differing_fields(config, ConfigDict(theirs)) if theirs else []
        if fields:
            raise RunConflictError(
                f"{run} holds a run of different settings:\n  " + "\n  ".join(fields) + "\n"
                "give another --workdir, or the run's own settings to continue it"
            )
