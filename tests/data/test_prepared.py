import importlib
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from draw_jax.data import prepared
from draw_jax.data.interface import DataNotFound
from tests.data.helpers import replaced, store

SHAPE = (6, 7, 3)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    file.seek(0)
    return file


def random_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@pytest.mark.slow  # a fresh Python
def test_nothing_imports_tensorflow_and_data_imports_the_builders_late():
    code = (
        "import sys, draw_jax.data.splits; assert 'tensorflow_datasets' not in sys.modules;"
        "import draw_jax.data.builders.draw_mnist, draw_jax.data.builders.draw_binarized_mnist;"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("kind", ["zlib tensors", "png"])
def test_read_returns_every_pixel_of_a_slice(tmp_path, kind):
    images = random_images(1203)  # more than two blocks
    feature, encode = (tfds.features.Image(shape=SHAPE), png) if kind == "png" else (None, np.array)
    folder = store(tmp_path, "toy", {"train": images}, feature, encode, labels=True)
    assert prepared.find(tmp_path, "toy") == folder
    assert prepared.split_sizes(folder) == {"train": 1203}
    for start, stop in ((0, 1203), (100, 1110), (1202, 1203)):
        split = prepared.read(folder, "train", start, stop)
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        np.testing.assert_array_equal(split.images, images[start:stop])
        np.testing.assert_array_equal(split.labels, np.arange(start, stop) % 1000)


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
    for text in ('{"fileForm', "5", "[" * 100_000):
        (tmp_path / "toy" / "1.9.0" / "dataset_info.json").write_text(text)
        assert prepared.find(tmp_path, "toy") is None
    assert prepared.find(tmp_path / "\0", "toy") is None


def test_a_second_read_takes_the_cache(tmp_path, cache_dir, monkeypatch):
    images = random_images(20)
    folder = store(tmp_path, "toy", {"train": images}, labels=True)
    first = prepared.read(folder, "train", 5, 20)
    assert len(list(cache_dir.iterdir())) == 1

    def fail(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr(prepared, "_decode", fail)
    second = prepared.read(folder, "train", 5, 20)
    np.testing.assert_array_equal(first.images, images[5:])
    np.testing.assert_array_equal(second.images, images[5:])
    np.testing.assert_array_equal(second.labels, np.arange(5, 20))
    with pytest.raises(AssertionError, match="decoded again"):  # another slice, another cache
        prepared.read(folder, "train", 5, 19)


def test_the_cache_is_not_used_for_a_folder_prepared_anew(tmp_path, cache_dir):
    folder = store(tmp_path / "a", "toy", {"train": random_images(20)})
    prepared.read(folder, "train", 0, 20)
    fresh = random_images(20, seed=1)
    other = store(tmp_path / "b", "toy", {"train": fresh})
    folder.rename(tmp_path / "old")
    other.rename(folder)
    np.testing.assert_array_equal(prepared.read(folder, "train", 0, 20).images, fresh)
    assert len(list(cache_dir.iterdir())) == 1  # the cache of the former one is replaced


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
                "flipped": replaced(data, 5000, bytes([data[5000] ^ 4])),
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


def test_a_set_without_labels_has_none(tmp_path):
    folder = store(tmp_path, "toy", {"train": random_images(3)})
    assert prepared.read(folder, "train", 0, 3).labels is None


def test_nothing_is_printed_while_records_are_read(tmp_path, monkeypatch, capfd):
    folder = store(tmp_path, "toy", {"train": random_images(3)})
    build = tfds.builder_from_directory

    def talk(*arguments):
        print("advice")
        warnings.warn("odd", stacklevel=1)  # an error in these tests, as it is a nuisance elsewhere
        logging.error("more advice")
        return build(*arguments)

    monkeypatch.setattr(tfds.public_api, "builder_from_directory", talk)
    capfd.readouterr()
    prepared.read(folder, "train", 0, 3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        ("import not_there.at_all", r"package not_there .*: pip install not_there$"),
        ("import PIL.not_there", r"package PIL .*: pip install pillow$"),
        ("import broken", r"package broken .*lib.so: .*: pip install --force-reinstall broken$"),
        ("import wrong", r"package wrong .*no API.*: pip install --force-reinstall wrong$"),
        ("from wrapper import module", r"package wrong .*: pip install --force-reinstall wrong$"),
    ],
)
def test_a_failing_import_is_told_and_not_blamed_on_the_data(tmp_path, monkeypatch, body, advice):
    folder = store(tmp_path, "toy", {"train": random_images(3)})
    packages = {
        "broken.py": "raise ImportError('lib.so: cannot open')",
        "wrong.py": "raise AttributeError('no API')",
        "wrapper.py": "try:\n  import wrong\nexcept Exception as e:\n  raise ImportError('x') from e",
    }
    for name, text in (packages | {"first.py": body}).items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        tfds.public_api, "builder_from_directory", lambda folder: importlib.import_module("first")
    )
    with pytest.raises(prepared.DataNotFound, match=advice) as caught:
        prepared.read(folder, "train", 0, 3)
    message = str(caught.value)
    assert message.startswith("cannot import") and "\n" not in message and "delete" not in message
    assert folder.is_dir()


@pytest.mark.slow  # a fresh Python, for an import that is otherwise done by now
def test_tensorflow_datasets_itself_failing_to_import_is_told(tmp_path):
    folder = store(tmp_path, "toy", {"train": random_images(3)})
    (tmp_path / "wrapt.py").write_text("raise ImportError('lib.so: cannot open')")
    load = "from draw_jax.data import prepared, splits; from ml_collections import ConfigDict\n"
    for name in ("toy", "mnist"):  # to be read, and to be prepared
        load += (
            f"config = ConfigDict(dict(name={name!r}, data_dir={str(tmp_path)!r}, manual_dir='',"
            "binarization='none',grey=False,resize=False))\ntry: splits.load(config, 'train')\n"
            "except splits.DataNotFound as error: print(error)\n"
        )
    done = subprocess.run(
        [sys.executable, "-c", load],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("cannot import the package wrapt (ImportError: lib.so: cannot open)")
        assert line.endswith("pip install --force-reinstall wrapt")
    assert folder.is_dir()


@pytest.mark.parametrize("splits", [5, ["train"], [{"name": "train", "shardLengths": ["x"]}], [{}]])
def test_a_strange_dataset_info_is_one_line_that_names_it(tmp_path, splits):
    info = {"fileFormat": "array_record", "splits": splits}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DataNotFound, match=r"cannot read .*dataset_info\.json \(.*: delete that"):
        prepared.split_sizes(tmp_path)


def test_examples_of_text_and_of_nested_features_are_told(tmp_path, monkeypatch):
    example = {"text": b"abc", "nested": {"a": 1}, "label": np.int64(3), "x": np.zeros(2, "f")}
    monkeypatch.setattr(prepared, "_examples", lambda *_: (e for e in [example]))
    told = r"got text bytes, nested dict, label int64 \(\), x float32 \(2,\)$"
    with pytest.raises(ValueError, match=told):
        prepared._decode(tmp_path, "train", 0, 1, None)


def test_a_set_with_configurations_names_them(tmp_path):
    store(tmp_path, "letters", {"train": random_images(2)})
    store(tmp_path / "emnist", "balanced", {"train": random_images(2)})
    (tmp_path / "other").mkdir()
    assert prepared.there(tmp_path, "nothing") == ""
    assert prepared.there(tmp_path, "other") == " (which is there in another format)"
    assert "such as emnist/balanced)" in prepared.there(tmp_path, "emnist")
    assert prepared.find(tmp_path, "emnist/balanced")
