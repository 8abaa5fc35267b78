"""Small data in the original file formats, and folders as tensorflow-datasets prepares them."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image
from tensorflow_datasets.core.download import checksums

from draw_jax.data.builders import (
    draw_binarized_mnist,
    draw_cifar10,
    draw_mnist,
    draw_omniglot28,
)
from draw_jax.data.sets import folders

REAL_DATA = os.environ.get("DRAW_JAX_DATA")
# Made-up data, and the real ones where they are at hand; to decode these takes seconds.
WHERE = ["made up", *([pytest.param("real", marks=pytest.mark.slow)] if REAL_DATA else [])]
MNIST = ("train", "test")
BINARIZED = {"train": "train", "validation": "valid", "test": "test"}
_BITS_TO_PIXELS = bytes.maketrans(b"01", b"\x00\xff")


def config(name, data_dir="", manual_dir="", binarization="none", grey=False, resize=False):
    return ConfigDict(
        {
            "name": name,
            "data_dir": str(data_dir),
            "manual_dir": str(manual_dir),
            "binarization": binarization,
            "grey": grey,
            "resize": resize,
        }
    )


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.tobytes(), mtime=0)  # the same bytes at any time


def make_mnist(folder, sizes=(60, 10)):
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    for split, size in zip(MNIST, sizes, strict=True):
        images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, size, dtype=np.uint8)
        for name, values in zip(draw_mnist.FILES[split], (images, labels), strict=True):
            (folder / name).write_bytes(idx(values))


def make_binarized_mnist(folder, sizes=(50, 10, 12)):
    rng = np.random.default_rng(2)
    folder.mkdir(exist_ok=True)
    for split, size in zip(BINARIZED, sizes, strict=True):
        bits = rng.integers(0, 2, (size, 784))
        text = "".join(" ".join(map(str, row)) + "\n" for row in bits)
        (folder / draw_binarized_mnist.FILES[split]).write_text(text)


def register(monkeypatch, folder, base=None):
    """Make the files of a folder the ones that the builders expect, at the URL base."""
    for module, builder in (
        (draw_mnist, draw_mnist.DrawMnist),
        (draw_binarized_mnist, draw_binarized_mnist.DrawBinarizedMnist),
        (draw_cifar10, draw_cifar10.DrawCifar10),
        (draw_omniglot28, draw_omniglot28.DrawOmniglot28),
    ):
        if base is not None:
            monkeypatch.setattr(module, "URL", base)
        infos = {}
        for name in file_names(module):
            content = (folder / name).read_bytes() if (folder / name).exists() else b""
            infos[module.URL + name] = checksums.UrlInfo(
                size=tfds.core.utils.Size(len(content)),
                checksum=hashlib.sha256(content).hexdigest(),
                filename=name,
            )
        monkeypatch.setattr(builder, "url_infos", infos)


def file_names(module):
    if module is draw_cifar10:
        return [module.FILE]
    names = module.FILES.values()
    return [n for pair in names for n in pair] if module is draw_mnist else list(names)


def read_raw(folder, name):
    """Return {split: sorted [(pixels, label)]} straight from the original files."""
    splits = {}
    for split in MNIST if name == "mnist" else BINARIZED:
        if name == "mnist":
            images_file, labels_file = (folder / n for n in draw_mnist.FILES[split])
            labels = gzip.decompress(labels_file.read_bytes())[8:]
            pixels = gzip.decompress(images_file.read_bytes())[16:]
        else:
            file = folder / draw_binarized_mnist.FILES[split]
            text = (
                file.read_bytes()
                if file.exists()
                else gzip.decompress(Path(f"{file}.gz").read_bytes())
            )
            pixels = text.replace(b" ", b"").replace(b"\n", b"").translate(_BITS_TO_PIXELS)
            labels = bytes(len(pixels) // 784)
        images = [pixels[i : i + 784] for i in range(0, len(pixels), 784)]
        splits[split] = sorted(zip(images, labels, strict=True))
    return splits


def rows(*splits):
    """Return sorted [(pixels, label)] of loaded splits."""
    found = []
    for split in splits:
        labels = [0] * len(split) if split.labels is None else split.labels.tolist()
        found += zip((image.tobytes() for image in split.images), labels, strict=True)
    return sorted(found)


def store(data_dir, name, splits, feature=None, encode=np.asarray, labels=False):
    """Prepare an array_record folder as another program would, with no builder of ours; return it."""
    shape = next(iter(splits.values()))[0].shape
    features = {
        "image": feature or tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="zlib")
    }
    if labels:
        features["label"] = tfds.features.ClassLabel(num_classes=1000)

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {s: self._generate_examples(images) for s, images in splits.items()}

        def _generate_examples(self, images):
            for i, image in enumerate(images):
                yield i, {"image": encode(image)} | ({"label": i % 1000} if labels else {})

    Toy.name = name
    builder = Toy(data_dir=data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        file_format="array_record",
    )
    return Path(builder.data_dir)


def colours(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 9, 3), dtype=np.uint8)


def replaced(data, position, byte):
    return data[:position] + byte + data[position + 1 :]


def pixels(height, width, channels=None, seed=0):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def in_split(split, suffix=".png", prefix=""):
    """Return a name that falls in a split."""
    names = (f"{prefix}{n}{suffix}" for n in range(10_000))
    return next(name for name in names if folders.split_of(name) == split)


def store_picture(folder, image, name=None, **options):
    """Save pixels or a picture under a name of the train split and return its path."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    path = folder / (name or in_split("train"))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def cifar_batches(sizes=(3, 3, 3, 3, 3, 4)):
    """Return {name in the archive: its bytes} of made-up batches: five of train, one of test."""
    rng = np.random.default_rng(4)
    names = [name for names in draw_cifar10.BATCHES.values() for name in names]
    batches = {}
    for name, size in zip(names, sizes, strict=True):
        records = rng.integers(0, 256, (size, draw_cifar10.RECORD), dtype=np.uint8)
        records[:, 0] %= 10
        batches[name] = records.tobytes()
    return batches


def make_cifar(folder, batches=None):
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / draw_cifar10.FILE, "w:gz") as archive:
        for name, data in (batches or cifar_batches()).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def drawing(seed, side=105):
    """Return a random drawing, whether a pixel is ink, bool [side, side]: thick strokes."""
    rng = np.random.default_rng(seed)
    ink = np.zeros((side, side), bool)
    for _ in range(4):
        top, left = rng.integers(0, side - 10, 2)
        if rng.random() < 0.5:
            ink[top : top + 5, left : left + rng.integers(10, side)] = True
        else:
            ink[top : top + rng.integers(10, side), left : left + 5] = True
    return ink


def omniglot_drawings():
    """Return {split: {(alphabet, character, file): ink}}, as the two archives have them."""
    return {
        "train": {
            (f"Alphabet_{a}", f"character{c:02d}", f"{a}{c}_{n:02d}.png"): drawing(
                100 * a + 10 * c + n
            )
            for a in (1, 2)
            for c in (1, 2, 3)
            for n in range(1, 6)
        },
        "test": {
            ("Later", f"character{c:02d}", f"9{c}_{n:02d}.png"): drawing(900 + 10 * c + n)
            for c in (1, 2)
            for n in range(1, 5)
        },
    }


def make_omniglot(folder, drawings=None):
    folder.mkdir(exist_ok=True)
    for split, found in (drawings or omniglot_drawings()).items():
        name = draw_omniglot28.FILES[split]
        stem = name.removesuffix(".zip")
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{stem}/", b"")
            archive.writestr(f"__MACOSX/{stem}/._x.png", b"no picture")
            for (alphabet, character, file), ink in found.items():
                png = io.BytesIO()
                Image.fromarray(~ink).save(png, "PNG")  # one bit a pixel: paper is 1
                archive.writestr(f"{stem}/{alphabet}/{character}/{file}", png.getvalue())
