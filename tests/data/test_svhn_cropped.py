"""Cropped SVHN from small .mat files of MATLAB 5, through the builder of our own."""

import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy import io
from tensorflow_datasets.core.download import checksums

from draw_jax.data import splits
from draw_jax.data.builders import draw_svhn_cropped
from draw_jax.data.grey import luma
from tests.data.helpers import colours, config, store

SIZES = {"train": 40, "test": 7}
VALIDATION = 4  # the last tenth of train


def write(path, count, seed=0, **changes):
    """Writes a .mat file as the originals are: X in the order HWCN, digit 0 with the label 10."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
    labels = 1 + (np.arange(count) % 10)[:, None].astype(np.uint8)
    io.savemat(path, {"X": images, "y": labels} | changes, do_compression=True)
    return images, labels


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """A manual_dir, whose files are the ones that the builder expects, and their arrays."""
    folder = tmp_path / "manual"
    folder.mkdir()
    written, infos = {}, {}
    for split, name in draw_svhn_cropped.FILES.items():
        written[split] = write(folder / name, SIZES[split], seed=len(split))
        content = (folder / name).read_bytes()
        infos[draw_svhn_cropped.URL + name] = checksums.UrlInfo(
            size=tfds.core.utils.Size(len(content)),
            checksum=hashlib.sha256(content).hexdigest(),
            filename=name,
        )
    monkeypatch.setattr(draw_svhn_cropped.DrawSvhnCropped, "url_infos", infos)
    return folder, written


def examples(images, labels):
    """Returns sorted [(pixels, label)]."""
    return sorted(zip((image.tobytes() for image in images), labels.tolist(), strict=True))


@pytest.mark.parametrize("split", splits.SPLITS)
def test_splits_are_the_files_images_with_digit_0_as_0(tmp_path, originals, split):
    folder, written = originals
    settings = config("svhn_cropped", tmp_path / "data", folder)
    images, labels = written["test" if split == "test" else "train"]
    expected = examples(np.moveaxis(images, -1, 0), labels.ravel() % 10)
    made = splits.load(settings, split)
    assert made.image_shape == (32, 32, 3) and not made.binary
    got = examples(made.images, made.labels)
    assert set(got) <= set(expected) and len(set(got)) == len(got)
    sizes = {"train": SIZES["train"] - VALIDATION, "validation": VALIDATION, "test": SIZES["test"]}
    assert len(got) == sizes[split]
    other = {"train": "validation", "validation": "train"}.get(split)
    if other:
        rest = splits.load(settings, other)
        assert sorted([*got, *examples(rest.images, rest.labels)]) == expected
    settings.grey = True
    np.testing.assert_array_equal(splits.load(settings, split).images, luma(made.images))
    assert set(made.labels.tolist()) <= set(range(10))


def test_the_checksums_are_those_of_both_originals():
    infos = draw_svhn_cropped.DrawSvhnCropped.url_infos
    ours = {u: i for u, i in infos.items() if u.startswith(draw_svhn_cropped.URL)}
    assert sorted(i.filename for i in ours.values()) == ["test_32x32.mat", "train_32x32.mat"]
    theirs = tfds.builder_cls("svhn_cropped").url_infos
    assert all(theirs[url] == info for url, info in ours.items())


def test_a_wrong_checksum_names_the_file(tmp_path, originals):
    folder, _ = originals
    path = folder / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(splits.DataNotFound, match=r"test_32x32\.mat") as caught:
        splits.load(config("svhn_cropped", tmp_path / "data", folder), "train")
    assert "checksum" in str(caught.value).splitlines()[0]


def test_without_files_or_a_network_the_ways_out_are_told(tmp_path):
    with pytest.raises(splits.DataNotFound, match="cannot download .*test_32x32.mat") as caught:
        splits.load(config("svhn_cropped", tmp_path / "data"), "train")
    assert "housenumbers/{test_32x32.mat,train_32x32.mat}" in str(caught.value)


def test_a_folder_of_tensorflow_datasets_is_taken_as_it_is(tmp_path):
    images = np.resize(colours(20), (20, 32, 32, 3))
    store(tmp_path, "svhn_cropped", {"train": images, "test": images[:3]}, labels=True)
    made = splits.load(config("svhn_cropped", tmp_path), "train")
    np.testing.assert_array_equal(made.images, images[:18])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"X": np.zeros((32, 32, 3, 5), np.uint8)}, r"got X uint8 \[32, 32, 3, 5\] and 6 labels"),
        ({"X": np.zeros((32, 32, 3, 6))}, r"got X float64 \[32, 32, 3, 6\]"),
        ({"X": np.zeros((6, 32, 32, 3), np.uint8)}, r"got X uint8 \[6, 32, 32, 3\]"),
        ({"y": np.arange(6)}, "expected labels 1 to 10 in .*a.mat, got 0 to 5"),
        ({"y": np.arange(6, 12)}, "expected labels 1 to 10 in .*a.mat, got 6 to 11"),
    ],
)
def test_a_mat_file_of_something_else_is_told(tmp_path, changes, told):
    write(tmp_path / "a.mat", 6, **changes)
    with pytest.raises(ValueError, match=told):
        draw_svhn_cropped.parse_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_mat_file_cut_short_is_named(tmp_path, kept):
    path = tmp_path / "a.mat"
    write(path, 6)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept in (0, 100) else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"a\.mat is not a whole \.mat file with X and y"):
        draw_svhn_cropped.parse_mat(path)


def test_a_mat_file_without_labels_or_of_another_kind_is_named(tmp_path):
    io.savemat(tmp_path / "a.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8)})
    (tmp_path / "b.mat").write_bytes(b"<html>404 not found</html>" * 20)
    for name in ("a", "b"):
        with pytest.raises(
            ValueError, match=rf"{name}\.mat is not a whole \.mat file with X and y"
        ):
            draw_svhn_cropped.parse_mat(tmp_path / f"{name}.mat")
