"""Your own images as a data set: named arrays in a NumPy file, .npz."""

import zipfile
from pathlib import Path

import numpy as np

from draw_jax.data import cache, pictures
from draw_jax.data.interface import ArraySplit, DataNotFound
from draw_jax.system.errors import in_a_line


def read(
    data_dir: str,
    split: str,
    image_shape: tuple[int, int, int] | None = None,
    flags: str = "--config.data.",
) -> ArraySplit:
    """Return one split of the images in an .npz file.

    Its arrays are `train_images`, `test_images` and optionally `validation_images`, uint8
    [N, H, W] or [N, H, W, C]; and optionally `train_labels`, `validation_labels` and `test_labels`,
    whole numbers [N]. Other arrays are ignored. Without `validation_images`, validation is a tenth
    of train (at least 1 image), by one fixed permutation, as files are often sorted by class.

    Args:
        data_dir: the file.
        split: train, validation or test.
        image_shape: (H, W, C) that images of any size are cropped and resized to; None: they stay
            as they are.
        flags: the prefix of the caller's flag `data_dir`, for advice.

    Returns:
        The split; images of 0 and 1 come back as 0 and 255.

    Raises:
        DataNotFound: no such file, or one that cannot be read.
        ValueError: an array is missing or not as described.
    """
    if not data_dir:
        raise DataNotFound(
            f"data set 'npz' needs your file of arrays: set {flags}data_dir=FILE.npz"
        )
    path = Path(data_dir).expanduser()
    if not path.is_file():
        raise DataNotFound(
            f"data_dir {path} is not a file: for the data set 'npz' set {flags}data_dir=FILE.npz"
        )
    if image_shape is None:
        return cache.as_split(*_arrays(path, split))

    def decode() -> tuple[np.ndarray, np.ndarray | None]:
        images, labels = _arrays(path, split)
        if images.max(initial=0) <= 1:  # before the filter makes other values of 0 and 1
            images = images * np.uint8(255)
        with cache.progress_bar(len(images), split) as progress:
            resized = np.empty((len(images), *image_shape), np.uint8)
            for place, image in enumerate(images):
                resized[place] = pictures.of_array(image, image_shape)
                progress.update()
        return resized, labels

    stat = path.stat()
    return cache.decoded_once(
        f"npz-{split}",
        f"{path.resolve()} {split} {tuple(image_shape)}",
        f"{stat.st_size} {stat.st_mtime_ns}",
        decode,
    )


def _arrays(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images uint8 [N, H, W, C] and labels int32 [N] or None of a split."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz file, or not all of one")
        # Nothing in the file is executed: only arrays of numbers load.
        with np.load(path, allow_pickle=False) as stored:
            names = sorted(stored.files)
            part = split if f"{split}_images" in names or split == "test" else "train"
            arrays = {
                name: stored[name] for name in (f"{part}_images", f"{part}_labels") if name in names
            }
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):  # bytes, where NumPy finds no array
                    raise TypeError(f"{name} is no array")
    except Exception as error:  # noqa: BLE001 - what is no such file fails in many ways
        raise DataNotFound(
            f"cannot read {path} ({in_a_line(error)}): write it by numpy.savez(FILE, train_images=..., "
            "test_images=...), arrays of images of one size"
        ) from None
    if f"{part}_images" not in arrays:
        raise ValueError(
            f"expected an array {part}_images in {path}, which has {', '.join(names) or 'none'}"
        )
    images = _images(arrays[f"{part}_images"], f"{part}_images in {path}")
    labels = arrays.get(f"{part}_labels")
    if labels is not None:
        labels = _labels(labels, len(images), f"{part}_labels in {path}")
    if part == split and (split != "train" or "validation_images" in names):
        return images, labels
    order = np.random.default_rng(0).permutation(len(images))
    cut = len(images) - max(1, len(images) // 10)
    # In file order, which reads fastest.
    chosen = np.sort(order[:cut] if split == "train" else order[cut:])
    if not len(chosen):
        raise ValueError(f"no images for {split!r} in {path}, which has {len(images)} for train")
    return images[chosen], None if labels is None else labels[chosen]


def _images(images: np.ndarray, what: str) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            f"expected {what}, uint8 [N, H, W] or [N, H, W, C] of sizes >= 1, got "
            f"{images.dtype} {list(images.shape)}"
        )
    return images[..., None] if images.ndim == 3 else images


def _labels(labels: np.ndarray, count: int, what: str) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise ValueError(
            f"expected {what}, whole numbers [{count}], one for each image, got {labels.dtype} "
            f"{list(labels.shape)}"
        )
    if (labels < -(2**31)).any() or (labels >= 2**31).any():
        raise ValueError(f"expected {what} of 32 bits, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int32)
