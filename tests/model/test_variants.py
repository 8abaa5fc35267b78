"""The baselines of Table 1: the convolutional net and RAM."""

import functools
import importlib
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draw_jax.data.interface import Batch
from draw_jax.model import attention, build
from draw_jax.model.variants import ram, retina
from draw_jax.model.variants.convnet import ConvNet
from draw_jax.model.variants.ram import Ram
from draw_jax.training.step import initial_state, make_update
from tests import reference
from tests.helpers import FAST_COMPILING, forked

T, B, CLASSES = 3, 4, 5
CONVNET = {
    "image_shape": (9, 11, 2),
    "classes": CLASSES,
    "filters": 3,
    "filter_size": 4,
    "stride": 2,
    "hidden_size": 6,
}
RAM = {
    "image_shape": (9, 11, 2),
    "time_steps": T,
    "classes": CLASSES,
    "read_size": 3,
    "scales": 3,
    "retina_size": 6,
    "location_size": 5,
    "feature_size": 7,
    "core_size": 8,
    "location_std": 1.2,
    "location_rate": 0.5,
    "reinforce_weight": 0.3,
    "baseline_weight": 0.7,
}
# Flags of a small run of either kind; a folder of small digits needs no download.
RUN = {
    "data.source": "digits",
    "data.size": 32,
    "data.clutter": 2,
    "model.image_shape": (32, 32, 1),
    "train.batch_size": 4,
    "train.num_steps": 2,
    "train.warmup_steps": 0,
    "train.decay_steps": 2,
    "train.log_every": 1,
}
SMALL = {
    "convnet": {"model.hidden_size": 5},
    "ram": {
        "model.time_steps": 2,
        "model.read_size": 4,
        "model.scales": 2,
        "model.core_size": 8,
        "model.monte_carlo_samples": 2,
    },
}
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def rng(seed):
    return np.random.default_rng(seed)


def variables(model, seed=0):
    """Returns random variables: no bias is 0, and nothing that a term could hide behind."""
    shapes = jax.eval_shape(lambda: build.initial_variables(model, jax.random.key(0)))

    def draw(path, leaf):
        scale = np.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.3
        return (scale * rng(seed).standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map_with_path(draw, shapes)


def images(model, count=B, seed=1):
    return rng(seed).random((count, *model.image_shape)).astype(np.float32)


def make_noise(time_steps=T, count=B, seed=2):
    # The seed's locations lie on both sides of the image's edge.
    return rng(seed).standard_normal((time_steps, count, 2)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 4))
def play(model, variables, x, noise, trace=True):
    return model.apply(variables, x, noise, trace=trace)


look = jax.jit(retina.patches, static_argnums=2)


def labels_of(logits):
    """Returns the answers of half of the images, and wrong ones for the others."""
    return ((logits[-1].argmax(axis=-1) + np.arange(len(logits[-1])) % 2) % CLASSES).astype(
        np.int32
    )


def config_of(kind):
    config = importlib.import_module(f"draw_jax.configs.cluttered_mnist_{kind}").get_config()
    config.update_from_flattened_dict(RUN | SMALL[kind])
    return config.lock()


# --- the convolutional net


def test_the_convolutional_net_is_the_reference():
    model = ConvNet(**CONVNET)
    weights, x = variables(model), images(model)
    logits = jax.jit(model.apply)(weights, x)
    assert logits.shape == (1, B, CLASSES)
    for b in range(B):
        close(logits[0, b], reference.convnet(weights, x[b], model.stride))


def test_the_layers_of_table_1():
    config = importlib.import_module("draw_jax.configs.cluttered_mnist_convnet").get_config()
    shapes = jax.eval_shape(
        lambda: build.initial_variables(build.build(config), jax.random.key(0))["params"]
    )
    assert {name: layer["kernel"].shape for name, layer in shapes.items()} == {
        "convolution": (10, 10, 1, 8),
        "hidden": (19 * 19 * 8, 256),
        "classification": (256, 10),
    }


# --- the retina


@pytest.mark.parametrize(
    ("shape", "size", "scales"), [((9, 11, 2), 3, 3), ((12, 7, 1), 4, 2), ((5, 5, 1), 5, 1)]
)
def test_the_patches_are_those_of_a_loop_over_pixels(shape, size, scales):
    corners = [(-1, -1), (1, 1), (-1, 1), (0, 0), (0.5, -0.5)]
    locations = np.array([*corners, *rng(0).uniform(-1, 1, (15, 2))], np.float32)
    x = rng(1).random((len(locations), *shape)).astype(np.float32)
    seen = jax.jit(lambda x, location: retina.patches(retina.averages(x, scales), location, size))(
        x, locations
    )
    assert seen.shape == (len(locations), scales, size, size, shape[2])
    for b, location in enumerate(locations):
        close(seen[b], reference.retina(x[b], location, size, scales))


def test_the_first_coordinate_goes_right_and_the_second_down():
    x = np.zeros((3, 6, 8, 1), np.float32)
    x[:, 0, 0] = 1  # the top left pixel
    locations = np.array([(-1, -1), (-0.75, -1), (-1, -2 / 3)], np.float32)  # and one pixel on
    seen = look([x], locations, 2)[:, 0, :, :, 0]
    np.testing.assert_array_equal(seen, [[[0, 0], [0, 1]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]])


@pytest.mark.parametrize("size", [3, 4])
def test_the_window_of_a_picture_reads_the_finest_patch(size):
    locations = rng(0).uniform(-0.5, 0.5, (10, 2)).astype(np.float32)  # wholly on the image
    x = rng(1).random((10, 12, 14, 2)).astype(np.float32)
    window = jax.jit(retina.window, static_argnums=(1, 2, 3))(locations, size, 12, 14)
    read = jax.jit(attention.read, static_argnums=2)(x, window, size)
    close(read, look([x], locations, size)[:, 0])


# --- RAM


def test_an_episode_is_the_reference():
    model = Ram(**RAM)
    weights, x, noise = variables(model), images(model), make_noise()
    episode = play(model, weights, x, noise)
    assert episode.logits.shape == (T, B, CLASSES) and episode.baselines.shape == (T, B)
    assert episode.locations.shape == episode.means.shape == (T, B, 2)
    assert all(field.shape == (T, B) for field in episode.windows)
    assert (abs(episode.locations) > 1).any() and (abs(episode.locations) < 1).any()
    for b in range(B):
        glimpses = reference.ram(weights, x[b], noise[:, b], 3, 3, 1.2, 0.5)
        for t, glimpse in enumerate(glimpses):
            close(episode.logits[t, b], glimpse.logits)
            close(episode.locations[t, b], glimpse.location)
            close(episode.means[t, b], glimpse.mean)
            close(episode.baselines[t, b], glimpse.baseline)


def test_the_scan_is_a_python_loop_over_the_glimpses():
    model = Ram(**RAM)
    weights, x, noise = variables(model), images(model), make_noise()
    episode = play(model, weights, x, noise)
    levels = jax.jit(retina.averages, static_argnums=1)(x, model.scales)
    step = jax.jit(functools.partial(model.apply, method="step"))
    h = np.zeros((B, model.core_size), np.float32)
    for t in range(T):
        state, logits = step(weights, h, levels, episode.locations[t])
        close(logits, episode.logits[t])
        if t + 1 < T:
            close(state.mean, episode.means[t + 1])
            close(state.baseline, episode.baselines[t + 1])
            close(state.mean + model.location_std * noise[t + 1], episode.locations[t + 1])
        h = state.h


def test_the_first_location_is_uniform():
    model = Ram(**RAM)
    count = 2000
    x = np.zeros((count, *model.image_shape), np.float32)
    noise = make_noise(1, count)
    drawn = play(model, variables(model), x, noise, False).locations[0]
    expected = (2 * np.arange(count) + 1) / count - 1
    # Kolmogorov and Smirnov: of 2,000 draws the largest distance is above 0.09 once in 2,000 times.
    assert abs(np.sort(drawn, axis=0) - expected[:, None]).max() < 0.09
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1


@functools.partial(jax.jit, static_argnums=(0, 5))
def gradients(model, weights, x, noise, labels, name):
    def mean(params):
        episode = model.apply({"params": params}, x, noise)
        return ram.terms(model, episode, labels)[name].mean()

    return jax.grad(mean)(weights["params"])


def test_reinforce_is_the_score_times_the_reward_above_its_baseline():
    model = Ram(**RAM)
    weights, x, noise = variables(model), images(model), make_noise()
    labels = labels_of(np.asarray(play(model, weights, x, noise).logits))
    d_kernel, d_bias = np.zeros((model.core_size, 2)), np.zeros(2)
    d_baseline_kernel, d_baseline_bias = np.zeros((model.core_size, 1)), np.zeros(1)
    rewards = []
    for b in range(B):
        glimpses = reference.ram(weights, x[b], noise[:, b], 3, 3, 1.2, 0.5)
        rewards.append(float(np.argmax(glimpses[-1].logits) == labels[b]))
        for before, glimpse in itertools.pairwise(glimpses):
            advantage = rewards[b] - glimpse.baseline
            score = np.array(reference.score(glimpse.location, glimpse.mean, 1.2)) * 0.5
            d_bias += -0.3 * advantage * score / B
            d_kernel += -0.3 * advantage * np.outer(before.h, score) / B
            d_baseline_bias += -0.7 * 2 * advantage / B
            d_baseline_kernel += -0.7 * 2 * advantage * np.array(before.h)[:, None] / B
    assert 0 < sum(rewards) < B
    found = gradients(model, weights, x, noise, labels, "reinforce")
    close(found["location"]["bias"], d_bias)
    close(found["location"]["kernel"], d_kernel)
    found = gradients(model, weights, x, noise, labels, "baseline")
    close(found["baseline"]["bias"], d_baseline_bias)
    close(found["baseline"]["kernel"], d_baseline_kernel)


@pytest.mark.parametrize(
    ("term", "reached"),
    [
        ("cross_entropy", {"patches", "place", "glimpse", "core", "classification"}),
        ("reinforce", {"location"}),
        ("baseline", {"baseline"}),
    ],
)
def test_a_term_trains_its_own_nets_alone(term, reached):
    model = Ram(**RAM)
    weights, x, noise = variables(model), images(model), make_noise()
    labels = labels_of(np.asarray(play(model, weights, x, noise).logits))
    found = gradients(model, weights, x, noise, labels, term)
    assert {name for name, net in found.items() if np.any(net["kernel"] != 0)} == reached
    assert {name for name, net in found.items() if np.any(net["bias"] != 0)} == reached


def test_one_glimpse_chooses_nothing():
    model = Ram(**(RAM | {"time_steps": 1}))
    weights, x = variables(model), images(model)
    terms = ram.terms(model, play(model, weights, x, make_noise(1)), np.zeros(B, np.int32))
    np.testing.assert_array_equal(terms["reinforce"], 0)
    np.testing.assert_array_equal(terms["baseline"], 0)


@pytest.mark.slow
def test_an_update_sees_the_mean_of_several_episodes():
    model = Ram(**(RAM | {"monte_carlo_samples": 3}))
    weights, x, key = variables(model), images(model), jax.random.key(5)
    labels = np.arange(B, dtype=np.int32)
    terms = jax.jit(build.task(model).loss_terms)(weights, x, labels, key)
    noise = jax.random.normal(key, (3, T, B, 2))
    episodes = [ram.terms(model, play(model, weights, x, noise[m]), labels) for m in range(3)]
    assert not np.allclose(episodes[0]["reinforce"], episodes[1]["reinforce"])
    for name, term in terms.items():
        assert term.shape == (B,)
        close(term, sum(episode[name] for episode in episodes) / 3)


def test_evaluation_draws_the_first_location_from_the_image_s_own_key():
    model = Ram(**RAM)
    weights, x, labels = variables(model), images(model), np.arange(B, dtype=np.int32)
    keys = jax.random.split(jax.random.key(3), B)
    evaluate = jax.jit(build.task(model).evaluation_terms)
    terms, told = evaluate(weights, x, labels, keys)
    assert told["error_per_step"].shape == (B, T)
    assert told["answers"].shape == (B, 2)
    for b in range(B):
        noise = np.zeros((T, 1, 2), np.float32)
        noise[0] = jax.random.normal(keys[b], (2,))
        alone = play(model, weights, x[b : b + 1], noise)
        for name, term in ram.terms(model, alone, labels[b : b + 1]).items():
            close(terms[name][b], term[0])
    assert len(np.unique(np.asarray(terms["baseline"]))) == B


def test_bfloat16_rounds_a_little():
    net, model = (
        make(**fields, dtype="bfloat16") for make, fields in ((ConvNet, CONVNET), (Ram, RAM))
    )
    weights, x = variables(net), images(net)
    exact, rounded = (jax.jit(m.apply)(weights, x) for m in (ConvNet(**CONVNET), net))
    assert rounded.dtype == jnp.float32 and np.any(exact != rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.05)  # three products of 8 bits
    weights, noise = variables(model), make_noise(1)  # one glimpse: nothing moves the second
    exact, rounded = (play(m, weights, x, noise).logits for m in (Ram(**RAM), model))
    assert rounded.dtype == jnp.float32 and np.any(exact != rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.05)


# --- both


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image_shape": (9, 11)}, r"image_shape \(H, W, C\) of sizes >= 1, got \(9, 11\)"),
        ({"time_steps": 0}, "time_steps >= 1, got 0"),
        ({"classes": 1}, "classes >= 2, got 1"),
        ({"scales": 0}, "scales >= 1, got 0"),
        (
            {"scales": 5},
            "scales whose widest patch has a side <= 22, .* got 5: patches of up to 48",
        ),
        ({"read_size": 10}, "read_size <= 9, .* got 10"),
        ({"core_size": 0}, "core_size >= 1, got 0"),
        ({"monte_carlo_samples": 0}, "monte_carlo_samples >= 1, got 0"),
        ({"location_std": 0.0}, "location_std > 0, finite, got 0.0"),
        ({"location_std": float("nan")}, "location_std > 0, finite, got nan"),
        ({"location_rate": 0.0}, "location_rate > 0, finite, got 0.0"),
        ({"reinforce_weight": -1.0}, "reinforce_weight > 0, finite, got -1.0"),
        ({"dtype": "float16"}, "dtype float32 or bfloat16, got 'float16'"),
    ],
    ids=str,
)
def test_a_field_of_ram_that_cannot_be(fields, told):
    with pytest.raises(ValueError, match=f"^expected {told}$"):
        Ram(**(RAM | fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image_shape": (0, 11, 1)}, r"image_shape \(H, W, C\) of sizes >= 1, got \(0, 11, 1\)"),
        ({"classes": 1}, "classes >= 2, got 1"),
        ({"filters": 0}, "filters >= 1, got 0"),
        ({"stride": 0}, "stride >= 1, got 0"),
        ({"filter_size": 10}, "filter_size <= 9, .* got 10"),
        ({"dtype": "int8"}, "dtype float32 or bfloat16, got 'int8'"),
    ],
    ids=str,
)
def test_a_field_of_the_convolutional_net_that_cannot_be(fields, told):
    with pytest.raises(ValueError, match=f"^expected {told}$"):
        ConvNet(**(CONVNET | fields))


def test_inputs_that_do_not_fit_the_model():
    net, model = ConvNet(**CONVNET), Ram(**RAM)
    x = np.zeros((2, 9, 12, 2), np.float32)
    for wrong in (lambda: net.apply({}, x), lambda: model.apply({}, x, make_noise(T, 2))):
        with pytest.raises(ValueError, match=r"= \(9, 11, 2\), got \(2, 9, 12, 2\)"):
            wrong()
    for shape in ((0, 4, 2), (3, 5, 2), (3, 4, 3), (4, 2)):
        with pytest.raises(ValueError, match=r"noise .* \(T >= 1, 4, 2\), got"):
            model.apply({}, images(model), np.zeros(shape, np.float32))


def test_models_of_equal_fields_share_their_task():
    for make, fields in ((ConvNet, CONVNET), (Ram, RAM)):
        listed = fields | {"image_shape": list(fields["image_shape"])}  # as JSON gives it
        assert build.task(make(**fields)) is build.task(make(**listed))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_every_leaf_moves_in_one_update(kind):
    config = config_of(kind)
    model = build.build(config)
    state = initial_state(model, jax.random.key(0), config.train)
    update = jax.jit(make_update(build.task(model), config, jax.random.key(1)))
    x = rng(0).integers(0, 256, (4, 32, 32, 1), np.uint8)
    after, metrics = update(state, 0, Batch(x, np.arange(4, dtype=np.int32)))
    for (path, old), new in zip(
        jax.tree.leaves_with_path(state.params), jax.tree.leaves(after.params), strict=True
    ):
        assert np.any(old != new) and np.all(np.isfinite(new)), jax.tree_util.keystr(path)
    if kind == "ram":
        parts = ("cross_entropy", "reinforce", "baseline")
        close(metrics["loss"], sum(metrics[name] for name in parts))


@pytest.mark.slow
def test_both_kinds_train_and_are_evaluated(tmp_path):
    commands = []
    for kind, fields in SMALL.items():
        flags = [f"--config.{name}={value}" for name, value in (RUN | fields).items()]
        run = f"--workdir={tmp_path / kind}"
        config = f"--config=configs/cluttered_mnist_{kind}.py"
        commands += [["train.py", config, run, *flags], ["evaluate.py", run, "--split=test"]]
    for command, process in zip(commands, forked(commands, XLA_FLAGS=FAST_COMPILING), strict=True):
        assert process.returncode == 0, (command, process.stderr)
    for kind in SMALL:
        rows = (tmp_path / kind / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(row) for row in rows]
        assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2]
        (validation,) = (row for row in rows if row["split"] == "validation")
        assert 0 <= validation["error"] <= 1 and validation["cross_entropy"] > 0
        assert ("reinforce" in validation) == (kind == "ram")
        assert validation["loss"] == pytest.approx(
            sum(validation.get(name, 0) for name in ("cross_entropy", "reinforce", "baseline"))
        )
