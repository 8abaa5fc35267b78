"""Arrays from folders that tensorflow-datasets has prepared as array_record, decoded once."""

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import traceback
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from draw_jax.data import cache, pictures
from draw_jax.data.interface import ArraySplit, DataNotFound

_NO_JSON = (
    ValueError,
    RecursionError,
    AttributeError,
)  # what a file that is no object of JSON raises
_BLOCK = 500  # records decoded between two updates of the progress bar
# What to install for a module whose package has another name.
_PACKAGES = {"PIL": "pillow", "absl": "absl-py", "google": "protobuf", "tree": "dm-tree"}


def find(data_dir: Path, name: str) -> Path | None:
    """Return the folder of a data set's newest version, or None where none is array_record.

    Args:
        data_dir: where tensorflow-datasets keeps its folders, one per data set.
        name: the data set, or `name/config`, or either with `/version`.

    Raises:
        OSError: the folder of the data set exists but cannot be read.
    """
    root = data_dir / name
    try:
        versions = list(root.iterdir())
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of a name with a NUL
        return None
    found = [v for v in versions if re.fullmatch(r"\d+\.\d+\.\d+", v.name)]
    found.sort(key=lambda v: tuple(map(int, v.name.split("."))), reverse=True)
    for folder in [root, *found]:
        # Not a prepared folder, or half of one.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, *_NO_JSON):
            info = json.loads((folder / "dataset_info.json").read_text())
            formats = [info.get("fileFormat"), *info.get("alternativeFileFormats", [])]
            if "array_record" in formats:
                return folder
    return None


def there(data_dir: Path, name: str) -> str:
    """Return what to add to "looked for `name`" if its folder exists but `find` took nothing."""
    folder = data_dir / name
    if not os.path.isdir(folder):
        return ""
    with contextlib.suppress(OSError):
        inside = sorted(p.name for p in folder.iterdir() if find(folder, p.name))
        if inside:
            named = ", ".join(f"{name}/{one}" for one in inside[:5])
            return (
                f" (which has configurations: set config.data.name to one of them, such as {named})"
            )
    return " (which is there in another format)"


def split_sizes(folder: Path) -> dict[str, int]:
    """Return the number of examples in each split of a prepared folder.

    Raises:
        DataNotFound: the folder does not say.
    """
    file = folder / "dataset_info.json"
    try:
        splits = json.loads(file.read_text()).get("splits", [])
        return {s["name"]: sum(map(int, s.get("shardLengths", []))) for s in splits}
    except Exception as error:  # noqa: BLE001 - what is no such object fails in many ways
        raise DataNotFound(
            f"cannot read {file} ({_cause(error)}): delete that folder and prepare the data set again"
        ) from None


def read(
    folder: Path,
    split: str,
    start: int,
    stop: int,
    image_shape: tuple[int, int, int] | None = None,
) -> ArraySplit:
    """Return the images start..stop-1 of a split, with their labels where there are any.

    The decoded arrays are kept (see `cache.decoded_once`), so that a second call only reads a file.

    Args:
        folder: a prepared folder, from `find`.
        split: name of one of its splits.
        start: first example, from 0.
        stop: one past the last example.
        image_shape: (H, W, C) that images of any size are cropped and resized to (see
            `pictures.of_array`); None: they stay as they are, and are of one size.

    Returns:
        The split, of stop - start images.

    Raises:
        DataNotFound: the records cannot be read.
        ValueError: the examples have no feature `image` that is uint8 [H, W, C] of one size.
    """
    resized = f" {tuple(image_shape)}" if image_shape else ""
    return cache.decoded_once(
        f"{folder.parent.name}-{split}",
        f"{folder.resolve()} {split} {start} {stop}{resized}",
        _fingerprint(folder),
        lambda: _decode(folder, split, start, stop, image_shape),
    )


def _kind(value: Any) -> str:
    """Return the type and the shape of a feature; of text, of none and of nested ones the type."""
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__


def _decode(
    folder: Path,
    split: str,
    start: int,
    stop: int,
    image_shape: tuple[int, int, int] | None,
    scale: int = 1,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images, times a scale, and the labels of the examples start..stop-1."""
    images = np.empty(0, np.uint8)
    labels, highest = [], 0
    with quietly(), contextlib.closing(_examples(folder, split, start, stop)) as examples:
        for i, example in enumerate(examples):
            image = np.asarray(example.get("image"))
            if image.ndim != 3 or image.dtype != np.uint8:
                found = ", ".join(f"{name} {_kind(value)}" for name, value in example.items())
                raise ValueError(
                    f"expected a feature `image`, uint8 [H, W, C], in {folder}, got {found}"
                )
            if image_shape:
                highest = max(highest, int(image.max(initial=0)))
                image = pictures.of_array(image * np.uint8(scale), image_shape)
            if i == 0:
                images = np.empty((stop - start, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f"expected images of one size in {folder}, got {list(images.shape[1:])} and "
                    f"{list(image.shape)}: set config.data.resize to True"
                )
            images[i] = image
            label = np.asarray(example.get("label", []))
            if label.ndim == 0 and label.dtype.kind in "iu":
                labels.append(int(label))
    if image_shape and highest <= 1 and scale == 1 and stop > start:
        # Stored as 0 and 1: once more, as the filter has made other values of them.
        return _decode(folder, split, start, stop, image_shape, scale=255)
    return images, np.array(labels, np.int32) if labels else None


def _examples(
    folder: Path, split: str, start: int, stop: int
) -> Generator[dict[str, Any], None, None]:
    try:
        tfds = import_tfds()
        source = tfds.builder_from_directory(folder).as_data_source(f"{split}[{start}:{stop}]")
        with cache.progress_bar(len(source), split) as progress:
            for first in range(0, len(source), _BLOCK):
                block = range(first, min(first + _BLOCK, len(source)))
                yield from source.__getitems__(list(block))
                progress.update(len(block))
    except Exception as error:  # noqa: BLE001 - whatever the readers of records and images raise
        refuse_failed_import(error)
        raise DataNotFound(
            f"cannot read {folder} ({_cause(error)}): delete that folder and prepare the data set "
            "again"
        ) from None


def import_tfds() -> Any:
    """Return tensorflow_datasets; raise the error of its import, which the package only logs."""
    return importlib.import_module("tensorflow_datasets.public_api")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Suppress what tensorflow-datasets and its packages print: advice, warnings, tracebacks.

    Errors in the data are also raised as exceptions.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def refuse_failed_import(error: BaseException) -> None:
    """Raise an error that names the package where `error` comes from a failing import.

    Args:
        error: as it was caught.

    Raises:
        DataNotFound: a package is missing or broken; says how to install it.
    """
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    frames = [frame for cause in causes for frame, _ in traceback.walk_tb(cause.__traceback__)]
    # The body of a module runs only while it is imported.
    modules = [f.f_globals["__name__"] for f in frames if f.f_code.co_name == "<module>"]
    imports = [cause for cause in causes if isinstance(cause, ImportError)]
    if not imports and not modules:
        return
    names = [cause.name for cause in imports if cause.name]
    blamed = [*names, *modules, *(names[-1:] if causes[-1] in imports else [])]
    module = blamed[-1].partition(".")[0] if blamed else "tensorflow_datasets"
    missing = isinstance(causes[-1], ModuleNotFoundError)
    raise DataNotFound(
        f"cannot import the package {module} ({_cause(causes[-1])}), which tensorflow-datasets "
        f"needs to read the data: pip install {'' if missing else '--force-reinstall '}"
        f"{_PACKAGES.get(module, module)}"
    ) from None


def _cause(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256((folder / "dataset_info.json").read_bytes())
    for file in sorted(folder.iterdir()):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
