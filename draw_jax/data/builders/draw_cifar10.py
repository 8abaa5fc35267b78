"""CIFAR-10, from its binary archive, by a builder that needs no TensorFlow."""

import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

URL = "https://www.cs.toronto.edu/~kriz/"
FILE = "cifar-10-binary.tar.gz"
BATCHES = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{n}.bin" for n in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
SHAPE = (32, 32, 3)
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the red, the green and the blue plane


def parse_batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels in a batch file.

    Args:
        data: 3,073 bytes per image: its label, then 1,024 values of red, of green and of blue, row
            by row from the top.

    Returns:
        Images uint8 [N, 32, 32, 3] and labels uint8 [N].

    Raises:
        ValueError: another length, or a label above 9.
    """
    if len(data) == 0 or len(data) % RECORD:
        raise ValueError(f"expected records of {RECORD} bytes, got {len(data)} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() > 9:
        raise ValueError(f"expected labels 0 to 9, got {labels.max()}")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


class DrawCifar10(tfds.core.GeneratorBasedBuilder):
    """CIFAR-10, stored as zlib-packed uint8 tensors.

    Note: the keys are the positions in the batch files, one after another, as in
    tensorflow-datasets' own builder, so that both store the images in the same (shuffled) order.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Small colour photographs: 50,000 training and 10,000 test images.",
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=SHAPE, dtype=np.uint8, encoding="zlib"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        path = dl_manager.download(URL + FILE)
        return {split: self._generate_examples(path, names) for split, names in BATCHES.items()}

    def _generate_examples(self, path: Any, names: Sequence[str]) -> Iterator[tuple[int, dict]]:
        key = 0
        for name in names:
            images, labels = parse_batch(_member(path, name))
            for image, label in zip(images, labels, strict=True):
                yield key, {"image": np.ascontiguousarray(image), "label": int(label)}
                key += 1


def _member(path: Any, name: str) -> bytes:
    """Return a file of an archive.

    Raises:
        ValueError: the archive is not whole, or has no such file.
    """
    try:
        with tarfile.open(os.fspath(path)) as archive:
            file = archive.extractfile(name)
            if file is not None:
                return file.read()
    except KeyError:
        pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole archive ({error})") from None
    raise ValueError(f"expected a file {name} in {path}, got none")
