from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.data.sets import digits
from tests.data.helpers import REAL_DATA, WHERE, colours, config, store


@pytest.mark.parametrize("size", [2, 9, 50])
def test_a_folder_without_validation_gives_the_last_tenth_of_train(tmp_path, size):
    images = colours(size)
    store(tmp_path, "toy", {"train": images, "test": colours(3, seed=1)})
    train, validation, test = (splits.load(config("toy", tmp_path), s) for s in splits.SPLITS)
    assert len(validation.images) == max(1, size // 10)
    np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), images)
    np.testing.assert_array_equal(test.images, colours(3, seed=1))
    assert train.labels is None and not train.binary


def test_a_folder_with_validation_keeps_it(tmp_path):
    stored = {"train": colours(4), "validation": colours(5, 1)}
    store(tmp_path, "toy", stored)
    for split, images in stored.items():
        np.testing.assert_array_equal(splits.load(config("toy", tmp_path), split).images, images)
    with pytest.raises(ValueError, match=r"no images for 'test' in .*'train': 4"):
        splits.load(config("toy", tmp_path), "test")


def test_zeros_and_ones_come_back_as_0_and_255(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (20, 28, 28, 1), dtype=np.uint8)
    stored = {"train": bits, "validation": bits[:7], "test": bits[7:]}
    store(tmp_path, "binarized_mnist", stored)  # a folder of tensorflow-datasets' own builder
    split = splits.load(config("binarized_mnist", tmp_path, binarization="fixed"), "test")
    assert split.binary
    np.testing.assert_array_equal(split.images, 255 * bits[7:])


def test_the_default_folder_is_that_of_tensorflow_datasets(tmp_path, monkeypatch):
    store(tmp_path / "default", "toy", {"test": colours(3)})
    assert len(splits.load(config("toy"), "test").images) == 3
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "default").rename(tmp_path / "tensorflow_datasets")
    assert len(splits.load(config("toy"), "test").images) == 3


@pytest.mark.parametrize("where", WHERE)
def test_colour_images_load(tmp_path, where):
    if where == "real":
        split = splits.load(config("cifar10", Path(REAL_DATA) / "tfds"), "validation")
        assert split.images.shape == (2000, 32, 32, 3) and split.labels.shape == (2000,)
        # The mean of the 50,000 training images is 0.473; 2,000 give it within 0.02.
        assert abs(split.images.mean() / 255 - 0.473) < 0.02
        assert set(split.labels) == set(range(10))
    else:
        store(tmp_path, "cifar10", {"train": colours(30)})
        split = splits.load(config("cifar10", tmp_path), "validation")
        np.testing.assert_array_equal(split.images, colours(30)[27:])


def test_digits_are_whole_disjoint_and_repeatable():
    loaded = [splits.load(config("digits"), s) for s in splits.SPLITS]
    assert [s.images.shape for s in loaded] == [(n, 28, 28, 1) for n in (1437, 180, 180)]
    for split in loaded:
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        assert (split.images.min(), split.images.max()) == (0, 255) and not split.binary
    # The 1,797 scans all differ, and still do when enlarged.
    assert len({image.tobytes() for s in loaded for image in s.images}) == 1797
    labels = np.concatenate([s.labels for s in loaded])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    again = splits.load(config("digits"), "validation")
    np.testing.assert_array_equal(again.images, loaded[1].images)
    np.testing.assert_array_equal(again.labels, loaded[1].labels)


def test_digits_look_like_the_scans():
    from sklearn.datasets import load_digits

    split = splits.load(config("digits"), "test")
    scans = load_digits()
    # Back to 8x8 by means over 3.5 pixels (7 half-pixels): nearest to a scan of that label. Means of
    # an interpolation are blurred, hence up to 17 of 255 away from the scan itself.
    small = split.images[..., 0].repeat(2, 1).repeat(2, 2).reshape(-1, 8, 7, 8, 7).mean((2, 4))
    for image, label in zip(small, split.labels, strict=True):
        error = np.abs(scans.images * 255 / 16 - image).mean((1, 2))
        assert error.min() < 20 and scans.target[error.argmin()] == label


@pytest.mark.parametrize("lacking", [False, True])
def test_digits_are_all_of_scikit_learns_wherever_its_file_is(lacking, tmp_path, monkeypatch):
    from sklearn.datasets import load_digits

    if lacking:
        nowhere = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr(digits, "find_spec", lambda name: nowhere)
    theirs = load_digits()
    pixels, labels = digits.scans()
    np.testing.assert_array_equal(pixels, theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)


def test_unknown_splits_and_binarizations_are_named():
    with pytest.raises(ValueError, match="train, validation, test, got 'valid'"):
        splits.load(config("digits"), "valid")
    with pytest.raises(ValueError, match="fixed, dynamic, none, got 'static'"):
        splits.load(config("digits", binarization="static"), "train")


def test_a_binarization_that_does_not_fit_the_set_says_what_to_use(tmp_path):
    with pytest.raises(ValueError, match="test images of .*'digits' have grey .*dynamic or none$"):
        splits.load(config("digits", binarization="fixed"), "test")
    store(tmp_path, "mnist", {"test": np.full((2, 28, 28, 1), 100, np.uint8)})
    with pytest.raises(ValueError, match="dynamic or none, or config.data.name to binarized_mnist"):
        splits.load(config("mnist", tmp_path, binarization="fixed"), "test")
    store(tmp_path, "bits", {"test": np.full((2, 28, 28, 1), 255, np.uint8)})
    with pytest.raises(ValueError, match="test images .*'bits' are binary already.* fixed or none"):
        splits.load(config("bits", tmp_path, binarization="dynamic"), "test")


def test_an_unknown_set_is_one_short_error(tmp_path):
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(config("celeb_a", tmp_path), "train")
    for part in ("'celeb_a'", str(tmp_path), "tfds build celeb_a", "data_dir", "configs/digits.py"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_folder_in_another_format_is_mentioned(tmp_path, name):
    folder = tmp_path / name / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
    with pytest.raises(splits.DataNotFound, match=f"{name} .which is there in another format"):
        splits.load(config(name, tmp_path), "train")


def test_check_shape_names_both_shapes_and_the_field():
    split = ArraySplit(np.zeros((3, 28, 20, 1), np.uint8), None, True)
    splits.check_shape(split, (28, 20, 1))
    splits.check_shape(split, [28, 20, 1])
    with pytest.raises(ValueError, match=r"model.image_shape \(32, 32, 3\), .*\(28, 20, 1\)"):
        splits.check_shape(split, (32, 32, 3))


def test_check_shape_tells_the_field_that_the_set_has():
    def told(name, shape=(28, 20, 1)):
        split = ArraySplit(np.zeros((3, *shape), np.uint8), None, True)
        with pytest.raises(
            ValueError, match="expected images of config.model.image_shape"
        ) as caught:
            splits.check_shape(split, (32, 32, 3), name)
        return str(caught.value).partition(": set ")[2]

    shape = "config.model.image_shape to that"
    assert told("npz") == f"{shape}, or config.data.resize to True"
    assert told("two_digits") == f"{shape}, or config.data.size"
    assert told("digits") == told("image_folder") == shape
    assert told("npz", (8, 8, 4)) == "config.data.resize to True"
    split = ArraySplit(np.zeros((3, 3, 8, 8), np.uint8), None, True)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\) \(channels come last\)"):
        splits.check_shape(split, (8, 8, 3), "npz")


def test_missing_labels_are_told_by_the_set():
    split = ArraySplit(np.zeros((3, 8, 8, 1), np.uint8), None, True)
    splits.check_labels(split, 0, "npz")
    for name, told in {
        "npz": "add train_labels and test_labels, and validation_labels beside",
        "image_folder": "where every picture lies in a sub-folder",
        "two_digits": "take another config.data.name",
    }.items():
        with pytest.raises(ValueError, match=f"needs labels, and this data set has none: .*{told}"):
            splits.check_labels(split, 10, name)


def test_an_empty_name_is_one_line_with_the_names():
    for name in ("", " "):
        with pytest.raises(ValueError, match="data.name is empty: set it to mnist, .*") as caught:
            splits.load(config(name), "train")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "binarized_mnist", "toy", "image_folder"])
def test_advice_has_the_flags_of_the_caller(tmp_path, name):
    (tmp_path / "bare").mkdir()
    for data_dir in (tmp_path / "bare", __file__):
        for flags in ("--config.data.", "--"):
            with pytest.raises(splits.DataNotFound) as caught:
                splits.load(config(name, data_dir), "train", (8, 8, 1), flags=flags)
            message = str(caught.value)
            assert "_dir=DIR" in message
            # `tfds build` has a flag of the same name.
            ours = message.replace("array_record --data_dir", "")
            assert ours.count("_dir=DIR") == sum(
                ours.count(f" {flags}{flag}_dir=DIR") for flag in ("data", "manual")
            )


@pytest.mark.parametrize("name", ["mnist", "toy", "image_folder"])
def test_a_data_dir_that_is_a_file_is_one_line(name):
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(config(name, __file__), "train", (8, 8, 1))
    message = str(caught.value)
    assert f"data_dir {__file__} is " in message and "--config.data.data_dir=DIR" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["mnist", "toy"])
@pytest.mark.parametrize("locked", ["", "1.0.0/dataset_info.json"])
def test_what_cannot_be_read_is_one_line(tmp_path, monkeypatch, name, locked):
    path = tmp_path / name / locked
    path.parent.mkdir(parents=True, exist_ok=True)

    def refuse(there, *arguments, **options):  # modes would not do: root may read everything
        if there == path:
            raise PermissionError(13, "Permission denied", str(there))
        return iterdir(there) if there.is_dir() else ""

    iterdir = type(path).iterdir
    monkeypatch.setattr(type(path), "iterdir", refuse)
    monkeypatch.setattr(type(path), "read_text", refuse)
    with pytest.raises(
        splits.DataNotFound, match="cannot look into .*: make it readable"
    ) as caught:
        splits.load(config(name, tmp_path), "train")
    message = str(caught.value)
    assert str(path) in message and "--config.data.data_dir=DIR" in message and "\n" not in message


def test_a_set_declares_whether_it_is_binary(tmp_path):
    bits = 255 * np.random.default_rng(0).integers(0, 2, (12, 4, 4, 1), dtype=np.uint8)
    for name in ("mnist", "binarized_mnist", "bits"):
        store(tmp_path, name, {"test": bits})
    # By chance no grey in these; nevertheless grey in general.
    assert not splits.load(config("mnist", tmp_path), "test").binary
    for name in ("binarized_mnist", "bits"):
        assert splits.load(config(name, tmp_path), "test").binary
    store(tmp_path / "grey", "binarized_mnist", {"test": bits // 2})
    with pytest.raises(ValueError, match="two values in the data set 'binarized_mnist', got grey"):
        splits.load(config("binarized_mnist", tmp_path / "grey"), "test")
