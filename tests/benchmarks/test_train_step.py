"""The training step, and the floor that it is compared with."""

import math
from collections import Counter

import jax
import jax.extend
import numpy as np
import pytest

from configs import mnist, smoke, study_error_image_no_attention, study_model_2
from tests.benchmarks.commands import TINY, check_measured, run_measurements


@pytest.mark.slow
def test_the_command_writes_figures_that_agree(tmp_path):
    run = run_measurements({"train_step": ("benchmarks.train_step", *TINY)}, tmp_path)["train_step"]
    check_measured(run)
    figures = run.figures
    assert set(figures) == {
        *("step_ms", "floor_ms", "ratio", "compile_s", "images_per_second"),
        *("dtype", "batch", "device"),
    }
    assert figures["batch"] == 4 and figures["dtype"] == "float32"
    assert figures["device"] == "2 x cpu"  # as in training
    assert figures["images_per_second"] == pytest.approx(4000 / figures["step_ms"])
    assert figures["floor_ms"] < figures["step_ms"]
    first = run.stdout.splitlines()[0]
    assert first.startswith("step ") and first.endswith(" ms")


def test_updates_go_on_from_what_the_one_before_left(modules):
    seen = []

    def update(state, step, images):
        seen.append((state, step, images))
        return state + 10, {"loss": state}

    call = modules.train_step.updates(update, 5, "images")
    assert [call() for _ in range(3)][-1] == (35, {"loss": 25})
    assert seen == [(5, 0, "images"), (15, 1, "images"), (25, 2, "images")]


def weight_products(jaxpr):
    """Returns the multiplications and additions of all products with weights, by their dtypes.

    Those of the attention have examples as a batch axis; its sums are products with one column.
    """
    total = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), (batched, _) = equation.params["dimension_numbers"]
            a, b = (variable.aval for variable in equation.invars)
            (out,) = equation.outvars
            if not batched and out.aval.shape[-1] > 1:
                terms = math.prod(a.shape[axis] for axis in contracted)
                total[str(a.dtype), str(b.dtype), str(out.aval.dtype)] += 2 * out.aval.size * terms
        inside = list(jax.extend.core.jaxprs_in_params(equation.params))
        if equation.primitive.name == "cond":  # by platform: the last is that of most
            inside = inside[-1:]
        for inner in inside:
            for dtypes, part in weight_products(inner).items():
                total[dtypes] += part * equation.params.get("length", 1)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("write_size", [0, 5])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_floor_is_the_models_products_and_no_others(dtype, write_size, modules):
    config = mnist.get_config()
    config.model.dtype, config.model.write_size = dtype, write_size
    config.model.read_size = write_size and 2
    config.model.time_steps, config.train.batch_size = 3, 2
    floor, inputs = modules.train_step.make_floor(config)
    found = weight_products(jax.make_jaxpr(floor)(inputs).jaxpr)
    shapes = modules.train_step.products(config).values()
    # Forward, to the inputs, to the weights.
    whole = 3 * 2 * (3 * 2) * sum(k * n for k, n in shapes)
    image = 28 * 28 * 1024  # of the encoder's weights: once, and no gradient by the image
    assert sum(found.values()) == whole - (0 if write_size else (9 - 2) * 2 * 2 * image)
    if write_size:
        assert sorted(shapes) == [(256, 35), (256, 200), (356, 1024), (520, 1024)]
    update, state, images = modules.train_step.make_step(config, 1)
    if write_size:  # the first windows are a product more
        rows = 2 * config.train.batch_size
        weights = math.prod(modules.train_step.products(config)["heads"])
        found["float32", "float32", "float32"] += 3 * rows * weights
    else:  # which XLA leaves out, as nothing needs the gradient by the image
        found[dtype, dtype, "float32"] += 2 * 2 * image
    assert weight_products(jax.make_jaxpr(update)(state, 0, images).jaxpr) == found


def test_the_floor_of_a_model_of_one_step(modules):
    """Its image is multiplied once, like all else, and needs no gradient by the image either."""
    config = mnist.get_config()
    config.model.read_size = config.model.write_size = 0
    config.model.time_steps, config.train.batch_size = 1, 2
    floor, inputs = modules.train_step.make_floor(config)
    found = weight_products(jax.make_jaxpr(floor)(inputs).jaxpr)
    shapes = modules.train_step.products(config).values()
    image = 28 * 28 * 1024
    assert sum(found.values()) == 3 * 2 * 2 * sum(k * n for k, n in shapes) - 2 * 2 * image


def test_the_floor_of_a_model_that_reads_the_error_image_alone(modules):
    """It changes at every step, so that no product is made once."""
    config = study_error_image_no_attention.get_config()
    _, inputs = modules.train_step.make_floor(config)
    steps, batch = config.model.time_steps, config.train.batch_size
    assert {(x.shape[:2], w.shape) for x, _, w in inputs} == {
        ((steps, batch), shape) for shape in modules.train_step.products(config).values()
    }


def test_a_model_that_needs_labels_is_refused(modules):
    with pytest.raises(ValueError, match="config.kind model_2 needs labels"):
        modules.train_step.make_step(study_model_2.get_config(), 1)


def test_figures_are_medians_and_the_ratio_one_of_rounds(modules):
    times = {"floor": [100.0, 200.0, 100.0], "step": [150.0, 250.0, 400.0]}
    figures = modules.train_step.figures(mnist.get_config(), times, 3.0, 1)
    names = ("step_ms", "floor_ms", "ratio", "compile_s", "images_per_second")
    assert [figures[name] for name in names] == [250, 100, 1.5, 3, 400]


@pytest.mark.parametrize("read_size", [0, 2])
def test_what_the_floor_returns_depends_on_every_product(read_size, modules):
    """Or the compiler could leave a product out."""
    config = smoke.get_config()
    config.model.read_size = read_size
    config.model.time_steps, config.train.batch_size = 2, 3
    floor, inputs = modules.train_step.make_floor(config)
    last, once, of_weights = floor(inputs)
    assert len(once) == (0 if read_size else 1)
    of_steps = [*last, *((product, None) for product in once)]  # the image is the last of them
    for (x, g, w), (forward, backward), of_weight in zip(inputs, of_steps, of_weights, strict=True):
        x, g, w = (np.asarray(array, np.float64) for array in (x, g, w))
        expected = (x[-1] @ w, g[-1] @ w.T, np.einsum("tbk,tbn->kn", x, g))
        for found, product in zip((forward, backward, of_weight), expected, strict=True):
            if found is None:
                continue
            assert found.shape == product.shape
            # float32 sums of some 100 terms of size 1, which may cancel
            np.testing.assert_allclose(found, product, rtol=1e-4, atol=1e-3)
