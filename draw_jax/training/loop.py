"""Training: the one loop, top to bottom in the order in which things happen."""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from draw_jax.data import splits
from draw_jax.drawing import report, sampling
from draw_jax.evaluation import passes
from draw_jax.model import build
from draw_jax.runs import checkpoint, directory
from draw_jax.runs.metrics import MetricsFile, Progress, TensorBoard
from draw_jax.training import signals
from draw_jax.training.step import TrainState, initial_state, make_update

# Exit codes of train.py.
FINISHED, ERROR, BAD_CONFIG, STOPPED, DIVERGED = range(5)

# What this room reads; build checks `model`.
_FIELDS = (
    *("seed", "kind", "model", "data.name", "data.data_dir", "data.manual_dir"),
    *("data.binarization", "train.batch_size", "train.num_steps", "train.learning_rate"),
    *("train.warmup_steps", "train.decay_steps", "train.final_learning_rate", "train.clip_norm"),
    *("train.average_decay", "train.log_every", "train.eval_every", "train.checkpoint_every"),
    *("train.keep_checkpoints", "train.init_from"),
)
_SAMPLES = 64  # images in the sample grid


class Diverged(RuntimeError):
    """A loss or gradient that is not finite."""


def train(config: ConfigDict, workdir: str | Path) -> int:
    """Trains until `config.train.num_steps`, continuing what the run directory holds.

    Args:
        config: a whole configuration; `configs/mnist.py` comments every field.
        workdir: the run directory, made if missing.

    Returns:
        An exit code: FINISHED, ERROR (after what it printed), STOPPED (by a signal, all saved) or
        DIVERGED.

    Raises:
        ValueError: if the configuration cannot be.
        runs.Refused: if the run directory holds a run of another mathematics, or is in use.
        checkpoint.CheckpointError, data.DataNotFound: as they say.
    """
    check_config(config)
    model = build.build(config)
    run = Path(workdir)
    claimed = directory.claim(run) if jax.process_index() == 0 else contextlib.nullcontext()
    with signals.stop_signals() as stop, claimed:
        return _train(config, model, run, stop)


def _train(config: ConfigDict, model: Any, run: Path, stop: signals.Stop) -> int:
    directory.check_continues(config, run)
    loaded = {
        name: splits.load(config.data, name, config.model.image_shape)
        for name in ("train", "validation")
    }
    splits.check_shape(loaded["train"], model.image_shape)

    main = jax.process_index() == 0
    streams = build.keys(config.seed)
    every = config.train
    mesh = Mesh(np.array(jax.devices()), ("data",))
    replicated = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec("data"))

    metrics_file = MetricsFile(run / "metrics.jsonl")
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", every.keep_checkpoints)
    state = initial_state(model, streams.init, config.train)
    restored = checkpoints.restore_newest(_items(state))
    if restored:
        start, items = restored
        state = TrainState(items["params"], items.get("average"), items["optimizer"])
    else:
        start = 0
        if config.train.init_from:
            state = _warm_start(state, config.train.init_from)
    if main:
        checkpoint.write_config(run, config)
        metrics_file.cut_back(start)
        print(_greeting(config, run, state, start, len(loaded["train"].images)), flush=True)
    state = jax.device_put(state, replicated)
    update = jax.jit(
        make_update(model, config, streams.train),
        donate_argnums=0,
        in_shardings=(replicated, replicated, sharded),
        out_shardings=(replicated, replicated),
    )

    def prepare(image: jax.Array, key: jax.Array) -> jax.Array:
        return splits.prepare(image, config.data.binarization, key)

    def put_batch(step: int) -> jax.Array:
        """Returns update `step`'s images, each process bringing its own rows."""
        indices = splits.batch_indices(
            config.seed, step, len(loaded["train"].images), every.batch_size
        )
        local = np.split(indices, jax.process_count())[jax.process_index()]
        return jax.make_array_from_process_local_data(sharded, loaded["train"].images[local])

    def validate(step: int) -> dict[str, Any]:
        """Returns the validation row of a step; draws the sample grid."""
        weights = state.params if state.average is None else state.average
        row = passes.evaluate(
            model,
            {"params": weights},
            loaded["validation"].images,
            prepare,
            streams.evaluate,
            on_batch=lambda done: stop.interrupt_evaluation(),
        )
        if board:
            local = {"params": jax.device_get(weights)}  # the other processes take no part
            trace = sampling.generate(model, local, streams.sample, _SAMPLES)
            board.image("samples", report.save_samples(run, step, trace.canvases[-1]), step)
        return {"step": step, "split": "validation"} | row

    step, saved, loss = start, start if restored else -1, None
    if step and _due(step, every.eval_every, every) and not _validated(metrics_file, step):
        saved = -1  # the run was stopped in the middle of this validation: do it now
    if step >= every.num_steps and saved == step:
        checkpoints.close()
        return _finished(run, step)
    progress = Progress(every.num_steps, start, silent=not main)
    board = TensorBoard(run / "tensorboard", start) if main else None

    def log(row: dict[str, Any]) -> None:
        if board:
            metrics_file.write(row)
            board.write(row)
        progress.show(row)

    pending: tuple[int, Any] | None = None  # the update that the device works on
    timer = _Timer(start)
    try:
        while True:
            if step and saved < step:
                loss = None
                if _due(step, every.eval_every, every) and not stop.requested(step, every):
                    with timer.paused(), contextlib.suppress(passes.Interrupted):
                        row = validate(step)
                        log(row)
                        loss = row["elbo_loss"]
                if (
                    loss is not None
                    or stop.requested(step, every)
                    or _due(step, every.checkpoint_every, every)
                ):
                    if pending:  # a signal came after the check below
                        _check_finite(*pending)
                    checkpoints.save(step, _items(state), loss)
                    saved = step
            if step >= every.num_steps or stop.requested(step, every):
                break

            state, metrics = update(state, step, put_batch(step))
            step += 1
            if pending:
                _check_finite(*pending)
            pending = step, metrics
            logging_now = step == 1 or step % every.log_every == 0
            if (
                logging_now
                or stop.requested(step, every)
                or any(_due(step, n, every) for n in (every.eval_every, every.checkpoint_every))
            ):
                values = _check_finite(*pending)
                pending = None
                if logging_now:
                    images_per_second = timer.steps_per_second(step) * every.batch_size
                    values |= {"images_per_second": images_per_second}
                    log({"step": step, "split": "train"} | values)
            progress.advance(step)
    except Diverged as error:
        progress.say(
            f"{error}. The last good checkpoint is kept in {run / 'checkpoints'}. Try again from "
            f"it in a new run: --workdir=... --init_from={run} with a smaller "
            "--config.train.learning_rate or --config.train.clip_norm."
        )
        return DIVERGED
    finally:
        checkpoints.close()
        progress.close()
        if board:
            board.close()

    if main:
        report.write_report(run, metrics_file.rows())
    if step < every.num_steps or loss is None:  # or in the middle of the last validation
        if main:
            print(f"stopped at step {step}, all saved; the same command continues", flush=True)
        return STOPPED
    return _finished(run, step)


def _finished(run: Path, step: int) -> int:
    if jax.process_index() == 0:
        print(f"finished at step {step}; what it draws: {report.grid_path(run, step)}", flush=True)
    return FINISHED


def check_config(config: ConfigDict) -> None:
    """Raises ValueError naming the first field that is missing, or out of range, outside `model`."""
    for name in _FIELDS:
        group = config
        for part in name.split("."):
            if part not in group:
                raise ValueError(f"config.{name}: missing; configs/mnist.py has every field")
            group = group[part]
    if config.seed < 0:
        raise ValueError(f"config.seed: expected >= 0, got {config.seed}")
    train = config.train
    for name in ("batch_size", "num_steps", "log_every", "eval_every", "checkpoint_every"):
        if train[name] < 1:
            raise ValueError(f"config.train.{name}: expected >= 1, got {train[name]}")
    for name in ("warmup_steps", "decay_steps", "clip_norm", "final_learning_rate"):
        if train[name] < 0:
            raise ValueError(f"config.train.{name}: expected >= 0, got {train[name]}")
    if train.keep_checkpoints < 1:
        raise ValueError(
            f"config.train.keep_checkpoints: expected >= 1, got {train.keep_checkpoints}"
        )
    if not train.learning_rate > 0:
        raise ValueError(f"config.train.learning_rate: expected > 0, got {train.learning_rate}")
    if not 0 <= train.average_decay < 1:
        raise ValueError(f"config.train.average_decay: expected [0, 1), got {train.average_decay}")
    devices = jax.device_count()
    if train.batch_size % devices:
        below = train.batch_size // devices * devices
        sizes = " or ".join(str(n) for n in (below, below + devices) if n)
        raise ValueError(
            f"config.train.batch_size: {devices} devices do not divide {train.batch_size}; "
            f"take {sizes}"
        )


def _warm_start(state: TrainState, source: str) -> TrainState:
    params = checkpoint.load(source)[2]["params"]
    ours, theirs = (jax.tree.map(jnp.shape, tree) for tree in (state.params, params))
    if ours != theirs:
        raise ValueError(
            f"--init_from: the weights of {source!r} have other shapes than this model"
        )
    average = None if state.average is None else jax.tree.map(jnp.array, params)
    return state._replace(params=params, average=average)


def _items(state: TrainState) -> dict[str, Any]:
    items = {"params": state.params, "optimizer": state.opt_state}
    return items if state.average is None else items | {"average": state.average}


def _due(step: int, interval: int, train: ConfigDict) -> bool:
    return step % interval == 0 or step == train.num_steps


def _validated(metrics_file: MetricsFile, step: int) -> bool:
    return any(r["step"] == step and r["split"] == "validation" for r in metrics_file.rows())


def _check_finite(step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
    """Returns an update's metrics as numbers, or raises Diverged naming the step."""
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} at step {step}")
    return values


def _greeting(config: ConfigDict, run: Path, state: TrainState, start: int, images: int) -> str:
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    begin = f"continuing at step {start}" if start else "starting"
    return (
        f"{run}: {config.data.name} ({images:,} images), {size:,} parameters, {devices}; "
        f"{begin}, to step {config.train.num_steps}"
    )


class _Timer:
    """Updates per second since the last reading, validation time left out."""

    def __init__(self, step: int):
        self._step, self._time = step, time.perf_counter()

    def steps_per_second(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._time += time.perf_counter() - began
