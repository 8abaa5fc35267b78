"""The images of a run: its two splits, and whether they are still those that it began with."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from draw_jax.data import splits
from draw_jax.data.splits import Split
from draw_jax.model.task import Task
from draw_jax.runs import stored
from draw_jax.runs.directory import RunConflictError
from draw_jax.system.errors import UserError

_LOOKED_AT = 64  # images of a split, evenly spaced, whose pixels stand for all

Identity = dict[str, dict[str, Any]]  # by split: how many images, digests of labels and pixels


def load(config: ConfigDict, task: Task) -> dict[str, Split]:
    """Returns the splits "train" and "validation".

    Raises:
        DataNotFound: as it says.
        ValueError: if their images or labels do not fit the model.
    """
    shape = config.model.image_shape
    found = {
        "train": splits.load(config.data, "train", shape, seed=config.seed),
        "validation": splits.load(config.data, "validation", shape),
    }
    for split in found.values():
        splits.check_shape(split, task.model.image_shape, config.data.name)
        splits.check_labels(split, task.classes, config.data.name)
    return found


def identity(found: Mapping[str, Split]) -> Identity:
    """Returns what tells splits from others: their sizes, all labels, and the pixels of some images."""
    return {name: _of_split(split) for name, split in found.items()}


def _of_split(split: Split) -> dict[str, Any]:
    some = np.unique(np.linspace(0, len(split) - 1, _LOOKED_AT).astype(np.int64))
    pixels = split.batch(some).images
    labels = None if split.labels is None else _digest(split.labels.astype("<i4"))
    return {"images": len(split), "labels": labels, "pixels": _digest(pixels)}


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()


def check(run: Path, ours: Identity) -> None:
    """Warns, or raises, where a run's images are not those that its newest checkpoint has seen.

    Other pixels alone are a warning: versions of an image decoder differ in a digit.

    Raises:
        RunConflictError: if there are more or fewer images, or other labels: the training images
            would come in another order, and some of them fall in validation.
        UserError: if process 0 has other images than this one.
    """
    _check_processes(ours)
    theirs = stored.newest_told_of_run(run / "checkpoints").get("data", {})
    for name in theirs:
        then, now = theirs[name], ours[name]
        cause = None
        if then["images"] != now["images"]:
            cause = f"{then['images']:,} images in {name}, and {now['images']:,} are there now"
        elif then["labels"] != now["labels"]:
            cause = f"other labels in {name}"
        if cause:
            raise RunConflictError(
                f"{run} began with {cause}: put its data back (config.data.data_dir says where it "
                f"lies), or train on the new data with another --workdir and --init_from={run}"
            )
        if then["pixels"] != now["pixels"]:
            warnings.warn(
                f"{run} began with other pixels in {name}: its losses before and after are not of "
                "the same images",
                stacklevel=2,
            )


def _check_processes(ours: Identity) -> None:
    sizes = np.array([ours[name]["images"] for name in ours], "<i8")
    digest = hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).digest()
    mine = np.frombuffer(sizes.tobytes() + digest, np.uint8)
    first = np.asarray(multihost_utils.broadcast_one_to_all(mine), np.uint8)
    if (first != mine).any():
        theirs = first[: sizes.nbytes].view("<i8")
        counts = (
            f"{name} has {there:,} images there and {here:,} here"
            for name, there, here in zip(ours, theirs, sizes, strict=True)
        )
        raise UserError(
            f"process 0 has other data than this process ({'; '.join(counts)}): give all processes "
            "the same files"
        )
