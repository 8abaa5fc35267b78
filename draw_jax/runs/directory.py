"""The run directory: who may write into it, and the configuration that it holds."""

import contextlib
import fcntl
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from draw_jax.runs import digests, legacy
from draw_jax.runs.leaves import CheckpointError
from draw_jax.system import files
from draw_jax.system.errors import UserError, in_a_line

# What a run writes; also what a job's own output may be called.
_OURS = {"config.json", "metrics.jsonl", "checkpoints", "samples", "tensorboard", "damaged"}
WEIGHTS = "weights"  # a field of exported weights' config.json: their digest
_WELCOME = {".log", ".out", ".err", ".tmp", ".png"}


class RunConflictError(UserError):
    """A run directory that this configuration must not continue, or that another process uses."""


@contextlib.contextmanager
def claim(run: Path) -> Iterator[None]:
    """Locks the run directory, made if missing, so that no second process writes into it.

    Raises:
        RunConflictError: if another process holds it, or it holds files of something else.
        OSError: if it cannot be made or written.
    """
    with contextlib.ExitStack() as stack:
        try:
            run.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(run)  # before anything is left there
            lock = stack.enter_context((run / ".lock").open("w"))
        except OSError as error:
            cause = "it is a file" if run.is_file() else error.strerror or error
            raise OSError(
                f"cannot write the run directory {run} ({cause}); give another --workdir"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunConflictError(
                f"{run} is in use by another process; wait, or give another --workdir"
            ) from None
        except OSError as error:  # a file system without locks, as some clusters have
            print(
                f"warning: {run} cannot be locked ({error.strerror}): see to it that no other "
                "process trains there",
                file=sys.stderr,
            )
        yield


def _refuse_foreign(run: Path) -> None:
    """Raises RunConflictError if a directory holds no run but files of something else."""
    if (run / "config.json").exists():
        return
    foreign = sorted(path.name for path in run.iterdir() if _is_foreign(path))
    if foreign:
        raise RunConflictError(
            f"{run} holds no run but other files ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); give another --workdir, or move them"
        )


def _is_foreign(path: Path) -> bool:
    known = path.name in _OURS or path.suffix in _WELCOME or path.name.startswith(".")
    return not known


def has_begun(run: Path) -> bool:
    """Returns whether a run directory holds checkpoints, sound or damaged, that could be lost."""
    saved = (path for path in (run / "checkpoints").glob("[0-9]*") if path.name.isdecimal())
    return any(saved) or (run / "damaged").exists()


def read_config(run: Path) -> ConfigDict:
    """Returns the locked configuration of a run directory, with legacy values where it is older.

    Raises:
        CheckpointError: if `config.json` is missing or holds no configuration.
    """
    path = run / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{run} is no run directory: it has no config.json")
    return parse_config(path.read_bytes(), str(path))


def parse_config(data: bytes, source: str) -> ConfigDict:
    """Returns the locked configuration in the bytes of a config.json; errors name the source.

    Raises:
        CheckpointError: if the bytes hold no configuration.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        raise CheckpointError(f"{source} cannot be read: {error}") from error
    sound = None
    if isinstance(fields, dict):
        fields, sound = digests.verified(fields)
    groups = ("data", "model", "train")
    whole = isinstance(fields, dict) and {"seed", "kind", *groups} <= set(fields)
    if not whole or not all(isinstance(fields[name], dict) for name in groups):
        raise CheckpointError(
            f"{source} is no configuration: expected seed, kind and the groups {', '.join(groups)}"
        )
    if sound is False:
        raise CheckpointError(
            f"{source} is not what was written: its digest differs. If it was changed on purpose, "
            'delete its field "digest"; else take it from a copy of the run'
        )
    fields.pop(WEIGHTS, None)
    try:
        return ConfigDict(legacy.filled(fields)).lock()
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # as of names with dots
        raise CheckpointError(f"{source} is no configuration: {in_a_line(error)}") from error


def differing(ours: ConfigDict, theirs: Mapping[str, Any]) -> list[str]:
    """Returns the names of differing fields that decide what a run's weights mean, [] for none.

    Args:
        ours: a configuration.
        theirs: the fields of one as a checkpoint has them, {} where it has none.
    """
    if not theirs:
        return []

    def flat(fields: Mapping[str, Any]) -> dict[str, Any]:
        fields = legacy.filled(dict(fields))
        return {f"{g}.{k}": v for g in ("data", "model") for k, v in fields[g].items()} | {
            name: fields[name] for name in ("seed", "kind")
        }

    new, old = flat(json.loads(ours.to_json())), flat(theirs)
    free = {"data.data_dir", "data.manual_dir", "model.unroll"}
    return [n for n in sorted({*new, *old} - free) if new.get(n) != old.get(n)]


def is_unsigned(run: Path) -> bool:
    """Returns whether a run's config.json has no digest, as those of earlier versions."""
    path = run / "config.json"
    try:
        fields = json.loads(path.read_bytes()) if path.exists() else None
    except (ValueError, RecursionError):  # as a power cut may leave it before the first checkpoint
        return False
    return isinstance(fields, dict) and digests.FIELD not in fields


def write_config(run: Path, config: ConfigDict, weights: str | None = None) -> None:
    """Writes `config.json` whole or not at all, of exported weights with their digest."""
    fields = json.loads(config.to_json()) | ({WEIGHTS: weights} if weights else {})
    text = json.dumps(digests.signed(fields), indent=2) + "\n"
    files.write_whole(run / "config.json", lambda file: file.write(text.encode()))
