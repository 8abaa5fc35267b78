"""The weights that come with the package."""

import jax
import numpy as np
import pytest

from benchmarks.agreement import agreement, loss_and_gradient
from draw_jax.configs import digits
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
    assert config.data.data_dir == config.data.manual_dir == config.train.init_from == ""


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


def assert_like(means, binarization, training=None):
    """Asserts that samples are of trained weights, for which grey and alike stand those that are not.

    Args:
        means: of D given the last canvases, [N, H, W, C].
        binarization: of what the model was trained on.
        training: images of that, [M, H, W, C] in [0, 1]; None: they are not at hand.
    """
    assert np.isfinite(means).all()
    if binarization != "none":  # ink and paper
        assert np.mean((means < 0.1) | (means > 0.9)) > 0.7
        assert 0.02 < means.mean() < 0.6
        return
    # Weights that were never trained have less than 0.02 of both.
    assert np.median(means.std((1, 2, 3))) > 0.05
    assert means.std(0).mean() > 0.05
    if training is not None:  # samples are blurred, and a few of them
        assert abs(means.mean() - training.mean()) < 0.1
        assert 0.6 < means.std() / training.std() < 1.25


@pytest.mark.parametrize("name", of_kind("draw"))
def test_shipped_weights_draw(name):
    config, model, variables = checkpoint.load(name)
    trace = sampling.generate(model, variables, jax.random.key(0), 16)
    means = sampling.mean_images(model, trace.canvases[-1])
    of_digits = config.data.name == "digits"  # which need no files
    training = splits.load(config.data, "train").images / 255 if of_digits else None
    assert_like(means, config.data.binarization, training)


def test_what_is_like_digits_and_what_is_not(tiny):
    grey = splits.load(digits.get_config().data, "train").images / np.float32(255)
    assert_like(grey[:16], "none", grey)
    assert_like(np.round(grey[:16]), "dynamic")
    model, variables = tiny(initialised=True, image_shape=(28, 28, 1))
    trace = sampling.generate(model, variables, jax.random.key(0), 16)
    untrained = sampling.mean_images(model, trace.canvases[-1])
    blank = np.arange(16).reshape(-1, 1, 1, 1) / 15 * np.ones_like(untrained)
    for means in (untrained, blank, grey[:1].repeat(16, 0)):
        with pytest.raises(AssertionError):
            assert_like(means, "none")
    for means in (untrained, grey[:16] * np.nan):
        with pytest.raises(AssertionError):
            assert_like(means, "fixed")
    for means in (1 - grey[:16], grey[:16] / 2):
        assert_like(means, "none")
        with pytest.raises(AssertionError):
            assert_like(means, "none", grey)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_are_small(name):
    files = [path for path in (export.FOLDER / name).rglob("*") if path.is_file()]
    assert len(files) >= 3 and sum(path.stat().st_size for path in files) < 6_000_000


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
