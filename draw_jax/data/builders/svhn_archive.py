"""SVHN's archives of full house numbers: pictures and their boxes, read as a stream.

Each of train.tar.gz, extra.tar.gz and test.tar.gz (Netzer et al. 2011) holds one PNG file a number
and digitStruct.mat, a file of MATLAB 7.3 (which is HDF5) with the box and label of every digit.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from draw_jax.data import cache
from draw_jax.data.interface import DataNotFound
from draw_jax.system.errors import in_a_line

BOXES = "digitStruct.mat"
_BUFFER = 1 << 20  # bytes


class DamagedError(DataNotFound):
    """An archive that cannot be used as it is, and would have to be downloaded again."""


class Numbers(NamedTuple):
    """The house numbers of one archive, in the order of its digitStruct.mat."""

    names: np.ndarray  # of the PNG files, str [N]
    boxes: np.ndarray  # around all digits: left, top, right, bottom, pixels from 0, float64 [N, 4]
    digits: np.ndarray  # how many a number has, int64 [N]; 0: no box


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the name, without folders, and the content of each wanted file of a .tar.gz, in its order.

    One file is held at a time; the end is reached only if the archive is whole, its checksum
    (CRC-32) included.

    Args:
        archive: the .tar.gz.
        wanted: whether a file is wanted, by its name.

    Raises:
        DamagedError: it is missing, cut short or damaged.
    """
    try:
        with gzip.open(archive) as unpacked:
            stream: Any = unpacked
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER) as opened:
                tar: Any = opened  # its types do not know its list of members
                while (member := tar.next()) is not None:
                    name = PurePosixPath(member.name).name
                    if member.isfile() and wanted(name):
                        content = tar.extractfile(member)
                        assert content is not None  # as of every file
                        yield name, content.read()
                    tar.members.clear()  # which would be 200,000 of them at the end
            while unpacked.read(_BUFFER):  # what follows the last file, for the checksum
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DamagedError(
            f"cannot read {archive} ({in_a_line(error)}): it is cut short, damaged or something else; "
            "download it again"
        ) from None


def import_h5py() -> Any:
    """Return h5py, an optional package.

    Raises:
        DataNotFound: it is not there; says how to install it.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataNotFound(
            f"cannot import the package h5py ({in_a_line(error)}), which the boxes of SVHN's digits are "
            "read with: pip install 'draw-jax[svhn]', or pip install h5py"
        ) from None
    return h5py


def read_boxes(path: Path, label: str) -> Numbers:
    """Return the contents of a digitStruct.mat.

    Note: left and top count from 0, as the authors' see_bboxes.m takes them.

    Args:
        path: the file.
        label: what it is of, for progress and errors.

    Raises:
        DamagedError: it is damaged or another file.
        DataNotFound: there is no h5py to read it with.
    """
    h5py = import_h5py()
    try:
        with h5py.File(path) as file:
            names, boxes = file["digitStruct/name"][:, 0], file["digitStruct/bbox"][:, 0]
            found = Numbers(
                np.array(["".join(map(chr, file[name][:, 0])) for name in names], np.str_),
                np.zeros((len(names), 4)),
                np.zeros(len(names), np.int64),
            )
            if len(boxes) != len(names):
                raise ValueError(f"{len(names)} names, {len(boxes)} boxes")
            with cache.progress_bar(len(names), f"boxes of {label}") as progress:
                for row, box in enumerate(boxes):
                    group = file[box]
                    if isinstance(group, h5py.Group):  # else MATLAB's way to keep nothing
                        around = _around(file, group)
                        found.digits[row], found.boxes[row] = around
                    progress.update()
        return found
    except Exception as error:  # noqa: BLE001 - what is no such file fails in many ways
        raise DamagedError(
            f"cannot read {BOXES} of {label} ({in_a_line(error)}): it is damaged or another file; "
            "download the archive again"
        ) from None


def _around(file: Any, group: Any) -> tuple[int, tuple[float, float, float, float]]:
    """Return how many digits a number has, and the box around all of them."""
    left, top, width, height = (
        _values(file, group[name]) for name in ("left", "top", "width", "height")
    )
    right, bottom = left + width, top + height
    return len(left), (left.min(), top.min(), right.max(), bottom.max())


def _values(file: Any, stored: Any) -> np.ndarray:
    """Return one field of each digit: one digit's is stored as it is, several by reference."""
    values = stored[:, 0]
    if values.dtype == object:
        values = [file[reference][0, 0] for reference in values]
    return np.asarray(values, np.float64)
