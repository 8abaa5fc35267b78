"""Configuration -> splits -> batches."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from draw_jax.data import grey, sources
from draw_jax.data.interface import Batch, DataNotFound, Split

__all__ = [
    "BINARIZATIONS",
    "SPLITS",
    "Batch",
    "DataNotFound",
    "Prepare",
    "Split",
    "batch_indices",
    "check_labels",
    "check_shape",
    "load",
    "preparation",
    "prepare",
    "training_indices",
]

Prepare = Callable[[jax.Array, jax.Array], jax.Array]  # (uint8 images, key) -> in [0, 1]
SPLITS = ("train", "validation", "test")
BINARIZATIONS = ("fixed", "dynamic", "none")


def load(
    config: Any,
    split: str,
    image_shape: tuple[int, int, int] | None = None,
    flags: str = "--config.data.",
    seed: int = 0,
    still: bool = False,
) -> Split:
    """Return one split of the data set that the configuration names.

    - `mnist`, `binarized_mnist`, `cifar10`, `omniglot28`, `svhn_cropped`: from `draw_NAME` or `NAME`
      under data_dir where tensorflow-datasets has prepared either as array_record, else fetched (or
      taken from manual_dir) and prepared. Validation is the end of train: 10,000 of
      MNIST's, 10 % of the last three sets', in tensorflow-datasets' order, which is one fixed
      shuffle of the original files; binarized_mnist has a validation split.
    - `digits`: 1,797 scans of 8x8 pixels from scikit-learn, enlarged to 28x28 (bicubic), in seeded
      splits of 1,437 / 180 / 180; no files needed.
    - `image_folder`: the PNG, JPEG and WebP files of data_dir and its sub-folders, cropped and made
      smaller to image_shape. Splits by a hash of the names, about 80 / 10 / 10 %. Labels where every
      picture lies in a sub-folder of data_dir: the place of that sub-folder among their sorted names.
    - `npz`: arrays by name in the file data_dir, see `arrays.read`. Validation is the file's own,
      else a seeded 10 % of its train.
    - `cluttered_mnist`: made of the digits of `config.data.source` (mnist or digits) when read,
      from `size`, `clutter` and `crop_size`; see `cluttered.Cluttered`. Training is endless.
    - `two_digits`: two of such digits in an image of `size`; see `two_digits.TwoDigits`. Endless, too.
    - `svhn`: full house numbers in colour, 54x54, prepared once from the original archives; see
      `svhn.read`. Training crops a number at a new place at each visit.
    - any other name: a folder under data_dir that tensorflow-datasets has prepared as array_record.
      Validation is the set's own, else the last 10 % of its train (at least 1 image).

    Args:
        config: `config.data`: name, data_dir ("" is $TFDS_DATA_DIR, else ~/tensorflow_datasets),
            manual_dir ("" is none), binarization (fixed, dynamic or none), grey (see `grey.turned`),
            resize (whether images of any size become image_shape, see `pictures.of_array`).
        split: train, validation or test.
        image_shape: (H, W, C), `config.model.image_shape`: what image_folder makes, and any set
            with `resize`; other sets have their own size, for `check_shape`.
        flags: the prefix of the caller's flags `data_dir` and `manual_dir`, for advice.
        seed: of an endless or varied training split; validation and test are the same for all seeds.
        still: whether to fix a varied training split: `svhn` then crops the middle of every number,
            as in validation and test.

    Returns:
        The split; images stored as 0 and 1 come back as 0 and 255. `binary` is declared for mnist,
        binarized_mnist and digits; of other sets it is found out where they are decoded.

    Raises:
        ValueError: no name, an unknown split or binarization, a binarization that the set does not
            allow, a set that is grey already, a folder of no images or arrays of something else, or
            no image_shape where images are made so.
        DataNotFound: the data is not here and cannot be fetched, or cannot be read.
    """
    if split not in SPLITS:
        raise ValueError(f"expected a split among {', '.join(SPLITS)}, got {split!r}")
    _check_binarization(config.binarization)
    if config.grey and (config.resize or config.name == "image_folder"):
        raise ValueError(
            "config.data.grey: pictures that are resized become grey where config.model.image_shape has 1 "
            "channel; set config.data.grey to False"
        )
    loaded = sources.named(config, split, image_shape, flags, seed, still)
    if config.grey:
        loaded = grey.turned(loaded, config.name)
    if config.binarization == "fixed" and not loaded.binary:
        or_fixed = ", or config.data.name to binarized_mnist" if config.name == "mnist" else ""
        raise ValueError(
            f"the {split} images of data set {config.name!r} have grey values, so that there is no "
            f"fixed binarization: set config.data.binarization to dynamic or none{or_fixed}"
        )
    if config.binarization == "dynamic" and loaded.binary:
        raise ValueError(
            f"the {split} images of data set {config.name!r} are binary already, so that there is "
            "nothing to draw: set config.data.binarization to fixed or none"
        )
    return loaded


def check_shape(split: Split, image_shape: tuple[int, int, int], name: str = "") -> None:
    """Raise unless the images of a split have the shape that the model is built for.

    Args:
        split: from `load`.
        image_shape: (H, W, C), `config.model.image_shape`.
        name: of the data set, for advice.

    Raises:
        ValueError: the shapes differ.
    """
    found = split.image_shape
    if found == tuple(image_shape):
        return
    ways = []
    if found[2] in (1, 3):
        ways.append("config.model.image_shape to that")
    if name in sources.MADE:
        ways.append("config.data.size")
    elif name not in (*sources.OWN_SIZE, "image_folder"):
        ways.append("config.data.resize to True")
    channels = "" if found[2] <= 4 else " (channels come last)"
    raise ValueError(
        f"expected images of config.model.image_shape {tuple(image_shape)}, got a data set of "
        f"{found}{channels}: set {', or '.join(ways)}"
    )


def check_labels(split: Split, classes: int, name: str = "") -> None:
    """Raise unless a split has labels for a classifier.

    Args:
        split: from `load`.
        classes: of the classifier; 0: the model uses no labels, and anything passes.
        name: of the data set, for advice.

    Raises:
        ValueError: there are none, or one is not in [0, classes).
    """
    if not classes:
        return
    if split.labels is None:
        ways = {
            "image_folder": "it has them where every picture lies in a sub-folder, its class",
            "npz": "add train_labels and test_labels, and validation_labels beside validation_images",
        }
        raise ValueError(
            "config.kind: a classifier needs labels, and this data set has none: "
            + ways.get(name, "take another config.data.name")
        )
    lowest, highest = int(split.labels.min()), int(split.labels.max())
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"config.model.classes: expected labels 0 to {classes - 1}, got {lowest} to {highest} "
            "in the data set"
        )
    if (folders := getattr(split, "classes", None)) not in (None, classes):
        print(
            f"warning: config.model.classes is {classes}, and the pictures lie in {folders} folders: their "
            f"labels are 0 to {folders - 1}, in the order of the folders' names",
            file=sys.stderr,
        )


def training_indices(split: Split, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Return the images of one training step, int64 [batch_size]: those of `batch_indices`.

    Of an endless split they are the next ones, so that no image comes twice. Of a varied one they
    count on over the epochs, so that each epoch has its own index of an image.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    if split.endless:
        return places
    indices = batch_indices(seed, step, len(split), batch_size)
    return indices + places // len(split) * len(split) if split.varied else indices


def prepare(
    images: jax.Array | np.ndarray, binarization: str, key: jax.Array | None = None
) -> jax.Array:
    """Return images in [0, 1], the targets of eq. 9's Bernoulli; pure, to be traced by `jit`.

    Args:
        images: uint8 [..., H, W, C].
        binarization: fixed or none: values / 255; dynamic: each pixel is 1 with that probability.
        key: the randomness of dynamic; not used otherwise.

    Returns:
        float32 [..., H, W, C]; for dynamic (and for a binary set) only 0 and 1.

    Raises:
        ValueError: an unknown binarization, images that are not uint8, or dynamic without a key.
    """
    _check_binarization(binarization)
    if images.dtype != jnp.uint8:
        raise ValueError(f"expected images uint8 [..., H, W, C], got {images.dtype}")
    intensities = jnp.asarray(images, jnp.float32) / 255
    if binarization != "dynamic":
        return intensities
    if key is None:
        raise ValueError("expected a key for dynamic binarization, got None")
    return jax.random.bernoulli(key, intensities).astype(jnp.float32)


@functools.cache  # one function each, so that programs compiled with it are reused
def preparation(binarization: str) -> Prepare:
    """Return `prepare` of a `config.data.binarization`, a function of images and key."""
    return lambda images, key: prepare(images, binarization, key)


def batch_indices(seed: int, step: int, size: int, batch_size: int) -> np.ndarray:
    """Return the images of one training step: a pure function of (seed, step).

    Batches are cut, one after another, from the permutations of epochs 0, 1, ...; a batch that
    reaches past the end of one goes on in the next. So every image comes once in an epoch, also
    where batch_size does not divide size, or exceeds it (then a batch spans several epochs).

    Args:
        seed: 0 or more.
        step: from 0.
        size: images in the split.
        batch_size: images in a batch, of all processes together.

    Returns:
        int64 [batch_size], in [0, size).

    Raises:
        ValueError: a negative seed or step, or a size or batch_size below 1.
    """
    if seed < 0 or step < 0 or size < 1 or batch_size < 1:
        raise ValueError(
            "expected seed >= 0, step >= 0, size >= 1 and batch_size >= 1, got "
            f"seed {seed}, step {step}, size {size}, batch_size {batch_size}"
        )
    start = int(step) * batch_size
    stop = start + batch_size
    return np.concatenate(
        [
            _permutation(int(seed), epoch, size)[max(start - epoch * size, 0) : stop - epoch * size]
            for epoch in range(start // size, (stop - 1) // size + 1)
        ]
    )


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def _check_binarization(binarization: str) -> None:
    if binarization not in BINARIZATIONS:
        raise ValueError(
            f"expected a binarization among {', '.join(BINARIZATIONS)}, got {binarization!r}"
        )
