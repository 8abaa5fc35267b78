"""The run directory: who may write into it, what may continue in it."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from draw_jax.runs import checkpoint

# Fields that may differ between a run and its continuation: where data lies, how often to look,
# how the loop is compiled.
_FREE_FIELDS = {
    "model.unroll",
    "data.data_dir",
    "data.manual_dir",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
}


class Refused(RuntimeError):
    """A run directory that this configuration must not continue."""


@contextlib.contextmanager
def claim(run: Path) -> Iterator[None]:
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


def check_continues(config: ConfigDict, run: Path) -> None:
    """Raises Refused if the run directory holds a run of another mathematics.

    One that ended before its first checkpoint holds nothing that could be lost.
    """
    begun = any((run / "checkpoints").glob("[0-9]*")) or (run / "damaged").exists()
    if begun and (run / "config.json").exists():
        fields = differing_fields(config, checkpoint.read_config(run))
        if fields:
            raise Refused(
                f"{run} holds another run:\n  " + "\n  ".join(fields) + "\n"
                "give another --workdir, or the run's own values to continue it"
            )
