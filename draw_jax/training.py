"""Training: the optimiser, one jitted step, and the one loop, top to bottom as things happen."""

import contextlib
import fcntl
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from draw_jax import build, checkpoint, data, evaluation, figures, logs, plots, sampling
from draw_jax.build import keys

# Exit codes of train.py.
FINISHED, ERROR, BAD_CONFIG, STOPPED, DIVERGED = range(5)

# Fields that may differ between a run and its continuation: where data lies, how often to look.
_FREE_FIELDS = {
    "data.data_dir",
    "data.manual_dir",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
}
_SAMPLES = 64  # images in the sample grid


class TrainState(NamedTuple):
    """All that changes from update to update."""

    params: Any
    average: Any  # moving average of params, the weights for use; None = not kept
    opt_state: optax.OptState


class Diverged(RuntimeError):
    """A loss or gradient that is not finite."""


class Refused(RuntimeError):
    """A run directory that this configuration must not continue."""


def make_optimizer(train: ConfigDict) -> optax.GradientTransformation:
    """Returns clipping by global norm, then Adam under a warm-up and a cosine decay."""
    return optax.chain(
        optax.clip_by_global_norm(train.clip_norm) if train.clip_norm else optax.identity(),
        optax.adam(learning_rate(train)),
    )


def learning_rate(train: ConfigDict) -> optax.Schedule:
    """Returns the learning rate as a function of the updates done."""
    warmup = optax.linear_schedule(0.0, train.learning_rate, train.warmup_steps)
    after: optax.Schedule = optax.constant_schedule(train.learning_rate)
    if train.decay_steps:
        after = optax.cosine_decay_schedule(
            train.learning_rate,
            max(1, train.decay_steps - train.warmup_steps),
            train.final_learning_rate,
        )
    return optax.join_schedules([warmup, after], [train.warmup_steps])


def initial_state(model: Any, key: jax.Array, train: ConfigDict) -> TrainState:
    """Returns the state before the first update."""
    params = jax.jit(build.initial_variables, static_argnums=0)(model, key)["params"]
    average = jax.tree.map(jnp.copy, params) if train.average_decay else None
    return TrainState(params, average, make_optimizer(train).init(params))


def loss_terms(model: Any, params: Any, x: jax.Array, eps: jax.Array) -> dict[str, jax.Array]:
    """Returns the batch means of eq. 9, eq. 10 and their sum, eq. 12, in nats per image.

    Args:
        model: a Draw.
        params: its parameters.
        x: [B, H, W, C], in [0, 1].
        eps: [T, B, Z].
    """
    output = model.apply({"params": params}, x, eps)
    nll, kl = output.nll.mean(), output.kl.sum(axis=0).mean()
    return {"nll": nll, "kl": kl, "elbo_loss": nll + kl}


def make_update(model: Any, config: ConfigDict, key: jax.Array) -> Callable[..., Any]:
    """Returns update(state, step, images) -> (state, metrics), to be jitted.

    The noise and the binarisation of update number `step` (from 0) are drawn here, from the
    step's own key: a resumed run needs nothing but the step.
    """
    optimizer = make_optimizer(config.train)
    schedule = learning_rate(config.train)

    def update(state: TrainState, step: jax.Array, images: jax.Array) -> Any:
        x_key, eps_key = jax.random.split(jax.random.fold_in(key, step))
        x = data.prepare(images, config.data.binarization, x_key)
        eps = jax.random.normal(eps_key, (model.time_steps, len(x), model.latent_size))

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            terms = loss_terms(model, params, x, eps)
            return terms["elbo_loss"], terms

        gradients, terms = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            # Early on the average is short, or the initial weights would linger in it.
            decay = jnp.minimum(config.train.average_decay, (1.0 + step) / (10.0 + step))
            average = optax.incremental_update(params, average, 1.0 - decay)
        metrics = terms | {
            "grad_norm": optax.tree.norm(gradients),
            "update_norm": optax.tree.norm(updates),
            "param_norm": optax.tree.norm(params),
            "learning_rate": schedule(step),
        }
        return TrainState(params, average, opt_state), metrics

    return update


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
        Refused: if the run directory holds a run of another mathematics, or is in use.
        checkpoint.CheckpointError, data.DataNotFound: as they say.
    """
    model = build.build(config)
    check_config(config)
    run = Path(workdir)
    with _stop_signals() as stop, _claim(run) if jax.process_index() == 0 else _nothing():
        return _train(config, model, run, stop)


def _train(config: ConfigDict, model: Any, run: Path, stop: "_Stop") -> int:
    _check_continues(config, run)
    splits = {
        name: data.load(config.data, name, config.model.image_shape)
        for name in ("train", "validation")
    }
    data.check_shape(splits["train"], model.image_shape)

    main = jax.process_index() == 0
    streams = keys(config.seed)
    every = config.train
    mesh = Mesh(np.array(jax.devices()), ("data",))
    replicated = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec("data"))

    metrics_file = logs.MetricsFile(run / "metrics.jsonl")
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
        print(_greeting(config, run, state, start, len(splits["train"].images)), flush=True)
    state = jax.device_put(state, replicated)
    update = jax.jit(
        make_update(model, config, streams.train),
        donate_argnums=0,
        in_shardings=(replicated, replicated, sharded),
        out_shardings=(replicated, replicated),
    )

    def prepare(image: jax.Array, key: jax.Array) -> jax.Array:
        return data.prepare(image, config.data.binarization, key)

    def put_batch(step: int) -> jax.Array:
        """Returns update `step`'s images, each process bringing its own rows."""
        indices = data.batch_indices(
            config.seed, step, len(splits["train"].images), every.batch_size
        )
        local = np.split(indices, jax.process_count())[jax.process_index()]
        return jax.make_array_from_process_local_data(sharded, splits["train"].images[local])

    def validate(step: int) -> dict[str, Any]:
        """Returns the validation row of a step; draws the sample grid."""
        weights = state.params if state.average is None else state.average
        row = evaluation.evaluate(
            model,
            {"params": weights},
            splits["validation"].images,
            prepare,
            streams.evaluate,
            on_batch=lambda done: stop.interrupt_evaluation(),
        )
        if board:
            local = {"params": jax.device_get(weights)}  # the other processes take no part
            trace = sampling.generate(model, local, streams.sample, _SAMPLES)
            board.image("samples", save_samples(run, step, trace.canvases[-1]), step)
        return {"step": step, "split": "validation"} | row

    step, saved = start, start if restored else -1
    if step and _due(step, every.eval_every, every) and not _validated(metrics_file, step):
        saved = -1  # the run was stopped in the middle of this validation: do it now
    if step >= every.num_steps and saved == step:
        checkpoints.close()
        return _finished(run, step)
    progress = logs.Progress(every.num_steps, start, silent=not main)
    board = logs.TensorBoard(run / "tensorboard", start) if main else None

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
                    with timer.paused(), contextlib.suppress(evaluation.Interrupted):
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
        write_report(run, metrics_file.rows())
    if step < every.num_steps:
        if main:
            print(f"stopped at step {step}, all saved; the same command continues", flush=True)
        return STOPPED
    return _finished(run, step)


def _finished(run: Path, step: int) -> int:
    if jax.process_index() == 0:
        print(f"finished at step {step}; what it draws: {grid_path(run, step)}", flush=True)
    return FINISHED


def save_samples(run: Path, step: int, canvases: np.ndarray) -> np.ndarray:
    """Saves a step's samples, the means of D (eq. 16), and returns the picture [h, w, 3].

    Args:
        run: the run directory.
        step: updates done.
        canvases: c_T [N, H, W, C], logits.
    """
    means = sampling.mean_images(canvases)
    picture = figures.grid(means)
    path = grid_path(run, step)
    figures.save(picture, path)
    stored = np.rint(means * 255).astype(np.uint8)
    figures.write_file(path.with_suffix(".npy"), lambda file: np.save(file, stored))
    return np.asarray(picture)


def write_report(run: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the run at a glance, `report.png`, from what lies in the run directory."""
    grids = [
        (int(path.stem.removeprefix("step_")), np.load(path) / 255)
        for path in sorted((run / "samples").glob("step_*.npy"))
    ]
    steps = [row["kl_per_step"] for row in rows if "kl_per_step" in row]
    kl_nats = np.array(steps[-1]) if steps else None
    if rows:
        plots.report(rows, grids, run / "report.png", kl_nats, title=run.name)


def grid_path(run: Path, step: int) -> Path:
    """Returns where a step's sample grid lies."""
    return run / "samples" / f"step_{step:07d}.png"


def check_config(config: ConfigDict) -> None:
    """Raises ValueError naming the first field of `train`, or the seed, that cannot be."""
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


def differing_fields(ours: ConfigDict, theirs: ConfigDict) -> list[str]:
    """Returns "field: theirs -> ours" for fields that make another run, [] to continue.

    Where data lies and how often to look may change; `train.num_steps` may grow.
    """

    def flat(value: Any, name: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name[1:]: value}
        return {k: v for key in value for k, v in flat(value[key], f"{name}.{key}").items()}

    new, old = (flat(json.loads(config.to_json())) for config in (ours, theirs))
    names = [n for n in sorted(new | old) if new.get(n) != old.get(n) and n not in _FREE_FIELDS]
    if "train.num_steps" in names and (new["train.num_steps"] > old.get("train.num_steps", 0)):
        names.remove("train.num_steps")
    return [f"config.{n}: {old.get(n, '(none)')} -> {new.get(n, '(none)')}" for n in names]


def _check_continues(config: ConfigDict, run: Path) -> None:
    if (run / "config.json").exists():
        fields = differing_fields(config, checkpoint.read_config(run))
        if fields:
            raise Refused(
                f"{run} holds another run:\n  " + "\n  ".join(fields) + "\n"
                "give another --workdir, or the run's own values to continue it"
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


def _validated(metrics_file: logs.MetricsFile, step: int) -> bool:
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


class _Stop:
    """Whether to stop at the next step."""

    def __init__(self) -> None:
        self.signalled = False

    def requested(self, step: int, train: ConfigDict) -> bool:
        """Returns the processes' common answer; several of them agree at every log_every."""
        if jax.process_count() == 1:
            return self.signalled
        if step % train.log_every:
            return False
        return bool(multihost_utils.process_allgather(np.array(self.signalled)).any())

    def interrupt_evaluation(self) -> None:
        """Raises Interrupted in the middle of a pass; one process alone can do so."""
        if self.signalled and jax.process_count() == 1:
            raise evaluation.Interrupted


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Turns SIGINT and SIGTERM into a request to stop; a second one quits at once."""
    stop = _Stop()

    def handle(number: int, frame: Any) -> None:
        if stop.signalled:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.signalled = True
        name = signal.Signals(number).name
        text = f"\n{name}: saving, then stopping; once more quits at once\n"
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(1, text.encode())  # print is not reentrant, and this may interrupt one

    previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _claim(run: Path) -> Iterator[None]:
    """Holds the run directory, so that no second process writes into it."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(
                f"{run} is in use by another process; wait, or give another --workdir"
            ) from None
        yield


def _nothing() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()
