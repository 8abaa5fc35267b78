"""SVHN's splits: which numbers, which crops, where from, and what is told where there are none."""

import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.builders import svhn_numbers
from draw_jax.data.grey import luma
from draw_jax.data.sets import svhn
from tests.data.helpers import config
from tests.data.svhn_files import boxes, noise, write_archive
from tests.data.test_cluttered import chi_square

COUNTS = {"train": 40, "extra": 70, "test": 12}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(svhn_numbers, "COUNTS", COUNTS)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    for part, count in COUNTS.items():
        write_archive(folder, part, *boxes(part, count), paint=noise)
    return folder


@pytest.fixture
def settings(tmp_path, archives):
    return config("svhn", tmp_path / "data", archives)


def stored(tmp_path, *parts):
    """Returns the prepared numbers of some archives, one after another."""
    return np.concatenate([np.load(tmp_path / f"data/draw_svhn/1.0.0/{p}.npy") for p in parts])


# --- which numbers


def test_validation_is_a_seeded_choice_of_as_many_as_the_paper_has():
    assert sum(svhn._rows(split, 235_754).size for split in ("train", "validation")) == 235_754
    chosen, rest = (svhn._rows(split, 235_754) for split in ("validation", "train"))
    assert len(chosen) == 4_701 and len(rest) == 231_053
    assert not np.isin(chosen, rest).any() and (np.diff(chosen) > 0).all()
    assert abs((chosen < 33_401).mean() - 33_401 / 235_754) < 0.03  # of both archives
    assert abs(chi_square(np.bincount(chosen // 23_576, minlength=10))) < 4
    assert len(svhn._rows("test", 13_068)) == 13_068
    assert chosen[:3].tolist() == svhn._rows("validation", 235_754)[:3].tolist()


def test_the_original_counts_are_the_papers_but_for_one():
    originals = {"train": 33_402, "extra": 202_353, "test": 13_068}
    assert originals["train"] + originals["extra"] - 1 == svhn._ALL


def test_splits_are_of_their_own_archives_and_share_no_number(settings, tmp_path):
    made = {split: splits.load(settings, split) for split in splits.SPLITS}
    sizes = {split: len(split_of) for split, split_of in made.items()}
    assert sizes == {"train": 108, "validation": 2, "test": 12}
    both, test = stored(tmp_path, "train", "extra"), stored(tmp_path, "test")
    assert both.shape == (110, 64, 64, 3)
    middle = slice(5, 59)
    np.testing.assert_array_equal(made["test"].batch(np.arange(12)).images, test[:, middle, middle])
    np.testing.assert_array_equal(
        made["validation"].batch(np.arange(2)).images,
        both[svhn._rows("validation", 110)][:, middle, middle],
    )
    rows = np.concatenate([made["train"].rows, made["validation"].rows])
    assert sorted(rows.tolist()) == [*range(110)]
    for split_of in made.values():
        assert split_of.image_shape == (54, 54, 3) and split_of.labels is None
        assert not split_of.endless and not split_of.binary


# --- which crops


def test_a_training_image_is_the_crop_at_its_place(settings, tmp_path):
    made = splits.load(settings, "train", seed=5)
    indices = np.array([0, 107, 30, 30 + 108, 30 + 7 * 108, 2**40])
    images, places = made.batch(indices).images, made.places(indices)
    both = stored(tmp_path, "train", "extra")
    for image, index, top, left in zip(images, indices, *places, strict=True):
        number = both[made.rows[index % 108]]
        np.testing.assert_array_equal(image, number[top : top + 54, left : left + 54])
    assert len({image.tobytes() for image in images[2:5]}) == 3  # one number, three visits
    assert images.dtype == np.uint8 and images.shape == (6, 54, 54, 3)


def test_places_are_uniform_over_all_that_fit(settings):
    places = splits.load(settings, "train").places(np.arange(40_000))
    assert places.shape == (2, 40_000) and places.min() == 0 and places.max() == 10
    for counts in (np.bincount(11 * places[0] + places[1]), np.bincount(places[0])):
        assert abs(chi_square(counts)) < 4


def test_crops_depend_on_seed_and_index_alone(settings):
    made, again = (splits.load(settings, "train", seed=3) for _ in range(2))
    other = splits.load(settings, "train", seed=4)
    indices = np.arange(300)
    images = made.batch(indices).images
    np.testing.assert_array_equal(again.batch(indices[::-1]).images, images[::-1])
    for dtype in (np.int32, np.uint64):
        np.testing.assert_array_equal(made.batch(indices[7:9].astype(dtype)).images, images[7:9])
    assert (other.places(indices) != made.places(indices)).mean() > 0.8
    for split in ("validation", "test"):
        first, second = (splits.load(settings, split, seed=seed) for seed in (0, 1))
        np.testing.assert_array_equal(first.batch(np.arange(2)).images, second.batch([0, 1]).images)
    images[:] = 0  # the caller's own copy
    assert made.batch(indices).images.any()


def test_updates_read_every_number_once_an_epoch_and_another_crop_in_the_next(settings):
    made = splits.load(settings, "train")
    steps = [splits.training_indices(made, 0, step, 10) for step in range(54)]  # five epochs
    indices = np.concatenate(steps)
    for epoch in range(5):
        visits = indices[108 * epoch : 108 * (epoch + 1)]
        assert sorted(visits.tolist()) == [*range(108 * epoch, 108 * (epoch + 1))]
    expected = [splits.batch_indices(0, step, 108, 10) for step in range(54)]
    np.testing.assert_array_equal(indices % 108, np.concatenate(expected))
    # A resumed run asks for a step without those before it.
    np.testing.assert_array_equal(splits.training_indices(made, 0, 53, 10), steps[53])


def test_updates_read_other_sets_as_before():
    digits = splits.load(config("digits"), "train")
    for step in (0, 14, 1000):
        np.testing.assert_array_equal(
            splits.training_indices(digits, 7, step, 100),
            splits.batch_indices(7, step, len(digits), 100),
        )


@pytest.mark.parametrize("split", splits.SPLITS)
def test_numbers_can_be_turned_grey(settings, split):
    colour = splits.load(settings, split, seed=1)
    settings.grey = True
    grey = splits.load(settings, split, seed=1)
    assert grey.image_shape == (54, 54, 1) and len(grey) == len(colour)
    assert (grey.varied, grey.endless, grey.labels) == (colour.varied, False, None)
    assert splits.training_indices(grey, 0, 11, 10).max() < 240
    indices = np.array([1, 0])
    np.testing.assert_array_equal(grey.batch(indices).images, luma(colour.batch(indices).images))


# --- where from


def test_what_is_prepared_needs_no_archives_and_is_mapped(settings, archives):
    before = splits.load(settings, "train").batch(np.arange(5)).images
    settings.manual_dir = ""
    made = splits.load(settings, "train")
    np.testing.assert_array_equal(made.batch(np.arange(5)).images, before)
    assert [type(file) for file in made.files] == [np.memmap, np.memmap]
    assert not any(file.flags.writeable for file in made.files)
    with pytest.raises(splits.DataNotFound, match="cannot download .*/test.tar.gz"):
        splits.load(settings, "test")  # which was not yet asked for


def test_without_archives_the_ways_out_are_told(tmp_path):
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(config("svhn", tmp_path / "data"), "train", flags="--")
    told = str(caught.value)
    assert told.startswith(
        "data set 'svhn' is not here: cannot download http://ufldl.stanford.edu/"
    )
    for part in ("train.tar.gz,extra.tar.gz}", "--manual_dir=DIR", "--config=configs/digits.py"):
        assert part in told


def test_an_archive_missing_in_manual_dir_is_named(tmp_path, archives):
    (tmp_path / "some").mkdir()
    (tmp_path / "some/train.tar.gz").symlink_to(archives / "train.tar.gz")
    with pytest.raises(splits.DataNotFound, match=r"there is no file .*/some/extra\.tar\.gz"):
        splits.load(config("svhn", tmp_path / "data", tmp_path / "some"), "train")


@pytest.mark.parametrize(("side", "kept"), [(64, 0), (64, 7), (64, 20_000), (32, 10**6)])
def test_a_damaged_prepared_file_is_named(tmp_path, settings, side, kept):
    path = tmp_path / "data/draw_svhn/1.0.0/test.npy"
    path.parent.mkdir(parents=True)
    np.save(path, np.zeros((3, side, side, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(splits.DataNotFound, match=r"test\.npy is damaged \(.*\): delete it"):
        splits.load(settings, "test")


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path, archives):
    (tmp_path / "file").write_text("")
    with pytest.raises(splits.DataNotFound, match="cannot write .*file"):
        splits.load(config("svhn", tmp_path / "file", archives), "test")


def test_another_shape_than_the_models_is_told(settings):
    made = splits.load(settings, "test")
    splits.check_shape(made, (54, 54, 3))
    with pytest.raises(ValueError, match=r"got a data set of \(54, 54, 3\)"):
        splits.check_shape(made, (64, 64, 3))
    settings.binarization = "fixed"
    with pytest.raises(ValueError, match="'svhn' have grey values"):
        splits.load(settings, "test")


def test_what_a_kill_leaves_beside_a_prepared_file_goes(settings, tmp_path):
    splits.load(settings, "test")
    folder = tmp_path / "data/draw_svhn/1.0.0"
    (folder / "test.incomplete").mkdir()
    (folder / "test.tar.gz").write_bytes(b"fetched")
    splits.load(settings, "test")  # from a manual_dir: nothing was fetched
    assert (folder / "test.tar.gz").exists()
    settings.manual_dir = ""
    splits.load(settings, "test")
    assert not (folder / "test.tar.gz").exists() and not (folder / "test.incomplete").exists()
