import gzip
import hashlib
import io
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums

from draw_jax.data import prepared
from draw_jax.data.builders import draw_binarized_mnist, draw_mnist
from draw_jax.data.builders.draw_binarized_mnist import DrawBinarizedMnist, parse_amat
from draw_jax.data.builders.draw_mnist import DrawMnist, parse_idx

SHAPE = (6, 7, 3)


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "draw_jax"


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    file.seek(0)
    return file


def store(data_dir, name, splits, feature=None, encode=np.asarray, version="1.0.0", labels=True):
    """Prepare a small array_record folder as tensorflow-datasets would, and return it."""
    feature = feature or tfds.features.Tensor(shape=SHAPE, dtype=np.uint8, encoding="zlib")
    features = {"image": feature}
    if labels:
        features["label"] = tfds.features.ClassLabel(num_classes=1000)

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

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


def random_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def test_nothing_imports_tensorflow_and_data_imports_the_builders_late():
    code = (
        "import sys, draw_jax.data; assert 'tensorflow_datasets' not in sys.modules;"
        "import draw_jax.data.builders.draw_mnist, draw_jax.data.builders.draw_binarized_mnist;"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_builders_have_names_of_their_own():
    assert (DrawMnist.name, DrawBinarizedMnist.name) == ("draw_mnist", "draw_binarized_mnist")
    assert tfds.builder_cls("draw_mnist") is DrawMnist
    assert tfds.builder_cls("draw_binarized_mnist") is DrawBinarizedMnist
    for name in ("mnist", "binarized_mnist"):
        assert tfds.builder_cls(name).__module__.startswith("tensorflow_datasets.")


def test_every_file_has_a_checksum_and_it_is_the_one_tensorflow_datasets_registers():
    folder = tfds.core.utils.tfds_path()
    theirs = {
        info.filename: info
        for file in ("url_checksums/mnist.txt", "datasets/binarized_mnist/checksums.tsv")
        for info in checksums.load_url_infos(folder / file).values()
    }
    names = [name for pair in draw_mnist.FILES.values() for name in pair]
    for builder, urls in (
        (DrawMnist, [draw_mnist.URL + name for name in names]),
        (DrawBinarizedMnist, [draw_binarized_mnist.URL + n for n in _amat_names()]),
    ):
        assert len(urls) == {DrawMnist: 4, DrawBinarizedMnist: 3}[builder]
        for url in urls:
            info = builder.url_infos[url]
            assert info.filename == url.rpartition("/")[2]
            assert info == theirs[info.filename]  # size and sha256


def _amat_names():
    return draw_binarized_mnist.FILES.values()


@pytest.mark.parametrize("shape", [(5,), (3, 28, 28), (0, 28, 28)])
def test_parse_idx_returns_what_was_written(shape):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    parsed = parse_idx(header + values.tobytes())
    assert parsed.shape == shape and parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",
        b"\x00\x00\x08\x00",
        b"\x00\x00\x08\x03\x00\x00\x00\x01",
        b"\x00\x00\x0d\x01\x00\x00\x00\x01\x07",  # float32
        b"\x00\x00\x08\x01\x00\x00\x00\x02\x07",  # one value short
        b"\x00\x00\x08\x01\x00\x00\x00\x01\x07\x07",  # one too many
        b"<html>not found</html>",
    ],
)
def test_parse_idx_refuses_other_files(data):
    with pytest.raises(ValueError, match="expected"):
        parse_idx(data)


def amat(bits):
    return "".join(" ".join(map(str, row)) + "\n" for row in bits.reshape(len(bits), -1)).encode()


def test_parse_amat_returns_what_was_written():
    bits = np.random.default_rng(0).integers(0, 2, (4, 28, 28))
    parsed = parse_amat(amat(bits))
    assert parsed.shape == (4, 28, 28, 1) and parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed[..., 0], 255 * bits)


def _replaced(data, position, byte):
    return data[:position] + byte + data[position + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: b"", "expected lines of 1568 bytes"),
        (lambda d: d[:-1], "expected lines of 1568 bytes"),
        (lambda d: d + b"0 1\n", "expected lines of 1568 bytes"),
        (lambda d: _replaced(d, 1568 + 2 * 9, b"2"), r"b'2 ' for value 10 of line 2"),
        (lambda d: _replaced(d, 1568 + 2 * 9, b"."), r"b'\. ' for value 10 of line 2"),
        (lambda d: _replaced(d, 1, b"\n"), "for value 1 of line 1"),
        (lambda d: _replaced(d, 1567, b" "), "for value 784 of line 1"),
        (lambda d: d.replace(b" ", b",", 1), "for value 1 of line 1"),
        (lambda d: d.replace(b"\n", b" ", 1), "for value 784 of line 1"),
    ],
)
def test_parse_amat_refuses_other_files(damage, message):
    data = amat(np.random.default_rng(0).integers(0, 2, (3, 28, 28)))
    with pytest.raises(ValueError, match=message):
        parse_amat(damage(data))


@pytest.mark.parametrize("kind", ["zlib tensors", "png"])
def test_read_returns_every_pixel_of_a_slice(tmp_path, kind):
    images = random_images(1203)  # more than two blocks
    feature, encode = (tfds.features.Image(shape=SHAPE), png) if kind == "png" else (None, np.array)
    folder = store(tmp_path, "toy", {"train": images}, feature, encode)
    assert prepared.find(tmp_path, "toy") == folder
    assert prepared.split_sizes(folder) == {"train": 1203}
    for start, stop in ((0, 1203), (100, 1110), (1202, 1203)):
        got, labels = prepared.read(folder, "train", start, stop)
        assert got.dtype == np.uint8 and labels.dtype == np.int32
        np.testing.assert_array_equal(got, images[start:stop])
        np.testing.assert_array_equal(labels, np.arange(start, stop) % 1000)


def test_find_takes_the_newest_version_and_only_array_record(tmp_path):
    assert prepared.find(tmp_path, "toy") is None
    for version in ("1.9.0", "1.10.0", "incomplete.1.11.0"):
        (tmp_path / "toy" / version).mkdir(parents=True)
    assert prepared.find(tmp_path, "toy") is None
    for version, form in (("1.9.0", "array_record"), ("1.10.0", "array_record")):
        (tmp_path / "toy" / version / "dataset_info.json").write_text(
            json.dumps({"fileFormat": form})
        )
    assert prepared.find(tmp_path, "toy").name == "1.10.0"
    (tmp_path / "toy" / "1.10.0" / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
    assert prepared.find(tmp_path, "toy").name == "1.9.0"
    (tmp_path / "toy" / "1.9.0" / "dataset_info.json").write_text('{"fileForm')
    assert prepared.find(tmp_path, "toy") is None


def test_a_second_read_takes_the_cache(tmp_path, cache_dir, monkeypatch):
    images = random_images(20)
    folder = store(tmp_path, "toy", {"train": images})
    first = prepared.read(folder, "train", 5, 20)
    assert len(list(cache_dir.iterdir())) == 1

    def fail(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr(prepared, "_decode", fail)
    second = prepared.read(folder, "train", 5, 20)
    np.testing.assert_array_equal(first[0], images[5:])
    np.testing.assert_array_equal(second[0], images[5:])
    np.testing.assert_array_equal(second[1], np.arange(5, 20))
    with pytest.raises(AssertionError, match="decoded again"):  # another slice, another cache
        prepared.read(folder, "train", 5, 19)


def test_a_set_without_labels_has_none_also_from_the_cache(tmp_path):
    folder = store(tmp_path, "toy", {"train": random_images(3)}, labels=False)
    for _ in range(2):
        assert prepared.read(folder, "train", 0, 3)[1] is None


def test_the_cache_is_not_used_for_a_folder_prepared_anew(tmp_path, cache_dir):
    folder = store(tmp_path / "a", "toy", {"train": random_images(20)})
    prepared.read(folder, "train", 0, 20)
    fresh = random_images(20, seed=1)
    other = store(tmp_path / "b", "toy", {"train": fresh})
    folder.rename(tmp_path / "old")
    other.rename(folder)
    np.testing.assert_array_equal(prepared.read(folder, "train", 0, 20)[0], fresh)
    assert len(list(cache_dir.iterdir())) == 1  # the cache of the former one is replaced


def test_a_damaged_cache_costs_only_time(tmp_path, cache_dir):
    images = random_images(20)
    folder = store(tmp_path, "toy", {"train": images})
    prepared.read(folder, "train", 0, 20)
    (cache,) = cache_dir.iterdir()
    intact = cache.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", intact[: len(intact) // 2], intact[:-1], b"\x93NUMPY" + intact]
    for position in [*range(0, 120, 7), *rng.integers(0, len(intact), 60)]:
        flipped = intact[position] ^ (1 << int(rng.integers(8)))
        damaged.append(_replaced(intact, position, bytes([flipped])))
    for content in damaged:
        cache.write_bytes(content)
        got, labels = prepared.read(folder, "train", 0, 20)
        np.testing.assert_array_equal(got, images)
        np.testing.assert_array_equal(labels, np.arange(20))


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, cache_dir, monkeypatch):
    images = random_images(200)
    folder = store(tmp_path, "toy", {"train": images})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as on a full disk
    try:
        np.testing.assert_array_equal(prepared.read(folder, "train", 0, 200)[0], images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache_dir.iterdir()) == []  # no half-written file stays
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # no folder can be made there
    np.testing.assert_array_equal(prepared.read(folder, "train", 0, 200)[0], images)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "flipped"])
def test_damaged_records_are_an_error_that_names_the_folder(tmp_path, damage):
    folder = store(tmp_path, "toy", {"train": random_images(900)})
    (file,) = folder.glob("*array_record*")
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(
            {
                "truncated": data[: len(data) // 2],
                "empty": b"",
                "flipped": _replaced(data, 5000, bytes([data[5000] ^ 4])),
            }[damage]
        )
    with pytest.raises(prepared.DataNotFound, match=f"cannot read {folder} .*: delete") as caught:
        prepared.read(folder, "train", 0, 900)
    assert "\n" not in str(caught.value)


def test_examples_that_are_not_images_are_an_error(tmp_path):
    flat = tfds.features.Tensor(shape=(4,), dtype=np.int32)
    folder = store(tmp_path, "flat", {"train": np.ones((3, 4), np.int32)}, flat)
    with pytest.raises(ValueError, match=r"uint8 \[H, W, C\].* got image int32 \(4,\)"):
        prepared.read(folder, "train", 0, 3)
    any_size = tfds.features.Image(shape=(None, None, 3))
    images = [random_images(1)[0], random_images(1)[0][:4]]
    folder = store(tmp_path, "sizes", {"train": images}, any_size, png)
    with pytest.raises(ValueError, match=r"one size .* got \[6, 7, 3\] and \[4, 7, 3\]"):
        prepared.read(folder, "train", 0, 2)


def test_gzipped_amat_is_verified_by_its_content(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    contents = {n: amat(rng.integers(0, 2, (2, 28, 28))) for n in _amat_names()}
    infos = {
        draw_binarized_mnist.URL + name: checksums.UrlInfo(
            size=tfds.core.utils.Size(len(data)),
            checksum=hashlib.sha256(data).hexdigest(),
            filename=name,
        )
        for name, data in contents.items()
    }
    monkeypatch.setattr(DrawBinarizedMnist, "url_infos", infos)
    manual_dir = tmp_path / "manual"
    manual_dir.mkdir()
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, force_checksums_validation=True)
    good = {name: gzip.compress(data) for name, data in contents.items()}
    test_name = draw_binarized_mnist.FILES["test"]
    wrong = gzip.compress(contents[test_name].replace(b"1", b"0", 1))
    for bad, message in (
        (wrong, f"{test_name}.gz has wrong checksum"),
        (good[test_name][:-20], f"{test_name}.gz is not a whole gzip file"),
        (contents[test_name], f"{test_name}.gz is not a whole gzip file"),
    ):
        for name, data in (good | {test_name: bad}).items():
            (manual_dir / f"{name}.gz").write_bytes(data)
        builder = DrawBinarizedMnist(data_dir=tmp_path / "data")
        with pytest.raises(ValueError, match=message):
            builder.download_and_prepare(download_config=config, file_format="array_record")
        assert prepared.find(tmp_path / "data", "draw_binarized_mnist") is None
