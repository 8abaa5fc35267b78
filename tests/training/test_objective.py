"""What an update makes small, against loops written from the papers."""

import functools
import math

import jax
import numpy as np
import pytest

from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.model.layers import LSTM
from draw_jax.training import config as settings
from draw_jax.training import objective
from draw_jax.training.objective import Given
from draw_jax.training.step import TrainState, make_optimizer, make_update
from tests import reference
from tests.helpers import NO_ATTENTION, classifier_config, small_config

B = 3
FREE = 0.64  # nats: the KL of some steps of `drawer` is below it, that of others above


@pytest.fixture(scope="module")
def drawer(tiny):
    return tiny(read_size=0, write_size=0)  # which compiles sooner


@pytest.fixture(scope="module")
def images(drawer):
    model, _ = drawer
    return np.random.default_rng(0).random((B, *model.image_shape)).astype(np.float32)


def train(**fields):
    return small_config(**{f"train.{name}": value for name, value in fields.items()}).train


@functools.cache
def compiled(model, fields):
    return jax.jit(objective.make(build.task(model), train(**dict(fields))))


def made(drawer, images, key, step=0, variables=None, **fields):
    """Returns the objective and the means."""
    model, own = drawer
    function = compiled(model, tuple(sorted(fields.items())))
    return function(variables or own, Given(images, None, key, step))


def unrolled(drawer, images, key, samples=1, variables=None):
    """Returns of every image and sample of z its noise, NLL and steps, by the slow loops."""
    model, own = drawer
    shape = (model.time_steps, B * samples, model.latent_size)
    noise = np.asarray(jax.random.normal(key, shape), np.float64)
    for b in range(B):
        for k in range(samples):
            eps = noise[:, b * samples + k]
            sizes = model.read_size, model.write_size
            nll, steps = reference.unroll(variables or own, images[b], eps, *sizes)
            yield b, eps, nll, steps


def weighted(drawer, images, key, weight, free, variables=None):
    """Returns NLL + weight sum_t max(free, KL_t), means over the images."""
    played = list(unrolled(drawer, images, key, variables=variables))
    total = sum(nll for _, _, nll, _ in played) / B
    for t in range(len(played[0][3])):
        kl = sum(steps[t].kl for *_, steps in played) / B
        total += weight * max(free, kl)
    return total


def bound(drawer, images, key, samples, variables=None):
    """Returns -log((1 / K) sum_k p(x | z) p(z) / q(z | x)), Burda et al. 2016, eq. 8, its mean."""
    ratios = [[] for _ in range(B)]
    for b, eps, nll, steps in unrolled(drawer, images, key, samples, variables):
        log = -nll
        for step, noise in zip(steps, eps, strict=True):
            for z, mean, log_std in zip(step.z, step.mean, step.log_std, strict=True):
                log += -0.5 * z * z  # log p(z) and log q(z | x), less what both have
                log -= -0.5 * ((z - mean) / math.exp(log_std)) ** 2 - log_std
            assert len(noise) == len(step.z)
        ratios[b].append(log)
    shift = max(max(logs) for logs in ratios)
    means = [sum(math.exp(log - shift) for log in logs) / samples for logs in ratios]
    return -sum(shift + math.log(mean) for mean in means) / B


def test_without_any_it_is_the_negative_elbo(drawer, images, key):
    value, means = made(drawer, images, key)
    assert value == means["elbo_loss"] and "objective" not in means
    expected = weighted(drawer, images, key, 1.0, 0.0)
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "step", "weight"),
    [
        ({"kl_warmup_steps": 4}, 0, 0.0),
        ({"kl_warmup_steps": 4}, 3, 0.75),
        ({"kl_warmup_steps": 4}, 9, 1.0),
        ({"free_bits": FREE}, 0, 1.0),
        ({"kl_warmup_steps": 4, "free_bits": FREE}, 2, 0.5),
    ],
    ids=str,
)
def test_a_weighted_kl_is_that_of_the_loops(drawer, images, key, fields, step, weight):
    _, told = made(drawer, images, key)
    value, means = made(drawer, images, key, step, **fields)
    expected = weighted(drawer, images, key, weight, fields.get("free_bits", 0.0))
    assert float(value) == pytest.approx(expected, rel=1e-5) and value == means["objective"]
    for name in ("nll", "kl", "elbo_loss"):  # which are told as they are
        assert float(means[name]) == pytest.approx(float(told[name]), rel=1e-6)
    if (weight, fields.get("free_bits", 0.0)) != (1.0, 0.0):  # or a mistake would not be seen
        assert abs(expected - weighted(drawer, images, key, 1.0, 0.0)) > 1e-3


def test_free_bits_are_those_of_some_steps(drawer, images, key):
    kl = [
        sum(steps[t].kl for *_, steps in unrolled(drawer, images, key)) / B
        for t in range(drawer[0].time_steps)
    ]
    assert min(kl) < FREE < max(kl)


@pytest.mark.parametrize("samples", [2, 3])
def test_the_importance_weighted_objective_is_that_of_the_loops(drawer, images, key, samples):
    value, means = made(drawer, images, key, importance_samples=samples)
    assert float(value) == pytest.approx(bound(drawer, images, key, samples), rel=1e-5)
    assert value == means["objective"]
    losses = [
        nll + sum(step.kl for step in steps)
        for _, _, nll, steps in unrolled(drawer, images, key, samples)
    ]
    assert float(means["elbo_loss"]) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(
    "fields", [{"kl_warmup_steps": 4, "free_bits": FREE}, {"importance_samples": 2}], ids=str
)
def test_the_gradient_is_the_loops_difference(drawer, images, key, fields):
    model, variables = drawer
    rng = np.random.default_rng(1)
    way = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), variables)
    function = objective.make(build.task(model), train(**fields))
    gradient, _ = jax.jit(jax.grad(function, has_aux=True))(variables, Given(images, None, key, 2))
    told = sum(
        float((np.asarray(g, np.float64) * w).sum())
        for g, w in zip(jax.tree.leaves(gradient), jax.tree.leaves(way), strict=True)
    )
    values = []
    for size in (1e-5, -1e-5):
        moved = jax.tree.map(lambda leaf, w, s=size: np.float64(leaf) + s * w, variables, way)
        values.append(
            bound(drawer, images, key, 2, moved)
            if "importance_samples" in fields
            else weighted(drawer, images, key, 0.5, FREE, moved)
        )
    assert told == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3)


def test_an_update_takes_the_objective(drawer, images, key):
    """Of update 1 of 4 the KL's weight is a quarter; its gradient is that of these images and noise."""
    model, variables = drawer
    pixels, params = np.uint8(255 * images), variables["params"]
    config = small_config(**{"train.kl_warmup_steps": 4})
    state = TrainState(params, None, make_optimizer(config.train).init(params))
    update = jax.jit(make_update(build.task(model), config, key))
    _, told = update(state, 1, Batch(pixels, None))
    noise_key = jax.random.split(jax.random.fold_in(key, 1))[1]
    x = np.float32(pixels) / np.float32(255)
    function = objective.make(build.task(model), config.train)
    gradients, norms = jax.jit(jax.grad(function, has_aux=True)), []
    for step in (1, 4):
        gradient, _ = gradients(variables, Given(x, None, noise_key, step))
        leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]
        norms.append(np.sqrt(np.square(np.float64(np.concatenate(leaves))).sum()))
    assert float(told["grad_norm"]) == pytest.approx(norms[0], rel=1e-4)
    assert norms[1] != pytest.approx(norms[0], rel=1e-2)


def test_adams_b2_is_the_one_of_the_configuration(drawer):
    params = drawer[1]["params"]
    gradients = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), params)
    for b2 in (0.999, 0.9):
        optimizer = make_optimizer(train(adam_b2=b2, clip_norm=0.0))
        _, state = jax.jit(optimizer.update)(gradients, jax.jit(optimizer.init)(params), params)
        moments = next(s for s in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(s)).nu
        for leaf in jax.tree.leaves(moments):
            np.testing.assert_allclose(leaf, (1 - b2) * 0.25, rtol=1e-4)


def _is_adam(state):
    return hasattr(state, "nu")


@pytest.mark.parametrize("size", [1, 4])
def test_orthogonal_recurrent_weights_are_so_for_each_gate(key, size):
    def kernel(recurrent_init):
        x, h = np.zeros((1, 3)), np.zeros((1, size))
        variables = LSTM(size, recurrent_init=recurrent_init).init(key, [x], h, h)
        return np.asarray(variables["params"]["gates"]["kernel"], np.float64)

    for name, orthogonal in (("normal", False), ("orthogonal", True)):
        found = kernel(name)
        assert found.shape == (3 + size, 4 * size)
        gates = [found[3:, gate * size : (gate + 1) * size] for gate in range(4)]
        products = [gate.T @ gate for gate in gates]
        assert np.allclose(products, np.eye(size), atol=1e-5) == orthogonal
        assert len({float(gate[0, 0]) for gate in gates}) == 4 or size == 1
        assert 0.1 < found[:3].std() < 1.5


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"train.free_bits": -1.0}, r"train\.free_bits: expected >= 0, finite, got -1\.0"),
        ({"train.kl_warmup_steps": -1}, r"train\.kl_warmup_steps: expected >= 0, got -1"),
        ({"train.importance_samples": 0}, r"train\.importance_samples: expected >= 1, got 0"),
        ({"train.adam_b2": 1.0}, r"train\.adam_b2: expected 0 or more and below 1, got 1\.0"),
        (
            {"train.importance_samples": 2, "train.free_bits": 0.5},
            r"train\.free_bits: expected 0 with importance_samples, .* got 0\.5",
        ),
        ({"model.recurrent_init": "zeros"}, "recurrent_init normal or orthogonal, got 'zeros'"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_named(fields, expected):
    with pytest.raises(ValueError, match=expected):
        settings.check(small_config(**NO_ATTENTION | fields))


def test_a_classifier_has_no_kl():
    for name, value in (("kl_warmup_steps", 5), ("free_bits", 0.1), ("importance_samples", 2)):
        with pytest.raises(ValueError, match=rf"train\.{name}: expected [01], as the loss"):
            settings.check(classifier_config(**{f"train.{name}": value}))


def test_more_samples_need_more_memory(monkeypatch):
    weights, one = settings._memory_needed(*_tasked(1))
    again, five = settings._memory_needed(*_tasked(5))
    assert weights == again and five == 5 * one


def _tasked(samples):
    config = small_config(**{"train.importance_samples": samples})
    return build.task(build.build(config)), config
