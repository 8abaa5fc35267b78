"""The PyTorch model that ours is timed beside computes what ours does, and the check would see."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import smoke
from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.training.step import initial_state, learning_rate, make_update

with warnings.catch_warnings():
    # A --config flag with a default reads it at once, by a call that Python is about to drop.
    warnings.simplefilter("ignore", DeprecationWarning)
    from benchmarks import peers

ROOT = Path(__file__).parents[2]
MODELS = {
    "attention": {},
    "attention for reading only": {"write_size": 0},
    "attention for writing only": {"read_size": 0},
    "two channels": {"image_shape": (7, 5, 2)},
    "two channels, no attention": {"image_shape": (7, 5, 2), "read_size": 0, "write_size": 0},
}


@pytest.fixture(scope="module")
def torch_draw():
    # PyTorch is an optional extra of hundreds of megabytes, for one benchmark: the automatic tests
    # run without it, and this module's tests of it run where a developer has installed it.
    pytest.importorskip("torch")
    return peers.load_torch_draw()


@pytest.fixture(scope="module")
def pair(tiny, torch_draw):
    """Returns make(**fields) -> (a PyTorch model with our weights, its input, our result).

    The input is (images, noise, dtype); the result is our loss and gradient for it.
    """
    results = {}  # compiling ours takes longer than all else here

    def make(**fields):
        model, variables = tiny(**fields)
        params = variables["params"]
        rng = np.random.default_rng(1)
        x = rng.random((4, *model.image_shape), np.float32)
        noise = rng.standard_normal((model.time_steps, 4, model.latent_size), np.float32)
        peer = torch_draw.like(model, params, torch_draw.torch.device("cpu"))
        if model not in results:
            results[model] = peers.loss_and_gradient(model, params, x, noise)
        loss, gradient = results[model]
        return peer, (x, noise, model.dtype), (loss, torch_draw.torch_layout(peer, gradient))

    return make


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_loss_and_every_gradient_are_those_of_ours(pair, torch_draw, fields):
    peer, given, (loss, expected) = pair(**fields)
    got_loss, got = torch_draw.loss_and_gradient(peer, *given)
    peers.check(peers.agreement((loss, expected), (got_loss, got)), peers.LIMITS["float32"])
    assert got_loss == pytest.approx(loss, rel=1e-5)
    assert got.keys() == expected.keys() == torch_draw.trained(peer).keys()
    for name in got:
        assert got[name].shape == expected[name].shape
        # float32 sums in another order, over 3 steps and 4 images: relative to the largest entry.
        scale = np.abs(expected[name]).max()
        assert scale > 0, name
        np.testing.assert_allclose(got[name] / scale, expected[name] / scale, atol=1e-4, rtol=0)


def scale_gamma(peer, bias, kernel):
    bias[-1] += 0.2  # log gamma of the read


def swap_axes_of_the_write(peer, bias, kernel):
    g_x = peer.head_sizes[0]
    for array in (bias, kernel):
        array[[g_x, g_x + 1]] = array[[g_x + 1, g_x]]  # f_x from g_y and f_y from g_x


def swap_gates(peer, bias, kernel):
    size = peer.decoder.hidden_size
    order = np.r_[: 2 * size, 3 * size : 4 * size, 2 * size : 3 * size]  # o before g, as ours
    peer.decoder.weight_hh.data = peer.decoder.weight_hh.data[order]


def start_with_another_canvas(peer, bias, kernel):
    peer.canvas_0.data += 0.01


def lose_a_gradient(peer, bias, kernel):  # the loss stays right
    peer.canvas_0.register_hook(lambda gradient: 0 * gradient)


def double_a_gradient(peer, bias, kernel):  # which leaves its direction nearly what it was
    for parameter in peer.parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: 2 * gradient)


def not_finite(peer, bias, kernel):
    bias[0] = np.nan


@pytest.mark.parametrize(
    "breaking",
    [
        scale_gamma,
        swap_axes_of_the_write,
        swap_gates,
        start_with_another_canvas,
        lose_a_gradient,
        double_a_gradient,
        not_finite,
    ],
)
def test_the_check_sees_what_is_broken(pair, torch_draw, breaking):
    peer, given, ours = pair()
    breaking(peer, peer.heads.bias.detach().numpy(), peer.heads.weight.detach().numpy())
    found = peers.agreement(ours, torch_draw.loss_and_gradient(peer, *given))
    with pytest.raises(peers.Disagreement, match="nothing was timed"):
        peers.check(found, peers.LIMITS["float32"])


def test_bfloat16_is_near_and_no_float32(pair, torch_draw):
    peer, given, ours = pair(dtype="bfloat16")
    found = peers.agreement(ours, torch_draw.loss_and_gradient(peer, *given))
    peers.check(found, peers.LIMITS["bfloat16"])
    assert 1 - found.gradient_cosine > 1e-8  # in float32 about 1e-13
    with pytest.raises(peers.Disagreement):
        peers.check(found._replace(gradient_cosine=0.98), peers.LIMITS["bfloat16"])


def test_updates_are_those_of_ours(torch_draw):
    config = smoke.get_config()
    config.model.image_shape, config.model.time_steps, config.train.clip_norm = (7, 5, 1), 2, 1.0
    config.train.warmup_steps = 2  # the first update's rate is 0, the second's is not
    model, streams = build.build(config), build.keys(config.seed)
    state = initial_state(model, streams.init, config.train)
    device = torch_draw.torch.device("cpu")
    peer = torch_draw.like(model, jax.device_get(state.params), device)
    rates = [float(learning_rate(config.train)(step)) for step in range(3)]
    training = torch_draw.Training(peer, config, rates)
    images = np.random.default_rng(0).integers(0, 256, (4, 7, 5, 1), np.uint8)
    update = jax.jit(make_update(build.task(model), config, streams.train))
    before = torch_draw.torch_layout(peer, jax.device_get(state.params))
    for step in range(3):
        _, eps_key = jax.random.split(jax.random.fold_in(streams.train, step))
        noise = np.array(jax.random.normal(eps_key, (2, 4, model.latent_size)))
        x = torch_draw.channels_first(images) / np.float32(255)
        training.update(torch_draw.torch.tensor(x), torch_draw.torch.tensor(noise))
        state, metrics = update(state, step, Batch(images, None))
        assert metrics["grad_norm"] > config.train.clip_norm
    params = torch_draw.torch_layout(peer, jax.device_get(state.params))
    average = torch_draw.torch_layout(peer, jax.device_get(state.average))
    named = torch_draw.trained(peer).items()
    for (name, parameter), own in zip(named, training.average, strict=True):
        moved = np.abs(params[name] - before[name]).max()
        assert moved > 0.5 * rates[1]
        # Adam divides a gradient by its size, so that one near 0 keeps few of its digits.
        for got, expected in ((parameter, params[name]), (own, average[name])):
            np.testing.assert_allclose(got.detach().numpy(), expected, atol=0.01 * moved, rtol=0)


def test_a_failing_compiler_costs_its_row_only():
    def no_compiler():
        raise RuntimeError("Cannot.\nNo working C++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1 for more")

    rows = peers.measure({"ours": lambda: 1, "eager": lambda: 2, "compiled": no_compiler}, rounds=3)
    assert [len(row.step_ms) for row in rows.values()] == [3, 3, 0]
    assert rows["compiled"].failure == "No working C++ compiler"
    found = peers.Agreement(0.0, 1.0, 0.0)
    figures = peers.figures(rows, found)
    assert figures["compiled_ms"] is figures["compiled_ratio"] is None
    assert figures["compiled_failure"] == "No working C++ compiler"
    assert figures["eager_ms"] > 0 and figures["eager_ratio"] > 0
    *_, last = peers.table(rows, batch=4).splitlines()
    assert last == "PyTorch compiled: No working C++ compiler"
    with pytest.raises(RuntimeError):
        peers.measure({"ours": lambda: 1, "eager": no_compiler}, rounds=3)


def test_a_compiled_model_whose_first_step_differs_becomes_a_failure():
    class Training:
        def __init__(self, *gradient):
            self.gradient = {"0": np.array(gradient)}

        def loss_and_gradient(self):
            return 1.0, self.gradient

    limits, made = peers.LIMITS["float32"], []
    eager = Training(1.0, 2.0)
    for compiled in (Training(1.0, 2.0), Training(2.0, 1.0)):
        call = peers.checked_once(lambda: made.append(1), compiled, eager, limits)
        rows = peers.measure({"ours": lambda: None, "compiled": call}, rounds=1)
        agrees = compiled.gradient["0"][0] == 1
        assert ("cosine is 0.8" in rows["compiled"].failure) is not agrees
        assert len(rows["compiled"].step_ms) == (1 if agrees else 0)
    assert len(made) == 5 + 1  # a first step, and two in each of two rounds


def test_times_ours_is_the_median_over_the_rounds():
    ours, slower = peers.Row(1.0, [10.0, 20.0, 100.0]), peers.Row(1.0, [20.0, 80.0, 300.0])
    assert peers.times_ours(slower, ours) == 3.0  # of 2, 4 and 3; the medians' ratio is 4


def run(*words, code="import runpy; runpy.run_module('benchmarks.peers', run_name='__main__')"):
    sizes = ("time_steps=2", "enc_size=8", "dec_size=8")
    words = (*(f"--config.model.{size}" for size in sizes), "--config.train.batch_size=4", *words)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {code}", "--config=configs/smoke.py", *words],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.usefixtures("torch_draw")
def test_the_command_prints_a_table_and_writes_the_figures(tmp_path):
    done = run("--compile=false", "--repeats=3", f"--json={tmp_path / 'peers.json'}")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "PyTorch eager" in done.stdout and "PyTorch compiled" not in done.stdout
    figures = json.loads((tmp_path / "peers.json").read_text())
    assert figures.keys() >= {
        *("ours_ms", "eager_ms", "compiled_ms", "eager_ratio", "compiled_ratio"),
        *("ours_compile_s", "compiled_compile_s", "loss_difference", "gradient_cosine"),
        *("dtype", "batch", "device", "torch"),
    }
    assert figures["ours_ms"] > 0 and figures["eager_ms"] > 0 and figures["compiled_ms"] is None
    assert figures["batch"] == 4 and figures["dtype"] == "float32"


def test_without_pytorch_one_line_says_how_to_install_it():
    code = "sys.modules['torch'] = None; import runpy; "
    done = run(code=code + "runpy.run_module('benchmarks.peers', run_name='__main__')")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: PyTorch is not installed: pip install -e '.[peers]'\n"
