import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from draw_jax.data import pictures
from draw_jax.data.sets import image_folder
from tests.data.helpers import in_split, pixels, store_picture

GREY, COLOUR = (8, 8, 1), (8, 8, 3)


def read(folder, split, image_shape):
    return image_folder.read(folder, split, image_shape).images


def test_a_picture_of_the_models_size_comes_through_exactly(folder):
    grey, colour = pixels(8, 8), pixels(8, 8, 3)
    path = store_picture(folder, grey)
    np.testing.assert_array_equal(read(folder, "train", GREY), grey[None, ..., None])
    store_picture(folder, colour, path.name)
    images = read(folder, "train", COLOUR)
    np.testing.assert_array_equal(images, colour[None])
    assert images.dtype == np.uint8


@pytest.mark.parametrize(
    ("size", "shape", "box"),
    [
        ((8, 13), (8, 8, 1), np.s_[:, 2:10]),  # 5 pixels too many: 2 left, 3 right
        ((12, 8), (8, 8, 1), np.s_[2:10, :]),
        ((10, 9), (6, 9, 1), np.s_[2:8, :]),
        ((9, 12), (9, 4, 1), np.s_[:, 4:8]),
    ],
)
def test_the_crop_is_the_middle(folder, size, shape, box):
    image = pixels(*size)
    store_picture(folder, image)
    (got,) = read(folder, "train", shape)
    np.testing.assert_array_equal(got[..., 0], image[box])


def test_a_resized_picture_has_no_aliasing(folder):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))  # one pixel wide
    store_picture(folder, stripes)
    (image,) = read(folder, "train", GREY)
    # Every pixel stands for 32 black and 32 white ones: 127.5, apart from the filter's edges.
    assert np.abs(image.astype(int) - 127.5).max() < 4
    halves = np.zeros((64, 96), np.uint8)
    halves[:, 48:] = 200
    store_picture(folder, halves)
    (image,) = read(folder, "train", GREY)
    np.testing.assert_array_equal(image[:, 0], 0)
    np.testing.assert_array_equal(image[:, -1], 200)


def test_grey_becomes_colour_and_colour_grey(folder):
    grey, colour = pixels(8, 8), pixels(8, 8, 3)
    path = store_picture(folder, grey)
    (got,) = read(folder, "train", COLOUR)
    np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, -1))
    store_picture(folder, colour, path.name)
    (got,) = read(folder, "train", GREY)
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    np.testing.assert_allclose(got[..., 0], luma, atol=1)  # Pillow rounds in fixed point


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_transparency_is_laid_on_black(folder, shape):
    rgba = pixels(8, 8, 4)
    rgba[:4, :, 3], rgba[4:, :, 3] = 0, 255
    store_picture(folder, rgba)
    (got,) = read(folder, "train", shape)
    assert (got[:4] == 0).all()
    opaque = Image.fromarray(rgba[4:, :, :3]).convert("L" if shape == GREY else "RGB")
    np.testing.assert_array_equal(got[4:].squeeze(), np.asarray(opaque))
    store_picture(folder, Image.new("LA", (8, 8), (200, 128)))  # grey, half transparent
    (got,) = read(folder, "train", shape)
    np.testing.assert_allclose(got, 200 * 128 / 255, atol=1)


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_are_looked_up(folder, transparent):
    indices = pixels(8, 8) % 3
    palette = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 255]], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(palette.tobytes())
    store_picture(folder, picture, **({"transparency": 1} if transparent else {}))
    if transparent:
        palette[1] = 0
    (got,) = read(folder, "train", COLOUR)
    np.testing.assert_array_equal(got, palette[indices])


def test_one_and_sixteen_bits_fill_the_range(folder):
    bits = pixels(8, 8) > 127
    store_picture(folder, bits)
    (got,) = read(folder, "train", GREY)
    np.testing.assert_array_equal(got[..., 0], bits * 255)
    deep = np.random.default_rng(0).integers(0, 2**16, (8, 8), dtype=np.uint16)
    deep[0, :2] = 0, 65535
    store_picture(folder, deep)
    (got,) = read(folder, "train", COLOUR)
    np.testing.assert_allclose(got[..., 1], deep / 257, atol=0.51)  # rounded


def test_the_transparent_value_of_sixteen_bits_lies_on_black():
    deep = np.full((4, 4), 65535, np.uint16)
    deep[0] = 30_000
    picture = Image.fromarray(deep)
    picture.info["transparency"] = 65535
    turned = np.asarray(pictures.turned(picture, 1))
    assert (turned[1:] == 0).all() and (turned[0] == 117).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(folder, orientation):
    upright = pixels(8, 12)
    turns = {  # how a camera stores an upright picture that it marks so
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    store_picture(folder, np.ascontiguousarray(turns[orientation](upright)), exif=exif)
    (got,) = read(folder, "train", (8, 12, 1))
    np.testing.assert_array_equal(got[..., 0], upright)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPEG", ".Jpg", ".webp", ".WebP"])
def test_formats_in_any_letter_case(folder, suffix):
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    store_picture(folder, Image.fromarray(ramp), in_split("train", suffix), quality=95)
    (got,) = read(folder, "train", GREY)
    expected = ramp.reshape(8, 8, 8, 8).mean((1, 3))
    # Lossy formats, and a Lanczos filter where this takes means.
    np.testing.assert_allclose(got[..., 0], expected, atol=6)


@pytest.mark.parametrize(("size", "orientation"), [((400, 900), 1), ((900, 400), 6)])
def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same(folder, size, orientation):
    y, x = np.mgrid[: size[0], : size[1]]
    waves = np.stack([np.sin(x / 40), np.cos(y / 30), np.sin((x + y) / 50)], -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(((waves + 1) * 127).astype(np.uint8))
    path = store_picture(folder, picture, in_split("train", ".jpg"), exif=exif, quality=95)
    (fast,) = read(folder, "train", (16, 20, 3))
    picture.save(path.with_suffix(".png"), exif=exif)
    path.with_suffix(".png").rename(path)  # the content decides, not the suffix
    (exact,) = read(folder, "train", (16, 20, 3))
    # The waves rise by up to 80 a pixel, so this is a shift of less than a sixth of one: at an
    # eighth of its size a side of 900 pixels is 113, half a pixel too long.
    np.testing.assert_allclose(fast.astype(int), exact, atol=12)


def bare_png(path, width, height):
    """Write a PNG of one grey bit a pixel, black, without ever holding its pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer, row = zlib.compressobj(1), bytes(1 + (width + 7) // 8)
    pixels = b"".join([packer.compress(row * height), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_a_picture_past_the_limit_is_skipped_with_the_limit(folder, capfd):
    store_picture(folder, pixels(8, 8))
    name = in_split("train", prefix="huge")
    bare_png(folder / name, 20_000, 20_000)
    assert len(read(folder, "train", GREY)) == 1
    reason = capfd.readouterr().err.splitlines()[1].strip()
    assert reason == f"{name}: more than 178,956,970 pixels, the limit; shrink it"


def test_a_large_picture_brings_no_warning(folder, capfd):
    path = folder / in_split("train")
    bare_png(path, 10_000, 9_000)  # Pillow warns from 89,478,486 pixels on
    assert image_folder.open_picture(path, 1).size == (10_000, 9_000)
    assert capfd.readouterr() == ("", "")
