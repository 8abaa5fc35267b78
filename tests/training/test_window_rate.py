"""`config.train.window_rate`: the weights that make windows learn at a rate of their own."""

import jax
import numpy as np
import pytest

from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.training import config as settings
from draw_jax.training.step import initial_state, make_update
from tests.helpers import classifier_config, small_config


def moves(config):
    """Returns by how much the first update moves every weight, by its path."""
    model = build.build(config)
    task, keys = build.task(model), build.keys(config.seed)
    state = initial_state(model, keys.init, config.train)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (config.train.batch_size, *model.image_shape), np.uint8)
    update = jax.jit(make_update(task, config, keys.train))
    after, told = update(state, 0, Batch(images, None))
    moved = jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), after.params, state.params)
    paths, _ = jax.tree_util.tree_flatten_with_path(moved)
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}, told


def test_only_the_weights_of_windows_move_at_their_rate():
    fields, last = {"train.warmup_steps": 0, "train.clip_norm": 0.0}, 10
    whole, told = moves(small_config(**fields))
    slow, slow_told = moves(small_config(**fields | {"train.window_rate": 0.25}))
    heads = {name for name in whole if "heads" in name}
    assert {name.rpartition("['")[2] for name in heads} == {"kernel']", "bias']"}
    for name in whole:
        expected = whole[name].copy()
        if name in heads:
            expected[..., -last:] *= 0.25
            assert np.abs(expected[..., -last:]).max() > 1e-5
        np.testing.assert_allclose(slow[name], expected, rtol=1e-2, atol=2e-7, err_msg=name)
    assert told["update_norm"] > slow_told["update_norm"] > 0
    assert told["learning_rate"] == slow_told["learning_rate"]


@pytest.mark.parametrize(("read", "write"), [(2, 3), (2, 0), (0, 3), (0, 0)])
def test_windows_are_made_of_the_last_outputs(tiny, read, write):
    model, variables = tiny(read_size=read, write_size=write)
    last = build.task(model).window_outputs
    assert last == 5 * (bool(read) + bool(write))
    x = np.full((1, *model.image_shape), 0.5, np.float32)
    eps = np.zeros((1, 1, model.latent_size), np.float32)

    @jax.jit
    def traced(variables):
        trace = model.apply(variables, x, eps, trace=True).trace
        return trace.read_windows, trace.write_windows

    def windows(output):
        changed = jax.tree.map(np.copy, variables)
        if output is not None:
            changed["params"]["cell"]["heads"]["bias"][output] += 0.1
        return np.ravel(jax.tree.leaves(traced(changed)))

    before = windows(None)
    outputs = len(variables["params"]["cell"]["heads"]["bias"])
    for output in range(outputs - last - 3, outputs):
        if output >= 0:
            same = np.array_equal(windows(output), before)
            assert same == (output < outputs - last), output


def test_a_classifiers_window_is_made_of_what_is_no_logit():
    model = build.build(classifier_config())
    variables = build.shapes(model)
    outputs = variables["params"]["heads"]["bias"].shape[0]
    assert build.task(model).window_outputs == outputs - model.classes == 5


@pytest.mark.parametrize("value", [0, -0.5, float("inf"), float("nan")])
def test_a_rate_that_cannot_be_is_named(value):
    with pytest.raises(ValueError, match=r"train\.window_rate"):
        settings.check(small_config(**{"train.window_rate": value}))
