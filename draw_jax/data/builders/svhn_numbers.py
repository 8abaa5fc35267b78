"""SVHN's full house numbers, prepared once: cut to their digits, 64x64, in files to be mapped.

As Goodfellow et al. 2013 (arXiv 1312.6082) and section 4.3 of Gregor et al. 2015: the box around all
digits of a number, grown by 30 % in width and in height about its centre, is cut out and resized.
"""

import contextlib
import fcntl
import io
import itertools
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from draw_jax.data import cache
from draw_jax.data.builders import svhn_archive
from draw_jax.data.builders.svhn_archive import DamagedError
from draw_jax.system.errors import in_a_line
from draw_jax.system.files import cannot_write, write_whole

SIZE = 64  # height and width of a prepared number, pixels
COUNTS = {"train": 33_402, "extra": 202_353, "test": 13_068}  # numbers in each archive
_GROWN = 1.3  # width and height of what is cut out, as a multiple of the box's
_MOST_DIGITS = 5  # one number, of train, has six; the paper's sizes are without it
_BLOCK = 512  # numbers between two notes of what is done
_SHAPE = (SIZE, SIZE, 3)
_VERSION = 1  # of what is cut out; another one starts over


def prepare(
    part: str, archive: Path, folder: Path, fetch: Callable[[Path], None] | None = None
) -> Path:
    """Prepare one archive and return the file of its numbers, uint8 [N, 64, 64, 3] (.npy).

    After a kill, the next call continues where this one was. A process waits while another one
    prepares the same archive.

    Args:
        part: train, extra or test.
        archive: the original .tar.gz.
        folder: for the file; made if missing. During the work, `PART.incomplete` lies beside it.
        fetch: makes the archive if it is missing; it is deleted once it is no longer needed.

    Raises:
        DamagedError: the archive is damaged or another one; its message names it and the file.
        DataNotFound: there is no h5py.
        OSError: there is no archive, or the folder cannot be written or has no room.
    """
    path = folder / f"{part}.npy"
    with _alone(folder, part):
        if path.exists():  # by another process, meanwhile
            return path
        svhn_archive.import_h5py()  # before gigabytes are downloaded
        if fetch:
            fetch(archive)
        if not archive.is_file():
            raise FileNotFoundError(f"there is no file {archive}")
        try:
            _prepare(part, archive, folder / f"{part}.incomplete", path)
        except DamagedError:
            if fetch:
                archive.unlink()
            raise
        if fetch:
            archive.unlink(missing_ok=True)  # `tidy` of another process may have been faster
    return path


def tidy(part: str, folder: Path) -> None:
    """Remove what a kill just after the preparation has left in the folder: the archive fetched."""
    with contextlib.suppress(OSError):
        (folder / f"{part}.tar.gz").unlink(missing_ok=True)
    shutil.rmtree(folder / f"{part}.incomplete", ignore_errors=True)


def cut_out(box: np.ndarray, width: int, height: int) -> tuple[float, float, float, float]:
    """Return what is cut out for a box: the box grown by 30 % about its centre, within the picture.

    Note: neither paper says what happens at a picture's border. Pixels are not made up: what is
    beyond the border is left out, in 45 % of the training numbers, 3 % of their area on average.

    Args:
        box: left, top, right and bottom, pixels from 0, [4].
        width: of the picture, pixels.
        height: of the picture, pixels.

    Returns:
        left, top, right and bottom.

    Raises:
        ValueError: less than a pixel is left.
    """
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * _GROWN
    left, top = (max(0.0, float(edge)) for edge in centre - half)
    right, bottom = np.minimum((width, height), centre + half).tolist()
    if not (right - left >= 1 and bottom - top >= 1):
        raise ValueError(
            f"its box {box.tolist()} (left, top, right, bottom) has less than a pixel in common with "
            f"its {width}x{height} pixels"
        )
    return left, top, right, bottom


def number(content: bytes, box: np.ndarray) -> np.ndarray:
    """Return one number as it is prepared, uint8 [64, 64, 3].

    Args:
        content: of its PNG file.
        box: around its digits: left, top, right and bottom, pixels from 0, [4].

    Raises:
        Exception: whatever Pillow raises for a broken file; ValueError as `cut_out` says.
    """
    with Image.open(io.BytesIO(content), formats=("PNG",)) as opened:
        picture = opened.convert("RGB")
    where = cut_out(box, *picture.size)
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, where))


def _prepare(part: str, archive: Path, work: Path, path: Path) -> None:
    """Fills the file in a folder of its own, and then puts it in its place."""
    stat = archive.stat()
    stamp = json.dumps([_VERSION, stat.st_size, stat.st_mtime_ns]).encode()
    if not (work / "stamp").exists() or (work / "stamp").read_bytes() != stamp:
        shutil.rmtree(work, ignore_errors=True)
        write_whole(work / "stamp", lambda file: file.write(stamp))
    _fill(archive, _numbers(part, archive, work), work)
    os.replace(work / "images.npy", path)
    shutil.rmtree(work, ignore_errors=True)


def _numbers(part: str, archive: Path, work: Path) -> svhn_archive.Numbers:
    """Returns the boxes of an archive, which the work folder keeps; what is damaged is read anew."""
    file = work / "boxes.npz"
    with contextlib.suppress(Exception), file.open("rb") as opened, np.load(opened) as stored:
        return svhn_archive.Numbers(**stored)
    print(
        f"preparing {archive}, once: reading the boxes of its digits",
        file=sys.stderr,
        flush=True,
    )
    found = _boxes(archive)
    if len(found.names) != COUNTS[part]:
        raise DamagedError(
            f"{archive} has {len(found.names):,} numbers, and the original {part}.tar.gz "
            f"{COUNTS[part]:,}: it is another file"
        )
    if not found.digits.all():
        raise DamagedError(_no_box(archive, found.names[found.digits == 0][0]))
    write_whole(file, lambda opened: np.savez(opened, **found._asdict()))
    return found


def _boxes(archive: Path) -> svhn_archive.Numbers:
    for _, content in svhn_archive.members(archive, lambda name: name == svhn_archive.BOXES):
        with tempfile.NamedTemporaryFile(suffix=".mat") as file:
            file.write(content)
            file.flush()
            return svhn_archive.read_boxes(Path(file.name), str(archive))
    raise DamagedError(f"{archive} has no {svhn_archive.BOXES}: it is another file")


def _no_box(archive: Path, name: str) -> str:
    return f"{archive}: {name} has no box in {svhn_archive.BOXES}: download the archive again"


def _fill(archive: Path, numbers: svhn_archive.Numbers, work: Path) -> None:
    """Makes the images that are not yet done, and notes after every block which are."""
    boxed = set(numbers.names.tolist())
    kept = numbers.digits <= _MOST_DIGITS
    names, boxes = numbers.names[kept], numbers.boxes[kept]
    rows = {name: row for row, name in enumerate(names.tolist())}
    images, noted = work / "images.npy", work / "done.npy"
    done = _done(images, noted, len(names))
    if done is None:
        _check_room(work, len(names))
        done = np.zeros(len(names), bool)
        # Full length from the start; it takes disk space as it is filled.
        np.lib.format.open_memmap(images, "w+", np.uint8, (len(names), *_SHAPE))

    def wanted(name: str) -> bool:
        if name.endswith(".png") and name not in boxed:
            raise DamagedError(_no_box(archive, name))
        return name in rows and not done[rows[name]]

    def make(file: tuple[str, bytes]) -> tuple[int, np.ndarray]:
        name, content = file
        try:
            return rows[name], number(content, boxes[rows[name]])
        except Exception as error:  # noqa: BLE001 - whatever Pillow raises for a broken file
            raise DamagedError(
                f"{archive}: {name} cannot be used ({in_a_line(error)}): download the archive again"
            ) from None

    begins = images.stat().st_size - len(names) * math.prod(_SHAPE)  # after the header
    print(
        f"preparing {archive}, once: cutting out {(~done).sum():,} of its {len(names):,} numbers",
        file=sys.stderr,
        flush=True,
    )
    with (
        images.open("r+b") as file,
        ThreadPoolExecutor() as threads,  # Pillow releases Python's lock
        cache.progress_bar(len(names), archive.name) as progress,
    ):
        progress.update(int(done.sum()))
        for block in _blocks(svhn_archive.members(archive, wanted)):
            made = list(threads.map(make, block))
            try:
                for row, image in made:
                    # Not through a memory map: a full disk would then end the process silently.
                    file.seek(begins + row * image.size)
                    file.write(image.tobytes())
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise cannot_write(images, error) from None
            done[[row for row, _ in made]] = True
            write_whole(noted, lambda opened: np.save(opened, done))
            progress.update(len(made))
    if not done.all():
        raise DamagedError(
            f"{archive} lacks {(~done).sum():,} of the pictures that {svhn_archive.BOXES} names, the "
            f"first of them {names[~done][0]}: download it again"
        )


def _done(images: Path, noted: Path, count: int) -> np.ndarray | None:
    """Returns which of so many images are done, bool [N]; None to begin, as after a power cut."""
    with contextlib.suppress(Exception):
        done = np.load(noted)
        whole = np.load(images, mmap_mode="r").shape == (count, *_SHAPE)
        return done if whole and done.shape == (count,) and done.dtype == bool else None
    return None


def _blocks(files: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    while block := list(itertools.islice(files, _BLOCK)):
        yield block


def _check_room(work: Path, count: int) -> None:
    needed, free = count * math.prod(_SHAPE), shutil.disk_usage(work).free
    if needed > free:
        raise OSError(
            f"cannot write {work}: {needed / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free; "
            "make room there, or choose another data_dir"
        )


@contextlib.contextmanager
def _alone(folder: Path, part: str) -> Iterator[None]:
    """Waits until no other process prepares the same."""
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / f".{part}.lock").open("w"))
        except OSError as error:
            raise cannot_write(folder, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for a process that prepares {folder}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, as some clusters have
            pass
        yield
