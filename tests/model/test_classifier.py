"""The classifier of glimpses against slow loops, and what the task of a classifier tells."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draw_jax.model import build, classifier
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.training import config as settings
from tests import reference
from tests.helpers import classifier_config

T, B = 3, 2
FIELDS = {
    "image_shape": (7, 5, 2),
    "time_steps": T,
    "lstm_size": 6,
    "read_size": 3,
    "classes": 4,
}


def random_variables(model, noise=0.3):
    """Returns variables without zeros, which would hide a term."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        scale = math.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else noise
        return (scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    shapes = jax.eval_shape(lambda: build.initial_variables(model, jax.random.key(0)))
    return jax.tree.map_with_path(draw, shapes)


def make(noise=0.3, **fields):
    """Returns a small classifier and random variables."""
    model = GlimpseClassifier(**(FIELDS | fields))
    return model, random_variables(model, noise)


def images(model, count=B):
    return np.random.default_rng(1).random((count, *model.image_shape)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 3))
def apply(model, variables, x, trace=True):
    return model.apply(variables, x, trace=trace)


def with_window(variables, values):
    """Returns variables whose windows all are those of eq. 21's five values."""
    heads = variables["params"]["heads"]
    kernel, bias = np.array(heads["kernel"]), np.array(heads["bias"])
    kernel[:, -5:], bias[-5:] = 0, values
    return {"params": variables["params"] | {"heads": {"kernel": kernel, "bias": bias}}}


# --- the network


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_gamma": 0.0, "image_shape": (4, 6, 1), "read_size": 2},
        {"max_gamma": 2.5, "scales": 3, "time_steps": 2, "unroll": 2},
    ],
    ids=str,
)
def test_the_unroll_is_the_reference(fields):
    model, variables = make(**fields)
    x = images(model)
    output = apply(model, variables, x)
    assert output.logits.shape == (model.time_steps, B, 4) and output.logits.dtype == np.float32
    assert all(field.shape == (model.time_steps, B) for field in output.windows)
    # Float32 errors of 1e-7 a product grow over the sums and the steps.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    names = ("time_steps", "read_size", "classes", "scales", "max_gamma")
    for b in range(B):
        fields = [getattr(model, name) for name in names]
        glimpses = reference.classify(variables, x[b], *fields)
        for t, glimpse in enumerate(glimpses):
            close(output.logits[t, b], glimpse.logits)
            close([field[t, b] for field in output.windows], glimpse.window)
    np.testing.assert_array_equal(apply(model, variables, x, False), output.logits)


def test_the_scan_is_a_python_loop_over_steps():
    model, variables = make(scales=2)
    x = images(model)
    output = apply(model, variables, x)
    state = model.apply(variables, x, method="initial_state")
    step = jax.jit(functools.partial(model.apply, method="step"))
    for t in range(T):
        state, *ours = step(variables, state, x)
        theirs = jax.tree.map(lambda a, t=t: a[t], (output.logits, output.windows))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{}, {"dtype": "bfloat16"}], ids=str)
def test_every_parameter_has_a_gradient(fields):
    model, variables = make(scales=2, **fields)
    task = build.task(model)
    x, labels = images(model), np.array([2, 0], np.int32)

    @jax.jit
    @jax.grad
    def gradients(variables):
        terms = task.loss_terms(variables, x, labels, jax.random.key(0))
        return terms["cross_entropy"].mean()

    found = gradients(variables)["params"]
    assert set(found) == {"h_0", "cell_0", "lstm", "heads"}
    for path, leaf in jax.tree.leaves_with_path(found):
        assert leaf.dtype == np.float32 and np.isfinite(leaf).all(), path
        # Of a vector each number, of a matrix each row and each column, and so on.
        for axis in range(leaf.ndim):
            others = tuple(k for k in range(leaf.ndim) if k != axis)
            assert np.abs(leaf).max(axis=others).all(), (path, axis)


def test_bfloat16_rounds_the_products_and_keeps_windows_and_logits_in_float32():
    model, variables = make()
    rounded, _ = make(dtype="bfloat16")
    x = images(model)
    ours, theirs = apply(rounded, variables, x), apply(model, variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype(np.float32)}
    assert (np.asarray(ours.logits) != np.asarray(theirs.logits)).any()
    # bfloat16 has 8 bits of precision.
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=0.03)


@pytest.mark.parametrize("time_steps", [1, 5])
def test_the_field_time_steps_is_how_many_glimpses_there_are(time_steps):
    model, variables = make(time_steps=time_steps)
    longer, _ = make(time_steps=5)
    logits, more = apply(model, variables, images(model)), apply(longer, variables, images(model))
    assert logits.logits.shape == (time_steps, B, 4)
    np.testing.assert_allclose(logits.logits, more.logits[:time_steps], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("max_gamma", [1.0, 0.3, 20.0])
@pytest.mark.parametrize("raw", [1e30, 40.0, 2.0, 0.0, -6.0, -1e30])
def test_gamma_stays_below_its_bound_whatever_the_network_says(max_gamma, raw):
    model, variables = make(max_gamma=max_gamma)
    output = apply(model, with_window(variables, [0, 0, 0, 0, raw]), images(model))
    gamma = np.asarray(output.windows.gamma)
    assert gamma.shape == (T, B) and (gamma <= max_gamma * (1 + 1e-5)).all()
    held = max(min(raw, 700.0), -15.0)  # attention.window's bound, and math.exp's
    np.testing.assert_allclose(gamma, 1 / (math.exp(-held) + 1 / max_gamma), rtol=1e-4)
    assert np.isfinite(output.logits).all()


def test_without_a_bound_gamma_is_the_papers():
    model, variables = make(max_gamma=0.0)
    for raw in (2.0, 10.0):
        output = apply(model, with_window(variables, [0, 0, 0, 0, raw]), images(model))
        np.testing.assert_allclose(output.windows.gamma, math.exp(raw), rtol=1e-5)
    huge = apply(model, with_window(variables, [0, 0, 0, 0, 1e30]), images(model))
    np.testing.assert_allclose(
        huge.windows.gamma, math.exp(15), rtol=1e-5
    )  # the clip of all windows


def test_a_second_scale_is_twice_as_wide_about_the_same_centre():
    # An image whose pixels say where they are: each filter's output is the place it looks at.
    height, width, size = 41, 31, 3
    model, variables = make(image_shape=(height, width, 2), read_size=size, scales=2, time_steps=1)
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    x = np.stack([rows, columns], axis=-1)[None].astype(np.float32)
    delta = 3.0
    raw = [0.1, -0.2, 0.0, math.log(delta / ((height - 1) / (size - 1))), 40.0]  # gamma 1

    @jax.jit
    def glimpses(variables):
        seen = []

        def look(next_call, args, kwargs, context):
            if isinstance(context.module, classifier.LSTM) and context.method_name == "__call__":
                seen.extend(args[0])
            return next_call(*args, **kwargs)

        state = model.apply(variables, x, method="initial_state")
        state = state._replace(read_raw=jnp.asarray([raw], jnp.float32))
        with classifier.nn.intercept_methods(look):
            model.apply(variables, state, x, method="step")
        return seen

    seen = glimpses(variables)
    assert len(seen) == 2
    offsets = np.array([-1, 0, 1])
    for k, glimpse in enumerate(seen):
        glimpse = np.asarray(glimpse).reshape(size, size, 2)
        g_y, g_x = (height + 1) / 2 * 0.8, (width + 1) / 2 * 1.1  # eqs 22 and 23
        expected = np.stack(
            np.meshgrid(g_y + 2**k * delta * offsets, g_x + 2**k * delta * offsets, indexing="ij"),
            axis=-1,
        )
        np.testing.assert_allclose(glimpse, expected, rtol=1e-4)


def test_the_first_window_is_the_configured_one():
    model = GlimpseClassifier(**FIELDS, read_delta=0.5, read_sigma=2.0, max_gamma=0.0)
    variables = jax.jit(build.initial_variables, static_argnums=0)(model, jax.random.key(0))
    assert not np.any(variables["params"]["h_0"]) and not np.any(variables["params"]["cell_0"])
    first = [float(field[0, 0]) for field in apply(model, variables, images(model)).windows]
    # Centre, sigma^2, stride of half the image's over two gaps, gamma.
    np.testing.assert_allclose(first, [3, 4, 4, 0.5 * 6 / 2, 1], rtol=1e-5)


# --- what is refused


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model.time_steps": 0}, "expected time_steps >= 1, got 0"),
        ({"model.lstm_size": 0}, "expected lstm_size >= 1, got 0"),
        ({"model.read_size": 1}, "expected read_size >= 2, got 1"),
        ({"model.read_size": 29}, "config.model.read_size: expected at most 28, .*, got 29"),
        ({"model.classes": 1}, "expected classes >= 2, got 1"),
        ({"model.classes": 10**9}, "an update needs about .* GiB"),
        ({"model.scales": 0}, "expected scales >= 1, got 0"),
        ({"model.scales": 10**9}, "expected scales <= 16, got 1000000000"),
        ({"model.unroll": 3}, "config.model.unroll: expected at most 2, the time steps, got 3"),
        ({"model.read_delta": 0.0}, "expected read_delta > 0, finite, got 0.0"),
        ({"model.read_sigma": -1.0}, "expected read_sigma > 0, finite, got -1.0"),
        ({"model.max_gamma": -1.0}, "expected max_gamma > 0, or 0 for no bound, got -1.0"),
        ({"model.max_gamma": math.nan}, "expected max_gamma > 0, or 0 for no bound, got nan"),
        ({"model.dtype": "float16"}, "expected dtype float32 or bfloat16, got 'float16'"),
        ({"model.image_shape": (28, 0, 1)}, "image_shape: expected .height, width, channels"),
        ({"model.lstm_size": 10**9}, "config.model.lstm_size: expected <= 1048576, got 10000"),
        ({"model.depth": 2}, r"config\.model\.depth: no field of config\.kind 'classifier'"),
        ({"kind": "classifer"}, "config.kind: expected .*'classifier'.*, got 'classifer'"),
    ],
    ids=str,
)
def test_a_field_out_of_range_is_one_line(fields, told):
    config = classifier_config().copy_and_resolve_references()
    with config.unlocked():
        for name, value in fields.items():
            group, _, field = name.rpartition(".")
            (config[group] if group else config)[field] = value
    with pytest.raises(ValueError, match=told) as caught:
        settings.check(config)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named():
    config = classifier_config().copy_and_resolve_references()
    with config.unlocked():
        del config.model.lstm_size
    with pytest.raises(ValueError, match=r"config\.model: .*'lstm_size'"):
        settings.check(config)


@pytest.mark.parametrize("shape", [(B, 7, 5, 1), (B, 5, 7, 2), (7, 5, 2)])
def test_images_of_another_shape_are_refused(shape):
    model, variables = make()
    told = r"expected images \[B, H, W, C\] with \(H, W, C\) = \(7, 5, 2\), got \("
    with pytest.raises(ValueError, match=told):
        model.apply(variables, np.zeros(shape, np.float32))


# --- the task

# Two time steps of three images; the last decide: right, wrong, a tie that goes to the first.
LOGITS = np.array(
    [
        [[9, 0, 0], [0, 9, 0], [0, 0, 9]],
        [[0, math.log(2), 0], [0, 0, math.log(6)], [1, 1, 1]],
    ],
    np.float32,
)
LABELS = np.array([1, 0, 0], np.int32)


def test_the_terms_of_known_logits():
    terms = classifier.terms(LOGITS, LABELS)
    assert terms["error"].tolist() == [0, 1, 0]
    # Softmax: 2 of 4, 1 of 8, 1 of 3.
    np.testing.assert_allclose(terms["cross_entropy"], np.log([2, 8, 3]), rtol=1e-6)


def test_the_loss_is_the_mean_of_the_last_glimpses():
    last = classifier.terms(LOGITS, LABELS)
    assert last["loss"].tolist() == last["cross_entropy"].tolist()
    both = classifier.terms(LOGITS, LABELS, loss_steps=2)
    # After the first glimpse e^0 of e^9 + 2 in each.
    first = math.log(math.exp(9) + 2)
    expected = (first + np.log([2, 8, 3])) / 2
    np.testing.assert_allclose(both["loss"], expected, rtol=1e-6)
    assert both["cross_entropy"].tolist() == last["cross_entropy"].tolist()
    model, variables = make(loss_steps=2)
    x, labels = images(model), np.array([3, 0], np.int32)
    found = build.task(model).loss_terms(variables, x, labels, jax.random.key(0))
    logits = apply(model, variables, x).logits
    expected = classifier.terms(logits, labels, 2)["loss"]
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)


def test_what_is_told_of_known_logits():
    told = classifier.diagnostics(LOGITS, LABELS)
    assert told["error_per_step"].tolist() == [[1, 0], [1, 1], [1, 0]]
    assert told["answers"].tolist() == [[1, 1], [0, 2], [0, 0]]


def test_the_task_brings_the_terms_of_the_model():
    model, variables = make()
    task = build.task(model)
    assert (task.objective, task.metric, task.lower_is_better) == ("loss", "error", True)
    assert task.classes == 4 and task.log_weight is None
    x, labels = images(model, 5), np.arange(5, dtype=np.int32) % 4
    keys = jax.random.split(jax.random.key(0), 5)
    loss = jax.jit(task.loss_terms)(variables, x, labels, keys[0])
    terms, told = jax.jit(task.evaluation_terms)(variables, x, labels, keys)
    logits = np.asarray(apply(model, variables, x).logits, np.float64)
    assert {"loss", "cross_entropy", "error"} == set(loss) == set(terms)
    for name in terms:
        np.testing.assert_allclose(loss[name], terms[name], rtol=1e-5)
    probabilities = np.exp(logits[-1]) / np.exp(logits[-1]).sum(-1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), labels])
    np.testing.assert_allclose(terms["cross_entropy"], expected, rtol=1e-5)
    assert terms["error"].tolist() == (logits[-1].argmax(-1) != labels).tolist()
    assert told["error_per_step"].tolist() == (logits.argmax(-1) != labels).T.tolist()
    windows = {"read_sigma", "read_delta", "read_gamma", "read_off_image"}
    assert set(told) == {"error_per_step", "answers"} | windows
    assert all(len(column) == 5 for column in (*terms.values(), *told.values()))
