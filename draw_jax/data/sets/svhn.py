"""SVHN's full house numbers (Netzer et al. 2011), mapped into memory and cropped as they are read."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from draw_jax.data import download
from draw_jax.data.builders import svhn_numbers
from draw_jax.data.interface import NO_FILES, Batch, DataNotFound
from draw_jax.data.sets.composing import below, draws

URL = "http://ufldl.stanford.edu/housenumbers/"
CROP = 54  # height and width of the images, pixels
_PARTS = {"train": ("train", "extra"), "validation": ("train", "extra"), "test": ("test",)}
_VALIDATION, _ALL = 4_701, 235_754  # of both parts of training together
_MIDDLE = (svhn_numbers.SIZE - CROP) // 2
_VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers:
    """One split: 54x54 crops of prepared house numbers of 64x64 pixels, in colour, without labels.

    In training every visit of a number has its own crop, at a uniform place. An index counts
    on over the epochs: `index % len` is the number, and its place a pure function of (seed, index).
    In validation, in test, and in training without a seed, the crop is the middle.
    """

    files: tuple[np.ndarray, ...]  # uint8 [n, 64, 64, 3] each; memory maps
    rows: np.ndarray  # of the split, in the files one after another, int64 [N]
    seed: int | None  # of the crops, 0..2^32 - 1; None: from the middle

    binary = False
    endless = False
    labels = None

    @property
    def varied(self) -> bool:
        """Whether an image differs at each visit."""
        return self.seed is not None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of every image."""
        return CROP, CROP, 3

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the images at some indices, uint8 [B, 54, 54, 3], without labels.

        Args:
            indices: integers [B] >= 0.
        """
        rows = self.rows[np.asarray(indices, np.int64) % len(self)]
        images = np.empty((len(rows), *self.image_shape), np.uint8)
        places = zip(rows.tolist(), *self.places(indices).tolist(), strict=True)
        for image, (row, top, left) in zip(images, places, strict=True):
            file = 0
            while row >= len(self.files[file]):
                row -= len(self.files[file])
                file += 1
            image[:] = self.files[file][row, top : top + CROP, left : left + CROP]
        return Batch(images, None)

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Return first row and first column of the crops at some indices [B], int64 [2, B]."""
        if self.seed is None:
            return np.full((2, len(indices)), _MIDDLE)
        return below(draws(self.seed, "train", indices, 2), svhn_numbers.SIZE - CROP + 1)


def prepared_folder(data_dir: Path) -> Path:
    """Return where the prepared files of a data_dir lie: uint8 [n, 64, 64, 3] each, PART.npy."""
    return data_dir / "draw_svhn" / _VERSION


def read(data_dir: Path, manual_dir: str, split: str, flags: str, seed: int | None) -> Numbers:
    """Return one split, prepared from the original archives where it is not yet.

    Training and validation are the archives train and extra together, except one number of six
    digits: a seeded choice of 4,701 of the 235,754 is validation, as the paper's choice is not
    published. Test is the archive test.

    Args:
        data_dir: `draw_svhn` in it keeps what is prepared: 2.9 GB for training, 0.2 GB for test.
        manual_dir: a folder with the archives; "": they are downloaded (2.3 GB and 0.3 GB).
        split: train, validation or test.
        flags: the prefix of the caller's flags `data_dir` and `manual_dir`, for advice.
        seed: of the crops in training; None: training crops are from the middle, too.

    Raises:
        DataNotFound: the archives cannot be had, are not the right ones or damaged, or the folder
            cannot be written or has no room.
    """
    folder, files = prepared_folder(data_dir), []
    for part in _PARTS[split]:
        path = folder / f"{part}.npy"
        try:
            if not path.exists():
                _prepare(part, folder, manual_dir)
            elif not manual_dir:
                svhn_numbers.tidy(part, folder)
            files.append(_opened(path))
        except (OSError, DataNotFound) as error:
            raise DataNotFound(_not_found(split, folder, manual_dir, str(error), flags)) from None
    rows = _rows(split, sum(map(len, files)))
    return Numbers(tuple(files), rows, seed if split == "train" else None)


def _prepare(part: str, folder: Path, manual_dir: str) -> None:
    name = f"{part}.tar.gz"
    if manual_dir:
        svhn_numbers.prepare(part, Path(manual_dir).expanduser() / name, folder)
        return
    fetch = functools.partial(download.download, URL + name)
    svhn_numbers.prepare(part, folder / name, folder, fetch)


def _opened(path: Path) -> np.ndarray:
    try:
        images = np.load(path, mmap_mode="r")
        if images.dtype != np.uint8 or images.shape[1:] != (64, 64, 3) or not len(images):
            raise ValueError(f"it holds {images.dtype} {list(images.shape)}")
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is no whole array of NumPy's
        raise DataNotFound(f"{path} is damaged ({error}): delete it") from None
    return images


def _rows(split: str, count: int) -> np.ndarray:
    """Return the numbers of a split among `count` of its files, ascending, int64 [N]."""
    if split == "test":
        return np.arange(count)
    chance = draws(0, "validation", np.arange(count), 1)[0]
    chosen = np.argsort(chance, kind="stable")[: max(1, count * _VALIDATION // _ALL)]
    return np.sort(chosen) if split == "validation" else np.delete(np.arange(count), chosen)


def _not_found(split: str, folder: Path, manual_dir: str, cause: str, flags: str) -> str:
    names = [f"{part}.tar.gz" for part in _PARTS[split]]
    manual = f"in manual_dir {manual_dir}" if manual_dir else "in no manual_dir (none is set)"
    return f"""data set 'svhn' is not here: {cause}
Looked for its {split} split in {folder}, and {manual}.
Three ways out:
- on a machine with a network, in an empty folder: curl -fLO '{URL}{{{",".join(names)}}}'
- {flags}manual_dir=DIR, the folder that has these files: {", ".join(names)}
- {NO_FILES}"""
