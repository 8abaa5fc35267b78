"""The 2016 follow-up study: what its encoder is not given, and Models I, II and III."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.model.draw import Draw
from draw_jax.model.gradients.rule import without_own_gradients
from draw_jax.model.variants.model_1 import Model1
from draw_jax.model.variants.model_2 import Model2
from draw_jax.model.variants.model_3 import Model3
from draw_jax.training.step import initial_state, make_update
from tests import reference
from tests.helpers import TINY
from tests.model.helpers import normal

T, B = 3, 2
LAYERS = {"filters": (3, 4), "filter_size": 3, "stride": 2}
NO_READ = {"read_size": 0}
SUPERVISED = LAYERS | {"classes": 4, "hidden_size": 5, "class_weight": 0.7}
SWITCHES = [
    *({"privy": False} | read for read in ({}, NO_READ)),
    *({"encoder_input": "error"} | read for read in ({}, NO_READ)),
    {"privy": False, "encoder_input": "error", "image_shape": (4, 6, 3)},
]
MODELS = [
    *((Model1, LAYERS | NO_READ | {"with_images": joined}) for joined in (False, True)),
    (Model1, LAYERS | NO_READ | {"encoder_input": "error", "privy": False, "write_size": 0}),
    (Model1, LAYERS | NO_READ | {"image_shape": (4, 6, 3), "stride": 1, "filters": [2]}),
    (Model2, SUPERVISED),
    (Model2, SUPERVISED | NO_READ),
    (Model3, LAYERS),
    (Model3, LAYERS | NO_READ | {"privy": False}),
    (Model3, LAYERS | {"image_shape": (4, 6, 3)}),
]
CASES = [*((Draw, fields) for fields in SWITCHES), *MODELS]
# The gradients of all kinds but one: of each its most switches at once, every day; others for CI.
DAILY = [SWITCHES[4], *(MODELS[k][1] for k in (2, 7))]
OFTEN = [SWITCHES[0], SWITCHES[3], *(MODELS[k][1] for k in (1, 3, 4, 6))]
GRADIENTS = [
    pytest.param(
        kind,
        fields,
        marks=() if fields in DAILY else pytest.mark.slow,
        id=f"{kind.__name__} {fields}",
    )
    for kind, fields in CASES
    if fields in DAILY + OFTEN
]
# Float32 errors of 1e-7 a product grow over the sums and the three steps: 1e-5 relative to the
# largest value of an array, not to each.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def make(kind, fields):
    """Returns the model, random variables (no bias is 0), binary and grey images, and noise."""
    model = kind(**(TINY | fields))
    shapes = jax.eval_shape(lambda: build.initial_variables(model, jax.random.key(0)))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        scale = np.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.3
        leaf = (scale * rng.standard_normal(leaf.shape)).astype(np.float32)
        # So few filters would else all be behind their rectifiers.
        return abs(leaf) if "layer_" in path[-2].key and path[-1].key == "bias" else leaf

    x = rng.random((B, *model.image_shape)).astype(np.float32)
    x[0] = x[0].round()
    variables = jax.tree.map_with_path(draw, shapes)
    return model, variables, x, normal(rng, T, B, model.latent_size)


def numbers(maps):
    return [float(value) for value in np.ravel(maps)]


def changes(model, variables, x):
    """Returns what the reference is told of a model, for one image."""
    params = variables["params"]
    told = {"privy": model.privy, "error_alone": model.encoder_input == "error"}
    if isinstance(model, Model1):
        layers = params["cell"]["reader"]["convolutions"]

        def reader(images):
            maps = reference.strided_layers(np.concatenate(images, -1), layers, model.stride)
            if not model.with_images:
                return numbers(maps)
            return numbers(maps) + numbers(np.concatenate(images, -1))

        told["reader"] = reader
    elif "convolutions" in params:
        maps = reference.strided_layers(x, params["convolutions"], model.stride)
        told["features"] = numbers(maps)
    return told


@functools.partial(jax.jit, static_argnums=0)
def infer(model, variables, x, eps):
    return model.apply(variables, x, eps, trace=True)


@pytest.mark.parametrize(("kind", "fields"), CASES, ids=str)
def test_the_unroll_is_the_reference(kind, fields):
    model, variables, x, eps = make(kind, fields)
    output = infer(model, variables, x, eps)
    assert output.nll.shape == (B,) and output.kl.shape == (T, B)
    for b in range(B):
        nll, steps = reference.unroll(
            variables,
            x[b],
            eps[:, b],
            model.read_size,
            model.write_size,
            **changes(model, variables, x[b]),
        )
        close(output.nll[b], nll)
        for t, step in enumerate(steps):
            close(output.kl[t, b], step.kl)
            close(output.trace.mean[t, b], step.mean)
            close(output.trace.canvases[t, b], step.canvas)


@pytest.mark.parametrize(("kind", "fields"), CASES, ids=str)
def test_the_encoder_has_weights_for_what_it_is_given_and_no_more(kind, fields):
    model, variables, *_ = make(kind, fields)
    height, width, channels = model.image_shape
    glimpse = (model.read_size**2 or height * width) * channels
    read = glimpse * (1 if model.encoder_input == "error" else 2)
    if "filters" in fields:
        rows, columns = height, width
        for _ in model.filters:
            rows, columns = -(-rows // model.stride), -(-columns // model.stride)
        maps = rows * columns * model.filters[-1]
        read = maps + (read if kind is not Model1 or model.with_images else 0)
    inputs = read + (model.dec_size if model.privy else 0) + model.enc_size
    kernel = variables["params"]["cell"]["encoder"]["gates"]["kernel"]
    assert kernel.shape == (inputs, 4 * model.enc_size)


def plain_loss(model, variables, x, eps):
    """The loss by a Python loop over the cell, every function of which is differentiated as it is."""

    def unrolled(model, x, eps):
        state, kl, features = model.cell.initial_state(len(x)), 0.0, model.features(x)
        for eps_t in eps:
            state, (kl_t, _) = model.cell.infer_step(state, x, eps_t, features)
            kl = kl + kl_t
        return optax.sigmoid_binary_cross_entropy(state.canvas, x).sum((1, 2, 3)) + kl

    with without_own_gradients():
        return model.apply(variables, x, eps, method=unrolled).mean()


@pytest.mark.parametrize(("kind", "fields"), GRADIENTS)
def test_the_gradient_is_that_of_plain_autodiff(kind, fields):
    model, variables, x, eps = make(kind, fields)

    def loss(variables):
        output = model.apply(variables, x, eps)
        return (output.nll + output.kl.sum(axis=0)).mean()

    value, found = jax.jit(jax.value_and_grad(loss))(variables)
    plain, expected = jax.jit(
        jax.value_and_grad(lambda variables: plain_loss(model, variables, x, eps))
    )(variables)
    close(value, plain)
    unseen = ("hidden", "classification")  # the dense layers of Model II, which draw nothing
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        # Sums over three steps' float32 terms, in another order.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))
        assert np.any(b != 0) != (path[1].key in unseen), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(
            *MODELS[k], marks=() if k in (2, 3, 5, 7) else pytest.mark.slow, id=str(MODELS[k])
        )
        for k in range(len(MODELS))
    ],
)
def test_generation_repeats_the_training_canvases(kind, fields):
    model, variables, x, eps = make(kind, fields)
    seen = infer(model, variables, x, eps).trace
    z = jax.jit(lambda mean, log_std: mean + jnp.exp(log_std) * eps)(seen.mean, seen.log_std)
    drawn = jax.jit(lambda v, z: model.apply(v, z, method="generate"))(variables, z)
    # But for the last digit, as XLA may order the sums of the two programs in different ways.
    np.testing.assert_allclose(drawn.canvases, seen.canvases, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_any_number_of_steps_is_a_field(steps):
    model, variables, x, _ = make(Draw, {"time_steps": steps})
    keys = jax.random.split(jax.random.key(0), B)
    terms = jax.eval_shape(build.task(model).evaluation_terms, variables, x, None, keys)
    assert terms[1]["kl_per_step"].shape == (B, steps)


# --- Model II's classifier


def test_the_classifier_is_the_reference():
    model, variables, x, _ = make(Model2, SUPERVISED)
    logits = jax.jit(lambda v, x: model.apply(v, x, method="classify"))(variables, x)
    assert logits.shape == (1, B, 4)
    params = variables["params"]
    for b in range(B):
        maps = numbers(reference.strided_layers(x[b], params["convolutions"], 2))
        hidden = reference.rectified(
            reference.linear(maps, params["hidden"]["kernel"], params["hidden"]["bias"])
        )
        last = params["classification"]
        close(logits[0, b], reference.linear(hidden, last["kernel"], last["bias"]))


def test_the_loss_is_the_negative_elbo_and_the_weighted_cross_entropy():
    model, variables, x, _ = make(Model2, SUPERVISED)
    task, labels = build.task(model), np.array([2, 0], np.int32)
    assert task.objective == "loss" and task.metric == "elbo_loss" and task.classes == 4
    terms = jax.jit(task.loss_terms)(variables, x, labels, jax.random.key(1))
    terms = task.with_totals(terms)
    logits = np.asarray(model.apply(variables, x, method="classify")[0], np.float64)
    for b in range(B):
        cross_entropy = np.log(np.exp(logits[b]).sum()) - logits[b, labels[b]]
        close(terms["cross_entropy"][b], cross_entropy)
        close(terms["error"][b], float(logits[b].argmax() != labels[b]))
        close(terms["elbo_loss"][b], terms["nll"][b] + terms["kl"][b])
        close(terms["loss"][b], terms["elbo_loss"][b] + 0.7 * cross_entropy)
    keys = jax.random.split(jax.random.key(2), B)
    found, told = jax.jit(task.evaluation_terms)(variables, x, labels, keys)
    close(found["error"], told["error_per_step"][:, 0])
    assert told["answers"].shape == (B, 2) and told["kl_per_step"].shape == (B, T)
    weights = jax.jit(task.log_weight)(variables, x, keys)  # draws, and so has one
    assert weights.shape == (B,) and np.all(np.isfinite(weights))


# --- training


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("model_1", marks=pytest.mark.slow),
        pytest.param("model_1_images", marks=pytest.mark.slow),
        pytest.param("model_2", marks=pytest.mark.slow),
        pytest.param("model_3", marks=pytest.mark.slow),
    ],
)
def test_every_leaf_moves_in_one_update(name):
    config = importlib.import_module(f"draw_jax.configs.study_{name}").get_config()
    fields = {"model.enc_size": 6, "model.dec_size": 5, "model.time_steps": 2, "model.unroll": 1}
    config.update_from_flattened_dict(fields | {"train.warmup_steps": 0, "train.batch_size": 4})
    model = build.build(config)
    state = initial_state(model, jax.random.key(0), config.train)
    update = jax.jit(make_update(build.task(model), config, jax.random.key(1)))
    x = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)
    after, metrics = update(state, 0, Batch(x, np.arange(4, dtype=np.int32)))
    for (path, old), new in zip(
        jax.tree.leaves_with_path(state.params), jax.tree.leaves(after.params), strict=True
    ):
        assert np.any(old != new) and np.all(np.isfinite(new)), jax.tree_util.keystr(path)
    assert ("error" in metrics) == (name == "model_2")


def test_the_first_maps_are_about_as_large_as_the_images():
    model = Model3((28, 28, 1), 2, 4, 4, 2, 0, 0)
    variables = jax.jit(build.initial_variables, static_argnums=0)(model, jax.random.key(0))
    x = normal(np.random.default_rng(0), 50, 28, 28, 1)  # no mean: as He et al. assume
    maps = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, x)
    assert 0.5 < np.sqrt((maps**2).mean()) < 2


# --- mistakes


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        (Draw, {"encoder_input": "image"}, "encoder_input both or error, got 'image'"),
        (Model1, {}, "read_size 0, as model_1 convolves whole images, got 2"),
        (Model1, NO_READ | {"filters": ()}, r"filters >= 1 of one layer or more, got \(\)"),
        (Model1, NO_READ | {"filter_size": 4}, "an odd filter_size of at most 5, .* got 4"),
        (Model1, NO_READ | {"filter_size": 7}, "an odd filter_size of at most 5, .* got 7"),
        (Model2, {"filters": (3, 0)}, r"filters >= 1 .* got \(3, 0\)"),
        (Model2, {"classes": 1}, "classes >= 2, got 1"),
        (Model2, {"hidden_size": 0}, "hidden_size >= 1, got 0"),
        (Model2, {"class_weight": -1.0}, "class_weight >= 0, finite, got -1.0"),
        (Model3, {"stride": 0}, "stride >= 1, got 0"),
        (Model3, {"encoder_input": "both"}, "encoder_input error, .* got 'both'"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be(kind, fields, told):
    layers = {} if kind is Draw else LAYERS
    with pytest.raises(ValueError, match=f"^expected {told}"):
        kind(**(TINY | layers | fields))


def test_models_of_equal_fields_share_their_task():
    for kind, fields in ((Model1, LAYERS | NO_READ), (Model2, SUPERVISED), (Model3, LAYERS)):
        listed = TINY | fields | {"image_shape": list(TINY["image_shape"]), "filters": [3, 4]}
        assert build.task(kind(**(TINY | fields))) is build.task(kind(**listed))
