"""The run directory: who may write into it, and the configuration that it holds."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from draw_jax.runs import digests, legacy
from draw_jax.runs.leaves import CheckpointError
from draw_jax.system import files
from draw_jax.system.errors import UserError

# What a run writes; also what a job's own output may be called.
_OURS = {"config.json", "metrics.jsonl", "checkpoints", "samples", "tensorboard", "damaged"}
_WELCOME = {".log", ".out", ".err", ".tmp", ".png"}


class RunConflictError(UserError):
    """A run directory that this configuration must not continue, or that another process uses."""


@contextlib.contextmanager
def claim(run: Path) -> Iterator[None]:
    """Holds the run directory, made if missing, so that no second process writes into it.

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
        except OSError:  # a file system without locks, as some clusters have
            pass
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
    return any((run / "checkpoints").glob("[0-9]*")) or (run / "damaged").exists()


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
    except ValueError as error:  # no JSON, or no UTF-8
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
    return ConfigDict(legacy.filled(fields)).lock()


def is_unsigned(run: Path) -> bool:
    """Returns whether a run's config.json has no digest, as those of earlier versions."""
    path = run / "config.json"
    return path.exists() and digests.FIELD not in json.loads(path.read_bytes())


def write_config(run: Path, config: ConfigDict) -> None:
    """Writes `config.json` whole or not at all."""
    text = json.dumps(digests.signed(json.loads(config.to_json())), indent=2) + "\n"
    files.write_whole(run / "config.json", lambda file: file.write(text.encode()))
