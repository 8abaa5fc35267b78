"""A run continues on the images that it began with."""

import dataclasses

import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.runs import directory
from draw_jax.system.errors import UserError
from draw_jax.training import images, loop
from tests.training.whole_runs import files, small

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 4, 3, 1), np.uint8)
LABELS = np.arange(70, dtype=np.int32) % 10


def identity(pixels=PIXELS, labels=LABELS):
    return images.identity({"train": ArraySplit(pixels, labels, False)})["train"]


def test_a_split_is_told_by_its_size_all_labels_and_some_pixels():
    first = identity()
    assert first == identity(PIXELS.copy(), LABELS.astype(np.int64)) and first["images"] == 70
    for place in range(70):
        labels = LABELS.copy()
        labels[place] += 1
        assert identity(labels=labels) == first | {"labels": identity(labels=labels)["labels"]}
        assert identity(labels=labels)["labels"] != first["labels"]
    seen = 0
    for place in range(70):
        pixels = PIXELS.copy()
        pixels[place, -1, -1, -1] ^= 1
        seen += identity(pixels)["pixels"] != first["pixels"]
        assert (identity(pixels)["pixels"] != first["pixels"]) or 0 < place < 69
    assert seen == 64
    assert identity(PIXELS[:, :3])["pixels"] != identity(PIXELS[:, 1:])["pixels"]
    assert identity(labels=None)["labels"] is None
    one = identity(PIXELS[:1], LABELS[:1])
    assert one["images"] == 1 and one["pixels"] == identity(PIXELS[:1], None)["pixels"]


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    ("which", "change", "told"),
    [
        ("train", lambda pixels: pixels[:-1], "1,437 images in train, and 1,436 are there now"),
        (
            "validation",
            lambda pixels: pixels[1:],
            "180 images in validation, and 179 are there now",
        ),
    ],
)
def test_other_data_is_refused_and_nothing_is_written(
    copy, whole, monkeypatch, which, change, told
):
    replace(monkeypatch, which, change)
    with pytest.raises(directory.RunConflictError, match=f"began with {told}: put its data back"):
        loop.train(small(**{"train.num_steps": 26}), copy)
    assert files(copy) == files(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_other_pixels_are_a_warning(copy, monkeypatch):
    replace(monkeypatch, "validation", lambda pixels: pixels ^ 1)
    with pytest.warns(UserWarning, match="began with other pixels in validation"):
        assert loop.train(small(**{"train.num_steps": 25}), copy) == loop.FINISHED
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="began with other pixels in validation"):  # as of now
        assert loop.train(small(**{"train.num_steps": 26}), copy) == loop.FINISHED


def test_other_labels_are_refused(tmp_path, monkeypatch):
    ours = {"train": identity()}
    monkeypatch.setattr(images.stored, "newest_told_of_run", lambda path: {"data": ours})
    images.check(tmp_path, ours)
    with pytest.raises(directory.RunConflictError, match="began with other labels in train: "):
        images.check(tmp_path, {"train": identity(labels=LABELS[::-1].copy())})
    monkeypatch.setattr(images.stored, "newest_told_of_run", lambda path: {})  # of earlier versions
    images.check(tmp_path, {"train": identity(labels=None)})


def test_a_process_with_other_data_than_the_first_says_so(tmp_path, monkeypatch):
    sent = []
    broadcast = "broadcast_one_to_all"
    monkeypatch.setattr(images.multihost_utils, broadcast, lambda x: sent.append(x) or x)
    images.check(tmp_path, {"train": identity(), "validation": identity(PIXELS[:9], LABELS[:9])})
    monkeypatch.setattr(images.multihost_utils, broadcast, lambda x: sent[0])
    ours = {"train": identity(PIXELS[1:], LABELS[1:]), "validation": identity(PIXELS[:9], None)}
    told = r"other data than this process \(train has 70 images there and 69 here; validation has 9"
    with pytest.raises(UserError, match=told):
        images.check(tmp_path, ours)


def replace(monkeypatch, which, change):
    """Lets one split have other pixels, and as many labels as before."""
    load = splits.load

    def loaded(config, split, *arguments, **options):
        found = load(config, split, *arguments, **options)
        if split != which:
            return found
        pixels = change(found.images)
        labels = None if found.labels is None else found.labels[: len(pixels)]
        return dataclasses.replace(found, images=pixels, labels=labels)

    monkeypatch.setattr(splits, "load", loaded)
