"""Checkpoints that never give back wrong numbers: save, restore, fall back, load.

Orbax writes them, asynchronously and one complete step at a time. A SHA-256 of every leaf lies
beside the arrays, since otherwise a flipped byte would be restored silently. The lines of
metrics.jsonl say which is the best on validation, or the newest checkpoint where these are lost.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from draw_jax.model import build
from draw_jax.model.task import Model, Variables
from draw_jax.runs import digests, directory, export, stored
from draw_jax.runs.leaves import CheckpointError, digest, flatten, reason, unflatten
from draw_jax.system import files

_NONE, _REFUSED = -1, -2  # what process 0 sends the others in place of a step


class Checkpoints:
    """The checkpoints of one run: the newest few and the best on validation.

    Args:
        directory: where they lie; made if missing.
        keep: how many of the newest to keep, >= 1. The best on validation is kept besides, and so is
            the newest where it is not among those that count.
        losses: of validation by step, lower is better, as `stored.validation_losses` gives them.
        config: of the run, kept in every checkpoint so that no other one is taken for it.
        own: whether existing checkpoints must be of that configuration.
        data: what tells the run's images from others, kept in every checkpoint.
        counts: of a step, whether it is one of those of which `keep` are kept; None: all are. A run
            that was stopped then keeps what one does that was not.

    Raises:
        CheckpointError: if the directory cannot be made, or a damaged file of any checkpoint keeps
            Orbax from looking at it.
    """

    def __init__(
        self,
        directory: Path,
        keep: int,
        losses: Mapping[int, float] | None = None,
        config: ConfigDict | None = None,
        own: bool = True,
        counts: Callable[[int], bool] | None = None,
        data: Mapping[str, Any] | None = None,
    ):
        self._own = config if own else None
        self._config = json.loads(config.to_json()) if config else {}
        self._data = dict(data or {})
        self._losses = dict(losses or {})
        self._directory, self._damaged = directory, directory.parent / "damaged"
        with self._writing():
            directory.mkdir(parents=True, exist_ok=True)
        try:
            self._manager = ocp.CheckpointManager(
                directory.resolve(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=_Preservation(keep, self._losses, counts),
                    cleanup_tmp_directories=True,  # what a kill while saving left behind
                    async_options=ocp.options.AsyncOptions(
                        # If a thread fails to make them, the others wait ten minutes.
                        create_directories_asynchronously=False,
                        # Before older ones are deleted: a power cut may be next.
                        post_finalization_callback=lambda: files.sync(directory, "*-tmp*"),
                    ),
                ),
            )
        except OSError:
            raise
        except Exception as error:  # of the files that it reads in every checkpoint
            stored.check_json(directory)
            raise CheckpointError(
                f"Orbax cannot look into {directory} ({reason(error)}): move the checkpoint away "
                "whose _CHECKPOINT_METADATA is damaged"
            ) from error

    def save(self, step: int, items: dict[str, Any], loss: float | None) -> None:
        """Starts writing a checkpoint; returns once the arrays are copied.

        An existing one of this step is left as it is: it holds the same arrays, as an update is a
        function of the run and its step. Only its loss is then new.

        Args:
            step: updates done.
            items: trees of arrays by name, each to be restored on its own.
            loss: on validation; None where it was not measured. One that is not finite ranks nothing.

        Raises:
            CheckpointError: if this one, or the one before it, cannot be written.
        """
        if loss is not None and np.isfinite(loss):
            self._losses[step] = loss
        if step in self._manager.all_steps():
            return
        leaves = {name: flatten(tree) for name, tree in items.items()}
        told = {name: {k: digest(v) for k, v in tree.items()} for name, tree in leaves.items()}
        told[stored.RUN] = self._of_run(step)
        saves: dict[str, Any] = {name: ocp.args.PyTreeSave(tree) for name, tree in leaves.items()}
        args = ocp.args.Composite(digests=ocp.args.JsonSave(told), **saves)
        with self._writing():
            self._manager.save(step, args=args, force=True)

    def _of_run(self, step: int) -> dict[str, Any]:
        """Returns what a checkpoint says about its run, signed."""
        losses = {f"{s}": float(v) for s, v in self._losses.items() if s <= step}
        return digests.signed({"config": self._config, "losses": losses, "data": self._data})

    def restore_newest(
        self, templates: dict[str, Any], optional: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]] | None:
        """Returns (step, trees) of the newest undamaged checkpoint, None if there is no checkpoint.

        A damaged one is reported, moved aside to `damaged/` in the run directory, and the one
        before it taken. Losses of later steps, which a killed process has measured, are forgotten:
        they will be measured again. Of several processes, the first decides for all.

        Args:
            templates: trees by item name that give the structure, shapes and dtypes.
            optional: templates of items that a checkpoint may lack; the result then lacks them.

        Raises:
            CheckpointError: if every checkpoint is damaged, holds arrays of another model, or cannot
                be read.
        """
        items, more = list(templates), list(optional or {})
        step = self._agreed(lambda: self._newest(items, more))
        self._forget_after(step or 0)
        if step is None:
            return None
        self._manager.reload()
        leaves = stored.read(self._directory, step, items, more)
        return step, {
            name: unflatten(leaves[name], template, f"checkpoint {step}, {name}")
            for name, template in (templates | dict(optional or {})).items()
            if name in leaves
        }

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, the newest first, and forgets their losses.

        Raises:
            CheckpointError: if they cannot be removed, or the one that is being written fails.
        """
        for later in [s for s in reversed(self.steps()) if s > step]:
            with self._writing():
                self._manager.delete(later)
        self._forget_after(step)

    def _forget_after(self, step: int) -> None:
        for later in [s for s in self._losses if s > step]:
            del self._losses[later]

    def steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, ascending, once the last one is written.

        Raises:
            CheckpointError: if it cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()
        return sorted(self._manager.all_steps())

    def newest_sound(self, steps: Sequence[int], items: Sequence[str]) -> int | None:
        """Returns the newest of some steps, ascending, whose checkpoint is undamaged; None for none.

        Raises:
            CheckpointError: if one cannot be read, which says nothing about it.
        """

        def is_sound(step: int) -> bool:
            with contextlib.suppress(stored.DamagedError):
                return bool(stored.read(self._directory, step, items))
            return False

        return self._agreed(lambda: next(filter(is_sound, reversed(steps)), None))

    def _agreed(self, find: Callable[[], int | None]) -> int | None:
        """Returns the step that process 0 finds, None for no checkpoint."""
        if jax.process_index():
            told = int(multihost_utils.broadcast_one_to_all(np.array(_NONE)))
            if told == _REFUSED:
                raise CheckpointError("process 0 cannot restore this run, and says why")
            return None if told == _NONE else told
        found = _REFUSED
        try:
            step = find()
            found = _NONE if step is None else step
            return step
        finally:
            multihost_utils.broadcast_one_to_all(np.array(found))

    def _newest(self, items: list[str], optional: list[str]) -> int | None:
        """Returns the newest undamaged step, those after it moved aside; None for no checkpoint.

        Nothing is moved unless one before it is sound.
        """
        found = stored.steps(self._directory)
        damaged: dict[int, CheckpointError] = {}
        for step in reversed(found):
            try:
                stored.check_own(self._directory, step, self._own)
                stored.read(self._directory, step, items, optional)
            except stored.DamagedError as error:
                damaged[step] = error
                continue
            for worse, why in damaged.items():
                target = self._set_aside(worse)
                with contextlib.suppress(OSError):  # where it is printed, the disk may be full
                    print(f"{why}; moved to {target}, taking the one before it", flush=True)
            return step
        if found or self._damaged.is_dir():  # never start over unasked
            cause = damaged[found[-1]] if found else f"all lie in {self._damaged}"
            raise CheckpointError(
                f"no checkpoint of this run is sound ({cause}); they stay where they are. To start "
                "anew, give another --workdir"
            )
        return None

    def _set_aside(self, step: int) -> Path:
        """Moves a damaged checkpoint beside earlier damaged ones of the same step."""
        self._damaged.mkdir(exist_ok=True)
        target, number = self._damaged / f"{step}", 1
        while target.exists():
            number += 1
            target = self._damaged / f"{step}_{number}"
        shutil.move(self._directory / f"{step}", target)
        return target

    def close(self) -> None:
        """Waits until everything is on disk, or raises CheckpointError."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax passes on any error of its threads
            raise CheckpointError(
                f"cannot write to {self._directory} ({reason(error)}); the checkpoints "
                "that are there stay: once it can be written, the same command continues"
            ) from error


class _Preservation:
    """Tells Orbax which checkpoints to keep, by the current losses."""

    def __init__(
        self, newest: int, losses: Mapping[int, float], counts: Callable[[int], bool] | None
    ):
        self._newest, self._losses = newest, losses
        self._counts = counts or (lambda step: True)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns whether to keep each: the newest of those that count, the newest, the best."""
        found = [checkpoint.step for checkpoint in checkpoints]  # ascending
        newest = [step for step in found if self._counts(step)][-self._newest :]
        best = stored.ranked(found, self._losses)[:1]
        return [step in (*newest, *found[-1:], *best) for step in found]


def load(
    run: str | os.PathLike[str], step: int | None = None
) -> tuple[ConfigDict, Model, Variables]:
    """Returns (config, model, variables) of a run or of shipped weights, ready for use.

    The EMA of the weights is taken where the run keeps it; no optimiser state is read.

    Args:
        run: a run directory, else the name of shipped weights.
        step: which checkpoint of a run; None = the best on validation, else the newest.

    Returns:
        The configuration (locked), the model that it builds, and {"params": ...}.

    Raises:
        ValueError: if a step is asked of shipped weights, which have no checkpoints.
        CheckpointError: if there is no such run, checkpoint or shipped weights, if the checkpoint
            is damaged, or if it does not fit the run's configuration.
    """
    return load_with_step(run, step)[:3]


def load_with_step(
    run: str | os.PathLike[str], step: int | None = None
) -> tuple[ConfigDict, Model, Variables, int | None]:
    """Returns what `load` does, and the step of the checkpoint; None of exported weights."""
    path = Path(run)
    if (path / "config.json").is_file():
        config = directory.read_config(path)
        model = build.build(config)
        leaves, step = stored.weights(path, step, config, build.task(model))
    elif export.is_name(run):
        stored.refuse_step(f"the shipped weights {str(run)!r} hold", step)
        config, leaves = export.read(str(run))
        model = build.build(config)
    else:
        found = "a directory without config.json" if path.is_dir() else "no directory"
        raise CheckpointError(
            f"{str(run)!r} is {found} and no shipped weights; expected a run directory as "
            f"train.py makes it, or one of: {', '.join(export.names()) or '(none shipped)'}"
        )
    params = unflatten(leaves, build.shapes(model)["params"], f"weights of {str(run)!r}")
    return config, model, {"params": params}, step
