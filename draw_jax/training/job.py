"""What the loop works with: a run's data, model and state, and what it leaves in its directory."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from draw_jax.data import splits
from draw_jax.drawing import report
from draw_jax.evaluation import passes
from draw_jax.model import build
from draw_jax.model.task import Task
from draw_jax.runs import checkpoint, directory, stored
from draw_jax.runs.metrics import MetricsFile, RunLog
from draw_jax.system import devices
from draw_jax.training import config as settings
from draw_jax.training import images
from draw_jax.training.divergence import DivergedError, Watch
from draw_jax.training.step import TrainState, initial_state, jit_update, make_update

_ROLLBACKS = {"count": np.int32(0), "rate": np.float32(1.0)}  # before the first of them


class Job:
    """One run, from its directory: new, or continued from its newest sound checkpoint.

    Args:
        config: a whole configuration, checked.
        task: of the configuration.
        run: the run directory, claimed.

    Raises:
        RunConflictError: if the run directory holds a run of different settings or other data.
        CheckpointError, DataNotFound, UserError: as they say.
        ValueError: if the data does not fit the model, or `train.init_from` is of another model.
    """

    def __init__(self, config: ConfigDict, task: Task, run: Path):
        settings.check_continues(config, run)
        config = settings.with_devices(config)
        self.config, self.task, self.run, self.train = config, task, run, config.train
        found = images.load(config, task)
        self._split, self._validation = found["train"], found["validation"]
        seen = images.identity(found)
        images.check(run, seen)
        self._main = jax.process_index() == 0  # the one process that writes
        self._keys = build.keys(config.seed)
        self.rollbacks, self._rate = 0, 1.0  # and the factor they left on the learning rate
        self._watch = Watch(task.objective, self.train.batch_size)
        self._placement = devices.placement()
        unsigned = directory.is_unsigned(run)
        self._checkpoints = checkpoint.Checkpoints(
            run / "checkpoints",
            self.train.keep_checkpoints,
            stored.validation_losses(run, task, None if unsigned else config),
            config,
            own=not unsigned,
            counts=self._scheduled,
            data=seen,
        )
        self.step, state = self._initial()
        if self._main and not (unsigned and settings.changed(config, run)):
            directory.write_config(run, config)
        self.log = self._new_log()
        self.log.say(self._greeting(state))
        if unsigned:
            self.log.say(
                f"{run} is of an earlier version: its files had no digests to be checked by"
            )
        self._told: set[str] = set()  # splits whose divergence has been reported
        self._warn_of_lost_lines()
        self.state = jax.device_put(state, self._placement.replicated)
        self.update = jit_update(make_update(task, config, self._keys.train), self._placement)

    def _initial(self) -> tuple[int, TrainState]:
        """Returns the updates done and the state after them."""
        state = initial_state(self.task.model, self._keys.init, self.train)
        restored = self._restore(state)
        if restored:
            return restored
        stored.check_none_are_missing(self.run, self.config)
        if self.train.init_from:
            state = _warm_start(state, self.train.init_from)
        return 0, state

    def _restore(self, template: TrainState) -> tuple[int, TrainState] | None:
        """Returns the updates done at the newest sound checkpoint, and its state; None for none."""
        restored = self._checkpoints.restore_newest(
            _items(template._replace(rate=None), 0), {"rollbacks": _ROLLBACKS}
        )
        if restored is None:
            return None
        step, items = restored
        rows = [row for row in self._metrics() if row["step"] <= step]
        self._watch = Watch(self.task.objective, self.train.batch_size, rows)
        # Until the next checkpoint is written, only the metrics know of a rollback to this one.
        told = [row for row in rows if row["split"] == "rollback" and row["step"] == step]
        done = max([items.get("rollbacks", _ROLLBACKS), *told], key=lambda one: int(one["count"]))
        self.rollbacks, self._rate = int(done["count"]), float(done["rate"])
        return step, TrainState(
            items["params"],
            items.get("average"),
            items["optimizer"],
            jnp.float32(self._rate) if self.rollbacks else None,
        )

    def batch(self, step: int) -> splits.Batch:
        """Returns update `step`'s batch on the devices, each process bringing its own rows."""
        indices = splits.training_indices(
            self._split, self.config.seed, step, self.train.batch_size
        )
        rows = self._split.batch(devices.own_rows(indices))
        return devices.gather(rows, self._placement.sharded)

    def owes_validation(self) -> bool:
        """Returns whether the run was stopped in the middle of the validation of its last update."""
        if not self.step or not self.due(self.step, self.train.eval_every):
            return False
        return not any(
            row["step"] == self.step and row["split"] == "validation" for row in self._metrics()
        )

    def due(self, step: int, interval: int) -> bool:
        """Returns whether something done every so many updates, and at the end, is due."""
        return step % interval == 0 or step == self.train.num_steps

    def _scheduled(self, step: int) -> bool:
        """Returns whether a checkpoint is saved at a step also where the run is not stopped there."""
        return self.due(step, self.train.checkpoint_every) or self.due(step, self.train.eval_every)

    def validate(
        self, state: TrainState, step: int, interrupt: Callable[[], None]
    ) -> dict[str, Any] | None:
        """Returns the validation's row, logged and with its picture; None where it was interrupted.

        Args:
            state: after `step` updates; the EMA of the weights is used where it is kept.
            step: updates done.
            interrupt: called now and then; raises passes.Interrupted to end the validation.
        """
        weights = state.params if state.average is None else state.average
        try:
            row = passes.evaluate(
                self.task,
                {"params": weights},
                self._validation,
                splits.preparation(self.config.data.binarization),
                self._keys.evaluate,
                on_batch=lambda done: interrupt(),
            )
        except passes.Interrupted:
            return None
        if self._main:
            local = {"params": jax.device_get(weights)}  # the other processes take no part
            with self._picture():
                drawn = report.validation_picture(
                    self.run,
                    self.task.model,
                    local,
                    self._keys.sample,
                    step,
                    self._validation,
                    self.config.data.binarization,
                )
                if drawn:
                    self.log.picture(*drawn, step)
        self.write({"step": step, "split": "validation"} | row)
        return row

    @contextlib.contextmanager
    def _picture(self) -> Iterator[None]:
        """Says in one line that a picture cannot be drawn or written, which ends no run."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.log.say(f"{error}; the run goes on without this picture")

    def write(self, row: dict[str, Any]) -> None:
        """Logs a row of metrics.

        Raises:
            DivergedError: if it shows that the run has diverged; with `on_divergence` "continue"
                this is only printed, once until it recovers.
        """
        self.log.write(row)
        try:
            self._watch.take(row)
        except DivergedError as error:
            if self.train.on_divergence != "continue":
                raise
            if row["split"] not in self._told:
                self.log.say(f"{error}; the run goes on, as config.train.on_divergence says")
            self._told.add(row["split"])
        else:
            self._told.discard(row["split"])

    def roll_back(self, error: DivergedError) -> bool:
        """Goes back to the last good checkpoint at a lower learning rate; returns whether it did.

        If nothing was saved since the last rollback, it goes back further than before. What a stop
        has saved besides is left out where there are others, so that the run goes on as one that was
        not stopped.
        """
        saved = self._checkpoints.steps()
        saved = [step for step in saved if self._scheduled(step)] or saved
        good = [step for step in self.good_steps(error) if step in saved]
        if (
            self.train.on_divergence != "rollback"
            or self.rollbacks >= self.train.max_rollbacks
            or not good
        ):
            return False
        last = [row["step"] for row in self._metrics() if row["split"] == "rollback"][-1:]
        if last == saved[-1:] == good[-1:] and len(good) > 1:
            good.pop()
        template = initial_state(self.task.model, self._keys.init, self.train)
        target = self._checkpoints.newest_sound(good, list(_items(template, 0)))
        if target is None:
            return False
        # In float32, as a checkpoint keeps it.
        count, rate = self.rollbacks + 1, float(np.float32(self._rate * self.train.rollback_rate))
        self._checkpoints.drop_after(target)
        restored = self._restore(template)
        assert restored  # it was there a moment ago
        self.step, state = restored
        state = state._replace(rate=jnp.float32(rate))
        self.state = jax.device_put(state, self._placement.replicated)
        self.rollbacks, self._rate = count, rate
        self.log.close()
        self.log = self._new_log()
        row = {"count": count, "rate": rate, "cause": str(error)}
        self.log.write({"step": self.step, "split": "rollback"} | row)
        self.log.say(
            f"{error}; rolled back to step {self.step}, to go on at {rate:g} times the learning "
            f"rate (rollback {count} of at most {self.train.max_rollbacks})"
        )
        return True

    def good_steps(self, error: DivergedError) -> list[int]:
        """Returns the steps of the checkpoints that a divergence has not touched, ascending."""
        last = min(error.good_until, self._watch.good_until)
        return [step for step in self._checkpoints.steps() if step <= last]

    def _metrics(self) -> list[dict[str, Any]]:
        return MetricsFile(self.run / "metrics.jsonl").rows()

    def _warn_of_lost_lines(self) -> None:
        """Warns where metrics.jsonl ends before the last line since the checkpoint before the newest."""
        told = stored.newest_told_of_run(self.run / "checkpoints").get("config")
        if told and self._main:
            since = max((s for s in self._checkpoints.steps() if s < self.step), default=0)
            lines = MetricsFile(self.run / "metrics.jsonl")
            lines.warn_of_lost(told["train"]["log_every"], since, self.step)

    def save(self, state: TrainState, step: int, row: dict[str, Any] | None) -> None:
        """Starts writing a checkpoint, ranked by its validation row where there is one."""
        score = None
        if row:
            score = row[self.task.metric] * (1 if self.task.lower_is_better else -1)
        if self._main:
            MetricsFile(self.run / "metrics.jsonl").sync()
        self._checkpoints.save(step, _items(state, self.rollbacks), score)

    def close(self) -> None:
        """Waits until everything is on disk."""
        try:
            self._checkpoints.close()
        finally:
            self.log.close()

    def report(self) -> None:
        """Writes the run at a glance, report.png."""
        if self._main:
            with self._picture():
                report.write(self.run, self._metrics(), self.task.columns)

    def _new_log(self) -> RunLog:
        columns, silent = self.task.columns, not self._main
        return RunLog(self.run, self.step, self.train.num_steps, columns, silent)

    def _greeting(self, state: TrainState) -> str:
        size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        kind = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
        begin = f"continuing at step {self.step}" if self.step else "starting"
        count = "endless" if self._split.endless else f"{len(self._split):,} images"
        return (
            f"{self.run}: {self.config.data.name} ({count}), "
            f"{size:,} parameters, {kind}; {begin}, to step {self.train.num_steps}"
        )


def _warm_start(state: TrainState, source: str) -> TrainState:
    """Returns the state with the weights of another run or of shipped weights."""
    params = checkpoint.load(source)[2]["params"]
    ours, theirs = (jax.tree.map(jnp.shape, tree) for tree in (state.params, params))
    if ours != theirs:
        raise ValueError(
            f"--init_from: the weights of {source!r} have other shapes than this model"
        )
    average = None if state.average is None else jax.tree.map(jnp.array, params)
    return state._replace(params=params, average=average)


def _items(state: TrainState, rollbacks: int) -> dict[str, Any]:
    items = {"params": state.params, "optimizer": state.opt_state}
    if state.average is not None:
        items["average"] = state.average
    if rollbacks:
        items["rollbacks"] = {"count": np.int32(rollbacks), "rate": state.rate}
    return items
