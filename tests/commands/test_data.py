"""draw-jax data: what a configuration's model is given, told and drawn."""

import importlib

import numpy as np
import pytest
from PIL import Image

from draw_jax.data import splits
from draw_jax.drawing.figures import grids
from tests.helpers import assert_one_error, forked

pytestmark = pytest.mark.slow
OF_DIGITS = "--config.data.source=digits"
DRAWN = {
    "digits, train: 1,437 images of 28x28, grey; labels 0 to 9, 10 of them different": (
        "--config=digits",
        "--images=12",
    ),
    "digits, test: 180 images of 28x28, grey; labels 0 to 9, 10 of them different": (
        "--config=digits",
        "--images=12",
        "--split=test",
    ),
    "cluttered_mnist, train: images without end of 100x100, grey; labels 0 to 9, 10 of them different": (
        "--config=cluttered_mnist",
        OF_DIGITS,
    ),
    "two_digits, test: 180 images of 60x60, binarised anew; no labels": (
        "--config=mnist_two_digits",
        "--split=test",
        "--config.data.binarization=dynamic",
        OF_DIGITS,
    ),
}
MISTAKES = {
    (): "which configuration? --config=cifar10|",
    ("--config=digits", "--images=0"): "--images: expected 1 to 1,024, got 0",
    ("--config=digits", "--split=all"): "expected a split among train, validation, test",
    ("--config=digits", "--config.data.binarization=fixed"): "there is no fixed binarization",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Returns the folder that all commands were run in, and what each did, by its flags."""
    folder = tmp_path_factory.mktemp("data")
    commands = [*(("--out=new/drawn", *words) for words in DRAWN.values()), *MISTAKES]
    done = forked([("draw_jax", "data", *words) for words in commands], cwd=folder)
    return folder, dict(zip([*DRAWN, *MISTAKES], done, strict=True))


@pytest.mark.parametrize("told", DRAWN)
def test_the_split_is_told_and_its_picture_named(ran, told):
    folder, done = ran
    name, split = told.split(":")[0].split(", ")
    path = f"new/drawn/{name}_{split}.png"
    assert (done[told].returncode, done[told].stderr) == (0, "")
    assert done[told].stdout == f"{told}\n{path}\n"
    with Image.open(folder / path) as drawn:
        assert min(drawn.size) > 100


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_picture_is_of_the_images_that_training_begins_with(ran, split):
    config = importlib.import_module("draw_jax.configs.digits").get_config()
    stored = splits.load(config.data, split)
    places = splits.batch_indices(config.seed, 0, len(stored), 12)
    images = stored.batch(places if split == "train" else np.arange(12)).images / np.float32(255)
    with Image.open(ran[0] / "new" / "drawn" / f"digits_{split}.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(grids.grid(images)))


@pytest.mark.parametrize("words", MISTAKES, ids=str)
def test_mistakes_are_one_line_and_nothing_is_drawn(ran, words):
    folder, done = ran
    assert_one_error(done[words], 2, MISTAKES[words])
    assert not (folder / "samples").exists()
