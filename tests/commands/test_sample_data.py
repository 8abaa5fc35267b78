"""What `sample` takes of a split: all of it, or as much as has room."""

import importlib

import numpy as np
import pytest

from draw_jax.commands import sample
from draw_jax.data import splits


@pytest.fixture
def config():
    made = importlib.import_module("draw_jax.configs.mnist_two_digits").get_config()
    made.data.source = "digits"
    return made


def test_a_stream_is_cut_where_the_room_ends_and_that_is_said(config, monkeypatch, capsys):
    monkeypatch.setattr(sample, "_ROOM", 4 * 60 * 60 * 12 + 1)
    shown, labels = sample._data(config, "train", None)
    assert "first 12 images of two_digits's train split" in capsys.readouterr().out
    stream = splits.load(config.data, "train").batch(np.arange(12)).images
    np.testing.assert_allclose(shown, stream / 255, rtol=1e-6)
    assert shown.shape == (12, 60, 60, 1) and labels is None


@pytest.mark.parametrize(("count", "images"), [(None, 180), (7, 7), (500, 180)])
def test_a_split_with_an_end_is_taken_whole(config, count, images, capsys):
    assert sample._data(config, "test", count).images.shape == (images, 60, 60, 1)
    assert capsys.readouterr().out == ""
