"""Images of one's own from an .npz file."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from draw_jax.data import splits
from tests.data.helpers import REAL_DATA, WHERE, colours, config

SIZE = 25


def arrays(**changes):
    """Returns arrays of a whole file, with changes; None takes one away."""
    rng = np.random.default_rng(0)
    found = {
        "train_images": colours(SIZE),
        "train_labels": rng.integers(0, 7, SIZE).astype(np.int16),
        "test_images": colours(6, seed=1),
        "test_labels": rng.integers(0, 7, 6),
        "class_names": np.array(["a", "b"]),
    } | changes
    return {name: value for name, value in found.items() if value is not None}


@pytest.fixture
def file(tmp_path):
    def write(**changes):
        np.savez(tmp_path / "mine.npz", **arrays(**changes))
        return tmp_path / "mine.npz"

    return write


def load(path, *names, **options):
    shape = options.pop("image_shape", None)
    found = [splits.load(config("npz", path, **options), name, shape) for name in names]
    return found if len(found) > 1 else found[0]


def test_images_and_labels_are_those_of_the_file(file):
    stored = arrays()
    train, validation, test = load(file(), *splits.SPLITS)
    assert (len(train), len(validation)) == (SIZE - 2, 2)
    for split in (train, validation, test):
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        assert split.image_shape == (8, 9, 3) and not split.binary
    np.testing.assert_array_equal(test.images, stored["test_images"])
    np.testing.assert_array_equal(test.labels, stored["test_labels"])
    places = {image.tobytes(): place for place, image in enumerate(stored["train_images"])}
    found = [[places[image.tobytes()] for image in split.images] for split in (train, validation)]
    assert sorted(found[0] + found[1]) == list(range(SIZE)) and found[0] == sorted(found[0])
    for split, chosen in zip((train, validation), found, strict=True):
        np.testing.assert_array_equal(split.labels, stored["train_labels"][chosen])


def test_a_member_that_is_no_array_is_told(tmp_path):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("train_images", b"no array")
        file.writestr("test_images.npy", b"text")
    for split in ("train", "test"):
        with pytest.raises(
            splits.DataNotFound, match=r"images is no array\): write it by numpy.savez"
        ):
            load(path, split)


def test_validation_is_seeded_not_the_last_of_a_file_in_order_of_its_classes(file):
    path = file(train_images=colours(100), train_labels=np.arange(100) // 10)
    train, validation = load(path, "train", "validation")
    assert len(validation) == 10 and len(set(validation.labels.tolist())) > 3
    again = load(path, "validation")
    np.testing.assert_array_equal(again.images, validation.images)
    assert not set(map(bytes, train.images)) & set(map(bytes, validation.images))


def test_a_files_own_validation_is_kept(file):
    path = file(validation_images=colours(4, seed=2))
    train, validation = load(path, "train", "validation")
    np.testing.assert_array_equal(train.images, colours(SIZE))
    np.testing.assert_array_equal(validation.images, colours(4, seed=2))
    assert validation.labels is None and train.labels is not None


def test_grey_images_without_an_axis_of_channels_and_images_of_0_and_1(file):
    bits = np.random.default_rng(0).integers(0, 2, (6, 5, 4), dtype=np.uint8)
    split = load(file(test_images=bits, test_labels=None), "test", binarization="fixed")
    assert split.binary and split.labels is None and split.image_shape == (5, 4, 1)
    np.testing.assert_array_equal(split.images[..., 0], 255 * bits)


def test_resized_images_and_their_cache(file, cache_dir):
    path = file()
    first = load(path, "test", resize=True, image_shape=(4, 4, 1))
    assert first.image_shape == (4, 4, 1) and len(list(cache_dir.iterdir())) == 1
    again = load(path, "test", resize=True, image_shape=(4, 4, 1))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, arrays()["test_labels"])
    file(test_images=colours(6, seed=9))  # written anew
    assert not (load(path, "test", resize=True, image_shape=(4, 4, 1)).images == again.images).all()


@pytest.mark.parametrize("where", WHERE)
def test_omniglots_arrays_as_they_were_shrunk(where, tmp_path):
    if where == "real":
        path, train, test = Path(REAL_DATA) / "omniglot" / "omniglot28.npz", 19_280, 13_180
    else:
        path, train, test = tmp_path / "drawings.npz", 40, 20
        np.savez(
            path,
            train_images=np.random.default_rng(0).integers(0, 256, (train, 28, 28), np.uint8),
            train_labels=(np.arange(train) // 20).astype(np.int16),
            test_images=np.random.default_rng(1).integers(0, 256, (test, 28, 28), np.uint8),
            test_labels=np.full(test, train // 20, np.int16),
            class_names=np.array(["A-character01", "A-character02", "B-character01"]),
        )
    loaded = load(path, *splits.SPLITS, binarization="dynamic")
    assert [len(split) for split in loaded] == [train - train // 10, train // 10, test]
    assert all(split.image_shape == (28, 28, 1) and not split.binary for split in loaded)
    seen = [set(split.labels.tolist()) for split in loaded]
    assert len(seen[0]) == train // 20 and seen[1] <= seen[0]  # no alphabet is validation's alone
    assert not seen[0] & seen[2]


@pytest.mark.parametrize(
    ("changes", "split", "told"),
    [
        (
            {"train_images": None},
            "train",
            "expected an array train_images in .*, which has class_n",
        ),
        ({"train_images": None}, "validation", "expected an array train_images in"),
        ({"test_images": None}, "test", "expected an array test_images in .*train_labels"),
        (
            {"train_images": np.zeros((3, 4, 4), np.float32)},
            "train",
            r"train_images in .*, uint8 \[N, H, W\] or .*got float32 \[3, 4, 4\]",
        ),
        ({"test_images": np.zeros((6, 16), np.uint8)}, "test", r"got uint8 \[6, 16\]"),
        ({"test_images": np.zeros((0, 4, 4), np.uint8)}, "test", r"got uint8 \[0, 4, 4\]"),
        ({"test_labels": np.zeros(5, int)}, "test", r"whole numbers \[6\].*got int64 \[5\]"),
        ({"test_labels": np.zeros(6)}, "test", "whole numbers .*got float64"),
        ({"test_labels": np.full(6, 2**40)}, "test", "of 32 bits, got 1099511627776"),
        ({"train_images": colours(1), "train_labels": None}, "train", "no images for 'train' in"),
    ],
)
def test_arrays_of_something_else_are_named(file, changes, split, told):
    with pytest.raises(ValueError, match=told) as caught:
        load(file(**changes), split)
    assert "\n" not in str(caught.value)


def test_no_file_or_another_one_is_one_line(tmp_path, file):
    path = file()
    whole = path.read_bytes()
    np.save(tmp_path / "one.npy", colours(3))
    np.savez(tmp_path / "objects.npz", test_images=np.array([{}, {}], object))
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 3
    (tmp_path / "flipped.npz").write_bytes(
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    )
    for name, told in (
        ("", "needs your file of arrays: set --config.data.data_dir=FILE.npz"),
        ("nowhere.npz", "nowhere.npz is not a file"),
        (".", "is not a file"),
        ("one.npy", r"one.npy \(it is no .npz file"),
        ("half.npz", r"half.npz \(it is no .npz file"),
        ("objects.npz", "objects.npz .*allow_pickle=False"),
        ("flipped.npz", "flipped.npz .*CRC-32"),
    ):
        with pytest.raises(splits.DataNotFound, match=told) as caught:
            load(tmp_path / name if name else "", "train" if name == "flipped.npz" else "test")
        assert "\n" not in str(caught.value)
