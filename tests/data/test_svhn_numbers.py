"""Preparing SVHN's full numbers: what is cut out, what a kill costs, and what is told of broken files."""

import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from draw_jax.data.builders import svhn_archive, svhn_numbers
from draw_jax.data.interface import DataNotFound
from tests.data.svhn_files import REAL, boxes, digit_struct, noise, png, ramp, write_archive

COUNT = 12


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(svhn_numbers, "COUNTS", dict.fromkeys(svhn_numbers.COUNTS, COUNT))
    monkeypatch.setattr(svhn_numbers, "_BLOCK", 3)


def prepare(tmp_path, part="train", **options):
    """Returns the prepared images of an archive that is written with these options."""
    found, sizes = boxes(part, COUNT)
    archive = write_archive(tmp_path / "manual", part, found, sizes, **options)
    return np.load(svhn_numbers.prepare(part, archive, tmp_path / "data"))


def around(digits):
    """Returns left, top, right and bottom of the box around some digits."""
    return [*digits[:, 1:3].min(0), *digits[:, 3:5].max(0)]


# --- what is cut out


@pytest.mark.parametrize("part", ["train", "extra", "test"])
@pytest.mark.parametrize("first", [False, True])
def test_numbers_are_cut_out_at_their_grown_boxes(tmp_path, part, first):
    images = prepare(tmp_path, part, first=first)
    assert images.shape == (COUNT, 64, 64, 3) and images.dtype == np.uint8
    compared = 0
    for image, digits, (width, height) in zip(images, *boxes(part, COUNT), strict=True):
        left, top, right, bottom = around(digits)
        middle, across = (left + right) / 2, 1.3 * (right - left)
        centre, down = (top + bottom) / 2, 1.3 * (bottom - top)
        for channel, low, high, size in (
            (0, middle - across / 2, middle + across / 2, width),
            (1, centre - down / 2, centre + down / 2, height),
        ):
            low, high = max(low, 0), min(high, size)
            # Red is the column and green the row, in which resizing changes nothing but the scale.
            expected = low - 0.5 + (np.arange(64) + 0.5) * (high - low) / 64
            inner = (expected > 2) & (expected < min(size, 256) - 3)
            values = image[:, :, channel].astype(float)
            values = values.mean(channel) if channel == 0 else values.mean(1)
            inside = inner & (expected < 252)  # where the ramp does not start anew
            compared += inside.sum()
            np.testing.assert_allclose(values[inside], expected[inside], atol=0.6)
    assert compared > COUNT * 64


def test_the_order_is_that_of_the_boxes_whatever_that_of_the_files(tmp_path):
    found = [np.array([[1, 10, 10, 30, 30]])] * COUNT
    sizes = np.full((COUNT, 2), 50)
    grey = iter(range(COUNT))
    archive = write_archive(
        tmp_path, "test", found, sizes, paint=lambda w, h: np.full((h, w, 3), next(grey), np.uint8)
    )
    images = np.load(svhn_numbers.prepare("test", archive, tmp_path / "data"))
    assert images.min((1, 2, 3)).tolist() == images.max((1, 2, 3)).tolist() == [*range(COUNT)]


def test_a_number_of_six_digits_is_left_out(tmp_path):
    found, sizes = boxes("extra", COUNT)
    six = np.array([[d, 5 * d, 5, 5 * d + 4, 20] for d in range(1, 7)])
    images = prepare(tmp_path / "all", "extra")
    found[4] = six
    archive = write_archive(tmp_path, "extra", found, sizes)
    fewer = np.load(svhn_numbers.prepare("extra", archive, tmp_path / "data"))
    np.testing.assert_array_equal(fewer, np.delete(images, 4, axis=0))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((40, 20, 60, 40), (37, 17, 63, 43)),
        ((0, 0, 100, 80), (0, 0, 100, 80)),
        ((-3, 10, 17, 30), (0, 7, 20, 33)),
        ((90, 70, 110, 90), (87, 67, 100, 80)),
    ],
)
def test_a_box_grows_about_its_centre_within_the_picture(box, expected):
    np.testing.assert_allclose(svhn_numbers.cut_out(np.array(box), 100, 80), expected)


@pytest.mark.parametrize("box", [(120, 5, 140, 30), (5, 90, 9, 99), (50, 50, 50, 60), (9, 9, 4, 4)])
def test_a_box_without_a_pixel_is_refused(box):
    with pytest.raises(ValueError, match="less than a pixel in common with its 100x80 pixels"):
        svhn_numbers.cut_out(np.array(box), 100, 80)


def test_boxes_are_read_as_they_were_written(tmp_path):
    found, _ = boxes("extra", COUNT)
    names = [f"{n}.png" for n in np.random.default_rng(0).permutation(COUNT)]
    digit_struct(tmp_path / "digitStruct.mat", [*found[:-1], []], names)
    numbers = svhn_archive.read_boxes(tmp_path / "digitStruct.mat", "it")
    assert numbers.names.tolist() == names
    assert numbers.digits.tolist() == [*map(len, found[:-1]), 0]
    np.testing.assert_array_equal(numbers.boxes[:-1], [around(digits) for digits in found[:-1]])


@pytest.mark.parametrize(
    ("part", "count", "of_six"),
    [("extra", 500, 0), *([("train", 33_402, 1), ("test", 13_068, 0)] if REAL else [])],
)
def test_every_box_has_its_pixels_and_one_number_six_digits(part, count, of_six):
    found, sizes = boxes(part, count)
    assert len(found) == len(sizes) == count
    assert sum(len(digits) > 5 for digits in found) == of_six
    for digits, (width, height) in zip(found[::7], sizes[::7], strict=True):
        left, top, right, bottom = svhn_numbers.cut_out(np.array(around(digits)), width, height)
        assert right - left > 3 and bottom - top > 3


# --- kills


@pytest.mark.parametrize("after", [0, 1, 4, 11])
def test_a_kill_costs_no_more_than_a_block(tmp_path, monkeypatch, after):
    expected = prepare(tmp_path / "whole", "extra", paint=noise)
    made, number = [], svhn_numbers.number

    def killed(content, box):
        if len(made) == after:
            raise KeyboardInterrupt
        return counted(content, box)

    def counted(content, box):
        made.append(content)
        return number(content, box)

    monkeypatch.setattr(svhn_numbers, "ThreadPoolExecutor", lambda: ThreadPoolExecutor(1))
    monkeypatch.setattr(svhn_numbers, "number", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, "extra", paint=noise)
    assert not (tmp_path / "data/extra.npy").exists()
    monkeypatch.setattr(svhn_numbers, "number", counted)
    monkeypatch.setattr(svhn_archive, "read_boxes", lambda *_: pytest.fail("reads them again"))
    archive = tmp_path / "manual/extra.tar.gz"
    images = np.load(svhn_numbers.prepare("extra", archive, tmp_path / "data"))
    np.testing.assert_array_equal(images, expected)
    assert len(made) == COUNT + after % 3  # blocks of 3
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [".extra.lock", "extra.npy"]


def test_another_archive_begins_anew(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(svhn_numbers, "_fill", interrupted)
        prepare(tmp_path, "test", paint=noise)
    found, sizes = boxes("extra", COUNT)
    archive = write_archive(tmp_path / "manual", "test", found, sizes)
    images = np.load(svhn_numbers.prepare("test", archive, tmp_path / "data"))
    np.testing.assert_array_equal(images, prepare(tmp_path / "other", "extra"))


def test_what_is_prepared_needs_no_archive(tmp_path):
    images = prepare(tmp_path)
    shutil.rmtree(tmp_path / "manual")
    again = svhn_numbers.prepare("train", tmp_path / "manual/train.tar.gz", tmp_path / "data")
    np.testing.assert_array_equal(np.load(again), images)


def test_what_another_process_prepares_is_waited_for(tmp_path, capsys):
    archive = write_archive(tmp_path, "extra", *boxes("extra", COUNT))
    with svhn_numbers._alone(tmp_path / "data", "extra"):
        waiting = threading.Thread(
            target=svhn_numbers.prepare, args=("extra", archive, tmp_path / "data"), daemon=True
        )
        waiting.start()
        told, end = "", time.monotonic() + 60
        while "waiting for a process that prepares" not in told and time.monotonic() < end:
            told += capsys.readouterr().err
            time.sleep(0.01)
        assert waiting.is_alive() and not (tmp_path / "data/extra.incomplete").exists()
        assert "waiting for a process that prepares" in told
    waiting.join(100)
    assert (tmp_path / "data/extra.npy").exists()


@pytest.mark.parametrize("damage", [None, "half", "no room"])
def test_an_archive_that_was_downloaded_goes_when_it_is_of_no_use(tmp_path, monkeypatch, damage):
    original = write_archive(tmp_path, "extra", *boxes("extra", COUNT)).read_bytes()
    fetched = []

    def fetch(path):
        fetched.append(path)
        path.write_bytes(cut(original) if damage == "half" else original)

    archive = tmp_path / "data/extra.tar.gz"
    if damage == "no room":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    if damage:
        with pytest.raises((DataNotFound, OSError), match=r"extra\.tar\.gz|GB are needed"):
            svhn_numbers.prepare("extra", archive, tmp_path / "data", fetch)
    else:
        svhn_numbers.prepare("extra", archive, tmp_path / "data", fetch)
    assert fetched == [archive] and archive.exists() == (damage == "no room")


@pytest.mark.parametrize("damaged", ["boxes.npz", "done.npy", "images.npy"])
@pytest.mark.parametrize("how", ["empty", "cut", "another array", "missing"])
def test_damaged_files_of_a_kill_are_made_anew(tmp_path, monkeypatch, damaged, how):
    expected = prepare(tmp_path / "whole", "extra", paint=noise)

    fill = svhn_numbers._fill

    def killed(*arguments):  # when all is made, and not yet in its place
        fill(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(svhn_numbers, "_fill", killed)
        prepare(tmp_path, "extra", paint=noise)
    file = tmp_path / "data/extra.incomplete" / damaged
    if how == "another array":
        with file.open("wb") as opened:
            np.save(opened, np.zeros(5))
    elif how == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:150] if how == "cut" else b"")
    archive = tmp_path / "manual/extra.tar.gz"
    images = np.load(svhn_numbers.prepare("extra", archive, tmp_path / "data"))
    np.testing.assert_array_equal(images, expected)


# --- broken files


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]  # in the CRC-32 at the end


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "end-of-stream|unexpected end"),
        (lambda content: content[:-9], "end-of-stream|unexpected end"),
        (flipped, "CRC check failed"),
        (lambda content: b"<html>404</html>", "Not a gzipped file"),
        (lambda content: b"", "empty"),
    ],
    ids=["half", "nearly whole", "checksum", "another file", "empty"],
)
@pytest.mark.parametrize("first", [False, True])
def test_a_damaged_archive_is_named(tmp_path, damage, told, first):
    found, sizes = boxes("extra", COUNT)
    archive = write_archive(tmp_path, "extra", found, sizes, first=first)
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DataNotFound, match=rf"cannot read .*extra\.tar\.gz \(.*({told})"):
        svhn_numbers.prepare("extra", archive, tmp_path / "data")
    assert not (tmp_path / "data/extra.npy").exists()


def without(name):
    return lambda files: {k: v for k, v in files.items() if k != name}


def with_file(name, content):
    return lambda files: files | {name: content if content else cut(files[name])}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_file("3.png", b""), r"extra\.tar\.gz: 3\.png cannot be used \(.*truncated"),
        (with_file("3.png", b"no picture"), r"extra\.tar\.gz: 3\.png cannot be used \(cannot iden"),
        (with_file("3.png", png(ramp(4, 4))), r"3\.png cannot be used \(its box .* 4x4 pixels"),
        (
            with_file("13.png", png(ramp(9, 9))),
            r"extra\.tar\.gz: 13\.png has no box in digitStruct",
        ),
        (without("7.png"), r"extra\.tar\.gz lacks 1 of the pictures .* first of them 7\.png"),
        (without("digitStruct.mat"), r"extra\.tar\.gz has no digitStruct\.mat: it is another"),
        (with_file("digitStruct.mat", b""), r"cannot read digitStruct\.mat of .*extra\.tar\.gz"),
        (
            with_file("digitStruct.mat", b"MATLAB 5.0"),
            r"cannot read digitStruct\.mat of .*extra\.t",
        ),
    ],
)
def test_a_damaged_file_in_an_archive_is_named(tmp_path, change, told):
    with pytest.raises(DataNotFound, match=told) as caught:
        prepare(tmp_path, "extra", change=change)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data/extra.npy").exists()


def test_a_number_without_a_box_is_named(tmp_path):
    found, sizes = boxes("extra", COUNT)
    found[5] = []
    archive = write_archive(tmp_path, "extra", found, sizes)
    with pytest.raises(
        DataNotFound, match=r"extra\.tar\.gz: 6\.png has no box in digitStruct\.mat"
    ):
        svhn_numbers.prepare("extra", archive, tmp_path / "data")


def test_another_count_than_the_original_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(svhn_numbers.COUNTS, "extra", 202_353)
    with pytest.raises(DataNotFound, match=r"has 12 numbers, and the original extra.* 202,353: it"):
        prepare(tmp_path, "extra")


def test_no_h5py_is_one_line_with_its_command(tmp_path, monkeypatch):
    archive = write_archive(tmp_path, "extra", *boxes("extra", COUNT))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        DataNotFound, match=r"h5py .*: pip install 'draw-jax\[svhn\]', or pip instal"
    ):
        svhn_numbers.prepare("extra", archive, tmp_path / "data", pytest.fail)  # fetches nothing


def test_no_room_is_told_before_anything_is_decoded(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**6, 10**6, 10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(svhn_numbers, "number", lambda *_: pytest.fail("decoded"))
    with pytest.raises(OSError, match=r"cannot write .*: 0\.0 GB are needed, and 0\.0 GB are free"):
        prepare(tmp_path, "extra")
