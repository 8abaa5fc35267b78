"""Checkpoints as they lie on disk: which there are, and their arrays, verified leaf by leaf.

Reading changes nothing and waits for no other process.
"""

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from draw_jax.runs.leaves import CheckpointError, Leaves, digest, reason

# What keeps sound bytes from being read; found by its words in the errors of libraries.
_NOT_OF_THE_BYTES = [
    os.strerror(number)
    for number in (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
    )
]


class DamagedError(CheckpointError):
    """A checkpoint whose bytes can be read and are not those that were saved."""


def steps(directory: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a directory, ascending; [] if it is missing."""
    return sorted(ocp.utils.checkpoint_steps(directory)) if directory.is_dir() else []


def digests(directory: Path, step: int) -> dict[str, dict[str, str]]:
    """Returns the SHA-256 of every leaf of every item of a checkpoint, as they were saved.

    Raises:
        DamagedError, CheckpointError: as `read` does.
    """
    try:
        found = ocp.JsonCheckpointHandler().restore(_path(directory, step) / "digests")
        assert all(isinstance(item, dict) and item for item in found.values())
    except Exception as error:  # by file, Orbax raises ValueError, JSONDecodeError, bare Exception
        raise _blame(_path(directory, step), error) from error
    return found


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
        CheckpointError: if they cannot be read, which says nothing of them.
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


def check_losses(directory: Path) -> None:
    """Raises CheckpointError naming a damaged loss beside a checkpoint of an earlier version.

    We read none of them, but Orbax reads all and stops at one that is no JSON.
    """
    for path in sorted(directory.glob("*/metrics/metrics")):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); delete {path.parent}: metrics.jsonl tells the same"
            ) from error


def _path(directory: Path, step: int) -> Path:
    return directory.resolve() / str(step)


def _blame(folder: Path, error: Exception) -> CheckpointError:
    """Returns what to raise: damage is told only of bytes that can be read."""
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
    """Returns why a file of a folder cannot be read from begin to end, None if all can."""
    try:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    while file.read(2**20):
                        pass
    except OSError as error:
        return error.strerror
    return None
