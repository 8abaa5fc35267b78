"""CIFAR-10 and OMNIGLOT from their original archives: small made-up ones of the same form."""

import importlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums

from draw_jax.data import prepared, splits
from draw_jax.data.builders import draw_cifar10, draw_omniglot28
from draw_jax.data.builders.draw_cifar10 import DrawCifar10, parse_batch
from draw_jax.data.builders.draw_omniglot28 import DrawOmniglot28, shrink
from tests.data.helpers import (
    cifar_batches,
    config,
    drawing,
    make_cifar,
    make_omniglot,
    omniglot_drawings,
    register,
    rows,
)

NAMES = {"cifar10": draw_cifar10, "omniglot28": draw_omniglot28}
MAKE = {"cifar10": make_cifar, "omniglot28": make_omniglot}


def files(folder):
    return [file for file in folder.rglob("*") if file.is_file()]


def test_the_checksums_are_those_that_tensorflow_datasets_registers():
    folder = tfds.core.utils.tfds_path() / "url_checksums"
    for builder, module, file, count in (
        (DrawCifar10, draw_cifar10, "cifar10.txt", 1),
        (DrawOmniglot28, draw_omniglot28, "omniglot.txt", 2),
    ):
        theirs = checksums.load_url_infos(folder / file)
        ours = {u: i for u, i in builder.url_infos.items() if u.startswith(module.URL)}
        assert len(ours) == count
        for url, info in ours.items():
            assert info == theirs[url]  # size and sha256


def test_the_builders_have_names_of_their_own():
    assert (DrawCifar10.name, DrawOmniglot28.name) == ("draw_cifar10", "draw_omniglot28")


def pixel_by_pixel(record):
    """Returns label and image of one record of a CIFAR-10 batch, one pixel at a time."""
    image = np.zeros((32, 32, 3), np.uint8)
    for channel in range(3):
        for row in range(32):
            for column in range(32):
                image[row, column, channel] = record[1 + 1024 * channel + 32 * row + column]
    return image.tobytes(), record[0]


def test_a_batch_is_read_plane_by_plane():
    (data,) = (cifar_batches((2, 0, 0, 0, 0, 0))[n] for n in draw_cifar10.BATCHES["train"][:1])
    images, labels = parse_batch(data)
    assert images.shape == (2, 32, 32, 3) and images.dtype == np.uint8
    for i, record in enumerate((data[:3073], data[3073:])):
        assert pixel_by_pixel(record) == (images[i].tobytes(), labels[i])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "records of 3073 bytes, got 0 bytes"),
        (bytes(3072), "records of 3073 bytes, got 3072 bytes"),
        (bytes(3074), "records of 3073 bytes, got 3074 bytes"),
        (bytes(3073) + b"\x0a" + bytes(3072), "labels 0 to 9, got 10"),
    ],
)
def test_other_batches_are_refused(data, told):
    with pytest.raises(ValueError, match=told):
        parse_batch(data)


def test_cifar10_is_every_pixel_of_the_archive(tmp_path, monkeypatch):
    make_cifar(tmp_path / "raw", cifar_batches((3, 4, 5, 6, 7, 8)))
    register(monkeypatch, tmp_path / "raw")
    expected = {"train": [], "test": []}
    for name, data in cifar_batches((3, 4, 5, 6, 7, 8)).items():
        split = "test" if "test" in name else "train"
        records = [data[i : i + 3073] for i in range(0, len(data), 3073)]
        expected[split] += map(pixel_by_pixel, records)
    cfg = config("cifar10", tmp_path / "data", tmp_path / "raw")
    train, validation, test = (splits.load(cfg, name) for name in splits.SPLITS)
    assert (len(train), len(validation), len(test)) == (23, 2, 8)  # 10 % of 25
    assert not train.binary and train.image_shape == (32, 32, 3)
    assert rows(train, validation) == sorted(expected["train"])
    assert rows(test) == sorted(expected["test"])


def test_cifar10_is_in_the_order_of_tensorflow_datasets_own_builder(tmp_path, monkeypatch):
    make_cifar(tmp_path / "raw", cifar_batches((30, 30, 30, 30, 30, 40)))
    register(monkeypatch, tmp_path / "raw")
    with tarfile.open(tmp_path / "raw" / draw_cifar10.FILE) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    names = [f"class {number}" for number in range(10)]
    batches = tmp_path / "unpacked" / "cifar-10-batches-bin"
    (batches / "batches.meta.txt").write_text("\n".join(names))
    builder = tfds.builder_cls("cifar10")
    theirs = importlib.import_module(builder.__module__)

    def read(path, _):  # theirs reads with TensorFlow
        for image, label in zip(*parse_batch(Path(path).read_bytes()), strict=True):
            yield [int(label)], np.ascontiguousarray(image)

    def tensor(shape):  # and packs with it
        return tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="zlib")

    monkeypatch.setattr(theirs, "_load_data", read)
    monkeypatch.setattr(theirs.tfds.features, "Image", tensor)
    monkeypatch.setattr(
        tfds.download.DownloadManager,
        "download_and_extract",
        lambda *arguments: str(tmp_path / "unpacked"),
    )
    builder(data_dir=tmp_path / "theirs").download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        file_format="array_record",
    )
    for name in splits.SPLITS:
        ours = splits.load(config("cifar10", tmp_path / "ours", tmp_path / "raw"), name)
        other = splits.load(config("cifar10", tmp_path / "theirs"), name)
        assert len(ours) == {"train": 135, "validation": 15, "test": 40}[name]
        np.testing.assert_array_equal(ours.images, other.images)
        np.testing.assert_array_equal(ours.labels, other.labels)


def area_by_loops(ink):
    """Returns each of 28x28 pixels as the mean of those whose centres lie in it, first across."""
    bounds = [
        [k for k in range(105) if 105 * i < 14 * (2 * k + 1) <= 105 * (i + 1)] for i in range(28)
    ]
    half = np.zeros((105, 28))
    for row in range(105):
        for column, inside in enumerate(bounds):
            half[row, column] = 255 * sum(ink[row, k] for k in inside) / len(inside)
    half = np.floor(half + 0.5)  # as Pillow keeps it between its two passes
    image = np.zeros((28, 28))
    for column in range(28):
        for row, inside in enumerate(bounds):
            image[row, column] = sum(half[k, column] for k in inside) / len(inside)
    return np.floor(image + 0.5)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("seed", range(3))
def test_a_drawing_is_made_smaller_by_area_with_white_ink(seed):
    ink = drawing(seed)
    image = shrink(png(~ink))
    assert image.shape == (28, 28, 1) and image.dtype == np.uint8
    assert image.max() == 255 and image.min() == 0
    # Pillow's fixed-point weights of a third may round a half to the other side.
    np.testing.assert_allclose(image[..., 0], area_by_loops(ink), atol=1)
    assert image.mean() / 255 == pytest.approx(ink.mean(), rel=0.1)  # 3 or 4 pixels weigh alike


def test_only_few_values_can_come_of_black_and_white():
    # Shares of 9, 12 and 16 pixels, rounded after each of Pillow's two passes.
    found = set()
    for seed in range(40):
        noise = np.random.default_rng(seed).random((105, 105)) < 0.3 + 0.01 * seed
        found |= set(np.unique(shrink(png(~noise))).tolist())
    assert found == {
        *(0, 16, 21, 28, 32, 43, 48, 57, 64, 80, 85, 96, 106, 107, 112, 113, 127, 128, 142, 143),
        *(144, 149, 159, 160, 170, 175, 176, 191, 192, 198, 207, 212, 213, 223, 227, 234, 239, 255),
    }


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"no picture", "expected a PNG"),
        (png(np.zeros((105, 105), bool))[:45], "expected a PNG"),
        (png(np.zeros((105, 104), bool)), "expected 105x105 pixels, got 104x105"),
    ],
)
def test_other_drawings_are_refused(data, told):
    with pytest.raises(ValueError, match=told):
        shrink(data)


def test_omniglot_is_every_drawing_of_the_archives(tmp_path, monkeypatch):
    make_omniglot(tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")
    drawings = omniglot_drawings()
    characters = [
        place
        for found in drawings.values()
        for place in sorted({(alphabet, character) for alphabet, character, _ in found})
    ]
    assert len(characters) == 8
    expected = {
        split: sorted(
            (shrink(png(~ink)).tobytes(), characters.index((alphabet, character)))
            for (alphabet, character, _), ink in found.items()
        )
        for split, found in drawings.items()
    }
    cfg = config("omniglot28", tmp_path / "data", tmp_path / "raw", binarization="dynamic")
    train, validation, test = (splits.load(cfg, name) for name in splits.SPLITS)
    assert (len(train), len(validation), len(test)) == (27, 3, 8)
    assert rows(train, validation) == expected["train"]
    assert rows(test) == expected["test"]
    assert set(test.labels) == {6, 7}  # characters that train has none of
    # Of one fixed shuffle, so that validation is not the last characters alone.
    in_order = [label for _, label in sorted(zip(range(30), np.arange(30) // 5, strict=True))]
    assert [*train.labels, *validation.labels] != in_order


@pytest.mark.parametrize("name", NAMES)
def test_no_network_and_no_files_is_one_short_error(tmp_path, name):
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(config(name, tmp_path / "data"), "train")
    message = str(caught.value)
    assert len(message.splitlines()) <= 8
    for part in (repr(name), "Name or service not known", "curl", NAMES[name].URL, "manual_dir="):
        assert part in message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change", [lambda b: b[:-30], lambda b: b"", lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:]]
)
def test_a_damaged_archive_is_refused_by_its_checksum(tmp_path, monkeypatch, name, change):
    MAKE[name](tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")
    file = max((tmp_path / "raw").iterdir())
    file.write_bytes(change(file.read_bytes()))
    cfg = config(name, tmp_path / "data", tmp_path / "raw")
    with pytest.raises(splits.DataNotFound, match=f"{file.name}, has wrong checksum"):
        splits.load(cfg, "test")
    assert not files(tmp_path / "data")


def without_test_batch(folder):
    batches = cifar_batches()
    batches.popitem()
    make_cifar(folder, batches)


def half_a_record(folder):
    batches = cifar_batches()
    make_cifar(folder, batches | {next(iter(batches)): b"\x01" * 99})


def no_archive(folder, name):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"<html>not here</html>")


def an_empty_zip(folder):
    make_omniglot(folder)
    with zipfile.ZipFile(folder / "images_evaluation.zip", "w"):
        pass


def a_small_drawing(folder):
    drawings = omniglot_drawings()
    drawings["test"][("Later", "character09", "small.png")] = drawing(0, side=50)
    make_omniglot(folder, drawings)


def a_truncated_zip(folder):
    make_omniglot(folder)
    file = folder / "images_background.zip"
    file.write_bytes(file.read_bytes()[:-40])


def a_truncated_tar(folder):
    make_cifar(folder)
    file = folder / draw_cifar10.FILE
    file.write_bytes(file.read_bytes()[:-4000])


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("cifar10", without_test_batch, "expected a file .*/test_batch.bin in .*, got none"),
        ("cifar10", half_a_record, "expected records of 3073 bytes, got 99 bytes"),
        ("cifar10", a_truncated_tar, "is not a whole archive"),
        ("cifar10", lambda f: no_archive(f, draw_cifar10.FILE), "is not a whole archive"),
        ("omniglot28", an_empty_zip, r"expected ALPHABET/CHARACTER/\*.png in .*, got none"),
        ("omniglot28", a_small_drawing, "expected 105x105 pixels, got 50x50 in a drawing"),
        ("omniglot28", a_truncated_zip, "images_background.zip is not a whole archive"),
    ],
)
def test_archives_with_the_right_checksum_and_wrong_content_are_refused(
    tmp_path, monkeypatch, name, make, told
):
    make(tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")
    with pytest.raises(splits.DataNotFound, match=told) as caught:
        splits.load(config(name, tmp_path / "data", tmp_path / "raw"), "test")
    assert len(str(caught.value).splitlines()) <= 8
    assert prepared.find(tmp_path / "data", f"draw_{name}") is None
