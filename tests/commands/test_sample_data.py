"""What `sample` and `evaluate --nearest_nll` take of a split."""

import importlib

import jax
import numpy as np
import pytest

from draw_jax.commands import evaluate, sample
from draw_jax.data import splits
from draw_jax.data.builders import svhn_numbers
from draw_jax.data.interface import LazyImages
from draw_jax.drawing import latents
from tests.data.svhn_files import boxes, noise, write_archive


@pytest.fixture
def config():
    made = importlib.import_module("draw_jax.configs.mnist_two_digits").get_config()
    made.data.source = "digits"
    return made


@pytest.fixture
def of_digits():
    return importlib.import_module("draw_jax.configs.digits").get_config()


@pytest.mark.parametrize("seed", [0, 3])
def test_a_stream_is_that_of_the_run_cut_where_the_room_ends_and_that_is_said(
    config, monkeypatch, capsys, seed
):
    monkeypatch.setattr(sample, "_ROOM", 4 * 60 * 60 * 12 + 1)
    config.seed = seed
    shown = sample._training(config)
    assert "images of two_digits have no end: the first 12 stand for all" in capsys.readouterr().out
    stream = splits.load(config.data, "train", seed=seed).batch(np.arange(12)).images
    other = splits.load(config.data, "train", seed=seed + 1).batch(np.arange(12)).images
    np.testing.assert_allclose(shown, stream / 255, rtol=1e-6)
    assert shown.shape == (12, 60, 60, 1) and (stream != other).any()


@pytest.mark.parametrize(("count", "images"), [(7, 7), (500, 180)])
def test_the_first_images_of_a_split_are_taken(config, count, images, capsys):
    shown, labels = sample._data(config, "test", count)
    assert shown.shape == (images, 60, 60, 1) and labels is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("binarization", ["none", "dynamic"])
def test_training_images_that_have_room_are_one_array(of_digits, binarization, capsys):
    of_digits.data.binarization = binarization
    stored = splits.load(of_digits.data, "train").images
    expected = splits.prepare(stored, binarization, jax.random.key(0))
    np.testing.assert_array_equal(sample._training(of_digits), expected)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("binarization", ["none", "dynamic"])
def test_a_split_that_has_no_room_is_searched_to_its_last_image(
    of_digits, monkeypatch, binarization
):
    whole = sample._training(of_digits)
    monkeypatch.setattr(sample, "_ROOM", 4 * 28 * 28 * 1_436)
    of_digits.data.binarization = binarization
    lazy = sample._training(of_digits)
    assert isinstance(lazy, LazyImages) and lazy.shape == (1_437, 28, 28, 1)
    chosen = np.array([1_436, 0, 900, 35])
    images = lazy[chosen]
    if binarization == "none":
        np.testing.assert_allclose(images, whole[chosen], rtol=1e-6)
    else:  # one draw of each image, whatever it is read with
        assert set(np.unique(images).tolist()) == {0, 1}
        assert abs(lazy[:] - whole).max() < 1 and abs((lazy[:] - whole).mean()) < 0.01
    np.testing.assert_array_equal(images, lazy[:][chosen])
    found = latents.nearest(images, lazy, batch_size=100)
    np.testing.assert_array_equal(lazy[found], images)  # an image may be there twice
    assert found[0] == 1_436


def test_svhn_is_compared_by_its_middle_crops(tmp_path, monkeypatch):
    counts = {"train": 9, "extra": 7, "test": 1}
    monkeypatch.setattr(svhn_numbers, "COUNTS", counts)
    monkeypatch.setattr(sample, "_ROOM", 4 * 54 * 54 * 3 * 5)
    for part in ("train", "extra"):
        write_archive(tmp_path, part, *boxes(part, counts[part]), paint=noise)
    config = importlib.import_module("draw_jax.configs.svhn").get_config()
    config.seed, config.data.manual_dir, config.data.data_dir = 5, str(tmp_path), str(tmp_path)
    drawn, measured = sample._training(config), evaluate._training(config)
    folder = tmp_path / "draw_svhn/1.0.0"
    stored = np.concatenate([np.load(folder / f"{part}.npy") for part in ("train", "extra")])
    middle = stored[measured.rows, 5:59, 5:59]
    assert middle.shape == (15, 54, 54, 3) and not measured.varied
    np.testing.assert_array_equal(measured.batch(np.arange(15)).images, middle)
    np.testing.assert_allclose(drawn[:], middle / 255, rtol=1e-6)
    assert latents.nearest(drawn[:], drawn).tolist() == list(range(15))
    varied = splits.load(config.data, "train", seed=5)
    assert varied.varied and (varied.batch(np.arange(15)).images != middle).any()
