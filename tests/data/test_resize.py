"""Prepared sets of any size, cropped and resized by one field."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from draw_jax.data import pictures, splits
from draw_jax.data.sets import image_folder
from tests.data.helpers import colours, config, pixels, store, store_picture
from tests.data.test_prepared import png

ANY = tfds.features.Image(shape=(None, None, 3))


def load(tmp_path, image_shape, split="train", **options):
    return splits.load(config("toy", tmp_path, resize=True, **options), split, image_shape)


@pytest.mark.parametrize("image_shape", [(8, 8, 3), (6, 10, 3), (8, 8, 1), (12, 5, 1)])
def test_a_set_of_many_sizes_is_what_image_folder_makes_of_the_same_pictures(
    tmp_path, folder, image_shape
):
    sizes = [(20, 30), (41, 13), (16, 16), (97, 64), (12, 13)]
    images = [pixels(*size, 3, seed=k) for k, size in enumerate(sizes)]
    store(tmp_path, "toy", {"train": images, "validation": images[:1]}, ANY, png, labels=True)
    split = load(tmp_path, image_shape)
    assert split.images.shape == (5, *image_shape) and split.labels.tolist() == [0, 1, 2, 3, 4]
    for image, found in zip(images, split.images, strict=True):
        store_picture(folder, image)
        (expected,) = image_folder.read(folder, "train", image_shape).images
        np.testing.assert_array_equal(found, expected)


def test_the_middle_of_an_image_of_the_right_scale_stays_as_it_is(tmp_path):
    images = colours(4)  # 8x9
    store(tmp_path, "toy", {"train": images, "validation": images[:1]})
    np.testing.assert_array_equal(load(tmp_path, (8, 9, 3)).images, images)
    np.testing.assert_array_equal(load(tmp_path, (8, 5, 3)).images, images[:, :, 2:7])
    np.testing.assert_array_equal(load(tmp_path, (4, 9, 3)).images, images[:, 2:6])


def test_small_images_are_made_larger(tmp_path):
    ramp = np.linspace(0, 255, 8).astype(np.uint8)
    image = np.broadcast_to(ramp[:, None, None], (8, 8, 1))
    store(tmp_path, "toy", {"train": [image] * 2, "validation": [image]})
    found = load(tmp_path, (32, 32, 1)).images[0, :, 7, 0].astype(int)
    # In the middle of the ramp the filter is straight between values: a shift of under half a pixel.
    expected = np.interp((np.arange(32) + 0.5) / 4 - 0.5, np.arange(8), ramp)
    np.testing.assert_allclose(found[6:-6], expected[6:-6], atol=4)
    assert (np.diff(found) >= -3).all() and found[0] < 10 and found[-1] > 245  # Lanczos rings


def test_grey_becomes_colour_and_transparency_black():
    grey = pixels(6, 5)
    found = pictures.of_array(grey[..., None], (6, 5, 3))
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, -1))
    rgba = pixels(6, 5, 4)
    rgba[:3, :, 3], rgba[3:, :, 3] = 0, 255
    found = pictures.of_array(rgba, (6, 5, 3))
    assert (found[:3] == 0).all()
    np.testing.assert_array_equal(found[3:], rgba[3:, :, :3])
    colour = pixels(6, 5, 3)
    found = pictures.of_array(colour, (6, 5, 1))
    np.testing.assert_array_equal(found[..., 0], np.asarray(Image.fromarray(colour).convert("L")))


def test_without_it_sizes_and_shapes_name_the_field(tmp_path):
    images = [pixels(8, 9, 3), pixels(7, 9, 3)]
    store(tmp_path, "toy", {"train": images, "validation": images[:1]}, ANY, png)
    with pytest.raises(ValueError, match="of one size .* set config.data.resize to True"):
        splits.load(config("toy", tmp_path), "train", (8, 8, 3))
    split = splits.load(config("toy", tmp_path), "validation", (8, 8, 3))
    with pytest.raises(ValueError, match="or config.data.resize to True"):
        splits.check_shape(split, (8, 8, 3))


def test_each_size_has_a_cache_of_its_own(tmp_path, cache_dir):
    images = colours(4)
    store(tmp_path, "toy", {"train": images, "validation": images[:1]})
    for shape in ((4, 4, 3), (4, 4, 1), (5, 4, 3)):
        for _ in range(2):
            assert load(tmp_path, shape).image_shape == shape
    np.testing.assert_array_equal(splits.load(config("toy", tmp_path), "train").images, images)
    assert len(list(cache_dir.iterdir())) == 4


@pytest.mark.parametrize("name", ["digits", "cluttered_mnist", "two_digits", "svhn"])
def test_a_set_that_is_made_here_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name!r} is made at its own size: set config.data.res"):
        splits.load(config(name, tmp_path, resize=True), "train", (8, 8, 1))


@pytest.mark.parametrize("shape", [(8, 8, 2), (8, 8, 4), (0, 8, 3), None])
def test_other_shapes_of_the_model_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"image_shape \(H, W, C\).* for config.data.resize, got"):
        load(tmp_path, shape)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_0_and_1_are_resized_as_those_of_0_and_255(tmp_path, channels):
    bits = np.random.default_rng(0).integers(0, 2, (3, 8, 6, channels), np.uint8)
    bits[..., -1] |= channels == 4  # opaque
    found = []
    for name, images in (("toy", bits), ("other", 255 * bits)):
        store(tmp_path, name, {"train": images, "validation": images[:1]})
        np.savez(tmp_path / f"{name}.npz", train_images=images, test_images=images)
        from_folder = config(name, tmp_path, resize=True)
        from_file = config("npz", tmp_path / f"{name}.npz", resize=True)
        found += [
            splits.load(from_folder, "train", (4, 5, 1)),
            splits.load(from_file, "test", (4, 5, 1)),
        ]
    assert not any(split.binary for split in found) and len(np.unique(found[0].images)) > 5
    for split in found[1:]:
        np.testing.assert_array_equal(split.images, found[0].images)


@pytest.mark.parametrize("shape", [(3, 3, 5), (0, 3, 3)])
def test_images_that_are_no_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="with C 1 to 4, channels last, got"):
        pictures.of_array(np.zeros(shape, np.uint8), (8, 8, 3))
