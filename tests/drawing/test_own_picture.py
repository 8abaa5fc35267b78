"""A picture of one's own becomes what the model was trained on."""

import os

import matplotlib
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from draw_jax.drawing import filters, own_picture
from draw_jax.drawing.filters import NoPicture
from tests.data.test_pictures import bare_png

MNIST = 20 / 28
FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf"


def picture(mode="L", paper=255, ink=0, size=(640, 480)):
    """Returns a picture with a 7 left of its middle and above it."""
    image = Image.new(mode, size, paper)
    font = ImageFont.truetype(FONT, size[1] // 2)
    ImageDraw.Draw(image).text((size[0] // 10, size[1] // 10), "7", fill=ink, font=font)
    return image


def load(image, path, box=MNIST, shape=(28, 28, 1), binary=False, **options):
    image.save(path, **options)
    return own_picture.load(path, shape, box, binary)


@pytest.fixture
def seven(tmp_path):
    """The 7, black on white, as MNIST would have it."""
    return load(picture(), tmp_path / "seven.png")


def test_a_digit_fills_mnists_box_its_mass_in_the_middle(seven):
    assert seven.shape == (1, 28, 28, 1) and seven.dtype == np.float32
    digit = seven[0, :, :, 0]
    assert digit.min() == 0 and digit.max() == 1
    rows, columns = np.flatnonzero(digit.max(1)), np.flatnonzero(digit.max(0))
    assert rows[-1] - rows[0] + 1 == 20  # a 7 is taller than wide
    assert 8 < columns[-1] - columns[0] + 1 < 20
    for axis in (0, 1):
        centre = np.average(np.arange(28), weights=digit.sum(1 - axis))
        assert abs(centre - 13.5) <= 0.5  # placed by whole pixels
    assert digit[rows[0] : rows[0] + 3].sum() > 2 * digit[rows[-1] - 2 : rows[-1] + 1].sum()


def near(ours, theirs):
    """Returns whether two digits are the same but for the rounding of their edges."""
    return np.abs(ours - theirs).mean() < 0.01


@pytest.mark.parametrize(
    ("mode", "paper", "ink"),
    [
        ("L", 0, 255),
        ("RGB", (240, 230, 200), (30, 40, 160)),
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)),  # as drawing programs save it
        ("RGBA", (255, 255, 255, 0), (0, 0, 0, 255)),
        ("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),
        ("LA", (0, 0), (0, 255)),
    ],
)
def test_ink_is_white_on_black_whatever_ink_and_paper_are(tmp_path, seven, mode, paper, ink):
    assert near(load(picture(mode, paper, ink), tmp_path / "a.png"), seven)


def test_a_picture_turned_by_its_camera_is_upright(tmp_path, seven):
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned a quarter clockwise
    turned = picture().rotate(90, expand=True)
    assert near(load(turned, tmp_path / "a.jpg", exif=exif, quality=95), seven)
    assert not near(load(turned, tmp_path / "b.jpg", quality=95), seven)


@pytest.mark.parametrize("name", ["photograph.png", "photograph.jpg"])
def test_a_large_noisy_unevenly_lit_photograph_is_a_clean_digit(tmp_path, seven, name):
    sheet = np.asarray(picture(paper=220, ink=50, size=(3200, 2400)), np.float32)
    light = np.linspace(0.75, 1, sheet.shape[1], dtype=np.float32)
    noise = 15 * np.random.default_rng(0).standard_normal(sheet.shape, np.float32)
    photograph = Image.fromarray((sheet * light + noise).clip(0, 255).astype(np.uint8))
    digit = load(photograph, tmp_path / name, binary=True)
    assert set(np.unique(digit)) == {0, 1}
    assert (digit != (seven >= 0.5)).mean() < 0.02


def test_scikit_learns_digits_fill_their_frame(tmp_path):
    digit = load(picture(), tmp_path / "a.png", own_picture.box(ConfigDict({"name": "digits"})))[
        0, :, :, 0
    ]
    assert digit[0].any() and digit[-1].any()


@pytest.mark.parametrize("name", ["cluttered_mnist", "two_digits"])
def test_a_digit_is_as_large_as_those_of_a_set_of_larger_images(tmp_path, name):
    share = own_picture.box(ConfigDict({"name": name, "size": 60}))
    digit = load(picture(), tmp_path / "a.png", share, (60, 60, 1))[0, :, :, 0]
    rows, columns = np.nonzero(digit > 0.1)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21


def test_another_picture_is_its_middle_at_its_own_brightness(tmp_path):
    y, x = np.mgrid[:60, :100]
    colours = np.stack([2 * x, 4 * y, 200 - 2 * x], -1).astype(np.uint8)
    image = load(Image.fromarray(colours), tmp_path / "a.png", None, (30, 30, 3))
    expected = colours[:, 20:80].reshape(30, 2, 30, 2, 3).mean((1, 3)) / 255
    # Lanczos and the mean of 2 x 2 agree on a gradient, but for the picture's borders.
    np.testing.assert_allclose(image[0, 2:-2, 2:-2], expected[2:-2, 2:-2], atol=0.01)
    grey = load(Image.fromarray(colours), tmp_path / "b.png", None, (30, 20, 1))
    assert grey.shape == (1, 30, 20, 1)
    luma = colours[:, 30:70].reshape(30, 2, 20, 2, 3).mean((1, 3)) @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(grey[0, 2:-2, 2:-2, 0], luma[2:-2, 2:-2], atol=0.02)


def test_what_holds_no_digit_is_told(tmp_path):
    for name, image in (
        ("white", Image.new("L", (50, 50), 255)),
        ("clear", Image.new("RGBA", (50, 50), (0, 0, 0, 0))),
        ("faint", picture(paper=255, ink=245)),
    ):
        with pytest.raises(NoPicture, match=f"{name}.png holds no ink"):
            load(image, tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, cause in (("text", "no PNG, JPEG or WebP"), ("missing", "No such file")):
        with pytest.raises(NoPicture, match=f"--image: cannot read .*{name}.png: {cause}"):
            own_picture.load(tmp_path / f"{name}.png", (28, 28, 1), MNIST, True)
    with pytest.raises(ValueError, match="expected a model of 1 or 3 channels, got 2"):
        load(picture(), tmp_path / "a.png", shape=(28, 28, 2))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (2, 2)])
def test_the_smallest_pictures_are_no_trouble(tmp_path, size):
    image = Image.new("L", size, 255)
    image.putpixel((0, 0), 0)
    try:
        assert load(image, tmp_path / "a.png").max() == 1
    except NoPicture:
        assert size == (1, 1)  # all of it is paper


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NoPicture, match="cannot read .*pipe: a pipe or a device, no file"):
        own_picture.load(tmp_path / "pipe", (28, 28, 1), MNIST, False)


def test_a_picture_past_the_limit_is_told_as_such(tmp_path):
    bare_png(tmp_path / "huge.png", 20_000, 20_000)
    told = "cannot read .*huge.png: more than 178,956,970 pixels, the limit; shrink it"
    with pytest.raises(NoPicture, match=f"--image: {told}"):
        own_picture.load(tmp_path / "huge.png", (28, 28, 1), MNIST, False)
    with pytest.raises(NoPicture, match=told):
        filters.load_picture(tmp_path / "huge.png", 64, colour=False)
