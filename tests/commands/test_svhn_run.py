"""SVHN as a user goes about it: original archives, train.py, sample.py, evaluate.py."""

import json

import numpy as np
import pytest
from PIL import Image

from draw_jax.data.sets import svhn
from draw_jax.drawing.figures import look
from tests.data.svhn_files import boxes, write_archive
from tests.drawing.arrays import coloured
from tests.helpers import FAST_COMPILING, ROOT, forked

pytestmark = pytest.mark.slow
COUNTS = {"train": 20, "extra": 30, "test": 6}
STEPS, SIDE = 3, 54
FIELDS = {
    "data.manual_dir": "archives",
    "data.data_dir": "prepared",
    "model.time_steps": STEPS,
    "model.enc_size": 16,
    "model.dec_size": 16,
    "model.latent_size": 4,
    "model.read_size": 4,
    "model.write_size": 4,
    "train.batch_size": 8,
    "train.cpu_devices": 1,
    "train.learning_rate": 0.03,
    "train.num_steps": 30,
    "train.decay_steps": 30,
    "train.warmup_steps": 1,
    "train.average_decay": 0.0,
    "train.log_every": 10,
    "train.eval_every": 30,
    "train.checkpoint_every": 30,
}
COMMANDS = {
    "train": (
        *("train.py", f"--config={ROOT}/configs/svhn.py", "--workdir=run"),
        *(f"--config.{name}={value}" for name, value in FIELDS.items()),
    ),
    "sample": (
        *("sample.py", "--workdir=run", "--out=drawn", "--rows=2", "--columns=2", "--scale=1"),
        "--kind=samples,sequence,reconstruct,nearest",
    ),
    "evaluate": ("evaluate.py", "--workdir=run", "--split=test", "--nearest_nll=3"),
}


def numbers(width, height):
    """Returns a picture in one of some oranges, with blue bars: a few updates learn the orange."""
    picture = np.full((height, width, 3), (230, 90 + height % 80, 40), np.uint8)
    picture[:, np.arange(width) // 4 % 3 == 0] = (20 + width % 90, 30, 140)
    return picture


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that the commands were run in."""
    place = tmp_path_factory.mktemp("svhn")
    for part, count in COUNTS.items():
        write_archive(place / "archives", part, *boxes(part, count), paint=numbers)
    return place


@pytest.fixture(scope="module")
def done(place):
    """Returns what each command did. Training images have no room, but are read as searched."""
    before = (
        "from draw_jax.data.builders import svhn_numbers\n"
        f"svhn_numbers.COUNTS = {COUNTS}\nsample._ROOM = 4 * {SIDE**2 * 3} * 5"
    )
    environment = {"XLA_FLAGS": FAST_COMPILING, "XDG_CACHE_HOME": str(place / "caches")}
    outcomes = forked(COMMANDS.values(), before, cwd=place, timeout=300, **environment)
    return dict(zip(COMMANDS, outcomes, strict=True))


def panel(picture, row, column, top=0):
    """Returns one panel of a sheet at scale 1, beneath `top` rows."""
    top, left = (
        first + look.PADDING + n * (SIDE + look.PADDING) for first, n in ((top, row), (0, column))
    )
    found = picture[top : top + SIDE, left : left + SIDE]
    assert found.shape == (SIDE, SIDE, 3)
    return found


def drawn(place, name):
    """Returns a picture, uint8 [h, w, 3], and its arrays."""
    with Image.open(place / "drawn" / f"{name}.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    with np.load(place / "drawn" / f"{name}.npz") as arrays:
        return pixels, dict(arrays)


def assert_in_colour(images):
    """Asserts that images [..., H, W, 3] are neither blank nor grey."""
    images = np.asarray(images, float)
    assert images.std((-3, -2)).min() > 0 and np.isfinite(images).all()
    assert np.abs(images[..., 0] - images[..., 2]).mean() > 0.01 * images.max()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_well(done, name):
    code, told = done[name].returncode, done[name].stderr
    assert code == 0, told
    assert all(line.startswith("preparing archives/") for line in told.splitlines())


def test_the_run_holds_a_checkpoint_and_its_loss_falls(done, place):
    assert [path.name for path in (place / "run" / "checkpoints").iterdir()] == ["30"]
    rows = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["elbo_loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == 4 and losses[-1] < 0.95 * losses[0]
    with Image.open(place / "run" / "report.png") as picture:
        assert min(picture.size) > 100


def test_samples_are_their_arrays_in_colour(done, place):
    picture, arrays = drawn(place, "samples")
    assert arrays["images"].shape == (4, SIDE, SIDE, 3)
    assert_in_colour(arrays["images"])
    for n, image in enumerate(arrays["images"]):
        np.testing.assert_array_equal(panel(picture, n // 2, n % 2), np.rint(255 * image))


def test_a_sequence_shows_what_is_written_and_where(done, place):
    picture, arrays = drawn(place, "sequence")
    assert arrays["frames"].shape == (STEPS, 2, SIDE, SIDE, 3)
    assert_in_colour(arrays["frames"][-1])
    for t in range(STEPS):
        for b in range(2):
            shown = panel(picture, b, t, look.LINE)
            same = (shown == np.rint(255 * arrays["frames"][t, b])).all(-1)
            assert coloured(shown, look.WRITE).sum() > SIDE and same.sum() > SIDE**2 / 3
            assert not coloured(shown, look.READ).any()  # a sample is drawn without reading
    for kind in ("gif", "webp"):
        with Image.open(place / "drawn" / f"sequence.{kind}") as animation:
            assert animation.n_frames == STEPS + 1  # the last without a mark
            assert_in_colour(panel(np.asarray(animation.convert("RGB")), 0, 0))


def test_a_reconstruction_shows_the_windows_of_both_colours(done, place):
    picture, arrays = drawn(place, "reconstruct")
    test = np.load(place / "prepared/draw_svhn/1.0.0/test.npy")[:2, 5:59, 5:59]
    np.testing.assert_allclose(arrays["images"], test / 255, rtol=1e-6)
    assert_in_colour(arrays["frames"][-1])
    panels = picture[: -2 * look.LINE]  # without the legend
    for colour in (look.READ, look.WRITE):
        assert coloured(panels, colour).sum() > SIDE


def test_the_nearest_of_all_training_images_stands_beside_its_sample(done, place):
    picture, arrays = drawn(place, "nearest")
    parts = [np.load(place / f"prepared/draw_svhn/1.0.0/{p}.npy") for p in ("train", "extra")]
    both = np.concatenate(parts)
    middle = both[svhn._rows("train", len(both)), 5:59, 5:59] / 255
    assert len(middle) == 49
    last = arrays["images"][1::2].astype(float)
    nearest = [int(((middle - image) ** 2).sum((1, 2, 3)).argmin()) for image in last]
    assert arrays["index"].tolist() == nearest
    np.testing.assert_allclose(arrays["neighbours"], middle[nearest], rtol=1e-6)
    assert_in_colour(arrays["neighbours"])
    side = SIDE + 2 * look.PADDING + 3
    for row, image in enumerate(arrays["neighbours"]):
        top, left = 3 + look.PADDING + row * (SIDE + look.PADDING), picture.shape[1] - side
        right = picture[top : top + SIDE, left + look.PADDING : left + look.PADDING + SIDE]
        np.testing.assert_array_equal(right, np.rint(255 * image))


def test_the_test_split_is_measured_whole(done):
    result = json.loads(done["evaluate"].stdout.splitlines()[-1])
    assert (result["images"], result["data"], result["nearest_images"]) == (6, "svhn", 3)
    # No more nats than a mid-grey guess costs, no fewer than the entropy of what was painted.
    assert 0 < result["elbo_loss"] < 1.1 * SIDE**2 * 3 * np.log(2)
