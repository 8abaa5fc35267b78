import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from draw_jax.configs import digits, mnist, mnist_no_attention, mnist_small, smoke
from draw_jax.data.interface import ArraySplit, Batch
from draw_jax.evaluation import passes
from draw_jax.model import attention, build, draw, losses
from draw_jax.model import gradients as by_hand
from draw_jax.model.draw import Draw, Output, Trace
from draw_jax.model.layers import Linear
from draw_jax.training.step import TrainState, make_optimizer, make_update
from tests import reference
from tests.helpers import TINY

T, B = 3, 2  # of most tests here
ATTENTION = list(itertools.product([0, 2], [0, 3]))  # (read_size, write_size)
# Every combination of attention, and colour in a wide and in a tall image.
COMBINATIONS = [
    *({"read_size": r, "write_size": w} for r, w in ATTENTION),
    {"image_shape": (4, 6, 3)},
    {"image_shape": (6, 4, 3), "read_size": 3, "write_size": 2},
    {"image_shape": (4, 6, 3), "read_size": 0, "write_size": 0},
]


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def make_inputs(model, seed=0, time_steps=T, batch_size=B):
    """Returns binary images with some grey ones among them, and noise."""
    rng = np.random.default_rng(seed)
    x = rng.random((batch_size, *model.image_shape)).astype(np.float32)
    x[0] = x[0].round()
    return x, normal(seed + 1, time_steps, batch_size, model.latent_size)


@functools.partial(jax.jit, static_argnums=(0, 4))
def infer(model, variables, x, eps, trace=True):
    return model.apply(variables, x, eps, trace=trace)


@functools.partial(jax.jit, static_argnums=0)
def generate(model, variables, z):
    return model.apply(variables, z, method="generate")


@functools.partial(jax.jit, static_argnums=0)
def gradients(model, variables, x, eps):
    def loss(variables):
        output = model.apply(variables, x, eps)
        return output.nll.mean() + output.kl.sum(axis=0).mean()

    return jax.value_and_grad(loss)(variables)


def leaves(tree):
    return [(jax.tree_util.keystr(path), x) for path, x in jax.tree.leaves_with_path(tree)]


def with_parameter(variables, name, change):
    """Returns variables with one of the cell's own parameters, such as c_0, changed."""
    cell = dict(variables["params"]["cell"])
    cell[name] = change(cell[name])
    return {"params": {"cell": cell}}


# --- the whole network against the paper


@pytest.mark.parametrize("fields", COMBINATIONS, ids=str)
def test_the_unroll_is_the_reference(tiny, fields):
    model, variables = tiny(**fields)
    x, eps = make_inputs(model)
    output = infer(model, variables, x, eps)
    assert output.nll.shape == (B,) and output.kl.shape == (T, B)
    assert output.trace.canvases.shape == (T, B, *model.image_shape)
    assert output.trace.mean.shape == output.trace.log_std.shape == (T, B, model.latent_size)
    for windows, size in (
        (output.trace.read_windows, model.read_size),
        (output.trace.write_windows, model.write_size),
    ):
        assert (windows is None) == (size == 0)
        assert windows is None or all(field.shape == (T, B) for field in windows)
    for b in range(B):
        nll, steps = reference.unroll(variables, x[b], eps[:, b], model.read_size, model.write_size)
        # Float32 errors of 1e-7 a product grow over the sums and the three steps: 1e-5 relative to
        # the largest value of an array, not to each.
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
        close(output.nll[b], nll)
        for t, step in enumerate(steps):
            close(output.kl[t, b], step.kl)
            close(output.trace.mean[t, b], step.mean)
            close(output.trace.log_std[t, b], step.log_std)
            close(output.trace.canvases[t, b], step.canvas)
            for windows, window in (
                (output.trace.read_windows, step.read_window),
                (output.trace.write_windows, step.write_window),
            ):
                if window is not None:
                    close([field[t, b] for field in windows], window)


@pytest.mark.parametrize(("read_size", "write_size"), [(2, 3), (0, 0)])
def test_the_scan_is_a_python_loop_over_the_cell(tiny, read_size, write_size):
    model, variables = tiny(read_size=read_size, write_size=write_size)
    x, eps = make_inputs(model)
    output = infer(model, variables, x, eps)
    state = model.apply(variables, B, method=lambda draw, size: draw.cell.initial_state(size))
    step = jax.jit(
        functools.partial(
            model.apply,
            method=lambda draw, state, x, eps: draw.cell.infer_step(state, x, eps),
        )
    )
    for t in range(T):
        state, (kl, trace) = step(variables, state, x, eps[t])
        expected = jax.tree.map(lambda a, t=t: a[t], (output.kl, output.trace))
        assert jax.tree.structure((kl, trace)) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves((kl, trace)), jax.tree.leaves(expected), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses.bernoulli_nll(state.canvas, x), output.nll, rtol=1e-5)


@pytest.mark.parametrize("fields", COMBINATIONS, ids=str)
def test_generate_repeats_the_training_canvases_bit_for_bit(tiny, fields):
    model, variables = tiny(**fields)
    x, eps = make_inputs(model)
    seen = infer(model, variables, x, eps).trace
    z = np.asarray(_posterior_sample(seen.mean, seen.log_std, eps))
    drawn = generate(model, variables, z)
    assert drawn.read_windows is None and drawn.mean is None and drawn.log_std is None
    assert drawn.canvases.shape == (T, B, *model.image_shape)
    np.testing.assert_array_equal(drawn.canvases, seen.canvases)
    for a, b in zip(
        jax.tree.leaves(drawn.write_windows), jax.tree.leaves(seen.write_windows), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@jax.jit
def _posterior_sample(mean, log_std, eps):
    return mean + jnp.exp(log_std) * eps


def test_the_encoder_takes_no_part_in_generation(tiny):
    model, variables = tiny()
    z = normal(0, T, B, model.latent_size)
    drawn = generate(model, variables, z).canvases
    cell = variables["params"]["cell"]
    for name in ("encoder", "posterior", "h_enc_0", "cell_enc_0"):
        changed = {"params": {"cell": cell | {name: jax.tree.map(lambda a: a + 1, cell[name])}}}
        np.testing.assert_array_equal(generate(model, changed, z).canvases, drawn)
    changed = {"params": {"cell": cell | {"h_dec_0": cell["h_dec_0"] + 1}}}
    assert np.abs(generate(model, changed, z).canvases - drawn).max() > 1e-3


# --- the bugs of others


@pytest.mark.parametrize("latent_size", [4, 9])
def test_peer_bug_2_a_posterior_that_is_the_prior_costs_nothing(tiny, latent_size):
    # With -T/2 in place of -Z T/2, the sum would be (Z - 1) T / 2.
    model, variables = tiny(latent_size=latent_size)
    cell = variables["params"]["cell"]
    zero = jax.tree.map(np.zeros_like, cell["posterior"])
    x, eps = make_inputs(model)
    kl = infer(model, {"params": {"cell": cell | {"posterior": zero}}}, x, eps).kl
    np.testing.assert_array_equal(kl, np.zeros((T, B)))
    output = infer(model, variables, x, eps)
    mean, log_std = (np.asarray(a, np.float64) for a in output.trace[-2:])
    sums = 0.5 * (mean**2 + np.exp(2 * log_std) - 2 * log_std).sum((0, 2))
    np.testing.assert_allclose(output.kl.sum(0), sums - latent_size * T / 2, rtol=1e-5, atol=1e-5)


def test_peer_bug_3_every_step_has_noise_of_its_own(tiny):
    model, variables = tiny()
    x, eps = make_inputs(model)
    before = infer(model, variables, x, eps).trace.canvases
    for t in range(T):
        other = eps.copy()
        other[t] += 1
        after = infer(model, variables, x, other).trace.canvases
        np.testing.assert_array_equal(after[:t], before[:t])
        for k in range(t, T):
            assert np.abs(after[k] - before[k]).max() > 1e-4


class NoiseProbe(Draw):
    """A Draw whose nll is the variance of eps over the time steps."""

    def apply(self, variables, x, eps, trace=False):
        assert eps.shape == (self.time_steps, len(x), self.latent_size)
        nll = jnp.var(eps, axis=0).mean(-1) + 0 * variables["params"]
        return Output(nll, jnp.square(eps).mean(-1), Trace(None, None, None, eps, eps))


def test_peer_bug_3_training_and_evaluation_draw_noise_for_every_step():
    sizes = {"enc_size": 1, "dec_size": 1, "latent_size": 25, "read_size": 0, "write_size": 0}
    task, key = draw.task(NoiseProbe((3, 2, 1), 40, **sizes)), jax.random.key(0)
    config = smoke.get_config()
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 2, 1)).astype(np.uint8)
    params = jnp.float32(0)
    opt_state = make_optimizer(config.train).init(params)
    state = TrainState(params, None, opt_state)
    update = jax.jit(make_update(task, config, key))
    _, metrics = update(state, 0, Batch(images, None))
    # 8 x 25 variances over 40 steps: 0.975 with a standard error of 0.016; shared noise gives 0.
    assert abs(metrics["nll"] - 0.975) < 0.08
    _, other = update(state, 1, Batch(images, None))
    assert other["nll"] != metrics["nll"]
    split = ArraySplit(images, None, False)
    result = passes.evaluate(task, {"params": params}, split, lambda image, key: image / 255.0, key)
    assert abs(result["nll"] - 0.975) < 0.08


def test_peer_bug_8_the_first_canvas_is_learned(tiny):
    model, variables = tiny(canvas_bias=-1.5, initialised=True)
    c_0 = variables["params"]["cell"]["canvas_0"]
    assert c_0.shape == model.image_shape
    np.testing.assert_array_equal(c_0, np.full(model.image_shape, -1.5, np.float32))
    # c_0 stands under every canvas ...
    model, variables = tiny()
    z = normal(0, T, B, model.latent_size)
    offset = normal(1, *model.image_shape)
    moved = with_parameter(variables, "canvas_0", lambda c: c + offset)
    before, after = (generate(model, v, z).canvases for v in (variables, moved))
    shifted = before + np.broadcast_to(offset, before.shape)
    np.testing.assert_allclose(after, shifted, rtol=1e-5, atol=1e-6)
    # ... its mean is what the first error image lacks ...
    x, eps = make_inputs(model)
    means = [infer(model, v, x, eps).trace.mean[0] for v in (variables, moved)]
    assert np.abs(means[0] - means[1]).max() > 1e-4
    # ... and every pixel of it is trained.
    _, gradient = gradients(model, variables, x, eps)
    assert np.abs(gradient["params"]["cell"]["canvas_0"]).min() > 0


def test_peer_bug_8_long_unrolls_keep_finite_gradients_and_every_config_clips_them(tiny):
    model, variables = tiny(time_steps=64)
    x, eps = make_inputs(model, time_steps=64)
    value, gradient = gradients(model, variables, x, eps)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    for module in (mnist, mnist_no_attention, mnist_small, digits, smoke):
        train = module.get_config().train
        assert 0 < train.clip_norm <= 10
        # Clipping means: beyond clip_norm, the size of a gradient does not matter.
        direction = np.array([0.6, 0.8], np.float32)
        moments = []
        for size in (train.clip_norm, 1e3 * train.clip_norm):
            optimizer = make_optimizer(train)
            state = optimizer.init(np.zeros(2, np.float32))
            _, state = optimizer.update(size * direction, state)
            moments.append([np.asarray(x) for x in jax.tree.leaves(state) if np.ndim(x)])
        assert len(moments[0]) >= 2  # Adam's two
        for a, b in zip(*moments, strict=True):
            assert np.abs(a).max() > 0
            np.testing.assert_allclose(a, b, rtol=1e-5)


# --- parameters and gradients


@pytest.mark.parametrize(("read_size", "write_size"), ATTENTION)
def test_every_leaf_has_a_gradient_and_moves_in_one_update(tiny, read_size, write_size):
    model, variables = tiny(read_size=read_size, write_size=write_size)
    x, eps = make_inputs(model)
    _, gradient = gradients(model, variables, x, eps)
    optimizer = optax.adam(1e-2)
    updates, _ = optimizer.update(gradient, optimizer.init(variables))
    after = optax.apply_updates(variables, updates)
    names = [name for name, _ in leaves(variables)]
    assert len(names) == len(set(names)) == 13  # five initial states, four kernels with biases
    for (name, g), (_, a), (_, b) in zip(
        leaves(gradient), leaves(variables), leaves(after), strict=True
    ):
        assert g.shape == a.shape == b.shape, name
        assert np.isfinite(g).all() and np.abs(g).max() > 0, name
        assert np.abs(a - b).max() > 1e-3, name


def test_the_gradient_of_the_loss_is_its_finite_difference(tiny):
    model, variables = tiny()
    x, eps = make_inputs(model)
    _, gradient = gradients(model, variables, x, eps)

    def loss(variables):
        total = 0.0
        for b in range(B):
            nll, steps = reference.unroll(variables, x[b], eps[:, b], 2, 3)
            total += nll + sum(step.kl for step in steps)
        return total / B

    flat, tree = jax.tree.flatten(variables)
    flat = [np.asarray(a, np.float64) for a in flat]
    for seed in range(4):  # along random directions in the space of all parameters
        rng = np.random.default_rng(seed)
        direction = [rng.standard_normal(a.shape) for a in flat]
        ends = [
            loss(
                jax.tree.unflatten(tree, [a + h * d for a, d in zip(flat, direction, strict=True)])
            )
            for h in (1e-5, -1e-5)
        ]
        expected = (ends[0] - ends[1]) / 2e-5
        ours = sum(
            (np.asarray(g, np.float64) * d).sum()
            for g, d in zip(jax.tree.leaves(gradient), direction, strict=True)
        )
        # Float32 gradients of a few hundred parameters, each right to 1e-6 of the largest.
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-4)


def lstm_step(gates, cell_tm1):
    return by_hand.lstm_step(by_hand.gate_activations(gates), cell_tm1)


def plain_lstm_step(gates, cell_tm1):
    i, f, o, g = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * cell_tm1 + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def test_the_error_image_and_its_gradient_are_the_plain_ones():
    x, canvas = np.random.default_rng(0).random((2, 500)).astype(np.float32)
    canvas = np.concatenate([12 * (canvas - 0.5), [-1e30, -100, 100, 1e30]]).astype(np.float32)
    x = np.concatenate([x.round(), [0, 1, 0, 1]]).astype(np.float32)
    weights = normal(1, len(x))
    results = []
    for error_image in (by_hand.error_image, lambda x, canvas: x - jax.nn.sigmoid(canvas)):
        out, vjp = jax.vjp(error_image, x, canvas)
        results.append((out, *vjp(weights)))
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
    for k in np.flatnonzero(np.abs(canvas) <= 100):
        expected = x[k] - reference.sigmoid(canvas[k])
        np.testing.assert_allclose(results[0][0][k], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_round_their_operands_and_nothing_else(dtype):
    x, kernel, d_out = normal(0, 40, 30), normal(1, 30, 20), normal(2, 40, 20)
    out, vjp = jax.vjp(lambda x, kernel: by_hand.product(x, kernel, dtype), x, kernel)
    d_x, d_kernel = vjp(d_out)
    x, kernel, d_out = (a.astype(dtype).astype(np.float64) for a in (x, kernel, d_out))
    for ours, expected in ((out, x @ kernel), (d_x, d_out @ kernel.T), (d_kernel, x.T @ d_out)):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("leading", [(), pytest.param((2, 3), marks=pytest.mark.slow)])
def test_the_lstm_and_its_gradient_are_the_plain_ones(leading):
    gates, cell = 2 * normal(0, *leading, 20), normal(1, *leading, 5)
    weights = (normal(2, *leading, 5), normal(3, *leading, 5))
    results = []
    for step in (lstm_step, plain_lstm_step):
        out, vjp = jax.vjp(step, gates, cell)
        results.append((*out, *vjp(weights)))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for index in np.ndindex(*leading):
        h, after = reference.lstm_gates(gates[index], cell[index])
        np.testing.assert_allclose(results[0][0][index], h, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(results[0][1][index], after, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_lstm_is_finite_differences_of_the_loop():
    gates, cell, d_h, d_cell = normal(0, 8), normal(1, 2), normal(2, 2), normal(3, 2)
    _, vjp = jax.vjp(lstm_step, gates, cell)
    ours = np.concatenate(vjp((d_h, d_cell)))

    def loss(args):
        h, after = reference.lstm_gates(args[:8], args[8:])
        return float(np.dot(h, d_h) + np.dot(after, d_cell))

    args = np.concatenate([gates, cell]).astype(np.float64)
    expected = [(loss(args + 1e-6 * e) - loss(args - 1e-6 * e)) / 2e-6 for e in np.eye(10)]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32))
def test_the_lstm_is_finite_and_its_output_bounded_at_any_gates(gate, cell):
    gates, cell = np.full(4, gate, np.float32), np.full(1, cell, np.float32)
    out, vjp = jax.vjp(lstm_step, gates, cell)
    assert np.isfinite(out).all() and np.abs(out[0]).max() <= 1
    assert all(np.isfinite(g).all() for g in vjp((np.ones_like(cell), np.ones_like(cell))))


def test_initial_parameters(tiny):
    _, variables = tiny(initialised=True, enc_size=40, dec_size=50, latent_size=60)
    cell = variables["params"]["cell"]
    for name, size in (("encoder", 40), ("decoder", 50)):
        bias = cell[name]["gates"]["bias"]  # packed i, f, o, g: only f starts at 1
        np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], size))
    for name in ("h_enc_0", "cell_enc_0", "h_dec_0", "cell_dec_0"):
        np.testing.assert_array_equal(cell[name], 0 * cell[name])
    for name in ("encoder", "decoder", "posterior", "heads"):
        kernel = cell[name].get("gates", cell[name])["kernel"]
        # N(0, 1 / fan_in): the standard deviation of n values is right to 1 / sqrt(2 n), 5 of it.
        np.testing.assert_allclose(
            kernel.std() * np.sqrt(len(kernel)), 1, atol=5 / np.sqrt(2 * kernel.size)
        )


def test_the_first_windows_are_the_configured_ones(tiny):
    fields = {"read_delta": 0.3, "read_sigma": 2.5, "write_delta": 0.5, "write_sigma": 0.7}
    fields |= {"image_shape": (9, 12, 1), "read_size": 3, "write_size": 5}
    fields |= {"read_gamma": 8.0, "write_gamma": 0.2}
    model, variables = tiny(initialised=True, **fields)
    variables = jax.tree.map_with_path(
        lambda path, a: 0 * a if path[-1].key == "kernel" else a, variables
    )
    x, eps = make_inputs(model)
    trace = infer(model, variables, x, eps).trace
    for windows, delta, sigma, gamma in (
        (trace.read_windows, 0.3 * 11 / 2, 2.5, 8.0),
        (trace.write_windows, 0.5 * 11 / 4, 0.7, 0.2),
    ):
        expected = attention.Window(6.5, 5.0, sigma**2, delta, gamma)
        for field, value in zip(windows, expected, strict=True):
            np.testing.assert_allclose(field, np.full((T, B), value), rtol=1e-5)
    _, variables = tiny(
        initialised=True
    )  # by default the window covers the image, sigma is a pixel
    cell = variables["params"]["cell"]
    np.testing.assert_array_equal(cell["heads"]["bias"], np.zeros(9 + 10))


# --- calls


def test_without_a_trace_the_terms_are_the_same(tiny):
    model, variables = tiny()
    x, eps = make_inputs(model)
    with_trace, without = (infer(model, variables, x, eps, trace) for trace in (True, False))
    assert without.trace is None and with_trace.trace is not None
    np.testing.assert_allclose(without.nll, with_trace.nll, rtol=1e-5)
    np.testing.assert_allclose(without.kl, with_trace.kl, rtol=1e-5, atol=1e-6)


def test_the_number_of_steps_is_that_of_the_noise(tiny):
    model, variables = tiny(time_steps=3)
    x, eps = make_inputs(model, time_steps=7)
    output = infer(model, variables, x, eps)
    assert output.kl.shape == (7, B) and output.trace.canvases.shape[0] == 7
    shorter = infer(model, variables, x, eps[:3])
    np.testing.assert_allclose(shorter.kl, output.kl[:3], rtol=1e-5, atol=1e-6)
    assert generate(model, variables, eps).canvases.shape[0] == 7


def test_examples_do_not_see_each_other(tiny):
    model, variables = tiny()
    x, eps = make_inputs(model, batch_size=5)
    whole = infer(model, variables, x, eps)
    part = infer(model, variables, x[3:], eps[:, 3:])
    np.testing.assert_allclose(part.nll, whole.nll[3:], rtol=1e-5)
    np.testing.assert_allclose(part.kl, whole.kl[:, 3:], rtol=1e-5, atol=1e-6)


def test_vmap_over_samples_is_a_loop_over_them(tiny):
    model, variables = tiny()
    x, _ = make_inputs(model)
    eps = normal(0, 4, T, B, model.latent_size)
    many = jax.jit(jax.vmap(lambda e: model.apply(variables, x, e)))(eps)
    assert many.nll.shape == (4, B) and many.kl.shape == (4, T, B)
    for k in range(4):
        one = infer(model, variables, x, eps[k], False)
        np.testing.assert_allclose(many.nll[k], one.nll, rtol=1e-5)
        np.testing.assert_allclose(many.kl[k], one.kl, rtol=1e-5, atol=1e-6)


def test_wrong_shapes_are_refused_with_both_shapes_named(tiny):
    model, variables = tiny()  # images 7 x 5 x 1, Z = 4
    x, eps = make_inputs(model)

    def refuses(call, *fragments):
        with pytest.raises(ValueError) as error:
            call()
        for fragment in fragments:
            assert fragment in str(error.value)

    for wrong in (np.zeros((B, 5, 7, 1)), np.zeros((B, 7, 5)), np.zeros((7, 5, 1))):
        call = functools.partial(model.apply, variables, wrong, eps)
        refuses(call, "(H, W, C) = (7, 5, 1)", f"got {wrong.shape}")
    for shape in ((T, B, 5), (T, B + 1, 4), (B, 4), (0, B, 4), (T, B, 4, 1)):
        call = functools.partial(model.apply, variables, x, np.zeros(shape))
        refuses(call, f"expected eps [T, B, Z] of shape (T >= 1, {B}, 4)", f"got {shape}")
    for shape in ((T, B, 5), (B, 4), (0, B, 4)):
        call = functools.partial(model.apply, variables, np.zeros(shape), method="generate")
        refuses(call, "expected z [T, B, Z] of shape (T >= 1, B, 4)", f"got {shape}")


def test_new_data_of_the_same_shape_compiles_nothing(tiny):
    model, variables = tiny()
    traced = []

    @jax.jit
    def call(variables, x, eps):
        traced.append(x.shape)
        return model.apply(variables, x, eps).nll

    for seed in range(3):
        call(jax.tree.map(lambda a, s=seed: a + s, variables), *make_inputs(model, seed))
    assert len(traced) == 1


# --- fields


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("read_size", 1),
        ("write_size", 1),
        ("read_size", -2),
        ("write_size", -1),
        ("time_steps", 0),
        ("enc_size", 0),
        ("dec_size", -3),
        ("latent_size", 0),
        ("read_delta", 0.0),
        ("read_sigma", 0.0),
        ("write_delta", -1.0),
        ("write_sigma", float("nan")),
        ("read_gamma", 0.0),
        ("write_gamma", -0.1),
        ("image_shape", (7, 5)),
        ("image_shape", (7, 0, 1)),
        ("dtype", "float16"),
    ],
)
def test_fields_that_cannot_be_are_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError) as error:
        Draw(**(TINY | {name: value}))
    assert f"expected {name}" in str(error.value) or name in str(error.value).split(",")[0]
    assert str(value) in str(error.value)


def test_a_list_is_an_image_shape_too():
    # config.json gives lists, and a field of a jitted model must be hashable.
    model = Draw(**(TINY | {"image_shape": [7, 5, 1]}))
    assert model.image_shape == (7, 5, 1) and model == Draw(**TINY)
    assert hash(model) == hash(Draw(**TINY))
    variables = jax.jit(build.initial_variables, static_argnums=0)(model, jax.random.key(0))
    assert infer(model, variables, *make_inputs(model), False).nll.shape == (B,)


def test_build_makes_the_model_of_a_configuration():
    config = ConfigDict({"kind": "draw", "model": TINY | {"image_shape": [7, 5, 1]}})
    assert build.build(config) == Draw(**TINY)
    for module in (mnist, mnist_no_attention, mnist_small, digits, smoke):
        assert isinstance(build.build(module.get_config()), Draw)
    with pytest.raises(ValueError, match="config.kind: .* got 'dram'"):
        build.build(ConfigDict({"kind": "dram", "model": TINY}))
    with pytest.raises(ValueError, match="config.model.zet_size: no field of .* 'draw'"):
        build.build(ConfigDict({"kind": "draw", "model": TINY | {"zet_size": 3}}))
    without = {name: value for name, value in TINY.items() if name != "enc_size"}
    with pytest.raises(ValueError, match="config.model: .*enc_size"):
        build.build(ConfigDict({"kind": "draw", "model": without}))


@pytest.mark.parametrize("unroll", [2, pytest.param(5, marks=pytest.mark.slow)])  # T is 3
def test_unrolling_the_loop_changes_no_result(tiny, unroll):
    model, variables = tiny()
    x, eps = make_inputs(model)
    rolled, unrolled = (
        jax.tree.leaves(
            (
                infer(m, variables, x, eps),
                generate(m, variables, eps),
                gradients(m, variables, x, eps),
            )
        )
        for m in (model, model.clone(unroll=unroll))
    )
    for a, b in zip(rolled, unrolled, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


def test_bfloat16_gives_float32_results_near_those_of_float32(tiny):
    model, variables = tiny()
    short, same = tiny(dtype="bfloat16")
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(same), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)
    x, eps = make_inputs(model)
    exact, near = (infer(m, variables, x, eps) for m in (model, short))
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(near))
    # Operands of 8 bits are wrong by up to 2^-9 = 0.2 % each; the sums by less than their worst.
    np.testing.assert_allclose(near.nll, exact.nll, rtol=0.02)
    np.testing.assert_allclose(near.kl, exact.kl, rtol=0.05, atol=0.02)
    assert np.abs(near.nll - exact.nll).max() > 0  # it does something
    _, gradient = jax.eval_shape(functools.partial(gradients, short), variables, x, eps)
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(gradient))
    products = Linear(3, "bfloat16")
    rounded = products.apply(
        {"params": {"kernel": jnp.full((1, 3), 1.001), "bias": jnp.full(3, 0.001)}},
        jnp.ones((1, 1)),
    )
    np.testing.assert_allclose(
        rounded, np.full((1, 3), 1.001), rtol=1e-6
    )  # 1 from 1.001, plus bias


# --- it learns


@pytest.mark.slow
def test_eight_images_are_learned_by_heart():
    shape, time_steps, latent = (8, 8, 1), 3, 4
    model = Draw(
        image_shape=shape,
        time_steps=time_steps,
        enc_size=32,
        dec_size=32,
        latent_size=latent,
        read_size=3,
        write_size=4,
        write_delta=0.5,
    )
    x = np.zeros((8, *shape), np.float32)
    for image, (top, left) in zip(x, np.random.default_rng(0).integers(0, 5, (8, 2)), strict=True):
        image[top : top + 4, left : left + 4] = 1  # a square somewhere
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(1e-2))

    @jax.jit
    def train(params):
        def update(carry, key):
            params, state = carry
            eps = jax.random.normal(key, (time_steps, 8, latent))

            def loss(params):
                output = model.apply({"params": params}, x, eps)
                return (output.nll + output.kl.sum(axis=0)).mean()

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        keys = jax.random.split(jax.random.key(1), 300)
        return jax.lax.scan(update, (params, optimizer.init(params)), keys)[1]

    params = build.initial_variables(model, jax.random.key(0))["params"]
    values = np.asarray(train(params))
    # 64 pixels start as coin flips, 44 nats; log 8 = 2.1 nats would say which image it is.
    assert np.isfinite(values).all() and 40 < values[0] < 60
    assert values[-20:].mean() < values[0] / 4


def test_a_linear_map_is_its_matrix_and_bias():
    x, kernel, bias = normal(0, 2, 3), normal(1, 3, 4), normal(2, 4)
    out = Linear(4).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    assert out.shape == (2, 4)
    for b in range(2):
        np.testing.assert_allclose(
            out[b], reference.linear(x[b], kernel, bias), rtol=1e-5, atol=1e-6
        )
    assert issubclass(Linear, nn.Module)
