"""Strange input: settings, flags, pictures, archives and files of runs.

    python -m tests.campaigns.fuzz --cases=10000

Each is taken, and then works, or refused in one line; never a traceback, a hang or a full memory.
"""

import contextlib
import copy
import functools
import importlib
import inspect
import json
import math
import os
import random
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import fuzz_files
from tests.campaigns.campaign import Broken, main
from tests.campaigns.commands import called, in_time, own_folder, refused
from tests.helpers import small_config
from tests.test_configs import NAMES, fields

SECONDS = 10.0  # a case takes less
MEMORY = 2**30  # bytes that a case may add to the most that the process has had
STRANGE = (
    *(None, True, False, -1, 0, 1, 2, 3, 5, 99, 10**6, 2**31, 2**63, 10**30, -(10**30), 10**400),
    *(math.nan, math.inf, -math.inf, 1e-300, 1e308, -0.0, 0.5, 1.5, -2.5),
    *(
        "",
        " ",
        "x",
        "a\nb",
        "\u202eü\0",
        "../..",
        "/",
        "float32",
        "bfloat16",
        "float64",
        "nan",
        "0",
    ),
    *("mnist", "digits", "image_folder", "cluttered_mnist", "dynamic", "ram", "draw", "x" * 5000),
    *([], [1], [0, 0, 0], [28, 28, 1], [28, 28, 3], [28, 28, -1], [10**9, 10**9, 1], [[1]], ["a"]),
    *((28, 28, 1), (1, 1, 1), (2.5, 28, 1), (math.nan,) * 3, {}, {"a": 1}, b"x"),
)
WORDS = (
    *(
        "",
        " ",
        "-1",
        "0",
        "1",
        "2",
        "3",
        "16",
        "24",
        "1e9",
        "nan",
        "inf",
        "-inf",
        "0.5",
        "x",
        "a\nb",
    ),
    *("99999999999999999999", "ü\u202e", "\udcff", "/", ".", "..", "~", "[]", "{}", "None", "true"),
    *("(1,2)", "x" * 5000, "%s", "--", "=", "nosuch/dir", "file", "folder", "fifo", "run", "all"),
    *(
        "test",
        "train",
        "validation",
        "mnist",
        "cluttered_mnist",
        "samples,nearest",
        ",",
        "glimpses",
    ),
)
FLAGS = {
    "train": ("workdir", "init_from", "process_timeout", "config", "nosuch"),
    "evaluate": (
        *("workdir", "pretrained", "checkpoint", "split", "importance_samples", "batch_size"),
        *("seed", "data_dir", "manual_dir", "json", "step", "nosuch"),
    ),
    "sample": (
        *("workdir", "pretrained", "checkpoint", "out", "kind", "image", "seed", "rows", "columns"),
        *("scale", "draws", "linear", "time_step", "data_dir", "manual_dir", "nosuch"),
    ),
}


# --- settings


def play_config(rng: random.Random, folder: Path) -> str:
    """One to three fields of a shipped configuration, strange; taken ones build and train."""
    from draw_jax.training import config as settings

    name = rng.choice(NAMES)
    config = importlib.import_module(f"draw_jax.configs.{name}").get_config()
    config.data.data_dir = str(folder)
    changed = {}
    with config.unlocked(), config.ignore_type():
        for _ in range(rng.randint(1, 3)):
            field = rng.choice([*fields(config), "model.new", "new", "train.new", "data.new"])
            group, _, last = field.rpartition(".")
            place = config[group] if group else config
            value = _strange(rng, place.get(last, 0))
            changed[field] = value
            if last in place:
                del place[last]  # or the value would be cast to the type of the one before
            if rng.random() < 0.95:
                place[last] = value
    try:
        told = refused(lambda: _use(settings.check(config), config))
    except Broken as error:
        raise Broken(f"{name}, {str(changed)[:300]}: {error}") from None
    if told is None:
        return "taken"
    names = (field.rpartition(".")[2] for field in changed)
    if not any(name in told for name in ("config.", "data set", *names)):
        raise Broken(f"{name}, {str(changed)[:300]}: names no field: {told}")
    return "refused"


def _strange(rng: random.Random, value: Any) -> Any:
    if type(value) in (int, float) and rng.random() < 0.6:
        return rng.choice(
            (
                value + 1,
                value + 2,
                value / 2,
                value // 2,
                value * 2,
                value * 1000,
                -value,
                float(value),
                f"{value}",
            )
        )
    return copy.deepcopy(rng.choice(STRANGE))


def _use(task: Any, config: Any) -> None:
    """Does what training does before its first update, without computing anything."""
    import jax
    import jax.numpy as jnp
    import optax

    from draw_jax.data import splits
    from draw_jax.data.interface import DataNotFound
    from draw_jax.runs import directory
    from draw_jax.training import config as settings
    from draw_jax.training.step import learning_rate, make_optimizer

    with contextlib.suppress(DataNotFound):  # of the sets that would be downloaded
        split = splits.load(config.data, "validation", config.model.image_shape)
        splits.check_shape(split, task.model.image_shape)
        splits.check_labels(split, task.classes)
    stored = directory.parse_config(config.to_json().encode(), "config.json")
    assert settings.differing_fields(config, stored) == []
    _loss(task)
    weights = {"w": jnp.zeros(2)}
    optimizer = make_optimizer(config.train)
    updates, _ = optimizer.update({"w": jnp.ones(2)}, optimizer.init(weights), weights)
    assert optax.apply_updates(weights, updates)["w"].shape == (2,)
    for step in (0, 1, config.train.num_steps):
        assert math.isfinite(learning_rate(config.train)(jnp.float32(step)))
    assert jax.random.key(config.seed).size == 1


@functools.lru_cache(maxsize=500)
def _loss(task: Any) -> None:
    import jax

    from draw_jax.model import build

    key = jax.random.key(0)
    variables = jax.eval_shape(lambda key: build.initial_variables(task.model, key), key)
    x = jax.ShapeDtypeStruct((2, *task.model.image_shape), "float32")
    labels = jax.ShapeDtypeStruct((2,), "int32")
    terms = jax.eval_shape(task.loss_terms, variables, x, labels, key)
    assert all(term.shape == (2,) for term in terms.values())


# --- flags


def play_flags(rng: random.Random, folder: Path) -> str:
    """One to four flags with strange values; nothing is computed."""
    name = rng.choice(("train", "evaluate", "sample"))
    (folder / "folder").mkdir()
    (folder / "file").write_bytes(rng.randbytes(50))
    (folder / "run").symlink_to(tiny_run())
    os.mkfifo(folder / "fifo")
    words = ["--config=smoke"] if name == "train" else ["--workdir=run"]
    for _ in range(rng.randint(1, 4)):
        flag = rng.choice(FLAGS[name])
        if name == "train" and rng.random() < 0.7:
            flag = "config." + rng.choice([*fields(small_config()), "new", "model", "train.new"])
        value = rng.choice(WORDS)
        if (flag, value) == ("config", "fifo"):  # a program that nobody writes for yet: it waits
            continue
        words.append(rng.choice((f"--{flag}={value}", f"--{flag}={value}", f"-{flag}", f"{value}")))
    module = importlib.import_module(f"draw_jax.commands.{name}")
    try:
        with contextlib.chdir(folder), _computes_nothing():
            ended = called(lambda: module.command([f"{name}.py", *words]), SECONDS)
    except Broken as error:
        raise Broken(f"{name} {str(words)[:300]}: {error}") from None
    finally:
        for flag in [f for f in module.FLAGS if f.startswith("config.")]:
            delattr(module.FLAGS, flag)  # those of one command line
    if (folder / "fifo").is_file():
        raise Broken(f"{name} {words}: replaced what is no file")
    return "taken" if ended.code == 0 else "refused"


@contextlib.contextmanager
def _computes_nothing() -> Iterator[None]:
    from draw_jax.drawing import kinds
    from draw_jax.evaluation import passes
    from draw_jax.runs import checkpoint
    from draw_jax.training import config as settings
    from draw_jax.training import loop

    def load(run: str, step: int | None = None) -> Any:
        config, *rest = _load(str(run), step)
        return (config.copy_and_resolve_references().lock(), *rest)  # flags are put into it

    result = dict.fromkeys(("images", "elbo_loss", "elbo_loss_se", "nll", "nll_se"), 1.0)
    result |= {"kl": 1.0, "kl_se": 1.0, "error": 0.5, "error_se": 0.1, "error_per_step": [0.5]}
    result |= {"cross_entropy": 1.0, "cross_entropy_se": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", lambda config, run: settings.check(config) and 0)
        patch.setattr(checkpoint, "load_with_step", load)
        patch.setattr(passes, "evaluate", lambda *given, **more: dict(result))
        patch.setattr(kinds, "reconstruct_images", lambda job, image: [])
        patch.setattr(kinds, "of_model", lambda model: dict.fromkeys(_KINDS, lambda job: []))
        yield


@functools.lru_cache(maxsize=10)
def _load(run: str, step: int | None) -> Any:
    return _LOAD(run, step)


_LOAD = importlib.import_module("draw_jax.runs.checkpoint").load_with_step
_KINDS = ("samples", "sequence", "interpolate", "fix_step", "reconstruct", "nearest")


@functools.cache
def tiny_run() -> Path:
    """Returns a run of two untrained checkpoints, 16 and 24, made once."""
    import jax

    from draw_jax.model import build
    from draw_jax.runs import checkpoint, directory
    from draw_jax.runs.metrics import MetricsFile

    run, config = own_folder(), small_config()
    directory.write_config(run, config)
    params = build.initial_variables(build.build(config), jax.random.key(0))["params"]
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 5, config=config)
    for step, loss in ((16, 2.0), (24, 3.0)):
        MetricsFile(run / "metrics.jsonl").write(
            {"step": step, "split": "validation", "elbo_loss": loss}
        )
        params = jax.tree.map(lambda leaf: leaf + 1, params)  # so that each step has its own
        checkpoints.save(step, {"params": params, "optimizer": params, "average": params}, loss)
    checkpoints.close()
    return run


# --- all of them

AREAS: dict[str, tuple[int, Callable[[random.Random, Path], str]]] = {
    "settings": (25, play_config),
    "flags": (8, play_flags),
    "pictures": (35, fuzz_files.play_picture),
    "folders of pictures": (12, fuzz_files.play_folder),
    "archives": (14, fuzz_files.play_archive),
    "files of a run": (6, fuzz_files.play_run_file),
}


def play(rng: random.Random, folder: Path) -> str:
    """Plays a case of an area that its generator chooses."""
    weights = [weight for weight, _ in AREAS.values()]
    area = rng.choices(list(AREAS), weights)[0]
    _warm_up()
    before = _memory()
    with in_time(2 * SECONDS), here(folder):
        outcome = AREAS[area][1](rng, folder)
    if _memory() - before > MEMORY:
        raise Broken(f"{area}: {(_memory() - before) / 2**30:.1f} GiB of memory")
    return f"{area}: {outcome}"


@functools.cache
def _warm_up() -> None:
    """Makes what the cases share, and the imports."""
    from draw_jax.data import splits
    from draw_jax.training import config as settings

    for split in splits.SPLITS:
        _digits(split)
        _digits(split, box=20)
    _use(settings.check(small_config()), small_config())
    tiny_run()
    fuzz_files.prepared_set()


def _memory() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def here(folder: Path) -> Iterator[None]:
    """Keeps caches and prepared sets of a case in its folder; nothing is downloaded."""
    from draw_jax.data import fetch
    from draw_jax.data.interface import DataNotFound
    from draw_jax.data.sets import digits

    def build(*given: Any) -> None:
        raise DataNotFound("data set is not here: no network in this case")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "build", build)
        patch.setattr(digits, "read", _digits)
        patch.setenv("XDG_CACHE_HOME", str(folder / "caches"))
        patch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
        yield


def _digits(split: str, **options: Any) -> Any:
    return _read_digits(split, json.dumps(options))


@functools.cache
def _read_digits(split: str, options: str) -> Any:
    return _DIGITS(split, **json.loads(options))


_DIGITS = importlib.import_module("draw_jax.data.sets.digits").read
assert inspect.isfunction(_DIGITS)


if __name__ == "__main__":
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(own_folder())
    sys.exit(main("fuzz", play, 10_000))
