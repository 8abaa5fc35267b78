"""The fixed binarisation of MNIST, from its .amat files, by a builder that needs no TensorFlow."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
FILES = {
    "train": "binarized_mnist_train.amat",
    "validation": "binarized_mnist_valid.amat",
    "test": "binarized_mnist_test.amat",
}
PIXELS = 28 * 28


def parse_amat(data: bytes) -> np.ndarray:
    r"""Return the images in an .amat file: a line of 784 values 0 or 1 per image.

    Args:
        data: the file; values are separated by one space, each line ends in "\n".

    Returns:
        uint8 [N, 28, 28, 1], values 0 and 255.

    Raises:
        ValueError: a line of another length, or a value other than 0 and 1.
    """
    line = 2 * PIXELS  # each value is one digit and one separator
    if len(data) == 0 or len(data) % line:
        raise ValueError(f"expected lines of {line} bytes ({PIXELS} values), got {len(data)} bytes")
    digits, separators = np.frombuffer(data, np.uint8).reshape(-1, PIXELS, 2).transpose(2, 0, 1)
    wrong = (digits != ord("0")) & (digits != ord("1"))
    wrong |= separators != np.array([ord(" ")] * (PIXELS - 1) + [ord("\n")], np.uint8)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        got = bytes([digits[row, column], separators[row, column]])
        raise ValueError(
            f"expected {PIXELS} values 0 or 1 separated by spaces, got {got!r} for value "
            f"{column + 1} of line {row + 1}"
        )
    return ((digits - ord("0")) * np.uint8(255)).reshape(-1, 28, 28, 1)


class DrawBinarizedMnist(tfds.core.GeneratorBasedBuilder):
    """MNIST binarised once by Salakhutdinov and Murray (2008), values 0 and 255, no labels.

    Note: the keys are the line numbers from 0, as in tensorflow-datasets' own builder, so that both
    store the images in the same (shuffled) order.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The three .amat files, as they are or each gzipped (.amat.gz)."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Binarised handwritten digits: 50,000 training, 10,000 validation and "
            "10,000 test images.",
            homepage=URL,
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8, encoding="zlib")}
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        try:
            manual_dir = dl_manager.manual_dir
        except AssertionError:  # no such folder, or an empty one
            manual_dir = None
        splits = {}
        # One file after another: after a failure no thread is left that goes on downloading.
        for split, name in FILES.items():
            plain = manual_dir is not None and (manual_dir / name).exists()
            if manual_dir is not None and not plain and (manual_dir / f"{name}.gz").exists():
                path = manual_dir / f"{name}.gz"
            else:
                path = dl_manager.download(URL + name)
            splits[split] = self._generate_examples(path, self.url_infos[URL + name].checksum)
        return splits

    def _generate_examples(self, path: Any, checksum: str) -> Iterator[tuple[int, dict]]:
        data = path.read_bytes()
        if path.suffix == ".gz":  # tensorflow-datasets has verified the others
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error) as error:
                raise ValueError(f"{path} is not a whole gzip file ({error})") from None
            if hashlib.sha256(data).hexdigest() != checksum:
                raise ValueError(f"{path} has wrong checksum (its content, unpacked)")
        for i, image in enumerate(parse_amat(data)):
            yield i, {"image": image}
