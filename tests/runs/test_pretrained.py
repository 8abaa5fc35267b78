"""The weights that come with the package."""

import jax
import numpy as np
import pytest

from benchmarks.agreement import agreement, loss_and_gradient
from draw_jax.data import splits
from draw_jax.drawing import sampling
from draw_jax.runs import checkpoint, export

NAMES = export.names()


KINDS = {name: checkpoint.load(name)[0].kind for name in NAMES}


def of_kind(kind):
    return [name for name in NAMES if KINDS[name] == kind]


def test_a_model_that_draws_and_one_that_classifies_are_shipped():
    assert "mnist" in of_kind("draw") and "cluttered_mnist" in of_kind("classifier")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_name_no_folder_of_their_makers_machine(name):
    config, _, _ = checkpoint.load(name)
    assert config.data.data_dir == config.data.manual_dir == ""


@pytest.mark.parametrize("name", of_kind("classifier"))
def test_shipped_weights_classify_digits_that_they_were_not_trained_on(name):
    """Scikit-learn's, as no MNIST may be here: scans of 8x8 pixels, enlarged, are harder."""
    config, model, variables = checkpoint.load(name)
    with config.unlocked():
        config.data.source = "digits"
    images, labels = splits.load(config.data, "test").batch(np.arange(100))
    logits = np.asarray(jax.jit(model.apply)(variables, images / np.float32(255)))
    assert (logits[-1].argmax(-1) != labels).mean() < 0.35
    assert (logits[0].argmax(-1) != labels).mean() > 0.5  # one wide glimpse does not do


@pytest.mark.parametrize("name", of_kind("draw"))
def test_shipped_weights_draw(name):
    _, model, variables = checkpoint.load(name)
    trace = sampling.generate(model, variables, jax.random.key(0), 4)
    means = sampling.mean_images(model, trace.canvases[-1])
    # Ink and paper, not the grey of weights that were never trained.
    assert np.isfinite(means).all()
    assert np.mean((means < 0.1) | (means > 0.9)) > 0.7
    assert 0.02 < means.mean() < 0.6


@pytest.mark.slow
def test_bfloat16_keeps_the_loss_and_the_gradient_of_trained_weights():
    _, model, variables = checkpoint.load("mnist")
    draw_key, eps_key = jax.random.split(jax.random.key(0))
    # Images like those it was trained on, drawn by itself and made black and white.
    trace = sampling.generate(model, variables, draw_key, 50)
    x = np.round(sampling.mean_images(model, trace.canvases[-1]))
    eps = jax.random.normal(eps_key, (model.time_steps, len(x), model.latent_size))
    exact, near = (
        loss_and_gradient(model.clone(dtype=dtype), variables["params"], x, eps)
        for dtype in ("float32", "bfloat16")
    )
    assert exact[0] < 110  # the network knows these images
    # An operand is wrong by 2^-9; over 64 steps that adds up to thousandths of the gradient, as
    # long as the windows are float32: with theirs in bfloat16 the cosine falls below the limit.
    assert 0 < abs(near[0] - exact[0]) <= 0.05
    assert agreement(exact, near).gradient_cosine >= 0.999
