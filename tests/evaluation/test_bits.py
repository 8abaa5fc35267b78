"""Bits per dimension of a discretized likelihood, and every picture of such a model."""

import json
import math

import jax
import numpy as np
import pytest
from PIL import Image

from draw_jax.commands import evaluate
from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit, LazyImages
from draw_jax.drawing import kinds, latents, report, sampling
from draw_jax.evaluation import nearest, passes
from draw_jax.model import build
from draw_jax.model.likelihood import DISCRETIZED_LOGISTIC
from draw_jax.training import config as settings
from draw_jax.training import loop
from tests.helpers import small_config

SHAPE = (7, 5, 3)
COLOUR = {"image_shape": SHAPE, "likelihood": "discretized_logistic"}
LOGISTIC = {"model.likelihood": "discretized_logistic", "model.canvas_bias": 0.3}


@pytest.fixture(scope="module")
def drawer(tiny):
    return tiny(**COLOUR)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (11, *SHAPE), np.uint8)


def test_a_pass_tells_both_bounds_in_bits_per_dimension(drawer, images):
    model, variables = drawer
    task = build.task(model)
    assert task.columns == ("elbo_loss", "nll", "kl", "bits_per_dim")
    result = passes.evaluate(
        *(task, variables, ArraySplit(images, None, False)),
        splits.preparation("none"),
        jax.random.key(0),
        batch_size=4,
        importance_samples=5,
    )
    nats_per_bit = 7 * 5 * 3 * math.log(2)
    for bits, nats in (
        ("bits_per_dim", "elbo_loss"),
        ("importance_weighted_bits_per_dim", "importance_weighted_nll"),
    ):
        for suffix in ("", "_se"):
            expected = result[nats + suffix] / nats_per_bit
            assert result[bits + suffix] == pytest.approx(expected, rel=1e-5)
    assert result["importance_weighted_bits_per_dim"] < result["bits_per_dim"]


def test_a_bernoulli_has_no_bits(tiny):
    task = build.task(tiny()[0])
    assert task.columns == ("elbo_loss", "nll", "kl") and task.bits == ()
    assert set(task.with_totals({"nll": 1.0, "kl": 2.0})) == {"nll", "kl", "elbo_loss"}


def test_a_uniform_guess_costs_about_eight_bits_and_a_certain_one_none():
    rng = np.random.default_rng(0)
    x = (rng.integers(1, 255, (6, 5, 3)) / 255).astype(np.float32)
    # Of scale 1/4 of the range, wide enough for all levels and with little in the tails.
    for mean, log_scale, low, high in ((0.5, math.log(0.25), 7.5, 10), (x, -9.0, -0.01, 0.01)):
        canvas = np.concatenate([np.broadcast_to(m, x.shape) for m in (mean, log_scale)], -1)
        bits = float(DISCRETIZED_LOGISTIC.nll(canvas.astype(np.float32), x)) / x.size / math.log(2)
        assert low < bits < high


def test_the_nearest_image_is_measured_by_the_models_own_likelihood(drawer, images):
    model, variables = drawer
    key = jax.random.key(3)
    result = nearest.measure(model, variables, key, ArraySplit(images, None, False), 6)
    canvases = sampling.generate(model, variables, key, 6).canvases[-1]
    index = latents.nearest(sampling.mean_images(model, canvases), images)
    x = images[index].astype(np.float32) / 255
    nll = np.asarray(DISCRETIZED_LOGISTIC.nll(canvases, x), np.float64)
    assert "nearest_rounded_nll" not in result  # no black and white
    assert result["nearest_nll"] == pytest.approx(nll.mean(), rel=1e-5)


@pytest.mark.parametrize("kind", kinds._OF_DRAW)
def test_every_kind_of_picture(drawer, images, tmp_path, kind):
    model, variables = drawer

    split = ArraySplit(images, None, False)

    def data(_, count):
        return kinds.Data(images[:count].astype(np.float32) / 255, None)

    def seen(batch, _):
        return batch.astype(np.float32) / 255

    draws = kind == "samples"
    job = kinds.Job(
        *(model, variables, jax.random.key(2), tmp_path, data, lambda: LazyImages(split, seen)),
        rows=2,
        columns=3,
        scale=4,
        draws=draws,
    )
    for path in kinds.of_model(model)[kind](job):
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                for name in {"images", "frames", "means"} & set(arrays.files):
                    assert arrays[name].shape[-3:] == SHAPE
                    assert arrays[name].min() >= 0 and arrays[name].max() <= 1
                if draws:
                    levels = arrays["images"] * 255
                    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)  # of float32
        else:
            with Image.open(path) as picture:
                assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 9


def test_error_images_are_what_the_model_read(drawer, images):
    model, variables = drawer
    x = images[:4].astype(np.float32) / 255
    canvases = sampling.reconstruct(model, variables, x, jax.random.key(0)).trace.canvases
    first = variables["params"]["cell"]["canvas_0"]
    errors = sampling.error_images(model, x, canvases, first)
    for t, canvas in enumerate([np.broadcast_to(first, (4, 7, 5, 6)), *canvases[:-1]]):
        expected = DISCRETIZED_LOGISTIC.error_image(x, canvas)
        np.testing.assert_allclose(errors[t], expected, atol=1e-6)


@pytest.mark.slow
def test_a_run_tells_bits_in_metrics_progress_and_report(tmp_path, capsys):
    run = tmp_path / "run"
    config = small_config(
        **LOGISTIC, **{"train.num_steps": 4, "train.eval_every": 4, "train.log_every": 2}
    )
    assert loop.train(config, run) == loop.FINISHED
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "validation"}
    for row in rows:
        nats_per_bit = 28 * 28 * math.log(2)
        assert row["bits_per_dim"] == pytest.approx(row["elbo_loss"] / nats_per_bit, rel=1e-5)
    assert "bits_per_dim_se" in rows[-1]
    told = [line for line in capsys.readouterr().out.splitlines() if "validation" in line]
    assert f"bits_per_dim {rows[-1]['bits_per_dim']:.3f}" in told[0]
    assert (run / "report.png").is_file()
    assert np.load(report.picture_path(run, 4).with_suffix(".npy")).shape == (64, 28, 28, 1)
    words = [f"--workdir={run}", "--split=validation", f"--json={tmp_path / 'found.json'}"]
    assert evaluate.command(["evaluate", *words, "--importance_samples=2"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["bits_per_dim"] == pytest.approx(rows[-1]["bits_per_dim"], rel=1e-5)
    printed = capsys.readouterr().out.splitlines()
    assert json.loads(printed[-1]) == found
    for name in ("bits_per_dim", "importance_weighted_bits_per_dim"):
        (line,) = (line for line in printed if line.split()[0] == name)
        assert line.split()[1:] == [f"{found[name]:.3f}", "+-", f"{found[f'{name}_se']:.3f}"]


@pytest.mark.parametrize("binarization", ["dynamic", "fixed"])
def test_binary_images_are_refused_in_a_line(binarization):
    config = small_config(**LOGISTIC, **{"data.binarization": binarization})
    with pytest.raises(ValueError, match="binarization: expected none, as .*discretized") as caught:
        settings.check(config)
    assert "\n" not in str(caught.value) and repr(binarization) in str(caught.value)
