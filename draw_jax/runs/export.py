"""Shipped weights: a folder of config.json, weights.npz and card.md, made from a run."""

import json
import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from draw_jax.runs import digests, directory
from draw_jax.runs.leaves import CheckpointError, Leaves, digest, flatten
from draw_jax.system import files

FOLDER = resources.files("draw_jax") / "pretrained"


def names() -> list[str]:
    """Returns the names of the weights that come with the package."""
    if not FOLDER.is_dir():
        return []
    return sorted(f.name for f in FOLDER.iterdir() if (f / "config.json").is_file())


def is_name(name: str | os.PathLike[str]) -> bool:
    """Returns whether weights of this name come with the package."""
    return len(Path(name).parts) == 1 and str(name) in names()


def card(name: str) -> str:
    """Returns the text of `card.md` of shipped weights: data, length, numbers, limits."""
    path = FOLDER / name / "card.md"
    return path.read_text() if path.is_file() else f"# {name}\n"


def read(name: str) -> tuple[ConfigDict, Leaves]:
    """Returns the configuration and the float32 leaves of shipped weights.

    Raises:
        CheckpointError: if a file is damaged.
    """
    folder = FOLDER / name
    try:
        config = directory.parse_config((folder / "config.json").read_bytes(), str(folder))
        return config, read_leaves(folder)
    except CheckpointError as error:
        raise CheckpointError(
            f"the shipped weights {name!r} are damaged ({error}); install draw_jax again"
        ) from error


def read_leaves(folder: Traversable) -> Leaves:
    """Returns the float32 leaves of a folder that `write` made.

    Raises:
        CheckpointError: if weights.npz is missing or damaged, or not those of config.json.
    """
    try:
        with (folder / "weights.npz").open("rb") as file, np.load(file) as arrays:
            leaves = {key: arrays[key] for key in arrays.files}
            found = _digest(leaves)
            leaves = {key: leaf.astype(np.float32) for key, leaf in leaves.items()}
    except Exception as error:
        raise CheckpointError(
            f"{folder / 'weights.npz'} is damaged ({error or 'an empty file'})"
        ) from error
    told = json.loads((folder / "config.json").read_bytes()).get(directory.WEIGHTS, found)
    if told != found:
        raise CheckpointError(f"{folder}: config.json is of other weights than weights.npz holds")
    return leaves


def _digest(leaves: Leaves) -> str:
    return digests.of_json({key: digest(leaf) for key, leaf in leaves.items()})


def of_weights(params: Any, dtype: str = "float32") -> str:
    """Returns the digest of a tree of float32 weights, as they are read back from that dtype."""
    with np.errstate(over="ignore"):
        rounded = {key: leaf.astype(dtype) for key, leaf in flatten(params).items()}
    return _digest({key: leaf.astype(np.float32) for key, leaf in rounded.items()})


def write(config: ConfigDict, params: Any, target: Path, dtype: str, card_text: str) -> None:
    """Writes a folder of weights that `read` reads.

    Args:
        config: of the run; folders of this machine are left out, that of `init_from` as well.
        params: the tree of weights.
        target: the folder to make, `draw_jax/pretrained/NAME` for the package.
        dtype: of the stored arrays; float16 halves the size.
        card_text: of `card.md`.

    Raises:
        ValueError: if a weight is beyond the range of the dtype.
        OSError: if a file cannot be written.
    """
    config = ConfigDict(json.loads(config.to_json()))
    config.data.data_dir = config.data.manual_dir = config.train.init_from = ""
    leaves: dict[str, Any] = {}
    for key, leaf in flatten(params).items():
        with np.errstate(over="ignore"):
            leaves[key] = leaf.astype(dtype)
        if not np.isfinite(leaves[key]).all():
            raise ValueError(f"--dtype: {key} holds values beyond {dtype}; take float32")
    files.write_whole(target / "weights.npz", lambda file: np.savez_compressed(file, **leaves))
    directory.write_config(target, config, _digest(leaves))
    files.write_whole(target / "card.md", lambda file: file.write(card_text.encode()))
