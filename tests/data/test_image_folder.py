import hashlib
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image

from configs import image_folder as image_folder_config
from draw_jax.data import image_folder, prepared, splits
from draw_jax.model.build import build

GREY, COLOUR = (8, 8, 1), (8, 8, 3)


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "draw_jax"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def pixels(height, width, channels=None, seed=0):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def in_split(split, suffix=".png", prefix=""):
    """Returns a name that falls in a split."""
    names = (f"{prefix}{n}{suffix}" for n in range(10_000))
    return next(name for name in names if image_folder.split_of(name) == split)


def store(folder, image, name=None, **options):
    """Saves pixels or a picture under a name of the train split and returns its path."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    path = folder / (name or in_split("train"))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def fill(folder, count=120, shape=(8, 8)):
    for n in range(count):
        store(folder, pixels(*shape, seed=n), f"{n}.png")


def forbid_decoding(monkeypatch):
    def fail(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr(image_folder, "_decode", fail)


def test_a_picture_of_the_models_size_comes_through_exactly(folder):
    grey, colour = pixels(8, 8), pixels(8, 8, 3)
    path = store(folder, grey)
    np.testing.assert_array_equal(image_folder.read(folder, "train", GREY), grey[None, ..., None])
    store(folder, colour, path.name)
    images = image_folder.read(folder, "train", COLOUR)
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
    store(folder, image)
    (got,) = image_folder.read(folder, "train", shape)
    np.testing.assert_array_equal(got[..., 0], image[box])


def test_a_resized_picture_has_no_aliasing(folder):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))  # one pixel wide
    store(folder, stripes)
    (image,) = image_folder.read(folder, "train", GREY)
    # Every pixel stands for 32 black and 32 white ones: 127.5, apart from the filter's edges.
    assert np.abs(image.astype(int) - 127.5).max() < 4
    halves = np.zeros((64, 96), np.uint8)
    halves[:, 48:] = 200
    store(folder, halves)
    (image,) = image_folder.read(folder, "train", GREY)
    np.testing.assert_array_equal(image[:, 0], 0)
    np.testing.assert_array_equal(image[:, -1], 200)


def test_grey_becomes_colour_and_colour_grey(folder):
    grey, colour = pixels(8, 8), pixels(8, 8, 3)
    path = store(folder, grey)
    (got,) = image_folder.read(folder, "train", COLOUR)
    np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, -1))
    store(folder, colour, path.name)
    (got,) = image_folder.read(folder, "train", GREY)
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    np.testing.assert_allclose(got[..., 0], luma, atol=1)  # Pillow rounds in fixed point


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_transparency_is_laid_on_black(folder, shape):
    rgba = pixels(8, 8, 4)
    rgba[:4, :, 3], rgba[4:, :, 3] = 0, 255
    store(folder, rgba)
    (got,) = image_folder.read(folder, "train", shape)
    assert (got[:4] == 0).all()
    opaque = Image.fromarray(rgba[4:, :, :3]).convert("L" if shape == GREY else "RGB")
    np.testing.assert_array_equal(got[4:].squeeze(), np.asarray(opaque))
    store(folder, Image.new("LA", (8, 8), (200, 128)))  # grey, half transparent
    (got,) = image_folder.read(folder, "train", shape)
    np.testing.assert_allclose(got, 200 * 128 / 255, atol=1)


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_are_looked_up(folder, transparent):
    indices = pixels(8, 8) % 3
    palette = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 255]], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(palette.tobytes())
    store(folder, picture, **({"transparency": 1} if transparent else {}))
    if transparent:
        palette[1] = 0
    (got,) = image_folder.read(folder, "train", COLOUR)
    np.testing.assert_array_equal(got, palette[indices])


def test_one_and_sixteen_bits_fill_the_range(folder):
    bits = pixels(8, 8) > 127
    store(folder, bits)
    (got,) = image_folder.read(folder, "train", GREY)
    np.testing.assert_array_equal(got[..., 0], bits * 255)
    deep = np.random.default_rng(0).integers(0, 2**16, (8, 8), dtype=np.uint16)
    deep[0, :2] = 0, 65535
    store(folder, deep)
    (got,) = image_folder.read(folder, "train", COLOUR)
    np.testing.assert_allclose(got[..., 1], deep / 257, atol=0.51)  # rounded


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
    store(folder, np.ascontiguousarray(turns[orientation](upright)), exif=exif)
    (got,) = image_folder.read(folder, "train", (8, 12, 1))
    np.testing.assert_array_equal(got[..., 0], upright)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPEG", ".Jpg", ".webp", ".WebP"])
def test_formats_in_any_letter_case(folder, suffix):
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    store(folder, Image.fromarray(ramp), in_split("train", suffix), quality=95)
    (got,) = image_folder.read(folder, "train", GREY)
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
    path = store(folder, picture, in_split("train", ".jpg"), exif=exif, quality=95)
    (fast,) = image_folder.read(folder, "train", (16, 20, 3))
    picture.save(path.with_suffix(".png"), exif=exif)
    path.with_suffix(".png").rename(path)  # the content decides, not the suffix
    (exact,) = image_folder.read(folder, "train", (16, 20, 3))
    # The waves rise by up to 80 a pixel, so this is a shift of less than a sixth of one: at an
    # eighth of its size a side of 900 pixels is 113, half a pixel too long.
    np.testing.assert_allclose(fast.astype(int), exact, atol=12)


def test_sub_folders_are_searched_and_hidden_ones_are_not(folder, tmp_path):
    def name(prefix):
        return in_split("train", prefix=prefix)

    store(folder, pixels(8, 8, seed=1), name("b/c d/"))
    store(folder, pixels(8, 8, seed=2), name("a/"))
    store(folder, pixels(8, 8, seed=3), name("."))
    store(folder, pixels(8, 8, seed=4), name(".thumbnails/"))
    store(folder, pixels(8, 8, seed=5), name("a/.x/"))
    (folder / "notes.txt").write_text("no picture")
    store(tmp_path / "elsewhere", pixels(8, 8, seed=6), name("linked/").split("/")[1])
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "loop").symlink_to(folder)
    images = image_folder.read(folder, "train", GREY)
    expected = np.stack([pixels(8, 8, seed=n) for n in (2, 1, 6)])[..., None]
    np.testing.assert_array_equal(images, expected)


def test_splits_are_disjoint_whole_and_about_80_10_10(folder):
    fill(folder)
    images = {name: image_folder.read(folder, name, GREY) for name in splits.SPLITS}
    found = [image.tobytes() for images in images.values() for image in images]
    assert sorted(found) == sorted(pixels(8, 8, seed=n).tobytes() for n in range(120))
    names = [f"{n}/{n}.png" for n in range(10_000)]
    counts = {s: sum(image_folder.split_of(n) == s for n in names) for s in splits.SPLITS}
    # Four standard deviations of 10,000 draws.
    assert abs(counts["train"] - 8000) < 160
    assert abs(counts["validation"] - 1000) < 120 and abs(counts["test"] - 1000) < 120


def test_new_pictures_move_no_old_ones(folder):
    fill(folder, 60)
    before = {name: image_folder.read(folder, name, GREY) for name in splits.SPLITS}
    for n in range(60, 120):
        store(folder, pixels(8, 8, seed=n), f"{'more/' * (n % 2)}{n}.png")
    for name in splits.SPLITS:
        after = {image.tobytes() for image in image_folder.read(folder, name, GREY)}
        assert len(after) > len(before[name])
        assert {image.tobytes() for image in before[name]} < after


def test_the_split_of_a_name_is_the_documented_hash():
    for name in ("a.png", "cats/1.jpg", "größe/ä.webp"):
        digest = hashlib.sha256(name.encode()).hexdigest()
        percent = int(digest[:16], 16) / 16**16 * 100
        split = "train" if percent < 80 else "validation" if percent < 90 else "test"
        assert image_folder.split_of(name) == split
    # Fixed for good: another function would mix the splits of every existing run.
    elsewhere = [n for n in range(40) if image_folder.split_of(f"{n}.png") != "train"]
    assert elsewhere == [5, 9, 23, 27, 31, 32, 35]


@settings(max_examples=30)
@given(name=st.text())
def test_every_name_has_one_split_however_it_is_composed(name):
    split = image_folder.split_of(name)
    assert split in splits.SPLITS
    assert split == image_folder.split_of(unicodedata.normalize("NFD", name))


def test_broken_and_tiny_pictures_are_named_and_skipped(folder, capfd):
    fill(folder, 40)
    good = image_folder.read(folder, "train", GREY)
    names = [in_split("train", prefix=prefix) for prefix in ("tiny", "text", "half", "gif", "gone")]
    store(folder, pixels(7, 30), names[0])
    (folder / names[1]).write_text("<html>")
    whole = store(folder, pixels(30, 30), names[2]).read_bytes()
    (folder / names[2]).write_bytes(whole[: len(whole) // 2])
    store(folder, pixels(30, 30), names[3], format="GIF")
    (folder / names[4]).symlink_to("nowhere")
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(image_folder.read(folder, "train", GREY), good)
    out, err = capfd.readouterr()
    assert out == "" and err.startswith(f"warning: skipped 5 of {len(good) + 5} pictures for train")
    assert len(err.splitlines()) == 6
    for name, reason in zip(
        names, ["30x7 pixels, less than 8x8", "not a", "broken: ", "not a", "no such"], strict=True
    ):
        assert f"  {name}: {reason}" in err


def test_of_many_skipped_pictures_ten_are_named(folder, capfd):
    fill(folder, 30)
    good = len(image_folder.read(folder, "train", GREY))
    for n in range(13):
        (folder / in_split("train", prefix=f"bad{n}-")).write_bytes(b"")
    assert len(image_folder.read(folder, "train", GREY)) == good
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 12 and lines[-1] == "  and 3 more" and "skipped 13 of" in lines[0]


def test_a_second_read_takes_the_cache(folder, cache_dir, monkeypatch):
    fill(folder, 60, (20, 24))
    first = {name: image_folder.read(folder, name, COLOUR) for name in splits.SPLITS}
    assert len(list(cache_dir.iterdir())) == 3
    forbid_decoding(monkeypatch)
    monkeypatch.chdir(folder.parent)
    for name in splits.SPLITS:
        np.testing.assert_array_equal(image_folder.read("pictures", name, [8, 8, 3]), first[name])
    with pytest.raises(AssertionError, match="decoded again"):  # another shape, another cache
        image_folder.read(folder, "train", GREY)


@pytest.mark.parametrize("change", ["new", "gone", "renamed", "size", "time", "damaged cache"])
def test_the_cache_is_not_used_after_a_change(folder, cache_dir, change):
    fill(folder, 12)
    path = store(folder, pixels(8, 8, seed=99))
    before = len(image_folder.read(folder, "train", GREY))
    other = in_split("train", prefix="z")
    old = path.stat()
    if change == "new":
        store(folder, pixels(8, 8, seed=100), other)
    elif change == "gone":
        path.unlink()
    elif change == "renamed":
        path.rename(folder / other)
    elif change == "size":
        store(folder, pixels(16, 16, seed=1), path.name)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    elif change == "time":
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    else:
        (cache,) = cache_dir.iterdir()
        cache.write_bytes(cache.read_bytes()[:-1])
    again = image_folder.read(folder, "train", GREY)
    fresh, _ = image_folder._decode(
        [f for f in image_folder._find(folder) if image_folder.split_of(f.name) == "train"],
        "train",
        GREY,
    )
    np.testing.assert_array_equal(again, fresh)
    assert len(again) == before + {"new": 1, "gone": -1}.get(change, 0)
    assert len(list(cache_dir.iterdir())) == 1  # the former one is replaced


def test_errors_say_what_to_do(folder):
    def error(data_dir, split="train"):
        with pytest.raises(prepared.DataNotFound) as caught:
            image_folder.read(data_dir, split, GREY)
        return str(caught.value)

    assert "set --config.data.data_dir=DIR" in error("")
    assert f"{folder / 'no'} is not a folder: set --config.data.data_dir" in error(folder / "no")
    assert f"no pictures in data_dir {folder}: put .png, .jpg" in error(folder)
    (folder / in_split("train")).write_text("")
    message = error(folder)
    assert message.startswith("cannot use any of 1 of 1 pictures for train")
    assert "not a picture" in message and message.endswith("smaller.")
    message = error(folder, "test")
    assert "no picture for 'test' among the 1" in message and "\n" not in message
    assert "(train 1, validation 0, test 0; by a hash of the names): add pictures" in message
    for shape in ((8, 8, 4), (0, 8, 1)):
        with pytest.raises(ValueError, match=r"image_shape \(H, W, C\) .* image_folder, got"):
            image_folder.read(folder, "train", shape)


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    fill(folder, 3)
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):  # modes would not do: root may look into every folder
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(prepared.DataNotFound, match="cannot look into .*locked"):
        image_folder.read(folder, "train", GREY)


def config(data_dir, binarization="none"):
    return ConfigDict(
        {
            "name": "image_folder",
            "data_dir": str(data_dir),
            "manual_dir": "",
            "binarization": binarization,
        }
    )


def test_the_data_room_knows_the_set(folder):
    fill(folder, 40)
    split = splits.load(config(folder), "train", COLOUR)
    splits.check_shape(split, COLOUR)
    assert split.labels is None and not split.binary
    np.testing.assert_array_equal(split.images, image_folder.read(folder, "train", COLOUR))
    assert not splits.load(config(folder, "dynamic"), "train", GREY).binary
    with pytest.raises(ValueError, match="has grey values"):
        splits.load(config(folder, "fixed"), "train", GREY)
    with pytest.raises(ValueError, match="expected an image_shape"):
        splits.load(config(folder), "train")
    with pytest.raises(splits.DataNotFound, match="data_dir=DIR"):
        splits.load(config(""), "train", GREY)


def test_black_and_white_pictures_are_a_fixed_binarisation(folder):
    for n in range(30):
        store(folder, (pixels(8, 8, seed=n) > 127) * np.uint8(255), f"{n}.png")
    assert splits.load(config(folder, "fixed"), "train", GREY).binary
    with pytest.raises(ValueError, match="binary already"):
        splits.load(config(folder, "dynamic"), "train", GREY)


def test_the_configuration_builds_a_model_for_the_pictures(folder):
    cfg = image_folder_config.get_config()
    fill(folder, 30, (40, 40))
    cfg.data.data_dir = str(folder)
    model = build(cfg)
    splits.check_shape(splits.load(cfg.data, "train", cfg.model.image_shape), model.image_shape)


def test_no_progress_bar_off_a_terminal(folder):
    fill(folder, 30)
    code = (
        "import sys; from draw_jax.data import image_folder; "
        "print(len(image_folder.read(sys.argv[1], 'train', (8, 8, 1))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, folder], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stderr == "" and int(result.stdout) > 15
