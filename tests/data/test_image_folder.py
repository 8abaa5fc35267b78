import hashlib
import os
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import image_folder as image_folder_config
from draw_jax.data import prepared, splits
from draw_jax.data.sets import folders, image_folder
from draw_jax.model.build import build
from tests.data.helpers import config, in_split, pixels, store_picture

GREY, COLOUR = (8, 8, 1), (8, 8, 3)


def read(folder, split, image_shape):
    return image_folder.read(folder, split, image_shape).images


def pictures(data_dir, binarization="none"):
    return config("image_folder", data_dir, binarization=binarization)


def fill(folder, count=120, shape=(8, 8)):
    for n in range(count):
        store_picture(folder, pixels(*shape, seed=n), f"{n}.png")


def forbid_decoding(monkeypatch):
    def fail(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr(image_folder, "_decode", fail)


def test_sub_folders_are_searched_and_hidden_ones_are_not(folder, tmp_path):
    def name(prefix):
        return in_split("train", prefix=prefix)

    store_picture(folder, pixels(8, 8, seed=1), name("b/c d/"))
    store_picture(folder, pixels(8, 8, seed=2), name("a/"))
    store_picture(folder, pixels(8, 8, seed=3), name("."))
    store_picture(folder, pixels(8, 8, seed=4), name(".thumbnails/"))
    store_picture(folder, pixels(8, 8, seed=5), name("a/.x/"))
    (folder / "notes.txt").write_text("no picture")
    store_picture(tmp_path / "elsewhere", pixels(8, 8, seed=6), name("linked/").split("/")[1])
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "loop").symlink_to(folder)
    images = read(folder, "train", GREY)
    expected = np.stack([pixels(8, 8, seed=n) for n in (2, 1, 6)])[..., None]
    np.testing.assert_array_equal(images, expected)


def test_splits_are_disjoint_whole_and_about_80_10_10(folder):
    fill(folder)
    images = {name: read(folder, name, GREY) for name in splits.SPLITS}
    found = [image.tobytes() for images in images.values() for image in images]
    assert sorted(found) == sorted(pixels(8, 8, seed=n).tobytes() for n in range(120))
    names = [f"{n}/{n}.png" for n in range(10_000)]
    counts = {s: sum(folders.split_of(n) == s for n in names) for s in splits.SPLITS}
    # Four standard deviations of 10,000 draws.
    assert abs(counts["train"] - 8000) < 160
    assert abs(counts["validation"] - 1000) < 120 and abs(counts["test"] - 1000) < 120


def test_new_pictures_move_no_old_ones(folder):
    fill(folder, 60)
    before = {name: read(folder, name, GREY) for name in splits.SPLITS}
    for n in range(60, 120):
        store_picture(folder, pixels(8, 8, seed=n), f"{'more/' * (n % 2)}{n}.png")
    for name in splits.SPLITS:
        after = {image.tobytes() for image in read(folder, name, GREY)}
        assert len(after) > len(before[name])
        assert {image.tobytes() for image in before[name]} < after


def test_the_split_of_a_name_is_the_documented_hash():
    for name in ("a.png", "cats/1.jpg", "größe/ä.webp"):
        digest = hashlib.sha256(name.encode()).hexdigest()
        percent = int(digest[:16], 16) / 16**16 * 100
        split = "train" if percent < 80 else "validation" if percent < 90 else "test"
        assert folders.split_of(name) == split
    # Fixed for good: another function would mix the splits of every existing run.
    elsewhere = [n for n in range(40) if folders.split_of(f"{n}.png") != "train"]
    assert elsewhere == [5, 9, 23, 27, 31, 32, 35]


@settings(max_examples=30)
@given(name=st.text("aZ9é Å/가e\u0301\u030a\U0001f600\udcff", max_size=12))
def test_every_name_has_one_split_however_it_is_composed(name):
    split = folders.split_of(name)
    assert split in splits.SPLITS
    assert split == folders.split_of(unicodedata.normalize("NFD", name))


def test_broken_and_tiny_pictures_are_named_and_skipped(folder, capfd):
    fill(folder, 40)
    good = read(folder, "train", GREY)
    names = [in_split("train", prefix=prefix) for prefix in ("tiny", "text", "half", "gif", "gone")]
    store_picture(folder, pixels(7, 30), names[0])
    (folder / names[1]).write_text("<html>")
    whole = store_picture(folder, pixels(30, 30), names[2]).read_bytes()
    (folder / names[2]).write_bytes(whole[: len(whole) // 2])
    store_picture(folder, pixels(30, 30), names[3], format="GIF")
    (folder / names[4]).symlink_to("nowhere")
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(read(folder, "train", GREY), good)
    out, err = capfd.readouterr()
    assert out == "" and err.startswith(f"warning: skipped 5 of {len(good) + 5} pictures for train")
    assert len(err.splitlines()) == 6
    for name, reason in zip(
        names, ["30x7 pixels, less than 8x8", "not a", "broken: ", "not a", "no such"], strict=True
    ):
        assert f"  {name}: {reason}" in err


def test_of_many_skipped_pictures_ten_are_named(folder, capfd):
    fill(folder, 30)
    good = len(read(folder, "train", GREY))
    for n in range(13):
        (folder / in_split("train", prefix=f"bad{n}-")).write_bytes(b"")
    assert len(read(folder, "train", GREY)) == good
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 12 and lines[-1] == "  and 3 more" and "skipped 13 of" in lines[0]


def test_a_second_read_takes_the_cache(folder, cache_dir, monkeypatch):
    fill(folder, 60, (20, 24))
    first = {name: read(folder, name, COLOUR) for name in splits.SPLITS}
    assert len(list(cache_dir.iterdir())) == 3
    forbid_decoding(monkeypatch)
    monkeypatch.chdir(folder.parent)
    for name in splits.SPLITS:
        np.testing.assert_array_equal(read("pictures", name, [8, 8, 3]), first[name])
    with pytest.raises(AssertionError, match="decoded again"):  # another shape, another cache
        read(folder, "train", GREY)


@pytest.mark.parametrize("change", ["new", "gone", "renamed", "size", "time", "damaged cache"])
def test_the_cache_is_not_used_after_a_change(folder, cache_dir, monkeypatch, change):
    fill(folder, 12)
    path = store_picture(folder, pixels(8, 8, seed=99))
    before = len(read(folder, "train", GREY))
    other = in_split("train", prefix="z")
    old = path.stat()
    if change == "new":
        store_picture(folder, pixels(8, 8, seed=100), other)
    elif change == "gone":
        path.unlink()
    elif change == "renamed":
        path.rename(folder / other)
    elif change == "size":
        store_picture(folder, pixels(16, 16, seed=1), path.name)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    elif change == "time":
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    else:
        (cache,) = cache_dir.iterdir()
        cache.write_bytes(cache.read_bytes()[:-1])
    again = read(folder, "train", GREY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "no cache yet"))
    fresh = read(folder, "train", GREY)
    np.testing.assert_array_equal(again, fresh)
    assert len(again) == before + {"new": 1, "gone": -1}.get(change, 0)
    assert len(list(cache_dir.iterdir())) == 1  # the former one is replaced


def test_errors_say_what_to_do(folder):
    def error(data_dir, split="train"):
        with pytest.raises(prepared.DataNotFound) as caught:
            read(data_dir, split, GREY)
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
    assert "(train 1, validation 0, test 0; by a hash of the names, or by folders" in message
    for shape in ((8, 8, 4), (0, 8, 1)):
        with pytest.raises(ValueError, match=r"image_shape \(H, W, C\) .* image_folder, got"):
            read(folder, "train", shape)


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
        read(folder, "train", GREY)


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(5, "no"), MemoryError()])
def test_a_picture_that_cannot_be_read_now_is_not_left_out(folder, cache_dir, monkeypatch, error):
    fill(folder, 9)
    expected, decode = read(folder, "train", GREY), image_folder._open
    shutil.rmtree(cache_dir)

    def refuse(path, *arguments, **options):
        if path.name == "0.png":
            raise error
        return decode(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_open", refuse)
        with pytest.raises(prepared.DataNotFound, match=r"cannot read .*0\.png \(.*mend that"):
            for split in splits.SPLITS:
                read(folder, split, GREY)
    np.testing.assert_array_equal(read(folder, "train", GREY), expected)


@pytest.mark.parametrize("middle", ["val", "valid", "validation", None])
def test_folders_named_as_splits_are_the_splits(folder, middle):
    names = ["train", middle, "test"] if middle else ["train", "test"]
    images = {
        top: [pixels(8, 8, seed=100 * k + n) for n in range(60)] for k, top in enumerate(names)
    }
    for top in names:
        for n, image in enumerate(images[top]):
            store_picture(folder, image, f"{top}/{'bus' if n % 2 else 'car'}/{n}.png")
    found = {name: image_folder.read(folder, name, GREY) for name in splits.SPLITS}
    of = {name: label_of(split) for name, split in found.items()}
    expected = {top: {i.tobytes(): 1 - n % 2 for n, i in enumerate(images[top])} for top in names}
    assert of["test"] == expected["test"]
    if middle:
        assert (of["train"], of["validation"]) == (expected["train"], expected[middle])
    else:  # the hash's share of train
        assert of["train"] | of["validation"] == expected["train"]
        assert not of["train"].keys() & of["validation"].keys() and 0 < len(of["validation"]) < 20
    store_picture(folder, pixels(8, 8, seed=999), "trucks/0.png")  # another folder: all by the hash
    assert len(image_folder.read(folder, "test", GREY)) < 40


def test_the_data_room_knows_the_set(folder):
    fill(folder, 40)
    split = splits.load(pictures(folder), "train", COLOUR)
    splits.check_shape(split, COLOUR)
    assert split.labels is None and not split.binary
    np.testing.assert_array_equal(split.images, read(folder, "train", COLOUR))
    assert not splits.load(pictures(folder, "dynamic"), "train", GREY).binary
    with pytest.raises(ValueError, match="have grey values"):
        splits.load(pictures(folder, "fixed"), "train", GREY)
    with pytest.raises(ValueError, match="expected an image_shape"):
        splits.load(pictures(folder), "train")
    with pytest.raises(splits.DataNotFound, match="data_dir=DIR"):
        splits.load(pictures(""), "train", GREY)


def test_black_and_white_pictures_are_a_fixed_binarisation(folder):
    for n in range(30):
        store_picture(folder, (pixels(8, 8, seed=n) > 127) * np.uint8(255), f"{n}.png")
    assert splits.load(pictures(folder, "fixed"), "train", GREY).binary
    with pytest.raises(ValueError, match="binary already"):
        splits.load(pictures(folder, "dynamic"), "train", GREY)


def test_the_configuration_builds_a_model_for_the_pictures(folder):
    cfg = image_folder_config.get_config()
    fill(folder, 30, (40, 40))
    cfg.data.data_dir = str(folder)
    model = build(cfg)
    splits.check_shape(splits.load(cfg.data, "train", cfg.model.image_shape), model.image_shape)


def test_no_progress_bar_off_a_terminal(folder):
    fill(folder, 30)
    code = (
        "import sys; from draw_jax.data.sets import image_folder; "
        "print(len(image_folder.read(sys.argv[1], 'train', (8, 8, 1))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, folder], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stderr == "" and int(result.stdout) > 15


def label_of(split):
    """Return {pixels: label}."""
    return {image.tobytes(): int(n) for image, n in zip(split.images, split.labels, strict=True)}


def test_sub_folders_are_classes(folder):
    for n in range(60):
        kind = ("dogs/small", "cats", "dogs", "Äpfel")[n % 4]
        store_picture(folder, pixels(8, 8, seed=n), f"{kind}/{n}.png")
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no picture")
    store_picture(folder, pixels(8, 8), ".hidden.png")
    (folder / "cats" / in_split("train", prefix="cats/broken").split("/")[1]).write_text("")
    found = {}
    for name in splits.SPLITS * 2:  # decoded, then from the cache
        split = image_folder.read(folder, name, GREY)
        assert split.labels.dtype == np.int32
        found |= label_of(split)
    place = {"cats": 0, "dogs": 1, "Äpfel": 2}  # by code point
    assert found == {
        pixels(8, 8, seed=n).tobytes(): place[("dogs", "cats", "dogs", "Äpfel")[n % 4]]
        for n in range(60)
    }
    batch = split.batch(np.array([1, 0]))
    assert batch.labels.tolist() == split.labels[[1, 0]].tolist()


def test_a_new_class_renumbers_also_what_is_cached(folder):
    in_train = in_split("train", prefix="b/")
    store_picture(folder, pixels(8, 8), in_train)
    assert image_folder.read(folder, "train", GREY).labels.tolist() == [0]
    store_picture(folder, pixels(8, 8, seed=1), in_split("test", prefix="a/"))
    assert image_folder.read(folder, "train", GREY).labels.tolist() == [1]
    store_picture(folder, pixels(8, 8, seed=2), in_split("test"))  # in no sub-folder
    assert image_folder.read(folder, "train", GREY).labels is None


def test_other_folders_than_the_classes_are_told(folder, capsys):
    for name in "ab":
        for n in range(30):
            store_picture(folder / name, pixels(8, 8, seed=n), f"{n}.png")
    split = splits.load(pictures(folder), "train", GREY)
    splits.check_labels(split, 2)
    assert capsys.readouterr().err == ""
    splits.check_labels(split, 3)
    told = "warning: config.model.classes is 3, and the pictures lie in 2 folders: their labels are 0 to 1"
    assert capsys.readouterr().err.startswith(told)
