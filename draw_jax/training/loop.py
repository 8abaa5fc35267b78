"""Training: the one loop, top to bottom in the order in which things happen."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from draw_jax.drawing import report
from draw_jax.runs import directory, stored
from draw_jax.system import devices, processes
from draw_jax.training import config as settings
from draw_jax.training import signals
from draw_jax.training.divergence import DivergedError, FiniteCheck
from draw_jax.training.job import Job

FINISHED, STOPPED, DIVERGED = 0, 3, 4  # exit codes of train.py, beside those of system/cli


def train(
    config: ConfigDict,
    workdir: str | Path,
    team: processes.Team | None = None,
    asked: signals.Stop | None = None,
) -> int:
    """Trains until `config.train.num_steps`, continuing what the run directory holds.

    Args:
        config: a whole configuration; `configs/mnist.py` comments every field.
        workdir: the run directory, made if missing.
        team: of which this process is one, from `processes.join`; None for one process alone.
        asked: the stop request of a program that catches signals itself; None: this run does.

    Returns:
        FINISHED (0), STOPPED (3: by a signal, everything saved) or DIVERGED (4: a loss or gradient
        that is not finite, told on standard error).

    Raises:
        ValueError: if the configuration cannot be trained, or several processes have no team.
        RunConflictError: if the run directory holds a run of different settings, or is in use.
        CheckpointError, DataNotFound: as they say.
    """
    run = Path(workdir)
    if team is None:  # before JAX starts any work, as the next question makes it
        devices.share_cores(settings.cpu_devices(config, run))
    if team is None and jax.process_count() > 1:
        raise ValueError("expected the team of several processes, as processes.join gives it")
    task = settings.check(config)
    main = jax.process_index() == 0
    claim = directory.claim(run) if main else contextlib.nullcontext()
    listening = contextlib.nullcontext(asked) if asked else signals.stop_signals(team)
    with listening as stop, claim:
        job = Job(config, task, run)
        stop.begun = True
        try:
            step, finished = _loop_with_rollbacks(job, stop)
        except DivergedError as error:
            good = job.good_steps(error)
            job.close()
            if job.log.written:
                job.report()
            _tell_divergence(error, job, good[-1] if good else None)
            return DIVERGED
        except BaseException:
            if team is None:  # several would wait for each other, and one is at its end
                job.close()
            raise
        job.close()
        if job.log.written:
            job.report()
    if not finished:
        job.log.say(f"stopped at step {step}, all saved; the same command continues")
        return STOPPED
    job.log.say(f"finished at step {step}; {report.what_to_look_at(run, task.model, step)}")
    return FINISHED


def _loop_with_rollbacks(job: Job, stop: signals.Stop) -> tuple[int, bool]:
    """Returns what `_loop` does, begun again after each rollback."""
    while True:
        try:
            return _loop(job, stop)
        except DivergedError as error:
            if not job.roll_back(error):
                raise


def _loop(job: Job, stop: signals.Stop) -> tuple[int, bool]:
    """Makes the run's updates; returns how many are done and whether the run is finished."""
    state, step, train = job.state, job.step, job.train
    validated, stopping = True, False
    if job.owes_validation():
        row = job.validate(state, step, stop.interrupt_evaluation)
        validated, stopping = row is not None, row is None
        if row:
            job.save(state, step, row)

    job.log.start()
    checked, clock = FiniteCheck(), Clock(step)
    while step < train.num_steps and not stopping:
        state, metrics = job.update(state, step, job.batch(step))
        step += 1
        checked.watch(step, metrics)

        stopping = stop.requested()
        logging = step == 1 or step % train.log_every == 0
        validating = job.due(step, train.eval_every)
        saving = job.due(step, train.checkpoint_every)
        if logging or validating or saving or stopping:
            values = checked.values()
        if logging:
            rate = clock.steps_per_second(step) * train.batch_size
            job.write({"step": step, "split": "train"} | values | {"images_per_second": rate})
        row = None
        if validating and not stopping:
            with clock.paused():
                row = job.validate(state, step, stop.interrupt_evaluation)
            stopping = row is None
        if saving or validating or stopping:
            job.save(state, step, row)
        validated = row is not None
        job.log.advance(step)
    return step, step >= train.num_steps and validated


def _tell_divergence(error: DivergedError, job: Job, good: int | None) -> None:
    """Says what diverged and what to do; `good` is the step of the last good checkpoint."""
    less = "a smaller --config.train.learning_rate or --config.train.clip_norm"
    if job.rollbacks:
        error = DivergedError(f"{error}, after {job.rollbacks} rollbacks", error.good_until)
    if good is not None:
        text = (
            f"{error}. Checkpoint {good} is from before that, and is kept. To go back to it at a "
            "smaller learning rate: the same command with --config.train.on_divergence=rollback."
        )
        taken = stored.best_step(job.run, job.task)
        if taken is not None and taken <= good:  # not one that was saved meanwhile
            text += f" Or a new run from it: --workdir=... --init_from={job.run} with {less}."
    elif directory.has_begun(job.run):
        text = f"{error}. No checkpoint is from before that: begin a new run with {less}."
    else:
        text = (
            f"{error}. No checkpoint had been saved, so the same --workdir can be used again: try "
            f"{less}, or look at the first values in config.model."
        )
    if jax.process_index() == 0:
        with contextlib.suppress(OSError):  # the exit code still tells
            print(f"error: {text}", file=sys.stderr, flush=True)


class Clock:
    """Updates per second since the last reading, validation time left out."""

    def __init__(self, step: int):
        self._step, self._time = step, time.perf_counter()

    def steps_per_second(self, step: int) -> float:
        """Returns the rate of the updates since the last call."""
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time until its end."""
        began = time.perf_counter()
        yield
        self._time += time.perf_counter() - began
