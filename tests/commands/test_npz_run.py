"""A model of one's own arrays, made to its size: train.py on an .npz file with config.data.resize."""

import json

import numpy as np
import pytest
from PIL import Image

from draw_jax.data import pictures
from tests.helpers import FAST_COMPILING, SMALL, forked

pytestmark = pytest.mark.slow
SHAPE = (8, 6, 3)
FIELDS = SMALL | {
    "data.name": "npz",
    "data.data_dir": "mine.npz",
    "data.resize": True,
    "model.image_shape": SHAPE,
    "model.canvas_bias": 0.0,
    "train.batch_size": 10,
    "train.num_steps": 4,
    "train.decay_steps": 4,
    "train.warmup_steps": 1,
    "train.log_every": 1,
    "train.eval_every": 4,
}
TRAIN = (
    *("train.py", "--config=smoke", "--workdir=run"),
    *(f"--config.{name}={value}" for name, value in FIELDS.items()),
)
DRAW = ("sample.py", "--workdir=run", "--kind=nearest", "--rows=2", "--columns=1", "--scale=1")


def test_arrays_of_another_size_are_trained_on_and_drawn_at_the_models(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 13, 17, 3), np.uint8)
    np.savez(tmp_path / "mine.npz", train_images=images, test_images=images[:5])
    environment = {"XLA_FLAGS": FAST_COMPILING, "XDG_CACHE_HOME": str(tmp_path / "caches")}
    for done in forked([TRAIN, DRAW], cwd=tmp_path, timeout=300, **environment):
        assert done.returncode == 0, done.stderr
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    # A mid-grey guess costs log 2 a value.
    assert all(abs(row["nll"] / (8 * 6 * 3) - np.log(2)) < 0.05 for row in rows)
    samples = np.load(tmp_path / "run" / "samples" / "step_0000004.npy")
    assert samples.shape == (64, *SHAPE)
    resized = [pictures.of_array(image, SHAPE) / np.float32(255) for image in images]
    with np.load(tmp_path / "samples" / "nearest.npz") as arrays:
        for neighbour in arrays["neighbours"]:
            assert np.abs(resized - neighbour).max((1, 2, 3)).min() < 1e-6
    with Image.open(tmp_path / "samples" / "nearest.png") as picture:
        assert picture.height > 2 * 8
