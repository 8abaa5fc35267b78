"""train.py and evaluate.py on labelled sets: any of them works for a classifier."""

import json

import numpy as np
import pytest
from PIL import Image

from draw_jax.evaluation import classification
from tests.helpers import FAST_COMPILING, SMALL_CLASSIFIER, assert_one_error, forked

SIDE = 12  # of the pictures, pixels
TWO = {"train.num_steps": 2, "train.decay_steps": 2}
pytestmark = pytest.mark.slow
DIGITS = TWO | {"data.name": "digits"}
FOLDER = TWO | {
    "data.name": "image_folder",
    "data.data_dir": "pictures",
    "model.image_shape": (SIDE, SIDE, 1),
    "model.classes": 2,
}


def train(run, fields, config="cluttered_mnist"):
    values = SMALL_CLASSIFIER | fields
    if config == "cluttered_mnist_convnet":
        for name in ("model.time_steps", "model.lstm_size", "model.read_size"):
            del values[name]
    flags = (f"--config.{name}={value}" for name, value in values.items())
    return "train.py", f"--config={config}", f"--workdir={run}", *flags


def evaluate(run, *flags):
    return "evaluate.py", f"--workdir={run}", *flags


def run_all(commands, place):
    environment = {"XLA_FLAGS": FAST_COMPILING, "XDG_CACHE_HOME": str(place / "caches")}
    return forked(commands, cwd=place, timeout=300, **environment)


def store_pictures(folder, classes, count=60):
    """Saves small pictures of noise, each in the sub-folder of its class ("" = in none)."""
    rng = np.random.default_rng(0)
    for n in range(count):
        place = folder / classes[n % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{n}.png")


RUNS = {
    "digits": train("digits", DIGITS, "cluttered_mnist_convnet"),
    "folder": train("folder", FOLDER),
}
# Each a command -> what its one line on stderr tells.
MISTAKES = {
    train("few", DIGITS | {"model.classes": 5}): "expected labels 0 to 4, got 0 to 9",
    train("flat_run", FOLDER | {"data.data_dir": "flat"}): "a classifier needs labels",
    train("fixed", {"data.binarization": "fixed"}): "'cluttered_mnist' have grey values",
    train("other", {"data.size": 30}): "got a data set of (30, 30, 1)",
    train("narrow", {"data.crop_size": 29}): "config.data.crop_size: expected at most 28",
    evaluate("folder", "--data_dir=flat"): "a classifier needs labels",
    evaluate("folder", "--data_dir=three"): "expected labels 0 to 1, got 0 to 2",
    evaluate("digits", "--importance_samples=2"): "--importance_samples: a model of config.kind",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Returns what became of every command, the runs first."""
    place = tmp_path_factory.mktemp("classifiers")
    store_pictures(place / "pictures", ["cats", "dogs"])
    store_pictures(place / "three", ["cats", "dogs", "owls"])
    store_pictures(place / "flat", [""])
    evaluations = [evaluate(run, "--json=out.json") for run in RUNS]
    commands = [*RUNS.values(), *evaluations, *MISTAKES]
    return dict(zip(commands, run_all(commands, place), strict=True))


@pytest.mark.parametrize(("name", "images"), [("digits", 180), ("folder", None)])
def test_a_labelled_set_is_trained_on_and_evaluated(outcomes, name, images):
    done = outcomes[RUNS[name]]
    assert (done.returncode, done.stderr) == (0, "") and "finished at step 2" in done.stdout
    measured = outcomes[evaluate(name, "--json=out.json")]
    assert (measured.returncode, measured.stderr) == (0, "")
    lines = measured.stdout.splitlines()
    assert lines[1].split()[0] == "error" and lines[2].split()[0] == "cross_entropy"
    result = json.loads(lines[-1])
    assert images in (None, result["images"]) and result["images"] > 1
    assert 0 <= result["error"] <= 1 and result["cross_entropy"] > 0
    errors, (low, high) = result["errors"], (result["error_low"], result["error_high"])
    assert errors == round(result["error"] * result["images"])
    assert (low, high) == classification.interval(errors, result["images"])
    assert f"{100 * low:.2f} to {100 * high:.2f} %" in lines[3]
    classes = {"digits": 10, "folder": 2}[name]
    confusion = np.array(result["confusion"])  # of all images, so that right ones are the diagonal
    assert confusion.shape == (classes, classes)
    np.testing.assert_allclose([confusion.sum(), 1 - np.trace(confusion)], [1, result["error"]])
    assert result["error_per_step"][-1] == pytest.approx(result["error"])


@pytest.mark.parametrize("command", MISTAKES, ids=lambda command: MISTAKES[command])
def test_what_cannot_be_classified_is_one_line(outcomes, command):
    assert_one_error(outcomes[command], 2, MISTAKES[command])
