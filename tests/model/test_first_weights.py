"""The first weights of the LSTMs: the forget gates, and windows that run over the image."""

import jax
import numpy as np
import pytest

from draw_jax.model import build
from draw_jax.model.draw import Draw
from draw_jax.model.layers import LSTM
from tests.helpers import TINY

SCAN = {"image_shape": (20, 32, 1), "dec_size": 24, "scan_rows": 8, "time_steps": 32}


def path(tiny, **fields):
    """Returns a model's first windows [T, B] of writing and of reading, for random z and images."""
    model, variables = tiny(initialised=True, **fields)
    rng = np.random.default_rng(0)
    eps = rng.standard_normal((model.time_steps, 3, model.latent_size)).astype(np.float32)
    x = rng.random((3, *model.image_shape)).astype(np.float32)
    trace = jax.jit(lambda *args: model.apply(*args, trace=True))(variables, x, eps).trace
    return (jax.tree.map(np.asarray, w) for w in (trace.write_windows, trace.read_windows))


@pytest.mark.parametrize(
    "fields",
    [{}, {"scan_rows": 1}, {"time_steps": 64, "scan_rows": 16}, {"time_steps": 7, "scan_rows": 3}],
    ids=str,
)
def test_a_scan_runs_to_and_fro_from_the_top_to_the_bottom(tiny, fields):
    fields = SCAN | fields
    height, width, _ = fields["image_shape"]
    steps = np.arange(1, fields["time_steps"] + 1)[:, None]
    downwards = np.pi * steps / fields["time_steps"]
    # 0.73 of the way from the middle to a border; the oscillations are not quite sinusoidal.
    expected_x = (width + 1) / 2 * (1 - 0.73 * np.cos(fields["scan_rows"] * downwards))
    expected_y = (height + 1) / 2 * (1 - 0.73 * np.cos(downwards))
    for windows in path(tiny, **fields):  # in every image, whatever z is
        assert np.abs(windows.g_x - expected_x).max() < 0.1 * width
        assert np.abs(windows.g_y - expected_y).max() < 0.1 * height


def test_the_windows_of_a_scan_cover_the_image(tiny):
    fields = SCAN | {"image_shape": (32, 32, 1), "write_size": 8, "write_delta": 0.3}
    windows, _ = path(tiny, **fields)
    seen = np.zeros((32, 32), bool)
    for g_x, g_y, delta in zip(windows.g_x, windows.g_y, windows.delta, strict=True):
        reach = 4 * delta[0]  # half of eight filters' strides
        columns = np.abs(np.arange(1, 33) - g_x[0]) <= reach
        seen |= (np.abs(np.arange(1, 33) - g_y[0]) <= reach)[:, None] & columns
    assert seen.mean() > 0.99


def test_without_a_scan_the_windows_begin_in_the_middle_and_follow_z(tiny):
    windows, _ = path(tiny, **SCAN | {"scan_rows": 0})
    assert np.abs(windows.g_x - 16.5).mean() < 3 and np.ptp(windows.g_x, axis=1).min() > 0


def test_the_first_windows_move_by_the_scale(tiny):
    fields = SCAN | {"scan_rows": 0}
    whole, quarter, still = (
        list(path(tiny, **fields, window_init_scale=scale)) for scale in (1.0, 0.25, 0.0)
    )
    # Of the first step, whose h_dec is the same for all scales, of writing.
    moves = whole[0].g_x[0] - 16.5
    assert np.abs(moves).min() > 1e-3
    np.testing.assert_allclose(quarter[0].g_x[0] - 16.5, 0.25 * moves, rtol=1e-3, atol=1e-5)
    growth = np.log(whole[0].delta[0] / still[0].delta[0])
    assert np.abs(growth).min() > 1e-4
    np.testing.assert_allclose(
        np.log(quarter[0].delta[0] / still[0].delta[0]), 0.25 * growth, rtol=1e-2, atol=1e-5
    )
    for windows in still:
        for field in windows:
            np.testing.assert_array_equal(field, np.broadcast_to(field[0, 0], field.shape))
        np.testing.assert_allclose(windows.g_x, 16.5)


def test_a_scan_stays_on_its_path_whatever_the_scale(tiny):
    first, second = (list(path(tiny, **SCAN, window_init_scale=scale)) for scale in (1.0, 0.0))
    for one, other in zip(first, second, strict=True):
        assert np.abs(one.g_x - other.g_x).max() < 1 and np.ptp(other.g_x) > 10


def test_the_first_forget_gates_are_those_of_the_field(tiny, key):
    for fields, expected in (({}, 1.0), ({"forget_bias": -2.0}, -2.0)):
        _, variables = tiny(initialised=True, **fields)
        for name, size in (("encoder", TINY["enc_size"]), ("decoder", TINY["dec_size"])):
            bias = np.asarray(variables["params"]["cell"][name]["gates"]["bias"])
            forget = np.zeros(4 * size)
            forget[size : 2 * size] = expected
            np.testing.assert_array_equal(bias, forget)
    inputs, h, cell = np.zeros((1, 3)), np.zeros((1, 4)), np.ones((1, 4))
    lstm = LSTM(4, forget_bias=-2.0)
    _, after = lstm.apply(lstm.init(key, [inputs], h, cell), [inputs], h, cell)
    np.testing.assert_allclose(after, 1 / (1 + np.exp(2.0)), rtol=1e-5)  # sigma(-2) is kept


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scan_rows": -1}, r"scan_rows 0, or 1 to \(time_steps - 1\) / 2 = 15, got -1"),
        ({"scan_rows": 16}, "= 15, got 16"),
        ({"read_size": 0}, "scan_rows 0 without attention, got 8 with read_size 0"),
        ({"write_size": 0}, "scan_rows 0 without attention, got 8 .* write_size 0"),
        ({"dec_size": 3}, "dec_size >= 4 with scan_rows 8, .* got 3"),
        ({"forget_bias": 21.0}, r"forget_bias within \+-20.0, got 21.0"),
        ({"forget_bias": float("nan")}, "forget_bias .* got nan"),
    ],
    ids=str,
)
def test_first_weights_that_cannot_be_are_refused(fields, expected):
    with pytest.raises(ValueError, match=expected):
        Draw(**(TINY | {"time_steps": 32, "scan_rows": 8} | fields))


def test_a_scan_trains_as_any_other(tiny):
    model, variables = tiny(initialised=True, **SCAN)
    rng = np.random.default_rng(1)
    x = rng.random((2, *model.image_shape)).astype(np.float32)
    loss = build.task(model).loss_terms

    @jax.jit
    def gradient(variables):
        return jax.grad(
            lambda v: sum(t.mean() for t in loss(v, x, None, jax.random.key(2)).values())
        )(variables)

    for name, leaf in jax.tree.leaves_with_path(gradient(variables)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, name
