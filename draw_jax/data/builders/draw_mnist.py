"""MNIST, from its four original files, by a builder that needs no TensorFlow."""

import gzip
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def parse_idx(data: bytes) -> np.ndarray:
    """Return the array in an unpacked idx file of unsigned bytes.

    Args:
        data: two zero bytes, the type 8, the number of axes, each axis as a big-endian uint32,
            then the values, last axis fastest.

    Returns:
        uint8 array of the shape that the header names.

    Raises:
        ValueError: the header is of another format, or the size is not the header's.
    """
    axes = data[3] if len(data) > 3 else 0
    header = 4 + 4 * axes
    if data[:3] != b"\x00\x00\x08" or axes == 0 or len(data) < header:
        raise ValueError(f"expected an idx file of unsigned bytes, got one starting {data[:4]!r}")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=axes, offset=4))
    if len(data) != header + math.prod(shape):
        raise ValueError(
            f"expected {header + math.prod(shape)} bytes for values {list(shape)} in an idx file, "
            f"got {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


class DrawMnist(tfds.core.GeneratorBasedBuilder):
    """MNIST, stored as zlib-packed uint8 tensors.

    Note: the keys are the positions in the original files, as in tensorflow-datasets' own builder,
    so that both store the images in the same (shuffled) order.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits: 60,000 training and 10,000 test images.",
            homepage="http://yann.lecun.com/exdb/mnist/",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(28, 28, 1), dtype=np.uint8, encoding="zlib"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # One file after another: after a failure no thread is left that goes on downloading.
        return {
            split: self._generate_examples(*[dl_manager.download(URL + name) for name in names])
            for split, names in FILES.items()
        }

    def _generate_examples(self, images_path: Any, labels_path: Any) -> Iterator[tuple[int, dict]]:
        images = parse_idx(gzip.decompress(images_path.read_bytes()))
        labels = parse_idx(gzip.decompress(labels_path.read_bytes()))
        if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
            raise ValueError(
                f"expected images [N, 28, 28] and labels [N], got {list(images.shape)} in "
                f"{images_path.name} and {list(labels.shape)} in {labels_path.name}"
            )
        for i in range(len(images)):
            yield i, {"image": images[i, :, :, None], "label": int(labels[i])}
