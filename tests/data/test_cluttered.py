"""Cluttered MNIST against a slow loop, its draws against chance, and what it refuses."""

import dataclasses

import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.data.sets import composing
from draw_jax.data.sets.cluttered import Cluttered, Places
from tests.data.helpers import config, store

# How many values each field of Places has, for `make()`.
HEIGHT, WIDTH, DIGITS = 5, 4, 7
SIZE, CLUTTER, CROP = 11, 3, 2
COUNT = 20_000  # of images whose draws are counted
VALUES = {
    "digit": DIGITS,
    "top": SIZE - HEIGHT + 1,
    "left": SIZE - WIDTH + 1,
    "source": DIGITS,
    "source_top": HEIGHT - CROP + 1,
    "source_left": WIDTH - CROP + 1,
    "crop_top": SIZE - CROP + 1,
    "crop_left": SIZE - CROP + 1,
}

FIELDS = {"source": "digits", "size": 100, "clutter": 8, "crop_size": 8}  # of config.data


def make(split="train", seed=0, low=1, high=256, count=DIGITS, shape=(HEIGHT, WIDTH), **fields):
    """Returns a small split of digits of random grey values in [low, high)."""
    rng = np.random.default_rng(0)
    images = rng.integers(low, high, (count, *shape, 1), dtype=np.uint8)
    digits = ArraySplit(images, rng.permutation(count).astype(np.int32), binary=False)
    fields = {"size": SIZE, "clutter": CLUTTER, "crop_size": CROP} | fields
    return Cluttered(digits, seed, split, **fields)


def of_digits(**fields):
    """Returns config.data with fields of any type."""
    made = config("cluttered_mnist")
    made.update({name: value for name, value in (FIELDS | fields).items() if value is not None})
    return made


def slow(digits, places, b, size, crop_size):
    """Returns image b, pixel by pixel: crops of digits, then the digit, up to white."""
    canvas = [[0] * size for _ in range(size)]
    for k in range(len(places.source)):
        source = digits[places.source[k, b]]
        for row in range(crop_size):
            for column in range(crop_size):
                value = source[places.source_top[k, b] + row][places.source_left[k, b] + column]
                canvas[places.crop_top[k, b] + row][places.crop_left[k, b] + column] += int(value)
    digit = digits[places.digit[b]]
    for row in range(len(digit)):
        for column in range(len(digit[0])):
            canvas[places.top[b] + row][places.left[b] + column] += int(digit[row][column])
    return np.array([[min(value, 255) for value in row] for row in canvas])


# --- the pictures


@pytest.mark.parametrize(
    ("fields", "brightest"),
    [
        ({}, 255),
        ({"clutter": 40}, 255),  # sums far above white
        ({"clutter": 0, "high": 200}, 199),
        ({"size": 5, "crop_size": 4}, 255),  # nowhere to go
        ({"high": 20, "clutter": 5}, 100),  # sums below white
        ({"shape": (28, 28), "crop_size": 8, "size": 100, "clutter": 8, "count": 30}, 255),
    ],
    ids=str,
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_equal_those_of_a_slow_loop(split, fields, brightest):
    made = make(split, **fields)
    indices = np.array([3, 0, 6, 1, 2])
    batch, places = made.batch(indices), made.places(indices)
    assert batch.images.shape == (5, made.size, made.size, 1) and batch.images.dtype == np.uint8
    assert batch.labels.shape == (5,) and batch.labels.dtype == np.int32
    for b in range(5):
        expected = slow(made.digits.images[..., 0], places, b, made.size, made.crop_size)
        np.testing.assert_array_equal(batch.images[b, :, :, 0], expected)
    assert batch.labels.tolist() == [made.digits.labels[n] for n in places.digit]
    assert brightest - 99 < batch.images.max() <= brightest


def test_an_image_is_a_whole_digit_and_a_whole_crop_wherever_they_are():
    # Nothing but the images: no pixel is 0, and no sum above white, so that parts can be searched.
    made = make(high=100, clutter=1)
    images, labels = made.batch(np.arange(40))
    digits = made.digits.images[..., 0].astype(int)
    crops = {
        digits[n, y : y + CROP, x : x + CROP].tobytes()
        for n in range(DIGITS)
        for y in range(HEIGHT - CROP + 1)
        for x in range(WIDTH - CROP + 1)
    }
    for image, label in zip(images[..., 0].astype(int), labels, strict=True):
        digit = digits[made.digits.labels.tolist().index(label)]
        found = []
        for top in range(SIZE - HEIGHT + 1):
            for left in range(SIZE - WIDTH + 1):
                rest = image.copy()
                rest[top : top + HEIGHT, left : left + WIDTH] -= digit
                rows, columns = np.nonzero(rest)
                if len(rows) == CROP**2:
                    y, x = rows.min(), columns.min()
                    found.append(rest[y : y + CROP, x : x + CROP].tobytes() in crops)
        assert found == [True]


def test_a_digit_as_large_as_the_image_without_clutter_is_that_digit():
    made = make("validation", shape=(6, 6), size=6, clutter=0)
    images, labels = made.batch(np.array([4, 1]))
    np.testing.assert_array_equal(images, made.digits.images[[4, 1]])
    np.testing.assert_array_equal(labels, made.digits.labels[[4, 1]])


# --- which images there are


@pytest.mark.parametrize("split", splits.SPLITS)
def test_an_image_is_the_same_in_every_batch(split):
    made = make(split)
    images, labels = made.batch(np.arange(7))
    for indices in ([5], [6, 2, 2, 0], list(range(7))[::-1]):
        again = made.batch(np.array(indices))
        np.testing.assert_array_equal(again.images, images[indices])
        np.testing.assert_array_equal(again.labels, labels[indices])
    for dtype in (np.int32, np.uint64):
        np.testing.assert_array_equal(made.batch(np.arange(7, dtype=dtype)).images, images)
    images[:] = 0  # the caller's own copy
    assert made.batch(np.arange(7)).images.any()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_validation_and_test_have_each_digit_once_and_no_seed(split):
    made = make(split)
    assert len(made) == DIGITS and not made.endless
    indices = np.arange(len(made))
    assert made.places(indices).digit.tolist() == indices.tolist()
    np.testing.assert_array_equal(made.batch(indices).labels, made.digits.labels)
    loaded = [
        splits.load(of_digits(), split, seed=seed).batch(np.arange(20)).images for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*loaded)


def test_training_is_endless_and_depends_on_the_seed():
    made = make()
    assert made.endless and len(made) > 2**61
    images = made.batch(np.arange(300)).images
    assert len({image.tobytes() for image in images}) == 300
    other = make(seed=1).batch(np.arange(300)).images
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in other}
    far = 2**40 + np.arange(300)
    distant = made.batch(far).images
    assert len({image.tobytes() for image in (*distant, *images)}) == 600
    np.testing.assert_array_equal(made.batch(far[7:8]).images, distant[7:8])
    train = [splits.load(of_digits(), "train", seed=s).batch(np.arange(9)).images for s in (0, 1)]
    assert (train[0] != train[1]).any()


def test_updates_read_an_endless_split_on_and_on():
    made = make()
    for step in (0, 1, 10**10):
        indices = splits.training_indices(made, seed=5, step=step, batch_size=4)
        assert indices.tolist() == [4 * step + k for k in range(4)]


@pytest.mark.parametrize(("split", "values"), [("train", 1), ("validation", 8), ("test", 80)])
def test_a_split_is_made_of_its_own_digits(tmp_path, split, values):
    def constant(count, value):
        return np.full((count, 28, 28, 1), value, np.uint8)

    train = np.concatenate([constant(20, 1), constant(4, 8)])  # validation is the last sixth
    store(tmp_path, "mnist", {"train": train, "test": constant(3, 80)}, labels=True)
    made = splits.load(of_digits(source="mnist", data_dir=str(tmp_path)), split)
    images, labels = made.batch(np.arange(3))
    assert set(np.unique(images)) <= {values * n for n in range(9)} | {255}
    assert (images.sum((1, 2, 3)) > 28 * 28 * values).all()
    assert set(labels) <= set(
        {"train": range(20), "validation": range(20, 24)}.get(split, range(3))
    )


# --- the draws


def chi_square(counts):
    """Returns how many standard deviations a chi-square of equal chances is above its mean."""
    counts = np.ravel(counts)
    expected = counts.sum() / len(counts)
    assert expected > 5
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("field", Places._fields)
def test_places_are_uniform_over_all_that_fit(field):
    values = getattr(make().places(np.arange(COUNT)), field)
    assert values.shape == ((COUNT,) if field in ("digit", "top", "left") else (CLUTTER, COUNT))
    assert values.min() >= 0
    for row in values.reshape(-1, COUNT):
        counts = np.bincount(row, minlength=VALUES[field])
        assert len(counts) == VALUES[field] and counts.min() > 0
        assert abs(chi_square(counts)) < 4


@pytest.mark.parametrize("other", ["k", "index", "seed", "split"])
def test_draws_are_independent(other):
    def eighths(seed=0, split="train", first=0):
        indices = first + np.arange(COUNT)
        return composing.below(composing.draws(seed, split, indices, 6), 8)

    ours = eighths()
    theirs = {
        "k": lambda: np.roll(ours, 1, axis=0),
        "index": lambda: eighths(first=1),
        "seed": lambda: eighths(seed=1),
        "split": lambda: eighths(split="validation"),
    }[other]()
    for a, b in zip(ours, theirs, strict=True):
        assert abs(chi_square(np.bincount(8 * a + b, minlength=64))) < 4


def test_no_draw_comes_twice():
    # As two seeds, splits or indices would have, whose streams were parts of one another.
    found = [
        composing.draws(seed, split, first + np.arange(1000), 43)
        for seed in (0, 1, 2, 2**32 - 1)
        for split in splits.SPLITS
        for first in (0, 2**40)
    ]
    found = np.concatenate([draws.ravel() for draws in found])
    assert found.dtype == np.uint64 and len(np.unique(found)) == len(found) == 24 * 43_000


# --- what is refused


@pytest.mark.parametrize("split", splits.SPLITS)
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"clutter": -1}, r"config\.data\.clutter: expected a whole number >= 0, got -1"),
        ({"clutter": True}, r"config\.data\.clutter: .* got True"),
        ({"clutter": 10**9}, r"config\.data\.clutter: expected at most 1000 crops, got 1000000000"),
        ({"crop_size": 0}, r"config\.data\.crop_size: expected a whole number >= 1, got 0"),
        ({"crop_size": 2.5}, r"config\.data\.crop_size: .* got 2\.5"),
        ({"crop_size": 29}, r"config\.data\.crop_size: expected at most 28, .*, got 29"),
        ({"size": 27}, r"config\.data\.size: expected .* >= 28, the digits' longer side.*got 27"),
        ({"size": "8"}, r"config\.data\.size: .* got '8'"),
        ({"source": "svhn"}, r"config\.data\.source: expected mnist or digits, got 'svhn'"),
        ({"source": True}, r"config\.data\.source: expected mnist or digits, got True"),
        *(({name: None}, rf"config\.data\.{name}: missing; configs/clutt") for name in FIELDS),
        ({"binarization": "fixed"}, "'cluttered_mnist' have grey values.*to dynamic or none"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(split, fields, told):
    with pytest.raises(ValueError, match=told) as caught:
        splits.load(of_digits(**fields), split)
    assert "\n" not in str(caught.value)


def test_another_shape_than_the_models_is_told_by_both():
    made = splits.load(of_digits(size=60), "test")
    splits.check_shape(made, (60, 60, 1))
    with pytest.raises(ValueError, match=r"image_shape \(100, 100, 1\), got .* \(60, 60, 1\)"):
        splits.check_shape(made, (100, 100, 1))


@pytest.mark.parametrize("change", ["labels", "channels"])
def test_only_grey_digits_with_labels_make_clutter(change):
    digits = make().digits
    changes = {"labels": None, "channels": digits.images.repeat(3, axis=-1)}
    name = {"labels": "labels", "channels": "images"}[change]
    with pytest.raises(ValueError, match="expected grey digits with labels"):
        Cluttered(dataclasses.replace(digits, **{name: changes[change]}), 0, "test", 11, 3, 2)
