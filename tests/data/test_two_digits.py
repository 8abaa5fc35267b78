"""Two digits in an image against a slow loop, their draws against chance, and what is refused."""

import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.data.sets.two_digits import Places, TwoDigits
from tests.data.helpers import config, store
from tests.data.test_cluttered import chi_square

HEIGHT, WIDTH, DIGITS, SIZE = 5, 4, 7, 11
COUNT = 20_000  # of images whose draws are counted
VALUES = {"digit": DIGITS, "top": SIZE - HEIGHT + 1, "left": SIZE - WIDTH + 1}
FIELDS = {"source": "digits", "size": 60}  # of config.data


def make(split="train", seed=0, size=SIZE, low=1, high=256, count=DIGITS, shape=(HEIGHT, WIDTH)):
    """Returns a small split of digits of random grey values in [low, high)."""
    images = np.random.default_rng(0).integers(low, high, (count, *shape, 1), dtype=np.uint8)
    return TwoDigits(ArraySplit(images, None, binary=False), seed, split, size)


def settings(**fields):
    """Returns config.data with fields of any type; None leaves one out."""
    made = config("two_digits")
    made.update({name: value for name, value in (FIELDS | fields).items() if value is not None})
    return made


def slow(digits, places, b, size):
    """Returns image b, pixel by pixel: the sum of both digits, up to white."""
    canvas = [[0] * size for _ in range(size)]
    for k in range(2):
        digit = digits[places.digit[k, b]]
        for row in range(len(digit)):
            for column in range(len(digit[0])):
                value = int(digit[row][column])
                canvas[places.top[k, b] + row][places.left[k, b] + column] += value
    return np.array([[min(value, 255) for value in row] for row in canvas])


@pytest.mark.parametrize(
    ("fields", "brightest"),
    [
        ({}, 255),
        ({"high": 60}, 118),  # sums below white
        ({"size": 5}, 255),  # nowhere to go
        ({"shape": (28, 28), "size": 60, "count": 30}, 255),
    ],
    ids=str,
)
@pytest.mark.parametrize("split", splits.SPLITS)
def test_pictures_equal_those_of_a_slow_loop(split, fields, brightest):
    made = make(split, **fields)
    indices = np.array([3, 0, 6, 1, 2])
    batch, places = made.batch(indices), made.places(indices)
    assert batch.images.shape == (5, *made.image_shape) and batch.images.dtype == np.uint8
    assert batch.labels is None and made.labels is None
    for b in range(5):
        expected = slow(made.digits.images[..., 0], places, b, made.size)
        np.testing.assert_array_equal(batch.images[b, :, :, 0], expected)
    assert brightest - 99 < batch.images.max() <= brightest


def test_an_image_is_two_whole_digits_of_the_split():
    # Nothing but the images: no pixel is 0, and no sum above white, so that parts can be searched.
    made = make(low=50, high=120)
    digits = made.digits.images[..., 0].astype(int)
    for image in made.batch(np.arange(40)).images[..., 0].astype(int):
        parts = []
        for digit in digits:
            for top in range(SIZE - HEIGHT + 1):
                for left in range(SIZE - WIDTH + 1):
                    rest = image.copy()
                    rest[top : top + HEIGHT, left : left + WIDTH] -= digit
                    rows, columns = np.nonzero(rest)
                    parts.append(
                        rest[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                    )
        whole = {digit.tobytes() for digit in digits}
        assert any(part.shape == (HEIGHT, WIDTH) and part.tobytes() in whole for part in parts)


@pytest.mark.parametrize("split", splits.SPLITS)
def test_an_image_is_the_same_in_every_batch(split):
    made = make(split)
    images = made.batch(np.arange(7)).images
    for indices in ([5], [6, 2, 2, 0], list(range(7))[::-1]):
        np.testing.assert_array_equal(made.batch(np.array(indices)).images, images[indices])
    for dtype in (np.int32, np.uint64):
        np.testing.assert_array_equal(made.batch(np.arange(7, dtype=dtype)).images, images)
    images[:] = 0  # the caller's own copy
    assert made.batch(np.arange(7)).images.any()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_validation_and_test_are_as_long_as_their_digits_and_have_no_seed(split):
    assert len(make(split)) == DIGITS and not make(split).endless
    loaded = [splits.load(settings(), split, seed=seed) for seed in (0, 1)]
    assert [len(made) for made in loaded] == [180, 180]
    first, second = (made.batch(np.arange(180)).images for made in loaded)
    np.testing.assert_array_equal(first, second)
    assert len({image.tobytes() for image in first}) == 180


def test_training_is_endless_and_depends_on_the_seed():
    made = make(size=200)
    assert made.endless and len(made) > 2**61
    near, far = made.batch(np.arange(300)).images, made.batch(2**40 + np.arange(300)).images
    other = make(seed=1, size=200).batch(np.arange(300)).images
    assert len({image.tobytes() for image in (*near, *far, *other)}) == 900
    train = [splits.load(settings(), "train", seed=s).batch(np.arange(9)).images for s in (0, 1)]
    assert (train[0] != train[1]).any()


def test_a_resumed_run_goes_on_with_the_images_that_were_next():
    made, again = make(), make()
    batches = [made.batch(splits.training_indices(made, 0, step, 4)).images for step in range(6)]
    assert len({batch.tobytes() for batch in batches}) == 6
    for step in (5, 3):
        indices = splits.training_indices(again, 0, step, 4)
        np.testing.assert_array_equal(again.batch(indices).images, batches[step])


@pytest.mark.parametrize(("split", "value"), [("train", 2), ("validation", 8), ("test", 80)])
def test_a_split_is_made_of_its_own_digits(tmp_path, split, value):
    def constant(count, grey):
        return np.full((count, 28, 28, 1), grey, np.uint8)

    train = np.concatenate([constant(20, 2), constant(4, 8)])  # validation is the last sixth
    store(tmp_path, "mnist", {"train": train, "test": constant(3, 80)}, labels=True)
    made = splits.load(settings(source="mnist", data_dir=str(tmp_path)), split)
    images = made.batch(np.arange(3)).images
    assert images.shape == (3, 60, 60, 1)
    assert set(np.unique(images)) <= {0, value, 2 * value}
    np.testing.assert_array_equal(images.sum((1, 2, 3), dtype=int), 3 * [2 * 28 * 28 * value])


@pytest.mark.parametrize("field", Places._fields)
def test_places_are_uniform_and_both_digits_independent(field):
    values, count = getattr(make().places(np.arange(COUNT)), field), VALUES[field]
    assert values.shape == (2, COUNT) and values.min() == 0 and values.max() == count - 1
    for counts in (
        np.bincount(values[0], minlength=count),
        np.bincount(values[1], minlength=count),
        np.bincount(count * values[0] + values[1], minlength=count**2),
    ):
        assert abs(chi_square(counts)) < 4


@pytest.mark.parametrize("split", splits.SPLITS)
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"size": 27}, r"config\.data\.size: expected .* >= 28, the digits' longer side, got 27"),
        ({"size": "60"}, r"config\.data\.size: .* got '60'"),
        ({"size": True}, r"config\.data\.size: .* got True"),
        ({"source": "svhn"}, r"config\.data\.source: expected mnist or digits, got 'svhn'"),
        *(
            (({name: None}, rf"config\.data\.{name}: missing; configs/mnist_two_"))
            for name in FIELDS
        ),
        ({"binarization": "fixed"}, "'two_digits' have grey values.*to dynamic or none"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(split, fields, told):
    with pytest.raises(ValueError, match=told) as caught:
        splits.load(settings(**fields), split)
    assert "\n" not in str(caught.value)


def test_only_grey_digits_are_put_together():
    digits = make().digits
    coloured = ArraySplit(digits.images.repeat(3, axis=-1), None, binary=False)
    with pytest.raises(ValueError, match="expected grey digits, got images of 3 channels"):
        TwoDigits(coloured, 0, "test", SIZE)
