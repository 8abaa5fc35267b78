"""Checkpoints as they lie on disk: which there are, and their arrays, verified leaf by leaf.

Reading changes nothing and waits for no other process.
"""

import contextlib
import errno
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from draw_jax.model.task import Task
from draw_jax.runs import directory as runs
from draw_jax.runs import export
from draw_jax.runs.digests import verified
from draw_jax.runs.leaves import CheckpointError, Leaves, digest, reason
from draw_jax.runs.metrics import MetricsFile

_ATTEMPTS = 20  # to read a checkpoint of a run that is training
RUN = "run"  # beside the digests: the configuration, and the losses on validation so far
# Causes that keep sound bytes from being read, found by their text in library errors.
_NOT_OF_THE_BYTES = [
    os.strerror(number)
    for number in (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
    )
]


class DamagedError(CheckpointError):
    """A checkpoint whose bytes can be read but are not those that were saved."""


def steps(directory: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a directory, ascending; [] if it is missing."""
    found = ocp.utils.checkpoint_steps(directory) if directory.is_dir() else []
    # Orbax also counts what somebody has moved aside, as old_300.
    return sorted({step for step in found if (directory / f"{step}").is_dir()})


def digests(directory: Path, step: int) -> dict[str, dict[str, str]]:
    """Returns the SHA-256 of every leaf of every item of a checkpoint, as they were saved.

    Raises:
        DamagedError, CheckpointError: as `read` does.
    """
    try:
        found = ocp.JsonCheckpointHandler().restore(_path(directory, step) / "digests")
        assert all(isinstance(item, dict) and item for item in found.values())
        assert verified(found.get(RUN, {}))[1] is not False
    except Exception as error:  # by file, Orbax raises ValueError, JSONDecodeError, bare Exception
        raise _blame(_path(directory, step), error) from error
    return found


def told_of_run(directory: Path, step: int) -> dict[str, Any]:
    """Returns `config`, `losses` and `data` of the run as a checkpoint has them; earlier ones lack some.

    Raises:
        DamagedError, CheckpointError: as `read` does.
    """
    return verified(digests(directory, step).get(RUN, {}))[0]


def newest_told_of_run(directory: Path, config: ConfigDict | None = None) -> dict[str, Any]:
    """Returns what the newest readable checkpoint says about its run; {} if none does.

    Args:
        directory: of the checkpoints.
        config: leaves out those of other runs; None = takes any.
    """
    for step in reversed(steps(directory)):
        with contextlib.suppress(CheckpointError):
            check_own(directory, step, config)
            return told_of_run(directory, step)
    return {}


def check_own(directory: Path, step: int, config: ConfigDict | None) -> None:
    """Raises DamagedError if a checkpoint says that it is of another run; None lets all pass."""
    told = told_of_run(directory, step).get("config", {})
    if config and (fields := runs.differing(config, told)):
        raise DamagedError(
            f"checkpoint {step} is of a run with another config.{fields[0]} than config.json "
            "has: put the run's own back or, if it was changed on purpose, delete its field "
            '"digest"'
        )


def validation_losses(run: Path, task: Task, config: ConfigDict | None = None) -> dict[int, float]:
    """Returns a run's losses on validation by step, lower is better, from its metrics.jsonl.

    Losses missing there are taken, with a warning, from the newest checkpoint; if a configuration
    is given, from the newest one of it.

    Raises:
        CheckpointError: if the two have different losses: of other runs.
    """
    sign, path = 1 if task.lower_is_better else -1, run / "metrics.jsonl"
    losses = {
        row["step"]: sign * row[task.metric]
        for row in MetricsFile(path).rows()
        if row["split"] == "validation" and np.isfinite(row.get(task.metric, np.nan))
    }
    kept = newest_told_of_run(run / "checkpoints", config).get("losses", {})
    kept = {int(step): loss for step, loss in kept.items()}
    if foreign := [step for step in kept if losses.get(step, kept[step]) != kept[step]]:
        raise CheckpointError(
            f"{path} is not of this run: of step {foreign[0]} it tells another loss than the "
            "checkpoints do. Put back the run's own, or delete it"
        )
    if lost := sorted(set(kept) - set(losses)):
        warnings.warn(
            f"{path} has lost the validation of step {', '.join(map(str, lost))}; its loss is taken "
            "from the checkpoints",
            stacklevel=2,
        )
    return losses | kept


def read(
    directory: Path, step: int, items: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Leaves]:
    """Returns the leaves of some items of a checkpoint, each verified against its digest.

    Args:
        directory: of the checkpoints.
        step: of the checkpoint.
        items: names.
        optional: names of more, which a checkpoint may lack.

    Raises:
        DamagedError: if the bytes are not those that were saved.
        CheckpointError: if they cannot be read, which says nothing about them.
    """
    expected, folder = digests(directory, step), _path(directory, step)
    items = [*items, *(name for name in optional if name in expected)]
    try:
        # A template of NumPy arrays restores on any machine, whatever devices wrote it.
        leaves: dict[str, Leaves] = {
            name: ocp.PyTreeCheckpointHandler().restore(
                folder / name,
                args=ocp.args.PyTreeRestore(
                    item=dict.fromkeys(expected[name], np.zeros(())),
                    restore_args=dict.fromkeys(expected[name], ocp.RestoreArgs(np.ndarray)),
                ),
            )
            for name in items
        }
    except Exception as error:
        raise _blame(folder, error) from error
    for name in items:
        for key, leaf in leaves[name].items():
            if digest(leaf) != expected[name][key]:
                raise DamagedError(
                    f"checkpoint {step} is damaged ({name}.{key} is not what was saved)"
                )
    return leaves


def ranked(steps: Sequence[int], losses: Mapping[int, float]) -> list[int]:
    """Returns the steps that were validated, the best first; of equal ones the newest."""
    return sorted((s for s in steps if s in losses), key=lambda s: (losses[s], -s))


def preferred(steps: Sequence[int], losses: Mapping[int, float]) -> list[int]:
    """Returns steps in the order in which `weights` takes them: the ranked ones, then the newest."""
    best = ranked(steps, losses)
    return [*best, *(step for step in reversed(steps) if step not in best)]


def best_step(run: Path, task: Task) -> int | None:
    """Returns the checkpoint that `weights` takes first; None if there is none."""
    order = preferred(steps(run / "checkpoints"), validation_losses(run, task))
    return order[0] if order else None


def weights(
    run: Path, step: int | None, config: ConfigDict, task: Task
) -> tuple[Leaves, int | None]:
    """Returns the leaves of a run's weights for use, their EMA where the run keeps it, and their step.

    Exported weights have no step.

    Args:
        run: a run directory, or a folder of `draw-jax export`.
        step: which checkpoint; None = the best on validation, else the newest.
        config: of the run.
        task: of the configuration.

    Raises:
        ValueError: if a step is asked of exported weights.
        CheckpointError: if there is no such checkpoint, or it is damaged or of another run.
    """
    checkpoints = run / "checkpoints"
    if not checkpoints.is_dir() and (run / "weights.npz").is_file():  # of `draw-jax export`
        refuse_step(f"{run} holds", step)
        return export.read_leaves(run), None
    if not checkpoints.is_dir():
        raise CheckpointError(f"{run} holds no checkpoint yet")
    own = None if runs.is_unsigned(run) else config  # which was changed on purpose, or is old
    if step is not None:
        found = steps(checkpoints)
        if step not in found:
            raise CheckpointError(f"{run} has no checkpoint of step {step}; it has {found}")
        return _read_weights(checkpoints, step, own), step
    losses = validation_losses(run, task, own)
    if not losses and not (run / "metrics.jsonl").exists():
        warnings.warn(
            f"{run} has no metrics.jsonl to tell the best; taking the newest", stacklevel=3
        )
    tried: set[int] = set()
    for attempt in range(_ATTEMPTS):
        found = steps(checkpoints)
        for candidate in (s for s in preferred(found, losses) if s not in tried):
            try:
                return _read_weights(checkpoints, candidate, own), candidate
            except CheckpointError as error:
                if not (checkpoints / f"{candidate}").exists():
                    break  # a run that is training has replaced it: look again
                tried.add(candidate)
                warnings.warn(f"{error}; taking the next best", stacklevel=3)
        else:
            if found or not any(checkpoints.iterdir()):
                break  # otherwise the first is being written, or the only one replaced: wait
        time.sleep(0.1 * attempt)
    if not found:
        raise CheckpointError(f"{run} holds no checkpoint yet")
    raise CheckpointError(f"{run} holds no checkpoint that can be read (of {len(found)})")


def refuse_step(these_hold: str, step: int | None) -> None:
    """Raises ValueError if a checkpoint is asked of exported weights, which have none."""
    if step is not None:
        raise ValueError(f"--checkpoint: {these_hold} one set of weights, no checkpoint {step}")


def _read_weights(checkpoints: Path, step: int, config: ConfigDict | None) -> Leaves:
    check_own(checkpoints, step, config)
    item = "average" if "average" in digests(checkpoints, step) else "params"
    return read(checkpoints, step, [item])[item]


def check_json(directory: Path) -> None:
    """Raises CheckpointError naming a damaged file that only Orbax reads.

    Besides its own files, these are the losses in the checkpoints of an earlier version.
    """
    for name, way_out in (
        ("_CHECKPOINT_METADATA", "move {} away, and the run continues from another checkpoint"),
        ("metrics/metrics", "delete {}: metrics.jsonl tells the same"),
    ):
        for path in sorted(directory.glob(f"*/{name}")):
            try:
                fields = json.loads(path.read_bytes())
                cause = "" if isinstance(fields, dict) else "no JSON object"
            except (ValueError, RecursionError) as error:
                cause = str(error)
            if cause:
                raise CheckpointError(f"{path} is damaged ({cause}); {way_out.format(path.parent)}")


def check_none_are_missing(run: Path, config: ConfigDict) -> None:
    """Raises CheckpointError if the metrics of a run without checkpoints tell of two or more.

    The first may have been cut off while it was written, but then the second was not begun. The
    intervals are those of config.json, where it is there, as a new configuration may change them.
    """
    with contextlib.suppress(CheckpointError):
        config = runs.read_config(run)
    updates = 2 * min(config.train.checkpoint_every, config.train.eval_every)
    done = max((row["step"] for row in MetricsFile(run / "metrics.jsonl").rows()), default=0)
    if done > updates:
        raise CheckpointError(
            f"{run}: metrics.jsonl tells of {done} updates, but checkpoints/ holds none of them. Put "
            "them back; or, to start anew, give another --workdir or delete metrics.jsonl"
        )


def _path(directory: Path, step: int) -> Path:
    return directory.resolve() / str(step)


def _blame(folder: Path, error: Exception) -> CheckpointError:
    """Returns what to raise: only bytes that can be read count as damaged."""
    cause = _unreadable(folder)
    if isinstance(error, MemoryError):
        cause = "out of memory"
    for text in _NOT_OF_THE_BYTES:
        if text in str(error):
            cause = text
    if cause:
        return CheckpointError(
            f"cannot read {folder} ({cause}); it was left as it is: once that is mended, the same "
            "command continues"
        )
    return DamagedError(f"checkpoint {folder.name} is damaged ({reason(error)})")


def _unreadable(folder: Path) -> str | None:
    """Returns why a file of a folder cannot be read from start to end, None if all can."""
    try:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    while file.read(2**20):
                        pass
    except OSError as error:
        return error.strerror
    return None
