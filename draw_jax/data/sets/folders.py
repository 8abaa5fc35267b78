"""The pictures in a folder: where each lies, and which split and class it is of."""

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from draw_jax.data.interface import DataNotFound

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # in any letter case
_PERCENT = {"train": (0, 80), "validation": (80, 90), "test": (90, 100)}
_FOLDERS = {  # whose names are splits
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class File(NamedTuple):
    """A picture's file as it was found."""

    path: Path
    name: str  # relative to the folder, forward slashes, composed Unicode (NFC)
    size: int  # bytes; -1 where the file cannot be looked at
    mtime_ns: int


def find(folder: Path) -> list[File]:
    """Return the pictures in a folder and its sub-folders, in the order of their names.

    Raises:
        DataNotFound: if a sub-folder cannot be looked into.
    """
    files = []
    for path in _walk(folder):
        name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        try:
            stat = path.stat()
            files.append(File(path, name, stat.st_size, stat.st_mtime_ns))
        except OSError:  # a link to nowhere: decoding says so
            files.append(File(path, name, -1, -1))
    return sorted(files, key=lambda file: (file.name, str(file.path)))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files that look like pictures, each folder once whatever links lead to it."""

    def refuse(error: OSError) -> None:
        raise DataNotFound(
            f"cannot look into {error.filename} ({error.strerror}): make it readable, or move it "
            "out of data_dir"
        )

    seen = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if os.path.realpath(parent) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(parent, name)


def by_split(files: list[File]) -> dict[str, list[File]]:
    """Return the files by split; of folders that are splits, their names count from there."""
    parts: dict[str, list[File]] = {name: [] for name in _PERCENT}
    tops = {class_of(file) for file in files}
    named = {_FOLDERS.get(top) for top in tops}  # None: of another name, or a picture outside
    if None in named or "train" not in named or len(named) == 1:
        for file in files:
            parts[split_of(file.name)].append(file)
        return parts
    for file in files:
        top, _, rest = file.name.partition("/")
        split = _FOLDERS[top]
        if "validation" not in named and split == "train" and split_of(rest) == "validation":
            split = "validation"
        parts[split].append(file._replace(name=rest))
    return parts


def of_split(folder: Path, parts: dict[str, list[File]], split: str) -> list[File]:
    """Return the files of one split of a folder; raises DataNotFound if there are none."""
    if not parts[split]:
        counts = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
        raise DataNotFound(
            f"no picture for {split!r} among the {sum(map(len, parts.values()))} in data_dir {folder} "
            f"({counts}; by a hash of the names, or by folders train, val and test): add pictures; "
            "with a hundred, no split by the hash is empty"
        )
    return parts[split]


def classes(files: list[File]) -> list[str]:
    """Return the sorted sub-folders with pictures; none if a picture lies outside all of them."""
    return sorted({class_of(file) for file in files}) if all("/" in f.name for f in files) else []


def class_of(file: File) -> str:
    """Return the sub-folder that a file lies in; of one outside all of them its own name."""
    return file.name.partition("/")[0]


def split_of(name: str) -> str:
    """Return the split of a picture, a function of its name alone.

    Args:
        name: the path below the data set's folder, with forward slashes.
    """
    # Some file systems store accents apart from letters; the split must not depend on that.
    name = unicodedata.normalize("NFC", name)
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    percent = int.from_bytes(digest[:8], "big") * 100 >> 64
    return next(split for split, (start, stop) in _PERCENT.items() if start <= percent < stop)
