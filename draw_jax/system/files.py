"""Files that are there whole or not at all, and the folder for what can be made again."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> Path:
    """Writes a file whole or not at all and returns its path; makes missing folders.

    Args:
        path: where to; an existing file is replaced.
        write: called with the open file.

    Raises:
        OSError: if the folder cannot be made or written, naming it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave an empty file
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes what a file is to hold, as `write_whole` does, and returns its path."""
    return write_whole(path, lambda file: file.write(content))


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a text as UTF-8, as `write_whole` does, and returns its path."""
    return write_bytes(path, text.encode())


def sync(folder: Path, pattern: str) -> None:
    """Puts the files of some sub-folders on the disk, so that a power cut does not lose them.

    Args:
        folder: that holds them.
        pattern: of the sub-folders' names.
    """
    for found in folder.glob(pattern):
        for path in (found, *found.rglob("*")):
            descriptor = os.open(path, os.O_RDONLY)  # which will do for folders, too
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> OSError:
    """Returns an error that names a file which could not be written, and the way out."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    way_out = "make room there" if full else "choose a folder that can be written"
    return OSError(f"cannot write {path}: {error.strerror or error}; {way_out}")


def cache_folder() -> Path:
    """Returns the user's folder for our caches, `$XDG_CACHE_HOME/draw_jax`; it may be missing.

    Without that variable, or if it holds a relative path, it is `~/.cache/draw_jax`: the XDG base
    directory specification ignores relative paths.

    Raises:
        OSError: if the user has no home folder either.
    """
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(caches):
        caches = os.path.expanduser("~/.cache")
    if not os.path.isabs(caches):
        raise OSError("no folder for caches: this user has no home; set XDG_CACHE_HOME")
    return Path(caches, "draw_jax")
