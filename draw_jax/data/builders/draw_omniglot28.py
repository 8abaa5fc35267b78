"""OMNIGLOT at 28x28, from its two archives of drawings, by a builder that needs no TensorFlow."""

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
FILES = {"train": "images_background.zip", "test": "images_evaluation.zip"}
SIDE = 105  # pixels of a drawing's side in the archives
CHARACTERS = 964 + 659  # of the two archives together
_DRAWING = re.compile(r"[^/]+/([^/]+/[^/]+)/[^/]+\.png")  # archive/ALPHABET/CHARACTER/drawing.png


def shrink(data: bytes) -> np.ndarray:
    """Return a drawing at 28x28, its ink white on black.

    Every pixel is the mean of the drawing's pixels whose centres lie in it, 3 or 4 across and 3 or 4
    down (Pillow's box filter): downsampling by area.

    Args:
        data: a PNG of 105x105 pixels, black ink on white.

    Returns:
        uint8 [28, 28, 1], 255 where all is ink.

    Raises:
        ValueError: data of another kind or size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            paper = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:  # as Pillow has them for a broken PNG
        raise ValueError(f"expected a PNG, got {error}") from None
    if paper.shape != (SIDE, SIDE):
        raise ValueError(
            f"expected {SIDE}x{SIDE} pixels, got {paper.shape[1]}x{paper.shape[0]} in a drawing"
        )
    ink = Image.fromarray(255 - paper)
    return np.asarray(ink.resize((28, 28), Image.Resampling.BOX))[..., None]


class DrawOmniglot28(tfds.core.GeneratorBasedBuilder):
    """OMNIGLOT (Lake et al. 2015) by its original split, grey at 28x28, labelled by character.

    Train is the background set (964 characters, 20 drawings of each), test the evaluation set (659
    other characters, of other alphabets). A label is the place of its alphabet and character among
    the sorted ones of train, and after those among the sorted ones of test.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten characters of 50 alphabets: 19,280 training and 13,180 test "
            "images, by area from 105x105 to 28x28.",
            homepage="https://github.com/brendenlake/omniglot",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(28, 28, 1), dtype=np.uint8, encoding="zlib"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=CHARACTERS),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # One file after another: after a failure no thread is left that goes on downloading.
        splits, first = {}, 0
        for split, name in FILES.items():
            path = dl_manager.download(URL + name)
            drawings = _drawings(path)
            characters = sorted(set(drawings.values()))
            labels = {c: first + place for place, c in enumerate(characters)}
            splits[split] = self._generate_examples(path, drawings, labels)
            first += len(characters)
        return splits

    def _generate_examples(
        self, path: Any, drawings: dict[str, str], labels: dict[str, int]
    ) -> Iterator[tuple[str, dict]]:
        try:
            with zipfile.ZipFile(os.fspath(path)) as archive:
                for name, character in drawings.items():
                    yield name, {"image": shrink(archive.read(name)), "label": labels[character]}
        except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not a whole archive ({error})") from None


def _drawings(path: Any) -> dict[str, str]:
    """Return the names of an archive's drawings, sorted, with the alphabet and character of each.

    Raises:
        ValueError: the archive is not whole, or has no drawings.
    """
    try:
        with zipfile.ZipFile(os.fspath(path)) as archive:
            names = sorted(archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} is not a whole archive ({error})") from None
    found = {name: match[1] for name in names if (match := _DRAWING.fullmatch(name))}
    if not found:
        raise ValueError(f"expected ALPHABET/CHARACTER/*.png in {path}, got none")
    return found
