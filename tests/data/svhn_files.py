"""Small archives of SVHN in the original formats: .tar.gz of PNG files and a MATLAB 7.3 file."""

import io
import os
import tarfile

import h5py
import numpy as np
from PIL import Image

REAL = os.environ.get("DRAW_JAX_DATA")
FIELDS = ("height", "label", "left", "top", "width")


def boxes(part="train", count=12):
    """Returns the digits' boxes [n, 5] (label, left, top, right, bottom) and the sizes of numbers.

    The real ones of the first numbers where they are at hand, of train or test; else made up: of one
    digit, of several, and reaching past the border, as some of the real ones do.
    """
    if REAL and part != "extra":
        with np.load(f"{REAL}/svhn/svhn_format1_boxes.npz") as stored:
            found, sizes = stored[f"{part}_boxes"], stored[f"{part}_sizes"][:count, 1:]
        # The rows are in the order of the numbers, from 1.
        ends = np.searchsorted(found[:, 0], np.arange(1, len(sizes) + 1), side="right")
        return np.split(found[: ends[-1], 1:], ends[:-1]), sizes
    rng = np.random.default_rng(len(part))
    sizes = rng.integers([60, 40], [160, 90], (count, 2))
    made = []
    for n, (width, height) in enumerate(sizes):
        digits = 1 + n % 4
        left = rng.integers(-1, width // 3) + np.arange(digits) * 9
        top = rng.integers(0, height // 3, digits)
        labels = rng.integers(1, 11, digits)
        right, bottom = left + rng.integers(10, 14, digits), top + height // 2
        made.append(np.stack([labels, left, top, right, bottom], 1))
    return made, sizes


def ramp(width, height):
    """Returns a picture whose red is the column and whose green is the row, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)


def noise(width, height):
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def digit_struct(path, found, names=None):
    """Writes a digitStruct.mat as MATLAB 7.3 does; of a number without digits the box is empty."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        count = 0

        def refer(values, kind):
            nonlocal count
            count += 1
            stored = refs.create_dataset(f"r{count}", data=values)
            stored.attrs["MATLAB_class"] = np.bytes_(kind)
            return stored.ref

        columns = {name: np.empty((len(found), 1), h5py.ref_dtype) for name in ("name", "bbox")}
        for row, digits in enumerate(found):
            name = names[row] if names else f"{row + 1}.png"
            characters = np.array([[ord(c)] for c in name], np.uint16)
            columns["name"][row, 0] = refer(characters, "char")
            if not len(digits):
                columns["bbox"][row, 0] = refer(np.zeros(2, np.uint64), "double")
                continue
            label, left, top, right, bottom = np.asarray(digits, float).T
            fields = (bottom - top, label, left, top, right - left)
            group = refs.create_group(f"b{row}")
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            for field, values in zip(FIELDS, fields, strict=True):
                if len(values) == 1:
                    group.create_dataset(field, data=values[:, None])
                    continue
                stored = np.empty((len(values), 1), h5py.ref_dtype)
                for k, value in enumerate(values):
                    stored[k, 0] = refer(np.array([[value]]), "double")
                group.create_dataset(field, data=stored, dtype=h5py.ref_dtype)
            columns["bbox"][row, 0] = group.ref
        struct = file.create_group("digitStruct")
        for name, column in columns.items():
            struct.create_dataset(name, data=column, dtype=h5py.ref_dtype)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def write_archive(folder, part, found, sizes, paint=ramp, change=None, first=False):
    """Writes one archive and returns its path.

    Args:
        folder: made if missing.
        part: train, extra or test.
        found: boxes of each number.
        sizes: width and height of each.
        paint: (width, height) -> pixels.
        change: takes {name: content} of all files and returns what is written instead.
        first: whether digitStruct.mat comes before the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digit_struct(folder / "digitStruct.mat", found)
    struct = {"digitStruct.mat": (folder / "digitStruct.mat").read_bytes()}
    (folder / "digitStruct.mat").unlink()
    files = {f"{n + 1}.png": png(paint(*size)) for n, size in enumerate(sizes.tolist())}
    # In the order of their names as text, as the originals may be: 1, 10, 11, 2, ...
    files = dict(sorted(files.items()))
    files = struct | files if first else files | struct
    files |= {"see_bboxes.m": b"load digitStruct.mat\n"}
    if change:
        files = change(files)
    with tarfile.open(folder / f"{part}.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo(part)
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{part}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return folder / f"{part}.tar.gz"
