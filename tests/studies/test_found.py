"""Where a classifier looks: against loops over pixels and images."""

import jax
import numpy as np
import pytest

from draw_jax.data.interface import ArraySplit
from draw_jax.data.sets.cluttered import Cluttered
from draw_jax.model import build
from draw_jax.model.attention import Window
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.studies import found
from tests.helpers import assert_one_error, forked

HEIGHT, WIDTH, SIZE = 5, 4, 12


def split(count=7):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (count, HEIGHT, WIDTH, 1), dtype=np.uint8)
    labels = rng.integers(0, 3, count).astype(np.int32)
    digits = ArraySplit(images, labels, binary=False)
    return Cluttered(digits, 0, "validation", size=SIZE, clutter=0, crop_size=2)


def test_a_centre_is_on_a_digit_where_the_nearest_pixel_is_one_of_it():
    cluttered, rng = split(), np.random.default_rng(1)
    places = cluttered.places(np.arange(7))
    pictures = cluttered.batch(np.arange(7)).images[..., 0]  # black but for the digit
    centres = rng.uniform(-2, SIZE + 3, (2, 200, 7)).astype(np.float32)
    windows = Window(centres[0], centres[1], *np.ones((3, 200, 7), np.float32))
    on = found.on_digit(windows, places.top, places.left, HEIGHT, WIDTH)
    assert 50 < on.sum() < 200
    for t, b in np.ndindex(on.shape):
        x, y = (
            round(float(centre[t, b])) - 1 for centre in centres
        )  # the paper's pixels begin at 1
        inside = 0 <= x < SIZE and 0 <= y < SIZE
        assert on[t, b] == (inside and pictures[b, y, x] > 0)


def test_it_looks_at_every_image_once(monkeypatch):
    monkeypatch.setattr(found, "_BATCH_SIZE", 3)
    cluttered, model = split(), GlimpseClassifier((SIZE, SIZE, 1), 2, 6, 3, 3)
    variables = jax.jit(build.initial_variables, static_argnums=0)(model, jax.random.key(0))
    told = found.look(model, variables, cluttered, "none", 5)
    batch = cluttered.batch(np.arange(5))
    seen = model.apply(variables, batch.images.astype(np.float32) / 255, trace=True)
    np.testing.assert_array_equal(told.wrong, np.asarray(seen.logits).argmax(-1) != batch.labels)
    places = cluttered.places(np.arange(5))
    on = found.on_digit(seen.windows, places.top, places.left, HEIGHT, WIDTH)
    np.testing.assert_array_equal(told.on, on)


def test_a_share_is_in_percent_and_of_nothing_a_dash():
    assert found.share(np.array([True, False, False])) == "33.33"
    assert found.share(np.array([], bool)) == "-"


@pytest.mark.slow
def test_the_command_prints_a_table_and_mistakes_are_one_line(tmp_path):
    steps = ("--config.train.num_steps=1", "--config.train.warmup_steps=0")
    small = ("--config.data.source=digits", "--config.data.size=28", "--config.model.lstm_size=8")
    shape = "--config.model.image_shape=(28,28,1)"
    made = [
        ("train.py", "--config=cluttered_mnist", "--workdir=seen", *small, shape, *steps),
        ("train.py", "--config=mnist_classifier", "--workdir=net", small[0], *steps),
    ]
    caches = {"XDG_CACHE_HOME": str(tmp_path / "caches")}
    for done in forked(made, cwd=tmp_path, **caches):
        assert done.returncode == 0, done.stderr
    told = {
        (): (2, "Give one of --workdir=DIR and --pretrained"),
        ("--workdir=seen", "--images=0"): (2, "--images: expected 1 to 1,000,000, got 0"),
        ("--workdir=seen", "--split=train"): (2, "--split: expected validation or test, got 'tr"),
        ("--workdir=net",): (2, "config.kind 'convnet' reads no glimpses"),
    }
    commands = [("draw_jax.studies.found", *words) for words in (("--workdir=seen",), *told)]
    table, *mistakes = forked(commands, cwd=tmp_path, **caches)
    assert (table.returncode, table.stderr) == (0, "")
    assert len([line for line in table.stdout.splitlines() if line.startswith("| ")]) == 9
    for done, (code, text) in zip(mistakes, told.values(), strict=True):
        assert_one_error(done, code, text)
