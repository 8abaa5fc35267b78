"""SVHN's digits cropped to 32x32 in colour, from its .mat files, by a builder without TensorFlow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from draw_jax.system.errors import in_a_line

URL = "http://ufldl.stanford.edu/housenumbers/"
FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


def parse_mat(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of a .mat file of MATLAB 5.

    Args:
        path: of a file with X, uint8 [32, 32, 3, N], and y, [N, 1] of 1..10, where 10 is digit 0.

    Returns:
        uint8 [N, 32, 32, 3] and int64 [N] of 0..9.

    Raises:
        ValueError: the file is broken or holds something else.
    """
    from scipy import io

    try:
        stored = io.loadmat(path, variable_names=["X", "y"])
        images, labels = np.asarray(stored["X"]), np.asarray(stored["y"]).ravel()
    except Exception as error:  # noqa: BLE001 - a broken file fails in many ways
        raise ValueError(
            f"{path} is not a whole .mat file with X and y ({in_a_line(error)})"
        ) from None
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
        raise ValueError(
            f"expected X uint8 [32, 32, 3, N] and y [N, 1] in {path}, got X {images.dtype} "
            f"{list(images.shape)} and {len(labels)} labels"
        )
    if not np.isin(labels, np.arange(1, 11)).all():
        raise ValueError(f"expected labels 1 to 10 in {path}, got {labels.min()} to {labels.max()}")
    return images.transpose(3, 0, 1, 2), labels.astype(np.int64) % 10


class DrawSvhnCropped(tfds.core.GeneratorBasedBuilder):
    """SVHN, format 2 (Netzer et al. 2011), stored as zlib-packed uint8 tensors.

    Without the 531,131 images of `extra`. The keys are the positions in the original files, as in
    tensorflow-datasets' own builder, so that both store the images in the same (shuffled) order.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Digits of house numbers: 73,257 training and 26,032 test images.",
            homepage=URL,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(32, 32, 3), dtype=np.uint8, encoding="zlib"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # One file after another: after a failure no thread is left that goes on downloading.
        return {
            split: self._generate_examples(dl_manager.download(URL + name))
            for split, name in FILES.items()
        }

    def _generate_examples(self, path: Any) -> Iterator[tuple[int, dict]]:
        images, labels = parse_mat(path)
        for i in range(len(images)):
            yield i, {"image": np.ascontiguousarray(images[i]), "label": int(labels[i])}
