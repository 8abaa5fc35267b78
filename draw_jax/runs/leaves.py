"""A tree of arrays as named leaves, each with its digest: the form in which weights are kept."""

import errno
import hashlib
import os
from typing import Any

import jax
import numpy as np

from draw_jax.system.errors import UserError

# Causes that keep files from being written, found by their text in library errors.
_OF_THE_DISK = [
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE)
]

Leaves = dict[str, np.ndarray]  # a tree as {"path.to.leaf": array}


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or of another model; the message says what to do."""


def digest(leaf: np.ndarray) -> str:
    """Returns the SHA-256 of an array's dtype, shape and bytes."""
    header = f"{leaf.dtype}{leaf.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(leaf).tobytes()).hexdigest()


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def flatten(tree: Any) -> Leaves:
    """Returns copies of the leaves on the host, so that the originals may be donated."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_path(path): np.array(leaf) for path, leaf in leaves}


def unflatten(leaves: Leaves, template: Any, source: str) -> Any:
    """Returns the leaves in the template's structure, or raises CheckpointError."""
    expected = jax.tree_util.tree_leaves_with_path(template)
    names = {_path(path) for path, _ in expected}
    if names != set(leaves):
        raise CheckpointError(
            f"{source} is of another model: missing {sorted(names - set(leaves))[:3]}, "
            f"unexpected {sorted(set(leaves) - names)[:3]}"
        )
    for path, leaf in expected:
        saved = leaves[_path(path)]
        if (saved.shape, saved.dtype) != (leaf.shape, leaf.dtype):
            raise CheckpointError(
                f"{source} is of another model: {_path(path)} is {saved.dtype}{saved.shape}, "
                f"expected {leaf.dtype}{leaf.shape}"
            )
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[_path(p)] for p, _ in expected])


def reason(error: Exception) -> str:
    """Returns the cause of an error of any length: the disk's, otherwise its start and end."""
    for text in _OF_THE_DISK:
        if text in str(error):
            return text
    text = (str(error).strip() or type(error).__name__).splitlines()[0].split(" [source")[0]
    return text if len(text) <= 200 else f"{text[:60]} ... {text[-140:]}"
