"""Runs over images that are made or cropped anew, stopped and continued."""

import importlib

import numpy as np
import pytest

from draw_jax.data.sets import svhn
from draw_jax.training import loop
from tests.training.whole_runs import rows, timeless

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]
SMALL = {
    "model.time_steps": 2,
    "model.enc_size": 8,
    "model.dec_size": 8,
    "model.latent_size": 2,
    "model.read_size": 2,
    "model.write_size": 2,
    "train.batch_size": 20,
    "train.num_steps": 4,
    "train.decay_steps": 6,
    "train.warmup_steps": 1,
    "train.log_every": 1,
    "train.eval_every": 3,
}


@pytest.fixture(params=["mnist_two_digits", "svhn"])
def config(request, tmp_path):
    """A configuration whose images are of scikit-learn's digits, or prepared numbers of noise."""
    made = importlib.import_module(f"draw_jax.configs.{request.param}").get_config()
    made.update_from_flattened_dict(SMALL)
    if request.param == "svhn":
        made.data.data_dir = str(tmp_path)
        folder = tmp_path / "draw_svhn" / "1.0.0"
        folder.mkdir(parents=True)
        for part, count in (("train", 21), ("extra", 31)):  # which six updates see twice
            rng = np.random.default_rng(count)
            images = rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
            np.save(folder / f"{part}.npy", images)
        assert svhn._rows("train", 52).size == 51
    else:
        made.data.source = "digits"
    return made


def test_a_run_that_goes_on_sees_the_images_that_were_next(config, tmp_path):
    assert loop.train(config, tmp_path / "stopped") == loop.FINISHED
    config.train.num_steps = 6
    assert loop.train(config, tmp_path / "stopped") == loop.FINISHED
    assert loop.train(config, tmp_path / "whole") == loop.FINISHED
    stopped, whole = (
        [timeless(row) for row in rows(tmp_path / name) if row["split"] == "train"]
        for name in ("stopped", "whole")
    )
    assert stopped == whole and [row["step"] for row in whole] == [1, 2, 3, 4, 5, 6]
    assert np.isfinite([row["elbo_loss"] for row in whole]).all()
