"""A folder of your own pictures as a data set: found, cropped, resized and split, decoded once."""

import dataclasses
import errno
import hashlib
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from draw_jax.data import cache, pictures
from draw_jax.data.interface import ArraySplit, DataNotFound
from draw_jax.data.sets import folders
from draw_jax.system.errors import in_a_line

_FORMATS = ("PNG", "JPEG", "WEBP")  # by content, whatever the suffix says
# What may be otherwise in a moment: a picture that cannot be read for it is not left out.
_OF_THE_MOMENT = {
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE),
    *(errno.ENOMEM, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ENOTCONN),
}
_BLOCK = 512  # pictures handed to the threads at a time
_NAMED = 10  # skipped pictures that the warning names
_VERSION = 1  # of the decoding; another one makes every cache out of date


def read(
    data_dir: str,
    split: str,
    image_shape: tuple[int, int, int],
    flags: str = "--config.data.",
) -> ArraySplit:
    """Return the pictures of one split, in the order of their names.

    It takes PNG, JPEG and WebP files of `data_dir` and its sub-folders; of animations the first
    frame. Hidden names (that begin with a dot) are ignored. A picture is turned upright by its
    EXIF orientation, laid on black where it is transparent, turned to grey or colour, cropped about
    its centre to the model's aspect ratio, and made smaller with a Lanczos filter. One that is
    broken, smaller than the model's images, or larger than Pillow's limit of 178,956,970 pixels, is
    skipped; a warning on stderr names it when it is decoded.

    A SHA-256 of its path below `data_dir` puts 80 % of the pictures in train, 10 % in validation
    and 10 % in test, so that new pictures move no old ones, on any machine. Copies of one picture
    under several names may therefore fall in several splits. But where all pictures lie in
    sub-folders train, val (or valid, validation) and test, these are the splits, and paths count
    from there; without one for validation, it is that hash's 10 % of train.

    Where every picture, of whichever split, lies in a sub-folder of that, these sub-folders
    are the classes: a label is the place, from 0, of its sub-folder's name among the sorted names.

    The decoded arrays are kept (see `cache.decoded_once`) until a picture's name, size or time, or
    the classes change; checking that looks at every file but decodes none.

    Args:
        data_dir: the folder.
        split: train, validation or test.
        image_shape: (H, W, C), C 1 for grey or 3 for colour.
        flags: the prefix of the caller's flag `data_dir`, for advice.

    Returns:
        The split, of at least one image; its labels are None where there are no classes.

    Raises:
        ValueError: an image_shape with another C.
        DataNotFound: no such folder, no picture for the split in it, or one that cannot be read now.
    """
    height, width, channels = pictures.check_shape(image_shape, "image_folder")
    if not data_dir:
        raise DataNotFound(
            f"data set 'image_folder' needs your folder of pictures: set {flags}data_dir=DIR"
        )
    folder = Path(data_dir).expanduser()
    if not os.path.isdir(folder):
        raise DataNotFound(
            f"data_dir {folder} is not a folder: set {flags}data_dir=DIR to your folder of pictures"
        )
    found = folders.find(folder)
    if not found:
        raise DataNotFound(
            f"no pictures in data_dir {folder}: put {', '.join(folders.SUFFIXES)} files there, in "
            f"sub-folders too if you like, or set {flags}data_dir=DIR to another folder"
        )
    parts = folders.by_split(found)
    files = folders.of_split(folder, parts, split)
    classes = folders.classes([*chain(*parts.values())])

    def decode() -> tuple[np.ndarray, np.ndarray | None]:
        images, kept, skipped = _decode(files, split, image_shape)
        if skipped:
            first = f"{len(skipped)} of {len(files)} pictures for {split} in {folder}"
            if not kept:
                raise DataNotFound(
                    f"cannot use any of {first}:{_listed(skipped)}\n"
                    f"Add pictures of at least {width}x{height} pixels, or make "
                    "config.model.image_shape smaller."
                )
            print(f"warning: skipped {first}:{_listed(skipped)}", file=sys.stderr)
        if not classes:
            return images, None
        places = {name: place for place, name in enumerate(classes)}
        return images, np.array([places[folders.class_of(file)] for file in kept], np.int32)

    decoded = cache.decoded_once(
        f"image_folder-{split}",
        f"{folder.resolve()} {split} {height} {width} {channels}",
        _fingerprint(files, image_shape, classes),
        decode,
    )
    return dataclasses.replace(decoded, classes=len(classes) or None)


def open_picture(
    path: str | os.PathLike[str], channels: int, need: int | None = None
) -> Image.Image:
    """Return a picture upright, without transparency, in grey or colour, and not yet cropped.

    Args:
        path: a PNG, JPEG or WebP file.
        channels: 1 for Pillow's mode L, 3 for RGB.
        need: if the picture will be made smaller, the least that its longer side will have;
            a much larger JPEG is then decoded at a half, a quarter or an eighth of its size.

    Raises:
        Exception: whatever Pillow raises for a file that is missing, broken or something else.
    """
    with warnings.catch_warnings(action="ignore"):  # Pillow's, about odd and about large files
        return _open(path, channels, need)


def why_not(error: Exception) -> str:
    """Return what `open_picture` could not do, from what it raised."""
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"more than {limit:,} pixels, the limit; shrink it"
    return getattr(error, "strerror", None) or "no PNG, JPEG or WebP picture, or broken"


def _open(path: str | os.PathLike[str], channels: int, need: int | None) -> Image.Image:
    """Return what `open_picture` does, for threads, which share one warnings filter."""
    mode = "L" if channels == 1 else "RGB"
    if not (os.path.isfile(path) or os.path.isdir(path)) and os.path.exists(path):
        raise OSError(errno.EINVAL, "a pipe or a device, no file")  # opening it might wait for ever
    with Image.open(path, formats=_FORMATS) as image:
        if need is not None:
            # At least twice the needed size, so that the Lanczos filter still does the work.
            shrink = max(1.0, min(image.size) / (2 * need))
            image.draft(mode, (int(image.width / shrink), int(image.height / shrink)))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return pictures.turned(image, channels)


def _fingerprint(
    files: list[folders.File], image_shape: tuple[int, int, int], classes: list[str]
) -> str:
    digest = hashlib.sha256(f"{_VERSION} {tuple(image_shape)}\n".encode())
    digest.update(os.fsencode("\0".join(classes) + "\n"))
    for file in files:
        digest.update(os.fsencode(file.name) + f"\0{file.size} {file.mtime_ns}\n".encode())
    return digest.hexdigest()


def _decode(
    files: list[folders.File], split: str, image_shape: tuple[int, int, int]
) -> tuple[np.ndarray, list[folders.File], list[str]]:
    """Return the images that can be used, their files, and a line about each of the others."""
    images = np.empty((len(files), *image_shape), np.uint8)
    kept: list[folders.File] = []
    skipped = []
    # Pillow releases Python's lock while it decodes and resizes, so threads are enough. Its
    # warnings about odd files, once each, would come in between.
    with (
        warnings.catch_warnings(action="ignore"),
        ThreadPoolExecutor() as threads,
        cache.progress_bar(len(files), split) as progress,
    ):
        for first in range(0, len(files), _BLOCK):
            block = files[first : first + _BLOCK]
            results = threads.map(lambda file: _image(file.path, image_shape), block)
            for file, result in zip(block, results, strict=True):
                if isinstance(result, str):
                    skipped.append(f"{file.name}: {result}")
                else:
                    images[len(kept)] = result
                    kept.append(file)
                progress.update()
    return images[: len(kept)], kept, skipped


def _image(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray | str:
    """Return one picture as the model sees it, uint8 [H, W, C], or why it cannot."""
    height, width, channels = image_shape
    try:
        picture = _open(path, channels, need=max(height, width))
    except Exception as error:  # noqa: BLE001 - whatever Pillow raises for a broken file
        code = error.errno if isinstance(error, OSError) else None
        if isinstance(error, MemoryError) or code in _OF_THE_MOMENT:
            cause = os.strerror(code) if code else "out of memory"
            raise DataNotFound(
                f"cannot read {path} ({cause}): mend that, or move the picture out of data_dir"
            ) from None
        if isinstance(error, FileNotFoundError):
            return "no such file"
        if isinstance(error, Image.DecompressionBombError):
            return why_not(error)
        if isinstance(error, Image.UnidentifiedImageError):
            return f"not a picture in {', '.join(_FORMATS)}"
        return f"broken: {in_a_line(error, 100)}"
    if picture.width < width or picture.height < height:
        return f"{picture.width}x{picture.height} pixels, less than {width}x{height}"
    return pictures.fitted(picture, height, width)


def _listed(skipped: list[str]) -> str:
    lines = skipped[:_NAMED]
    if len(skipped) > _NAMED:
        lines = [*lines, f"and {len(skipped) - _NAMED} more"]
    return "".join(f"\n  {line}" for line in lines)
