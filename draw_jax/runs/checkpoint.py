"""Checkpoints that never give back wrong numbers: save, verify, restore, fall back, load.

Orbax writes them, asynchronously and one complete step at a time. Beside the arrays stands a
SHA-256 of every leaf, since a flipped byte would else be restored without a word.
"""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from draw_jax.model import build
from draw_jax.model.task import Model, Variables
from draw_jax.runs import directory, export
from draw_jax.runs.leaves import CheckpointError, Leaves, digest, flatten, reason, unflatten


class Checkpoints:
    """The checkpoints of one run: the newest few and the best on validation.

    Args:
        directory: where they lie; made if missing.
        keep: how many of the newest to keep, >= 1. The best on validation is kept besides.

    Raises:
        CheckpointError: if the loss beside a checkpoint is damaged.
    """

    def __init__(self, directory: Path, keep: int):
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(
                    get_metric_fn=_loss,
                    reverse=True,  # lower is better
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        _check_losses(directory)
        self._damaged = directory.parent / "damaged"
        self._manager = ocp.CheckpointManager(
            directory.resolve(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                best_fn=_loss,  # else Orbax forgets what `save` is told
                best_mode="min",
                cleanup_tmp_directories=True,  # what a kill while saving left behind
            ),
        )

    def save(self, step: int, items: dict[str, Any], loss: float | None) -> None:
        """Starts writing a checkpoint; returns once the arrays are copied.

        Args:
            step: updates done; an older checkpoint of the same step is replaced.
            items: trees of arrays by name, each to be restored on its own.
            loss: on validation; None where it was not measured.

        Raises:
            CheckpointError: if this one, or the one before it, cannot be written.
        """
        leaves = {name: flatten(tree) for name, tree in items.items()}
        digests = {name: {k: digest(v) for k, v in tree.items()} for name, tree in leaves.items()}
        saves: dict[str, Any] = {name: ocp.args.PyTreeSave(tree) for name, tree in leaves.items()}
        with self._writing():
            if step in self._manager.all_steps():
                self._manager.delete(step)
            self._manager.save(
                step,
                args=ocp.args.Composite(digests=ocp.args.JsonSave(digests), **saves),
                metrics=None if loss is None else {"loss": loss},
                force=True,
            )

    def restore_newest(self, templates: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Returns (step, trees) of the newest undamaged checkpoint, None if there is none at all.

        A damaged one is reported, moved aside to `damaged/` in the run directory, and the one
        before it taken.

        Args:
            templates: trees by item name that give the structure, shapes and dtypes.

        Raises:
            CheckpointError: if every checkpoint is damaged, or holds arrays of another model.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                leaves = _restore(self._manager, step, list(templates))
            except CheckpointError as error:
                target = self._damaged / f"{step}"
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(exist_ok=True)
                shutil.move(Path(self._manager.directory) / str(step), target)
                self._manager.reload()
                print(f"{error}; moved to {target}, trying the one before it", flush=True)
                continue
            return step, {
                name: unflatten(leaves[name], template, f"checkpoint {step}, {name}")
                for name, template in templates.items()
            }
        if steps or self._damaged.is_dir():  # on the second try, too: never start anew unasked
            raise CheckpointError(
                f"every checkpoint of this run is damaged; they lie in {self._damaged}; "
                "to start anew, give another --workdir"
            )
        return None

    def close(self) -> None:
        """Waits until everything is on disk, or raises CheckpointError."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax hands on whatever its threads met
            raise CheckpointError(
                f"cannot write to {self._manager.directory} ({reason(error)}); the checkpoints "
                "that are there stay: once it can be written, the same command continues"
            ) from error


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
    path = Path(run)
    if (path / "config.json").is_file():
        config = directory.read_config(path)
        leaves = _load_run(path, step)
    elif export.is_name(run):
        _refuse_step(f"the shipped weights {str(run)!r} hold", step)
        config, leaves = export.read(str(run))
    else:
        found = "a directory without config.json" if path.is_dir() else "no directory"
        raise CheckpointError(
            f"{str(run)!r} is {found} and no shipped weights; expected a run directory as "
            f"train.py makes it, or one of: {', '.join(export.names()) or '(none shipped)'}"
        )
    model = build.build(config)
    template = jax.eval_shape(lambda key: build.initial_variables(model, key), jax.random.key(0))
    params = unflatten(leaves, template["params"], f"weights of {str(run)!r}")
    return config, model, {"params": params}


def _load_run(run: Path, step: int | None) -> Leaves:
    stored = run / "checkpoints"
    if not stored.is_dir() and (run / "weights.npz").is_file():  # as `draw-jax export` makes it
        _refuse_step(f"{run} holds", step)
        return export.read_leaves(run)
    if not stored.is_dir():
        raise CheckpointError(f"{run} holds no checkpoint yet")
    _check_losses(stored)
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax warns of every read-only opening
    manager = ocp.CheckpointManager(
        stored.resolve(),
        options=ocp.CheckpointManagerOptions(read_only=True, best_fn=_loss, best_mode="min"),
    )
    absl_logging.set_verbosity(verbosity)
    with manager:
        steps = manager.all_steps()
        if step is not None:
            if step not in steps:
                raise CheckpointError(
                    f"{run} has no checkpoint of step {step}; it has {sorted(steps)}"
                )
            return _restore_weights(manager, step)
        losses = {s: _loss(manager.metrics(s) or {}) for s in steps}
        for candidate in sorted(steps, key=lambda s: (losses[s], -s)):
            try:
                return _restore_weights(manager, candidate)
            except CheckpointError as error:
                warnings.warn(f"{error}; taking the next best", stacklevel=3)
    raise CheckpointError(f"{run} holds no checkpoint that can be read (of {len(steps)})")


def _refuse_step(these_hold: str, step: int | None) -> None:
    """Raises ValueError if a checkpoint is asked of exported weights, which have none."""
    if step is not None:
        raise ValueError(f"--checkpoint: {these_hold} one set of weights, no checkpoint {step}")


def _restore_weights(manager: ocp.CheckpointManager, step: int) -> Leaves:
    item = "average" if "average" in _digests(manager, step) else "params"
    return _restore(manager, step, [item])[item]


def _digests(manager: ocp.CheckpointManager, step: int) -> dict[str, dict[str, str]]:
    try:
        digests = ocp.args.Composite(digests=ocp.args.JsonRestore())
        return manager.restore(step, args=digests).digests
    except Exception as error:  # by file, Orbax raises ValueError, JSONDecodeError, bare Exception
        raise CheckpointError(f"checkpoint {step} is damaged ({reason(error)})") from error


def _restore(manager: ocp.CheckpointManager, step: int, items: list[str]) -> dict[str, Leaves]:
    """Returns the items' leaves, each verified against its digest, or raises CheckpointError."""
    digests = _digests(manager, step)
    try:
        # A template of NumPy arrays restores on any machine, whatever devices wrote it.
        templates = {name: dict.fromkeys(digests[name], np.zeros(())) for name in items}
        restored = manager.restore(
            step,
            args=ocp.args.Composite(
                **{
                    name: ocp.args.PyTreeRestore(
                        item=template,
                        restore_args={key: ocp.RestoreArgs(np.ndarray) for key in template},
                    )
                    for name, template in templates.items()
                }
            ),
        )
        leaves = {name: restored[name] for name in items}
    except Exception as error:
        raise CheckpointError(f"checkpoint {step} is damaged ({reason(error)})") from error
    for name in items:
        for key, leaf in leaves[name].items():
            if digest(leaf) != digests[name][key]:
                raise CheckpointError(
                    f"checkpoint {step} is damaged ({name}.{key} is not what was saved)"
                )
    return leaves


def _loss(metrics: dict[str, float]) -> float:
    return metrics.get("loss", np.inf)


def _check_losses(directory: Path) -> None:
    """Raises CheckpointError naming a file that keeps Orbax from opening the directory at all."""
    for path in sorted(directory.glob("*/metrics/metrics")):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); delete {path.parent}, and the checkpoint counts "
                "as one that was not validated"
            ) from error
