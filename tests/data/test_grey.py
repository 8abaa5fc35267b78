"""Colour turned grey, against the luma of BT.601 pixel by pixel."""

import math
from fractions import Fraction

import numpy as np
import pytest

from draw_jax.data import grey, splits
from draw_jax.data.interface import ArraySplit
from tests.data.helpers import colours, config, store


def luma(red, green, blue):
    """Exactly: no float rounds a half to the wrong side."""
    exact = sum(Fraction(w, 1000) * int(v) for w, v in ((299, red), (587, green), (114, blue)))
    return math.floor(exact + Fraction(1, 2))


def test_the_luma_is_that_of_a_loop_over_pixels():
    images = colours(5)
    found = grey.luma(images)
    assert found.shape == (5, 8, 9, 1) and found.dtype == np.uint8
    for index in np.ndindex(5, 8, 9):
        assert found[(*index, 0)] == luma(*images[index])


def test_grey_stays_grey_and_a_half_is_rounded_up():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(grey.luma(values.repeat(3).reshape(1, 16, 16, 3)).ravel(), values)
    pixel = np.array([[[[0, 0, 250]]]], np.uint8)  # 28.5
    assert grey.luma(pixel) == 29
    assert [
        grey.luma(np.eye(3, dtype=np.uint8)[None, :, None] * 255)[0, k, 0, 0] for k in range(3)
    ] == [76, 150, 29]


def test_more_images_than_a_block():
    images = np.random.default_rng(0).integers(0, 256, (4100, 2, 1, 3), np.uint8)
    found = grey.luma(images)
    for n in (0, 4095, 4096, 4099):
        assert found[n, 1, 0, 0] == luma(*images[n, 1, 0])


def test_a_set_is_turned_grey_by_a_field(tmp_path):
    store(tmp_path, "toy", {"train": colours(20)}, labels=True)
    colour = splits.load(config("toy", tmp_path), "train")
    found = splits.load(config("toy", tmp_path, grey=True), "train")
    assert found.image_shape == (8, 9, 1) and not found.binary
    np.testing.assert_array_equal(found.images, grey.luma(colour.images))
    np.testing.assert_array_equal(found.labels, colour.labels)
    splits.check_shape(found, (8, 9, 1))


@pytest.mark.parametrize("name", ["digits", "cluttered_mnist"])
def test_a_grey_set_is_refused(name):
    data = config(name, grey=True)
    data.update({"source": "digits", "size": 40, "clutter": 1, "crop_size": 8})
    with pytest.raises(
        ValueError, match=f"data set '{name}' is grey already: set config.data.grey"
    ):
        splits.load(data, "train")


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((2, 3, 3, 1), np.uint8), r"uint8 \[2, 3, 3, 1\]"),
        (np.zeros((2, 3, 3, 3), np.float32), r"float32 \[2, 3, 3, 3\]"),
    ],
)
def test_other_arrays_are_refused(images, told):
    with pytest.raises(ValueError, match=rf"expected images uint8 \[N, H, W, 3\], got {told}"):
        grey.luma(images)


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_other_channels_are_no_grey_ones(channels):
    split = ArraySplit(np.zeros((2, 4, 4, channels), np.uint8), None, True)
    with pytest.raises(
        ValueError, match=f"has {channels} channels: set .*grey to False and .*resize"
    ):
        grey.turned(split, "npz")


def test_resized_pictures_are_grey_by_their_channels(tmp_path):
    settings = config("npz", tmp_path / "x.npz", grey=True, resize=True)
    for channels in (1, 3):
        with pytest.raises(ValueError, match=r"where config.model.image_shape has 1 channel; set"):
            splits.load(settings, "train", (8, 8, channels))
