"""Decoded images, kept in the user's cache folder for the next start."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from draw_jax.data.interface import ArraySplit
from draw_jax.system.files import cache_folder, write_whole

_FORMAT = 2  # of the files; another one makes all of them out of date


def decoded_once(
    label: str,
    place: str,
    fingerprint: str,
    decode: Callable[[], tuple[np.ndarray, np.ndarray | None]],
) -> ArraySplit:
    """Return the split that `decode` gives, from a cache file where there is an up-to-date one.

    Whatever looks at every pixel happens here, only once: images stored as 0 and 1 become 0
    and 255, and a split without any other value is binary. A cache file that is damaged, out of
    date or cannot be written costs the time to decode, nothing else.

    Args:
        label: what the name of the cache file begins with, for people.
        place: what the images are (a folder, a split, a size): one cache file for each.
        fingerprint: of all that the images are decoded from, as it is now.
        decode: returns images uint8 [N, H, W, C] and labels int32 [N] or None.
    """
    fingerprint = hashlib.sha256(f"{_FORMAT} {fingerprint}".encode()).hexdigest()
    name = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    try:
        path = cache_folder() / f"{label}-{name}.npz"
    except OSError:  # a user without a home
        path = None
    split = read_cache(path, fingerprint) if path else None
    if split is None:
        split = as_split(*decode())
        if path:
            write_cache(path, fingerprint, split)
    return split


def as_split(images: np.ndarray, labels: np.ndarray | None) -> ArraySplit:
    """Return a split of arrays: images of 0 and 1 become 0 and 255, and only those are binary.

    Args:
        images: uint8 [N, H, W, C].
        labels: int32 [N] or None.
    """
    if images.max(initial=0) <= 1:
        images = images * np.uint8(255)
    return ArraySplit(images, labels, bool(((images == 0) | (images == 255)).all()))


def read_cache(path: Path, fingerprint: str) -> ArraySplit | None:
    """Return the split that `write_cache` kept, None if there is no such one.

    Args:
        path: of the cache file.
        fingerprint: of what the images were decoded from, as they are now.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:
            if str(stored["fingerprint"]) != fingerprint:
                return None
            # Reading a member to its end verifies its CRC-32.
            return ArraySplit(stored["images"], stored.get("labels"), bool(stored["binary"]))
    except Exception:  # noqa: BLE001 - whatever is wrong with a cache, decoding is the answer
        return None


def write_cache(path: Path, fingerprint: str, split: ArraySplit) -> None:
    """Keep a split for the next start; do nothing where that cannot be written.

    Args:
        path: of the cache file.
        fingerprint: of what the images were decoded from.
        split: to keep.
    """
    arrays: dict[str, Any] = {
        "fingerprint": np.array(fingerprint),
        "images": split.images,
        "binary": np.array(split.binary),
    }
    if split.labels is not None:
        arrays["labels"] = split.labels
    with contextlib.suppress(OSError):  # a full disk, a read-only home
        write_whole(path, lambda file: np.savez(file, **arrays))


def progress_bar(total: int, split: str) -> tqdm:
    """Return a bar for decoding `total` images: on a terminal only, and after a second."""
    return tqdm(
        total=total,
        desc=f"decoding {split}",
        unit="image",
        delay=1,
        disable=None,
        file=sys.stderr,
    )
