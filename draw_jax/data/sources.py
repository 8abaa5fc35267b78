"""The name of a data set -> one of its splits: the only module that knows all data sets."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from draw_jax.data import fetch, pictures, prepared
from draw_jax.data.interface import NO_FILES, ArraySplit, DataNotFound, Split
from draw_jax.data.sets import arrays, digits, image_folder, svhn
from draw_jax.data.sets.cluttered import Cluttered
from draw_jax.data.sets.two_digits import TwoDigits

# Whether a set is a fixed binarisation, where that is known; otherwise decoding finds out.
_BINARY = {"mnist": False, "binarized_mnist": True}
_DIGITS = ("mnist", "digits")  # of which the sets below can be made
# Sets generated when read: a configuration that has every field, and the names of their own fields.
MADE = {
    "cluttered_mnist": ("cluttered_mnist", ("source", "size", "clutter", "crop_size")),
    "two_digits": ("mnist_two_digits", ("source", "size")),
}
OWN_SIZE = ("digits", "svhn", *MADE)  # sets with their own size, whatever the model reads


def named(
    config: Any,
    split: str,
    image_shape: tuple[int, int, int] | None,
    flags: str,
    seed: int,
    still: bool,
) -> Split:
    """Return one split of the set `config.name`, with the arguments and errors of `splits.load`."""
    if not config.name.strip():
        raise ValueError(
            "config.data.name is empty: set it to mnist, binarized_mnist, cluttered_mnist, "
            "two_digits, cifar10, omniglot28, svhn, svhn_cropped, digits, image_folder, npz, or a "
            "folder under data_dir that tensorflow-datasets has prepared"
        )
    if config.resize and config.name in OWN_SIZE:
        raise ValueError(
            f"data set {config.name!r} is made at its own size: set config.data.resize to False"
        )
    if config.name in MADE:
        return _made(config, split, flags, seed)
    if config.name == "svhn":
        crops = None if still else seed
        return svhn.read(root(config), config.manual_dir, split, flags, crops)
    return _load(config.name, config, split, image_shape, flags)


def root(config: Any) -> Path:
    """Return where the prepared sets of `config.data` lie, whether they are there or not."""
    return Path(
        config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()


def _made(config: Any, split: str, flags: str, seed: int) -> Cluttered | TwoDigits:
    complete, fields = MADE[config.name]
    for field in fields:
        if field not in config:
            raise ValueError(f"config.data.{field}: missing; configs/{complete}.py has every field")
    if config.source not in _DIGITS:
        raise ValueError(
            f"config.data.source: expected {' or '.join(_DIGITS)}, got {config.source!r}"
        )
    if config.source == "digits":  # they fill their frame: made as large as MNIST's digits
        source = digits.read(split, box=20)
    else:
        try:
            source = _load(config.source, config, split, None, flags)
        except DataNotFound as error:
            if not flags.startswith("--config"):
                raise
            raise DataNotFound(
                f"{error}\nOr make the images of scikit-learn's digits, which need no files: "
                f"{flags}source=digits"
            ) from None
    seed = seed if split == "train" else 0
    if config.name == "two_digits":
        return TwoDigits(source, seed, split, config.size)
    return Cluttered(source, seed, split, config.size, config.clutter, config.crop_size)


def _load(
    name: str, config: Any, split: str, image_shape: tuple[int, int, int] | None, flags: str
) -> ArraySplit:
    if name == "digits":
        return digits.read(split)
    if name == "image_folder":
        shape = pictures.check_shape(image_shape, name)
        return image_folder.read(config.data_dir, split, shape, flags)
    resized = pictures.check_shape(image_shape, "config.data.resize") if config.resize else None
    if name == "npz":
        return arrays.read(config.data_dir, split, resized, flags)
    loaded = _from_folder(name, config, split, resized, flags)
    binary = loaded.binary if config.resize else _BINARY.get(name, loaded.binary)
    if binary and not loaded.binary:
        raise ValueError(
            f"expected images of two values in the data set {name!r}, got grey ones: set "
            "config.data.name to the name of another set"
        )
    return dataclasses.replace(loaded, binary=binary)


def _from_folder(
    name: str,
    config: Any,
    split: str,
    resized: tuple[int, int, int] | None,
    flags: str,
) -> ArraySplit:
    data_dir = root(config)
    if os.path.exists(data_dir) and not os.path.isdir(data_dir):
        raise DataNotFound(
            f"data_dir {data_dir} is a file, not a folder: set {flags}data_dir=DIR to a folder"
        )
    fetched = name in fetch.NAMES
    try:
        folder = (fetch if fetched else prepared).find(data_dir, name)
    except OSError as error:
        raise DataNotFound(
            f"cannot look into {error.filename} ({error.strerror}): make it readable, or set "
            f"{flags}data_dir=DIR to another one"
        ) from None
    if folder is None and fetched:
        folder = fetch.build(name, data_dir, config.manual_dir, flags)
    if folder is None:
        raise DataNotFound(_not_found(name, data_dir, flags))
    sizes = prepared.split_sizes(folder)
    source, start, stop = split, 0, sizes.get(split, 0)
    if "validation" not in sizes and split != "test":
        train = sizes.get("train", 0)
        cut = train - (train // 6 if name == "mnist" else max(1, train // 10))
        source, start, stop = ("train", 0, cut) if split == "train" else ("train", cut, train)
    if start >= stop:
        raise ValueError(f"no images for {split!r} in {folder}, which has {sizes}")
    return prepared.read(folder, source, start, stop, resized)


def _not_found(name: str, data_dir: Path, flags: str) -> str:
    return f"""data set {name!r} is not here: other names are mnist, binarized_mnist, cluttered_mnist,
two_digits, cifar10, omniglot28, svhn, svhn_cropped, digits, image_folder, npz
Looked in {data_dir} for an array_record folder {name}{prepared.there(data_dir, name)}.
Three ways out:
- where there are a network and TensorFlow: \
tfds build {name} --file_format=array_record --data_dir=DIR
- {flags}data_dir=DIR, the folder that holds {name}/VERSION/dataset_info.json
- {NO_FILES}"""
