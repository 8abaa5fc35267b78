"""Configuration -> splits -> batches: the only room that knows data sets."""

import contextlib
import dataclasses
import functools
import http.client
import os
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from draw_jax.data import image_folder, prepared
from draw_jax.data.prepared import DataNotFound

SPLITS = ("train", "validation", "test")
BINARIZATIONS = ("fixed", "dynamic", "none")
_FETCHED = ("mnist", "binarized_mnist")
_DIGITS_SPLITS = {"train": (0, 1437), "validation": (1437, 1617), "test": (1617, 1797)}
_TIMEOUT_SECONDS = 5


class Batch(NamedTuple):
    """Some images of a split and their labels."""

    images: np.ndarray  # uint8 [B, H, W, C]
    labels: np.ndarray | None  # int32 [B]


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set, in memory."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray | None  # int32 [N]
    binary: bool  # the set itself is a fixed binarisation: values 0 and 255 only

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Returns (H, W, C)."""
        return self.images.shape[1:]

    def batch(self, indices: np.ndarray) -> Batch:
        """Returns the images of these indices [B] and their labels."""
        return Batch(self.images[indices], None if self.labels is None else self.labels[indices])


def load(config: Any, split: str, image_shape: tuple[int, int, int] | None = None) -> Split:
    """Return one split of the data set that the configuration names.

    - `mnist`, `binarized_mnist`: from `draw_NAME` or `NAME` under data_dir where tensorflow-datasets
      has prepared either as array_record, else fetched (or taken from manual_dir) and prepared.
      Validation is the last 10,000 of MNIST's train in the order of tensorflow-datasets, which is
      one fixed shuffle of the original files; binarized_mnist has a validation split.
    - `digits`: 1,797 scans of 8x8 pixels from scikit-learn, enlarged to 28x28 (bicubic), in seeded
      splits of 1,437 / 180 / 180; no files needed.
    - `image_folder`: the PNG, JPEG and WebP files of data_dir and its sub-folders, cropped and made
      smaller to image_shape; no labels. Splits by a hash of the names, about 80 / 10 / 10 %.
    - any other name: a folder under data_dir that tensorflow-datasets has prepared as array_record.
      Validation is the set's own, else the last 10 % of its train (at least 1 image).

    Args:
        config: `config.data`: name, data_dir ("" is $TFDS_DATA_DIR, else ~/tensorflow_datasets),
            manual_dir ("" is none), binarization (fixed, dynamic or none).
        split: train, validation or test.
        image_shape: (H, W, C), `config.model.image_shape`: what image_folder makes; the other sets
            have a size of their own, for `check_shape`.

    Returns:
        The split; images stored as 0 and 1 come back as 0 and 255.

    Raises:
        ValueError: an unknown split or binarization, a binarization that the set does not allow, a
            folder whose examples are not images, or image_folder without an image_shape.
        DataNotFound: the data is not here and cannot be fetched, or cannot be read.
    """
    if split not in SPLITS:
        raise ValueError(f"expected a split among {', '.join(SPLITS)}, got {split!r}")
    _check_binarization(config.binarization)
    images, labels = _arrays(config, split, image_shape)
    if images.max(initial=0) <= 1:
        images = images * np.uint8(255)
    binary = bool(((images == 0) | (images == 255)).all())
    if config.binarization == "fixed" and not binary:
        raise ValueError(
            f"data set {config.name!r} has grey values, so it has no fixed binarization: set "
            "config.data.binarization to dynamic or none, or config.data.name to binarized_mnist"
        )
    if config.binarization == "dynamic" and binary:
        raise ValueError(
            f"data set {config.name!r} is binary already, so there is nothing to draw: set "
            "config.data.binarization to fixed"
        )
    return Split(images, labels, binary)


def check_shape(split: Split, image_shape: tuple[int, int, int]) -> None:
    """Raise unless the images of a split have the shape that the model is built for.

    Args:
        split: from `load`.
        image_shape: (H, W, C), `config.model.image_shape`.

    Raises:
        ValueError: the shapes differ.
    """
    if split.images.shape[1:] != tuple(image_shape):
        raise ValueError(
            f"expected images of config.model.image_shape {tuple(image_shape)}, got a data set of "
            f"{split.images.shape[1:]}: set config.model.image_shape to that"
        )


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


def _arrays(
    config: Any, split: str, image_shape: tuple[int, int, int] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    if config.name == "digits":
        return _digits(split)
    if config.name == "image_folder":
        if image_shape is None:
            raise ValueError("expected an image_shape (H, W, C) for image_folder, got None")
        return image_folder.read(config.data_dir, split, image_shape), None
    return _from_folder(config, split)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    start, stop = _DIGITS_SPLITS[split]
    chosen = np.random.default_rng(0).permutation(len(digits.images))[start:stop]
    scans = (digits.images[chosen] * (255 / 16)).astype(np.float32)  # [N, 8, 8], 0..255
    large = [Image.fromarray(s).resize((28, 28), Image.Resampling.BICUBIC) for s in scans]
    images = np.stack([np.asarray(image) for image in large])[..., None]
    return images.clip(0, 255).round().astype(np.uint8), digits.target[chosen].astype(np.int32)


def _from_folder(config: Any, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    data_dir = Path(
        config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()
    folder = _find(data_dir, config.name)
    if folder is None and config.name in _FETCHED:
        folder = _build(config.name, data_dir, config.manual_dir)
    if folder is None:
        raise DataNotFound(_other_not_found(config.name, data_dir))
    sizes = prepared.split_sizes(folder)
    source, start, stop = split, 0, sizes.get(split, 0)
    if "validation" not in sizes and split != "test":
        train = sizes.get("train", 0)
        cut = train - (train // 6 if config.name == "mnist" else max(1, train // 10))
        source, start, stop = ("train", 0, cut) if split == "train" else ("train", cut, train)
    if start >= stop:
        raise ValueError(f"no images for {split!r} in {folder}, which has {sizes}")
    return prepared.read(folder, source, start, stop)


def _find(data_dir: Path, name: str) -> Path | None:
    own = prepared.find(data_dir, f"draw_{name}") if name in _FETCHED else None
    return own or prepared.find(data_dir, name)


def _build(name: str, data_dir: Path, manual_dir: str) -> Path:
    import tensorflow_datasets as tfds

    from draw_jax.data.builders import draw_binarized_mnist, draw_mnist

    builder: type[tfds.core.GeneratorBasedBuilder]
    if name == "mnist":
        builder, base = draw_mnist.DrawMnist, draw_mnist.URL
    else:
        builder, base = draw_binarized_mnist.DrawBinarizedMnist, draw_binarized_mnist.URL
    files = {url: i.filename for url, i in builder.url_infos.items() if url.startswith(base)}
    manual = Path(manual_dir).expanduser() if manual_dir else None
    try:
        if manual is not None and not manual.is_dir():
            raise NotADirectoryError(f"manual_dir {manual} is not a folder")
        for url, file in files.items():
            if manual is None or not any((manual / f).exists() for f in (file, f"{file}.gz")):
                _reach(url)
        data_dir.mkdir(parents=True, exist_ok=True)
        # Downloads go to a folder that ends with this call: no later run takes half a file.
        with (
            tempfile.TemporaryDirectory(prefix="draw_jax_download_", dir=data_dir) as downloads,
            contextlib.redirect_stdout(sys.stderr),
        ):
            builder(data_dir=data_dir).download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual, force_checksums_validation=True, try_download_gcs=False
                ),
                file_format="array_record",
            )
        cause = f"{data_dir / builder.name} is incomplete, delete it"
    except Exception as error:  # noqa: BLE001 - whatever network, disk and files bring
        logging.debug("preparing %s failed", name, exc_info=True)
        cause = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    folder = _find(data_dir, name)  # there, too, when another process was faster
    if folder is None:
        raise DataNotFound(_fetched_not_found(name, data_dir, manual, files, cause))
    return folder


def _reach(url: str) -> None:
    """Raise at once what tensorflow-datasets would find out after minutes of retries."""
    try:
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:  # anything less it does not retry
            raise OSError(f"cannot download {url} ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise OSError(f"cannot download {url} ({reason})") from None


def _fetched_not_found(
    name: str, data_dir: Path, manual: Path | None, files: dict[str, str], cause: str
) -> str:
    base = next(iter(files)).removesuffix(next(iter(files.values())))
    manual_dir = f"in manual_dir {manual}" if manual else "in no manual_dir (none is set)"
    gzipped = ", as they are or gzipped" if name == "binarized_mnist" else ""
    return f"""data set {name!r} is not here: {cause}
Looked in {data_dir} for array_record folders draw_{name} and {name}{_there(data_dir, name)}, \
and {manual_dir}.
Three ways out:
- on a machine with a network, in an empty folder: curl -fLO '{base}{{{",".join(files.values())}}}'
- --config.data.manual_dir=DIR, the folder that has these files{gzipped}: {", ".join(files.values())}
- --config=configs/digits.py, small digits that need no files"""


def _other_not_found(name: str, data_dir: Path) -> str:
    return f"""data set {name!r} is not here: other names are mnist, binarized_mnist, digits, image_folder
Looked in {data_dir} for an array_record folder {name}{_there(data_dir, name)}.
Three ways out:
- where there are a network and TensorFlow: \
tfds build {name} --file_format=array_record --data_dir=DIR
- --config.data.data_dir=DIR, the folder that holds {name}/VERSION/dataset_info.json
- --config=configs/digits.py, small digits that need no files"""


def _there(data_dir: Path, name: str) -> str:
    return " (which is there in another format)" if (data_dir / name).is_dir() else ""
