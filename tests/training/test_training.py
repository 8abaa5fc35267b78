import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.runs import checkpoint, directory
from draw_jax.runs.metrics import MetricsFile
from draw_jax.training import config as settings
from draw_jax.training import job, loop
from draw_jax.training.step import (
    TrainState,
    initial_state,
    learning_rate,
    make_optimizer,
    make_update,
)
from tests.helpers import NO_ATTENTION, small_config

B = 6


def plain(**fields):
    return small_config(**NO_ATTENTION | fields)


@pytest.fixture(scope="module")
def config():
    """Returns a configuration whose second update already has the whole learning rate."""
    return plain(
        **{
            "data.binarization": "dynamic",
            "train.warmup_steps": 1,
            "train.decay_steps": 0,
            "train.learning_rate": 1e-2,
            "train.clip_norm": 5.0,
            "train.average_decay": 0.15,
        }
    )


@pytest.fixture(scope="module")
def drawer(tiny):
    """Returns a tiny model as initialised: the settings of `config.model` play no part here."""
    return tiny(initialised=True)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, B, 7, 5, 1), np.uint8)


@pytest.fixture(scope="module")
def update(drawer, config):
    return jax.jit(make_update(build.task(drawer[0]), config, jax.random.key(1)))


@pytest.fixture(scope="module")
def history(drawer, config, update, images):
    """Returns the states before and after three updates, and their metrics."""
    params = drawer[1]["params"]
    optimizer = make_optimizer(config.train)
    states = [TrainState(params, params, optimizer.init(params))]
    metrics = []
    for step in range(3):
        state, values = update(states[-1], step, Batch(images[step], None))
        states.append(jax.device_get(state))
        metrics.append(jax.device_get(values))
    return states, metrics


def norm(tree):
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.sqrt(np.sum(np.concatenate(leaves) ** 2))


def adam(state):
    """Returns the moments of Adam in an optimiser's state."""
    return next(s for s in jax.tree.leaves(state.opt_state, is_leaf=is_adam) if is_adam(s))


def is_adam(state):
    return isinstance(state, optax.ScaleByAdamState)


def test_every_leaf_moves(history):
    (first, *_, last), _ = history
    for tree, moved in (
        (first.params, last.params),
        (first.average, last.average),
        (adam(first).mu, adam(last).mu),
        (adam(first).nu, adam(last).nu),
    ):
        paths = jax.tree_util.tree_leaves_with_path(tree)
        assert len(paths) == len(jax.tree.leaves(moved)) > 10
        for (path, before), after in zip(paths, jax.tree.leaves(moved), strict=True):
            assert before.shape == after.shape
            assert np.abs(after - before).max() > 0, jax.tree_util.keystr(path)
    assert adam(last).count == 3


def test_the_metrics_of_a_step_are_those_of_its_own_noise_and_images(drawer, history, images):
    model, _ = drawer
    states, metrics = history

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params, x, eps):
        output = model.apply({"params": params}, x, eps)
        return (output.nll + output.kl.sum(0)).mean(), output

    for step in (0, 2):
        x_key, eps_key = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
        x = splits.prepare(images[step], "dynamic", x_key)
        eps = jax.random.normal(eps_key, (model.time_steps, B, model.latent_size))
        params = states[step].params
        gradients, output = gradient(params, x, eps)
        found = metrics[step]
        nll, kl = (float(terms.sum()) / B for terms in (output.nll, output.kl))
        assert found["nll"] == pytest.approx(nll, rel=1e-5)
        assert found["kl"] == pytest.approx(kl, rel=1e-5)
        assert found["elbo_loss"] == pytest.approx(nll + kl, rel=1e-5)
        assert found["grad_norm"] == pytest.approx(norm(gradients), rel=1e-4)  # float32 sums
        assert found["param_norm"] == pytest.approx(norm(states[step + 1].params), rel=1e-5)
        difference = jax.tree.map(np.subtract, states[step + 1].params, params)
        # A difference of float32 parameters near 1 keeps 1e-7 of an update near 1e-2.
        assert found["update_norm"] == pytest.approx(norm(difference), rel=1e-4)
        assert found["learning_rate"] == pytest.approx({0: 0.0, 2: 1e-2}[step])


def test_the_average_follows_its_recursion(history):
    states, _ = history
    expected = jax.tree.map(lambda x: np.asarray(x, np.float64), states[0].average)
    for step, decay in enumerate([0.1, 0.15, 0.15]):  # (1 + 0) / (10 + 0), then the setting
        expected = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * np.asarray(new, np.float64),
            expected,
            states[step + 1].params,
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            states[step + 1].average,
            expected,
        )


def test_the_clip_bounds_what_adam_sees(drawer, config):
    """Adam's first moment after one update is a tenth of the gradient that it was given."""
    params = drawer[1]["params"]
    gradients = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), params)
    size = norm(gradients)
    for clip, expected in ((0.25 * size, 0.25 * size), (4 * size, size), (0.0, size)):
        train = config.train.copy_and_resolve_references()
        train.clip_norm = float(clip)
        optimizer = make_optimizer(train)
        _, opt_state = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
        state = TrainState(params, None, opt_state)
        assert 10 * norm(adam(state).mu) == pytest.approx(expected, rel=1e-5)


def test_the_weight_decay_is_that_of_adamw_and_of_kernels_alone(drawer, config):
    """Of two first updates, with and without decay, a kernel's differ by rate x decay x weights."""
    params = drawer[1]["params"]
    gradients = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), params)
    found = []
    for decay in (0.0, 0.3):
        train = config.train.copy_and_resolve_references()
        train.warmup_steps, train.weight_decay = 0, decay
        optimizer = make_optimizer(train)
        updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
        found.append(updates)
    kernels = 0
    for path, weights in jax.tree_util.tree_leaves_with_path(params):
        plain_update, update = (functools.reduce(lambda t, k: t[k.key], path, t) for t in found)
        is_kernel = path[-1].key == "kernel"
        kernels += is_kernel
        expected = -1e-2 * 0.3 * np.asarray(weights, np.float64) if is_kernel else 0.0
        np.testing.assert_allclose(update - plain_update, expected, atol=1e-8)
    assert kernels == 4


def test_the_loss_of_a_fixed_batch_goes_down(history, update, images):
    states, _ = history
    state, losses = states[0], []
    for step in range(100):
        state, metrics = update(state, step, Batch(images[0], None))
        losses.append(float(metrics["elbo_loss"]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.8  # noise of a mean: 0.1


def test_the_learning_rate_at_hand_computed_steps():
    train = plain(
        **{
            "train.learning_rate": 2e-3,
            "train.warmup_steps": 10,
            "train.decay_steps": 110,
            "train.final_learning_rate": 0.1,
        }
    ).train
    schedule = learning_rate(train)
    expected = {
        0: 0.0,
        5: 1e-3,
        10: 2e-3,
        35: 2e-3 * (0.1 + 0.9 * (1 + np.cos(np.pi / 4)) / 2),  # a quarter of the cosine's way
        60: 1.1e-3,  # its middle
        110: 2e-4,
        1000: 2e-4,
    }
    for step, value in expected.items():
        assert float(schedule(step)) == pytest.approx(value, rel=1e-5), step


def test_a_learning_rate_without_warm_up_or_decay():
    train = plain(
        **{"train.learning_rate": 2e-3, "train.warmup_steps": 0, "train.decay_steps": 0}
    ).train
    schedule = learning_rate(train)
    assert [float(schedule(step)) for step in (0, 1, 10**6)] == pytest.approx([2e-3] * 3)


def test_the_streams_of_a_seed_are_four_and_its_own():
    bits = [jax.random.key_data(key).tolist() for seed in (0, 1) for key in build.keys(seed)]
    assert len({tuple(b) for b in bits}) == 8
    again = [jax.random.key_data(key).tolist() for key in build.keys(0)]
    assert again == bits[:4] and build.keys(0)._fields == ("init", "train", "evaluate", "sample")


@pytest.mark.parametrize("average", [True, False])
def test_the_first_state(average):
    config = plain(**{"train.average_decay": 0.9 if average else 0.0})
    model = build.build(config)
    state = initial_state(model, jax.random.key(0), config.train)
    assert (state.average is not None) == average
    assert jnp.ndim(adam(state).count) == 0 and adam(state).count == 0
    if average:
        buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state[:2])]
        assert len(set(buffers)) == len(buffers)  # each may be donated
        jax.tree.map(np.testing.assert_array_equal, state.params, state.average)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("batch_size", 0, "expected >= 1, got 0"),
        ("num_steps", 0, "expected >= 1, got 0"),
        ("log_every", 0, "expected >= 1, got 0"),
        ("eval_every", -1, "expected >= 1, got -1"),
        ("checkpoint_every", 0, "expected >= 1, got 0"),
        ("keep_checkpoints", 0, "expected >= 1, got 0"),
        ("warmup_steps", -1, "expected >= 0, got -1"),
        ("decay_steps", -1, "expected >= 0, got -1"),
        ("clip_norm", -1.0, "expected >= 0, finite, got -1.0"),
        ("final_learning_rate", -0.1, "expected >= 0, finite, got -0.1"),
        ("weight_decay", -0.1, "expected >= 0, finite, got -0.1"),
        ("learning_rate", 0.0, "expected > 0, finite, got 0.0"),
        ("learning_rate", float("nan"), "expected > 0, finite, got nan"),
        ("average_decay", 1.0, "expected 0 or more and below 1, got 1.0"),
    ],
)
def test_a_field_that_cannot_be_is_named(field, value, expected):
    with pytest.raises(ValueError, match=rf"config\.train\.{field}: {expected}"):
        settings.check(plain(**{f"train.{field}": value}))


@pytest.mark.parametrize("field", ["train.clip_norm", "data.name", "model", "seed"])
def test_a_missing_field_is_named(field):
    config = plain().copy_and_resolve_references()
    *groups, name = field.split(".")
    with config.unlocked():
        group = config[groups[0]] if groups else config
        with group.unlocked():
            del group[name]
    with pytest.raises(ValueError, match=rf"config\.{field}: missing; configs/mnist.py has"):
        settings.check(config)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(30, "24 or 32"), (3, "8"), (8, None), (100, "96 or 104")]
)
def test_a_batch_must_divide_among_the_devices(batch_size, sizes, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    config = plain(**{"train.batch_size": batch_size})
    if sizes is None:
        settings.check(config)
        return
    with pytest.raises(ValueError, match=f"do not divide {batch_size}; take {sizes}, or "):
        settings.check(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data.data_dir", "elsewhere"),
        ("data.manual_dir", "elsewhere"),
        ("train.log_every", 1),
        ("train.eval_every", 1),
        ("train.checkpoint_every", 1),
        ("train.keep_checkpoints", 1),
        ("train.num_steps", 41),
        ("model.unroll", 2),
        ("train.cpu_devices", 2),
        ("train.on_divergence", "continue"),
        ("train.max_rollbacks", 9),
        ("train.rollback_rate", 0.9),
    ],
)
def test_what_may_change_between_a_run_and_its_continuation(field, value):
    assert settings.differing_fields(plain(**{field: value}), plain()) == []


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("seed", 1, "0 -> 1"),
        ("data.binarization", "fixed", "none -> fixed"),
        ("model.image_shape", (8, 8, 1), "[28, 28, 1] -> [8, 8, 1]"),
        ("model.canvas_bias", -1.5, "-1.0 -> -1.5"),
        ("train.batch_size", 8, "32 -> 8"),
        ("train.num_steps", 39, "40 -> 39"),
        ("train.decay_steps", 41, "40 -> 41"),
        ("train.init_from", "x", " -> x"),
    ],
)
def test_what_must_not_change(field, value, told):
    differing = settings.differing_fields(plain(**{field: value}), plain())
    assert differing == [f"config.{field}: {told}"]


def test_a_field_that_only_one_of_them_has():
    ours, theirs = plain(), plain()
    with ours.unlocked():
        ours.model.depth = 3
    assert settings.differing_fields(ours, theirs) == ["config.model.depth: (none) -> 3"]
    assert settings.differing_fields(theirs, ours) == ["config.model.depth: 3 -> (none)"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Returns a run directory with weights that are random in every leaf."""
    run = tmp_path_factory.mktemp("source")
    config = plain()
    rng = np.random.default_rng(0)
    template = initial_state(build.build(config), jax.random.key(0), config.train)
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), template.params)
    directory.write_config(run, config)
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 1)
    checkpoints.save(7, {"params": params}, 1.0)
    checkpoints.close()
    row = {"step": 7, "split": "validation", "elbo_loss": 1.0}
    MetricsFile(run / "metrics.jsonl").write(row)
    return run


def test_a_run_from_given_weights_that_diverges(source, tmp_path, capsys):
    """The first update of a warm-up is zero, so step 1 holds the start; the second explodes."""
    config = plain(
        **{
            "train.init_from": str(source),
            "train.num_steps": 20,
            "train.warmup_steps": 1,
            "train.learning_rate": 1e30,
            "train.checkpoint_every": 1,
            "train.eval_every": 20,
            "train.average_decay": 0.5,
        }
    )
    assert loop.train(config, tmp_path) == loop.DIVERGED == 4
    printed = capsys.readouterr().err
    assert "param_norm is inf at step 2" in printed
    assert f"--init_from={tmp_path}" in printed and "--config.train.learning_rate" in printed
    (start,) = (path.name for path in (tmp_path / "checkpoints").iterdir())
    assert start == "1"
    ours, theirs = (checkpoint.load(run)[2]["params"] for run in (tmp_path, source))
    assert len(jax.tree.leaves(ours)) == len(jax.tree.leaves(theirs)) > 10
    # Their average with themselves, in float32.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)
    # It stops at the same place again, and does not go on from there.
    assert loop.train(config, tmp_path) == loop.DIVERGED


def test_init_from_nothing_and_from_another_model(source, tmp_path):
    config = plain(**{"train.init_from": "nobody"})
    with pytest.raises(checkpoint.CheckpointError, match="'nobody' is no directory .* or one of: "):
        loop.train(config, tmp_path)
    config = plain(**{"train.init_from": str(source), "model.enc_size": 9})
    with pytest.raises(ValueError, match="--init_from: the weights of .* have other shapes"):
        loop.train(config, tmp_path)
    assert not (tmp_path / "config.json").exists()  # another try is not refused


def test_the_speed_leaves_out_the_time_of_validations(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    clock = loop.Clock(10)
    now[0] += 4
    assert clock.steps_per_second(18) == 2
    with clock.paused():
        now[0] += 1000
    now[0] += 2
    assert clock.steps_per_second(19) == 0.5


def test_metrics_reach_the_disk_before_the_checkpoint_that_tells_of_them(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(job.MetricsFile, "sync", lambda self: order.append(self._path.name))
    checkpoints = SimpleNamespace(save=lambda *given: order.append("checkpoint"))
    made = SimpleNamespace(
        run=tmp_path, _main=True, rollbacks=0, task=None, _checkpoints=checkpoints
    )
    job.Job.save(made, TrainState({}, None, {}), 3, None)
    assert order == ["metrics.jsonl", "checkpoint"]
