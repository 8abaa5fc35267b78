"""train.py and sample.py of a classifier, on a small run over scikit-learn's digits."""

import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw

from configs import cluttered_mnist_convnet
from draw_jax.model import build
from draw_jax.runs import export
from tests.helpers import FAST_COMPILING, assert_one_error, change_data, forked

FIELDS = {
    "data.source": "digits",
    "data.size": 32,
    "data.clutter": 1,
    "model.image_shape": "32,32,1",
    "model.time_steps": 2,
    "model.lstm_size": 8,
    "model.read_size": 4,
    "train.batch_size": 8,
    "train.num_steps": 2,
}
TRAIN = (
    *("train.py", "--config=cluttered_mnist", "--workdir=run"),
    *(f"--config.{name}={value}" for name, value in FIELDS.items()),
)
FILES = [f"glimpses.{suffix}" for suffix in ("png", "npz", "gif", "webp")]


def run_all(commands, place):
    options = {"XLA_FLAGS": FAST_COMPILING, "XDG_CACHE_HOME": str(place / "caches")}
    return forked(commands, cwd=place, timeout=300, TFDS_DATA_DIR="nothing", **options)


def convnet_config():
    config = cluttered_mnist_convnet.get_config()
    fields = {"model.image_shape": (32, 32, 1), "model.hidden_size": 4, "data.size": 32}
    config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A place with a finished run in `run`, the same in `bare`, whose data is not here, and `net`."""
    place = tmp_path_factory.mktemp("classifier")
    (done,) = run_all([TRAIN], place)
    assert (done.returncode, done.stderr) == (0, "")
    (place / "told").write_text(done.stdout)
    shutil.copytree(place / "run", place / "bare")
    change_data(place / "run", place / "bare", source="mnist")
    net = convnet_config()
    params = build.initial_variables(build.build(net), jax.random.key(0))["params"]
    export.write(net, params, place / "net", "float32", "# A convolutional net\n")
    digit = Image.new("L", (90, 60), 250)
    ImageDraw.Draw(digit).line((20, 10, 40, 10, 25, 50), fill=20, width=5)
    digit.save(place / "seven.png")
    return place


@pytest.fixture(scope="module")
def drawn(place):
    commands = {
        "default": ("sample.py", "--workdir=run", "--out=default"),
        "all": ("sample.py", "--workdir=bare", "--out=all", "--kind=all", "--rows=2"),
        "image": ("sample.py", "--workdir=bare", "--out=image", "--image=seven.png"),
        "net": ("sample.py", "--workdir=net"),
        "net_image": ("sample.py", "--workdir=net", "--image=seven.png"),
        "endless": ("evaluate.py", "--workdir=run", "--split=train"),
        "endless json": ("evaluate.py", "--workdir=run", "--split=train", "--json=endless.json"),
        "kind": ("sample.py", "--workdir=run", "--kind=glimpses,samples"),
    }
    return dict(zip(commands, run_all(commands.values(), place), strict=True))


def test_a_finished_run_names_the_picture_of_its_last_validation(place):
    last = (place / "told").read_text().splitlines()[-1]
    assert last == "finished at step 2; what it looks at: run/samples/step_0000002.png"
    assert (place / "run" / "samples" / "step_0000002.png").is_file()
    assert (place / "run" / "report.png").is_file()


def test_a_classifier_draws_its_glimpses(place, drawn):
    assert (drawn["default"].returncode, drawn["default"].stderr) == (0, "")
    assert drawn["default"].stdout.split() == [f"default/{name}" for name in FILES]
    with np.load(place / "default" / "glimpses.npz") as arrays:
        assert arrays["images"].shape == (3, 32, 32, 1)
        assert arrays["logits"].shape == (2, 3, 10) and arrays["labels"].shape == (3,)


def test_without_mnist_the_images_are_made_of_digits_that_need_no_files(place, drawn):
    assert (drawn["all"].returncode, drawn["all"].stderr) == (0, "")
    told, *files = drawn["all"].stdout.splitlines()
    assert told.startswith("MNIST is not on this disk (--data_dir=DIR") and "scikit-learn" in told
    assert files == [f"all/{name}" for name in FILES]
    paths = [place / out / "glimpses.npz" for out in ("default", "all")]
    with np.load(paths[0]) as digits, np.load(paths[1]) as instead:
        np.testing.assert_array_equal(instead["images"], digits["images"][:2])


def test_a_picture_of_ones_own_gets_a_class(place, drawn):
    assert (drawn["image"].returncode, drawn["image"].stderr) == (0, "")
    told, *files = drawn["image"].stdout.splitlines()
    assert files == [f"image/{name}" for name in FILES]
    with np.load(place / "image" / "glimpses.npz") as arrays:
        assert arrays["images"].shape == (1, 32, 32, 1) and "labels" not in arrays.files
        weights = np.exp(arrays["logits"][-1, 0].astype(np.float64))
    probability = weights.max() / weights.sum()
    assert told == f"class {weights.argmax()} (probability {probability:.2f})"


def test_a_convolutional_net_draws_nothing_but_names_the_class(drawn):
    assert_one_error(drawn["net"], 1, "of config.kind 'convnet' draws nothing", "--image=FILE")
    assert (drawn["net_image"].returncode, drawn["net_image"].stderr) == (0, "")
    assert re.fullmatch(r"class [0-9] \(probability [01]\.[0-9]{2}\)\n", drawn["net_image"].stdout)


def test_an_endless_split_cannot_be_evaluated(drawn):
    for name in ("endless", "endless json"):
        assert_one_error(drawn[name], 2, "endless training images: evaluate validation or test")


def test_kinds_that_the_model_does_not_have_are_refused(drawn):
    assert_one_error(drawn["kind"], 2, "config.kind 'classifier' has glimpses; got 'samples'")
