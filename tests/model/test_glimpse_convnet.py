"""The classifier whose windows a convolutional net reads through, against slow loops."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draw_jax.drawing import glimpses
from draw_jax.drawing.figures import glimpses as figures
from draw_jax.model import build, classifier
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.model.variants import glimpse_convnet
from draw_jax.model.variants.glimpse_convnet import GlimpseConvNet
from draw_jax.training import config as settings
from tests import reference
from tests.helpers import SMALL_CLASSIFIER
from tests.model.test_classifier import images, random_variables

T, B, CLASSES = 3, 2, 4
BASE = {
    "image_shape": (9, 7, 2),
    "time_steps": T,
    "lstm_size": 6,
    "read_size": 3,
    "classes": CLASSES,
    "scales": 2,
    "loss_steps": 2,
}
FIELDS = BASE | {"fine_size": 5, "filters": (3, 4), "hidden_size": 6}
NET = {"convolutions", "hidden", "classification"}
CONTEXT = {"context_filters": (2, 3), "context_pool": 2}
LABELS = np.array([2, 0], np.int32)


def make(**fields):
    model = GlimpseConvNet(**(FIELDS | fields))
    return model, random_variables(model)


@functools.partial(jax.jit, static_argnums=(0, 3))
def apply(model, variables, x, trace=True):
    return model.apply(variables, x, trace=trace)


@functools.partial(jax.jit, static_argnums=0)
def loss(model, variables, x, labels):
    return build.task(model).loss_terms(variables, x, labels, jax.random.key(0))


def alone(model, variables):
    """Returns the classifier without its net, and its variables."""
    params = {name: leaf for name, leaf in variables["params"].items() if name not in NET}
    fields = {name: getattr(model, name) for name in BASE}
    return GlimpseClassifier(**fields), {"params": params}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        CONTEXT | {"context_pool": 3, "stride": 1},
        *(
            pytest.param(fields, marks=pytest.mark.slow)
            for fields in (
                {"fine_size": 4, "filters": (3,), "stride": 1, "image_shape": (8, 9, 1)},
                CONTEXT,
            )
        ),
    ],
    ids=str,
)
def test_the_answers_are_the_reference(fields):
    model, variables = make(**fields)
    x = images(model)
    output = apply(model, variables, x)
    assert output.logits.shape == (T, B, CLASSES) and output.logits.dtype == np.float32
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    told = (T, model.read_size, CLASSES, model.scales, model.max_gamma)
    for b in range(B):
        first = None
        if model.context_filters:
            first = reference.context(variables, x[b], model.context_pool, model.stride)
        answers: list[np.ndarray] = []
        for t, glimpse in enumerate(reference.classify(variables, x[b], *told, first)):
            sizes = (model.read_size, model.fine_size, model.stride)
            added = reference.named(variables, x[b], glimpse.window, *sizes)
            assert np.abs(added).max() > 0.1
            answers.append(reference.log_probabilities(np.add(glimpse.logits, added)))
            close(output.logits[t, b], np.mean(answers[-model.loss_steps :], axis=0))
            close([field[t, b] for field in output.windows], glimpse.window)
    np.testing.assert_array_equal(apply(model, variables, x, False), output.logits)


def test_the_loss_is_that_of_both_logits_and_the_answer_what_the_last_glimpses_agree_on():
    model, variables = make()
    x = images(model)
    found = apply(*alone(model, variables), x, False)
    both = jax.jit(lambda v: model.apply(v, x, T, method="both"))(variables)[1].logits
    terms = loss(model, variables, x, LABELS)
    for b, label in enumerate(LABELS):
        each = [[reference.log_probabilities(a[t, b]) for t in (-2, -1)] for a in (found, both)]
        expected = -sum(log_p[label] for logs in each for log_p in logs) / 2
        assert terms["loss"][b] == pytest.approx(expected, rel=1e-5)
        answer = reference.log_probabilities(np.mean(each[1], axis=0))
        assert terms["cross_entropy"][b] == pytest.approx(-answer[label], rel=1e-5)
        assert terms["error"][b] == (np.argmax(answer) != label)
    keys = jax.random.split(jax.random.key(0), B)
    evaluated, told = jax.jit(build.task(model).evaluation_terms)(variables, x, LABELS, keys)
    assert evaluated.keys() == terms.keys()
    for name, values in terms.items():
        np.testing.assert_allclose(evaluated[name], values, rtol=1e-5)
    assert told["error_per_step"].shape == (B, T) and "read_gamma" in told


def test_a_doubtful_last_glimpse_is_outvoted():
    logits = np.log([[[0.6, 0.4]], [[0.6, 0.4]], [[0.45, 0.55]]]).astype(np.float32)
    for last, expected in ((1, [0, 0, 1]), (2, [0, 0, 0]), (3, [0, 0, 0]), (9, [0, 0, 0])):
        answers = glimpse_convnet.agreed(logits, last)
        assert answers[:, 0].argmax(-1).tolist() == expected
    np.testing.assert_allclose(
        answers[2, 0], np.mean(logits[:, 0], axis=0), rtol=1e-5
    )  # of all three where there are no nine


def test_the_net_moves_the_windows_and_leaves_the_classifiers_answer():
    model, variables = make()
    x = images(model)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(model, variables):
        return jax.grad(lambda v: loss(model, v, x, LABELS)["loss"].sum())(variables)["params"]

    found = gradients(model, variables)
    own = gradients(*alone(model, variables))
    assert set(found) == set(own) | NET and set(own) == {"h_0", "cell_0", "lstm", "heads"}
    for name in ("kernel", "bias"):
        ours, theirs = (np.asarray(g["heads"][name]) for g in (found, own))
        close = functools.partial(np.allclose, rtol=1e-3, atol=1e-5)
        assert close(ours[..., :CLASSES], theirs[..., :CLASSES])
        assert not close(ours[..., CLASSES:], theirs[..., CLASSES:])
    for path, leaf in jax.tree.leaves_with_path(found):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


@pytest.mark.slow
def test_the_context_tells_images_apart_and_learns():
    model, variables = make(**CONTEXT)
    x = images(model)
    first = apply(model, variables, x).windows.g_x[0]
    assert abs(first[0] - first[1]) > 1e-3  # without a context the first window is one for all
    gradients = jax.grad(lambda v: loss(model, v, x, LABELS)["loss"].sum())(variables)["params"]
    assert {"context", "context_state"} < set(gradients)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


def test_it_shows_its_glimpses_as_any_classifier():
    model, variables = make()
    x = images(model)
    logits, windows = glimpses.look(model, variables, x, jax.random.key(0))
    np.testing.assert_allclose(logits, apply(model, variables, x, False), rtol=1e-5, atol=1e-6)
    assert glimpses.patches(model, x, windows).shape == (2, T, B, 3, 3, 2)
    read = glimpses.read_by_net(model, x, windows)
    assert read.shape == (T, B, 5, 5, 2)
    for t, b in np.ndindex(T, B):
        window = reference.Window(*(float(field[t, b]) for field in windows))
        finer = window._replace(
            delta=window.delta / 2, sigma_sq=window.sigma_sq / 4, gamma=1.0
        )  # 3 filters reach as far as 5 of half their stride
        np.testing.assert_allclose(read[t, b], reference.read(x[b], finer, 5), atol=1e-5)


def test_bfloat16_rounds_the_net_and_keeps_its_logits_in_float32():
    model, variables = make()
    rounded, _ = make(dtype="bfloat16")
    ours, theirs = (apply(m, variables, images(model), False) for m in (rounded, model))
    assert ours.dtype == np.float32 and (np.asarray(ours) != np.asarray(theirs)).any()
    np.testing.assert_allclose(ours, theirs, atol=0.06)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"fine_size": 1}, "expected fine_size >= 2, got 1"),
        ({"hidden_size": 0}, "expected hidden_size >= 1, got 0"),
        ({"filters": (8, 0)}, r"expected filters >= 1 of one layer or more, got \(8, 0\)"),
        ({"filter_size": 2}, "odd filter_size of at most 6, the size of what is read, got 2"),
        ({"filter_size": 7}, "expected an odd filter_size of at most 6, .* got 7"),
        ({"stride": 0}, "expected stride >= 1, got 0"),
        ({"context_filters": (8, 0)}, r"context_filters >= 1 of each layer, got \(8, 0\)"),
        ({"context_pool": 0}, "expected context_pool >= 1, got 0"),
        ({"time_steps": 0}, "expected time_steps >= 1, got 0"),
    ],
    ids=str,
)
def test_a_field_out_of_range_is_one_line(fields, told):
    config = importlib.import_module("draw_jax.configs.cluttered_mnist_conv").get_config()
    config.update_from_flattened_dict(
        SMALL_CLASSIFIER
        | {"model.fine_size": 6}
        | {f"model.{name}": value for name, value in fields.items()}
    )
    with pytest.raises(ValueError, match=told) as caught:
        settings.check(config.lock())
    assert "\n" not in str(caught.value)


def test_a_window_of_the_same_size_is_read_as_it_is():
    model, variables = make(fine_size=3)
    window = jax.tree.map(lambda a: a[0], apply(model, variables, images(model)).windows)
    finer = model.apply(variables, window, method="finer")
    for ours, theirs in zip(finer, window, strict=True):
        np.testing.assert_allclose(ours, jnp.asarray(theirs), rtol=1e-6)
    assert classifier.widened(window, 0.5).delta[0] == pytest.approx(float(window.delta[0]) / 2)


def test_glimpses_finer_than_the_image_are_left_out_of_its_picture(tmp_path):
    model, variables = make(image_shape=(9, 7, 1), fine_size=8)
    seen = glimpses.seen(model, variables, images(model), LABELS, jax.random.key(0))
    assert seen.finer is None
    figures.animation(seen, tmp_path / "seen.webp")
    assert figures.sheet(seen).width > 10
