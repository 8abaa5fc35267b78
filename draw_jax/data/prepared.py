"""Arrays from folders that tensorflow-datasets has prepared as array_record, decoded once."""

import contextlib
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

_BLOCK = 500  # records decoded between two updates of the progress bar


class DataNotFound(RuntimeError):
    """A data set that is not on this machine, cannot be fetched, or cannot be read."""


def find(data_dir: Path, name: str) -> Path | None:
    """Return the folder of a data set's newest version, or None where none is array_record.

    Args:
        data_dir: where tensorflow-datasets keeps its folders, one per data set.
        name: the data set, or `name/config`, or either with `/version`.
    """
    root = data_dir / name
    versions = root.iterdir() if root.is_dir() else iter(())
    found = [v for v in versions if re.fullmatch(r"\d+\.\d+\.\d+", v.name)]
    found.sort(key=lambda v: tuple(map(int, v.name.split("."))), reverse=True)
    for folder in [root, *found]:
        with contextlib.suppress(OSError, ValueError):  # not a prepared folder, or half of one
            info = json.loads((folder / "dataset_info.json").read_text())
            formats = [info.get("fileFormat"), *info.get("alternativeFileFormats", [])]
            if "array_record" in formats:
                return folder
    return None


def split_sizes(folder: Path) -> dict[str, int]:
    """Return the number of examples in each split of a prepared folder."""
    info = json.loads((folder / "dataset_info.json").read_text())
    return {s["name"]: sum(map(int, s.get("shardLengths", []))) for s in info["splits"]}


def read(folder: Path, split: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images start..stop-1 of a split, with their labels where there are any.

    The decoded arrays are kept in `$XDG_CACHE_HOME/draw_jax` (default `~/.cache/draw_jax`), so that
    a second call only reads a file. A cache that is damaged, out of date or cannot be written costs
    the time to decode, nothing else.

    Args:
        folder: a prepared folder, from `find`.
        split: name of one of its splits.
        start: first example, from 0.
        stop: one past the last example.

    Returns:
        images uint8 [stop - start, H, W, C], and labels int32 [stop - start] or None.

    Raises:
        DataNotFound: the records cannot be read.
        ValueError: the examples have no feature `image` that is uint8 [H, W, C] of one size.
    """
    name = hashlib.sha256(f"{folder.resolve()} {split} {start} {stop}".encode()).hexdigest()[:16]
    cache_dir = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = Path(cache_dir, "draw_jax", f"{folder.parent.name}-{split}-{name}.npz")
    fingerprint = _fingerprint(folder)
    cached = read_cache(cache, fingerprint)
    if cached is not None:
        return cached
    images, labels = _decode(folder, split, start, stop)
    write_cache(cache, fingerprint, images, labels)
    return images, labels


def _decode(
    folder: Path, split: str, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray | None]:
    images = np.empty(0, np.uint8)
    labels = []
    with _without_advice(), contextlib.closing(_examples(folder, split, start, stop)) as examples:
        for i, example in enumerate(examples):
            image = np.asarray(example.get("image"))
            if image.ndim != 3 or image.dtype != np.uint8:
                raise ValueError(
                    f"expected a feature `image`, uint8 [H, W, C], in {folder}, got "
                    + ", ".join(
                        f"{k} {np.result_type(v)} {np.shape(v)}" for k, v in example.items()
                    )
                )
            if i == 0:
                images = np.empty((stop - start, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f"expected images of one size in {folder}, got {list(images.shape[1:])} and "
                    f"{list(image.shape)}"
                )
            images[i] = image
            label = np.asarray(example.get("label", []))
            if label.ndim == 0 and label.dtype.kind in "iu":
                labels.append(int(label))
    return images, np.array(labels, np.int32) if labels else None


def _examples(
    folder: Path, split: str, start: int, stop: int
) -> Generator[dict[str, Any], None, None]:
    import tensorflow_datasets as tfds

    try:
        source = tfds.builder_from_directory(folder).as_data_source(f"{split}[{start}:{stop}]")
        with progress_bar(len(source), split) as progress:
            for first in range(0, len(source), _BLOCK):
                block = range(first, min(first + _BLOCK, len(source)))
                yield from source.__getitems__(list(block))
                progress.update(len(block))
    except Exception as error:  # noqa: BLE001 - whatever the readers of records and images raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataNotFound(
            f"cannot read {folder} ({cause}): delete that folder and prepare the data set again"
        ) from None


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keep back the advice to install OpenCV that decoding a first image prints."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256((folder / "dataset_info.json").read_bytes())
    for file in sorted(folder.iterdir()):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def progress_bar(total: int, split: str) -> tqdm:
    """Returns a bar for decoding `total` images: on a terminal only, and after a second."""
    return tqdm(
        total=total,
        desc=f"decoding {split}",
        unit="image",
        delay=1,
        disable=None,
        file=sys.stderr,
    )


def read_cache(path: Path, fingerprint: str) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Returns the images and labels that `write_cache` kept, None if there are no such ones.

    Args:
        path: of the cache file.
        fingerprint: of what the images were decoded from, as they are now.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:
            if str(stored["fingerprint"]) != fingerprint:
                return None
            # Reading a member to its end verifies its CRC-32.
            return stored["images"], stored.get("labels")
    except Exception:  # noqa: BLE001 - whatever is wrong with a cache, decoding is the answer
        return None


def write_cache(
    path: Path, fingerprint: str, images: np.ndarray, labels: np.ndarray | None
) -> None:
    """Keeps decoded images for the next start; does nothing where that cannot be written.

    Args:
        path: of the cache file.
        fingerprint: of what the images were decoded from.
        images: uint8 [N, H, W, C].
        labels: int32 [N], if any.
    """
    arrays: dict[str, Any] = {"fingerprint": np.array(fingerprint), "images": images}
    if labels is not None:
        arrays["labels"] = labels
    with contextlib.suppress(OSError):  # a full disk, a read-only home
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
