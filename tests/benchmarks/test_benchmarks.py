"""The benchmarks as a user runs them, at sizes too small to mean anything, and their parts."""

import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.extend
import numpy as np
import pytest
from absl import flags

from configs import mnist, smoke

ROOT = Path(__file__).parents[2]
TINY = (
    "--config=configs/smoke.py",
    *("--config.model.time_steps=2", "--config.model.enc_size=8", "--config.model.dec_size=8"),
    *("--config.train.batch_size=4", "--repeats=3"),
)
PLAIN = ("--config.model.read_size=0", "--config.model.write_size=0")  # compiles faster
# The name of a run -> its command; --json=NAME.json is added.
RUNS = {
    "train_step": ("benchmarks.train_step", *TINY),
    "breakdown": ("benchmarks.breakdown", *TINY, "--images=50"),
    "sample": ("benchmarks.sample", *TINY, "--batches=1,3"),
    "scaling": (
        "benchmarks.scaling",
        *TINY,
        *PLAIN,
        "--time_steps=4,2",
        "--batches=",
        "--image_sizes=",
    ),
    "memory": ("benchmarks.memory", *TINY, *PLAIN, "--tasks=config"),
    "longer_memory": (
        *("benchmarks.memory", *TINY, *PLAIN, "--tasks=config", "--config.model.time_steps=4"),
    ),
    "settings": (
        *("benchmarks.settings", *TINY, "--batches=4"),
        "--settings=default,bfloat16,while_graphs",
    ),
}
# A command -> what its one line on stderr names.
MISTAKES = {
    ("benchmarks.sample", *TINY, "--batches=1,x"): "--batches=1,x: expected whole numbers >= 1",
    ("benchmarks.sample", *TINY, "--batches="): "--batches=: expected whole numbers >= 1",
    ("benchmarks.scaling", *TINY, "--batches=0"): "--batches=0: expected whole numbers >= 1",
    ("benchmarks.settings", *TINY, "--batches=2.5"): "--batches=2.5: expected whole numbers >= 1",
    ("benchmarks.settings", *TINY, "--settings=fast"): "expected names among default, ",
    ("benchmarks.memory", *TINY, "--tasks=imagenet"): "expected names among config, svhn",
    ("benchmarks.breakdown", *TINY, "--images=0"): "--images=0",
    ("benchmarks.breakdown", *TINY, "--repeats=2"): "--repeats=2",
    ("benchmarks.precision", "--config=configs/smoke.py"): "--config: the run decides",
    ("benchmarks.precision", "--repeats=3"): "--repeats: the run decides",
    ("benchmarks.start", *TINY, "--repeats=0"): "--repeats=0",
    ("benchmarks.train_step", *TINY, "--json=nowhere/a.json"): "--json=nowhere/a.json: expected a",
    ("benchmarks.train_step", *TINY, "--json=configs"): "--json=configs: expected a file",
    ("benchmarks.train_step", *TINY, "--repeat=3"): "'repeat'",
    ("benchmarks.train_step", "--config=configs/nope.py"): "No such file or directory: 'configs/n",
    ("benchmarks.train_step", *TINY, "--config.model.read_size=1"): "read_size",
    ("benchmarks.train_step", *TINY, "--config.train.batch_size=0"): "batch_size 0",
}
# Runs each command in a process of its own, forked from one that has made the imports.
FORKS = """
import json, os, runpy, sys, tempfile, traceback, warnings
import jax
from ml_collections import config_flags
from draw_jax.training import loop

warnings.simplefilter("ignore")  # JAX warns of forks, but has not begun any work here
sys.path.insert(0, "")
outcomes = []
for name, *arguments in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            if name == "benchmarks.settings":  # which is to leave the device to its rows
                jax.config.update("jax_platforms", "none")
            sys.argv = [name, *arguments]
            code = 1
            try:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code
            except Exception:
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)  # a tidy end takes far longer than any mistake
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes.append([code, *(os.pread(f.fileno(), 100_000, 0).decode() for f in (out, err))])
print(json.dumps(outcomes))
"""


def run_all(commands, cache):
    """Returns returncode, stdout and stderr of each command."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        # Two devices; slow code, but compiled many times faster.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", FORKS, json.dumps(commands)]
    forks = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=300
    )
    names = ("returncode", "stdout", "stderr")
    return [SimpleNamespace(**dict(zip(names, o, strict=True))) for o in json.loads(forks.stdout)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns each of RUNS with its `figures`."""
    folder = tmp_path_factory.mktemp("benchmarks")
    commands = [(*command, f"--json={folder / name}.json") for name, command in RUNS.items()]
    found = dict(zip(RUNS, run_all(commands, folder / "cache"), strict=True))
    for name, run in found.items():
        file = folder / f"{name}.json"
        run.figures = json.loads(file.read_text()) if file.exists() else None
    return found


@pytest.fixture(scope="module")
def rooms():
    """Returns benchmarks that define no flag of one name; their flags end with these tests."""
    flags_before, modules_before = set(flags.FLAGS), set(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how ml_collections loads a file
        from benchmarks import breakdown, measuring, memory, settings, start, train_step

    yield SimpleNamespace(
        breakdown=breakdown,
        measuring=measuring,
        memory=memory,
        settings=settings,
        start=start,
        train_step=train_step,
    )
    for name in set(flags.FLAGS) - flags_before:
        delattr(flags.FLAGS, name)
    for name in set(sys.modules) - modules_before:
        if name.startswith("benchmarks"):
            del sys.modules[name]


def numbers(figures):
    """Returns all numbers anywhere in some JSON."""
    if isinstance(figures, dict | list):
        parts = figures.values() if isinstance(figures, dict) else figures
        return [n for part in parts for n in numbers(part)]
    return [figures] if isinstance(figures, int | float) else []


@pytest.mark.parametrize("name", RUNS)
def test_a_command_prints_a_table_and_writes_positive_figures(name, runs):
    run = runs[name]
    assert run.returncode == 0 and run.stderr == "", run.stderr
    found = numbers(run.figures)
    assert found and all(math.isfinite(n) and n > 0 for n in found)
    if name != "train_step":  # a list
        tables = [line for line in run.stdout.splitlines() if line.startswith("|")]
        assert len(tables) >= 3 and len({line.count("|") for line in tables}) == 1


def test_train_step_keeps_its_keys_and_they_agree(runs):
    figures = runs["train_step"].figures
    assert set(figures) == {
        *("step_ms", "floor_ms", "ratio", "compile_s", "images_per_second"),
        *("dtype", "batch", "device"),
    }
    assert figures["batch"] == 4 and figures["dtype"] == "float32"
    assert figures["device"] == "1 x cpu"  # of two
    assert figures["images_per_second"] == pytest.approx(4000 / figures["step_ms"])
    assert figures["floor_ms"] < figures["step_ms"]
    first = runs["train_step"].stdout.splitlines()[0]
    assert first.startswith("step ") and first.endswith(" ms")


def test_breakdown_has_every_piece_and_percentages_of_the_step(runs):
    figures = runs["breakdown"].figures
    passes = {name: set(kinds) for name, kinds in figures["pieces"].items()}
    forward, gradient, both = {"forward"}, {"gradient"}, {"forward", "gradient"}
    assert passes == {
        **dict.fromkeys(("update", "products", "weight gradients"), gradient),
        **dict.fromkeys(("loss", "read", "write", "filterbanks", "gates"), both),
        **dict.fromkeys(("optimiser", "noise", "data", "logging"), forward),
    }
    for kinds in figures["pieces"].values():
        for spread in kinds.values():
            assert spread["low"] <= spread["median"] <= spread["high"]
    median = {name: figures["pieces"][name]["forward"]["median"] for name in ("data", "logging")}
    step = figures["pieces"]["update"]["gradient"]["median"]
    assert figures["step_ms"] == step
    assert figures["data_percent"] == pytest.approx(100 * median["data"] / step)
    every = smoke.get_config().train.log_every
    assert figures["logging_percent"] == pytest.approx(100 * median["logging"] / step / every)
    assert "do not add up" in runs["breakdown"].stdout


@pytest.mark.parametrize(
    ("read", "write", "rows"),
    [(0, 0, set()), (0, 3, {"write", "filterbanks"}), (3, 0, {"read", "filterbanks"})],
)
def test_breakdown_leaves_out_the_attention_that_is_not_there(read, write, rows, rooms):
    config = smoke.get_config()
    config.model.read_size, config.model.write_size = read, write
    makers = rooms.breakdown.makers(config)
    assert set(makers) & {"read", "write", "filterbanks"} == rows
    if read or write:
        bands = jax.tree.leaves(makers["filterbanks"](config).forward())
        sizes = [(config.model.time_steps, config.train.batch_size, 3, 28)] * 2
        assert [band.shape for band in bands] == sizes


def test_sample_measures_the_batches_asked_for(runs):
    rows = runs["sample"].figures["rows"]
    assert [row["batch"] for row in rows] == [1, 3]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1e3 * row["batch"] / row["batch_ms"])
        assert row["batch_ms_low"] <= row["batch_ms"] <= row["batch_ms_high"]


def test_scaling_has_a_table_for_every_axis_asked_for(runs):
    figures = runs["scaling"].figures
    assert set(figures) == {"time_steps", "devices", "device"}
    for axis, sizes, units in (("time_steps", [2, 4], [2, 4]), ("devices", [1, 2], [1, 1 / 2])):
        rows = figures[axis]["rows"]
        assert [row["size"] for row in rows] == sizes
        for row, unit in zip(rows, units, strict=True):
            assert row["cost"] == pytest.approx(row["step_ms"] / unit)


def test_memory_is_the_states_and_grows_with_the_steps(runs, rooms):
    (short,), (long,) = (runs[name].figures["rows"] for name in ("memory", "longer_memory"))
    assert (short["time_steps"], long["time_steps"]) == (2, 4)
    config = smoke.get_config()
    config.model.enc_size = config.model.dec_size = 8
    config.model.read_size = config.model.write_size = 0
    _, state, images = rooms.train_step.make_step(config)
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    for row in (short, long):
        assert row["alias_bytes"] == state_bytes  # all of the state is donated
        assert row["argument_bytes"] >= state_bytes + 4 * images[0].nbytes
        assert row["peak_bytes"] == (
            row["argument_bytes"] + row["output_bytes"] + row["temp_bytes"] - row["alias_bytes"]
        )
    assert long["argument_bytes"] == short["argument_bytes"]
    # At least what the backward pass needs of two more steps: four gates of each LSTM.
    assert long["temp_bytes"] - short["temp_bytes"] >= 2 * 4 * (4 * 8 + 4 * 8) * 4


def test_a_measured_peak_is_one_above_all_before(rooms, monkeypatch):
    memory = rooms.memory
    monkeypatch.setattr(memory.train_step, "make_step", lambda config: (None, 0, 0))
    for counts, told in (((5, 9), 9), ((9, 9), None), ((None,), None)):
        monkeypatch.setattr(memory, "in_use", iter(counts).__next__)
        assert memory.measured_peak(smoke.get_config(), lambda *inputs: 0) == told


def test_memory_knows_table_3(rooms):
    shapes = {}
    for task, fields in rooms.memory.TASKS.items():
        config = mnist.get_config()
        config.model.update(fields)
        shapes[task] = config.model.time_steps, sorted(rooms.train_step.products(config).values())
    # Encoder: two glimpses, h_dec, h_enc. Decoder: z, h_dec. Posterior. Patch and two windows.
    assert shapes == {
        "config": (64, [(256, 35), (256, 200), (356, 1024), (520, 1024)]),
        "svhn": (32, [(800, 200), (800, 442), (900, 3200), (2464, 3200)]),
        "cifar10": (64, [(400, 85), (400, 400), (600, 1600), (950, 1600)]),
    }


def test_settings_report_what_ran_what_failed_and_what_could_not(runs):
    run = runs["settings"]
    assert run.figures["backend"] == "cpu"
    assert [(row["setting"], row["dtype"]) for row in run.figures["rows"]] == [
        *(("default", "float32"), ("bfloat16", "bfloat16"))
    ]
    assert all(row["batch"] == 4 and "error" not in row for row in run.figures["rows"])
    assert "left out: while_graphs, for GPUs only" in run.stdout
    assert len([line for line in run.stdout.splitlines() if line.startswith("|")]) == 4


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_a_failing_setting_says_why_and_the_next_one_runs(rooms, monkeypatch):
    settings, run = rooms.settings, subprocess.run
    broken = settings.Setting({"model.dtype": "float7"})
    monkeypatch.chdir(ROOT)
    flags.FLAGS(["settings", "--config=configs/smoke.py"])
    monkeypatch.setattr(settings, "SETTINGS", {"a": broken, "b": settings.Setting({})})
    asked = []

    def run_the_broken(command, **options):
        asked.append(command)
        return run(command if len(asked) == 1 else ["false"], **options)

    monkeypatch.setattr(settings.subprocess, "run", run_the_broken)
    rows = list(settings.rows(["a", "b"], (4,)))
    flags.FLAGS.unparse_flags()
    assert rows == [
        {"batch": 4, "setting": "a", "error": "expected dtype float32 or bfloat16, got 'float7'"},
        {"batch": 4, "setting": "b", "error": "exit code 1"},
    ]
    assert "--config.model.dtype=float7" in asked[0]
    for command in asked:
        assert "--config=configs/smoke.py" in command and "--config.train.batch_size=4" in command


def test_a_setting_of_a_field_that_is_not_there_is_left_out(rooms):
    missing = rooms.settings.Setting({"model.no_such_field": 2})
    told = rooms.settings.obstacle(missing, smoke.get_config(), "cpu")
    assert told == "no config.model.no_such_field"


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        ("", "exit code -9"),
        ("error: no such thing\n", "no such thing"),
        (
            (
                "Traceback (most recent call last):\n  File a\nKeyError: 'first'\n"
                "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: a | b\n--------\n"
                "For simplicity, JAX has removed its internal frames\n"
            ),
            "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: a \\| b",
        ),
        ("F1121 07:06 parse.cc:234] Unknown flag\nFlags:\n\thelp\n", "F1121 07:06 parse.cc:234] U"),
        ("one\n\ntwo\n", "two"),
    ],
)
def test_a_failures_line_is_the_one_that_names_it(stderr, told, rooms):
    assert rooms.measuring.complaint(stderr, -9).startswith(told)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_starts_find_what_they_are_said_to_find(rooms, monkeypatch):
    start, first_update, found = rooms.start, rooms.start.first_update, []

    def look_first(command, kept):
        programs = list((kept / "draw_jax" / "compiled").rglob("*-cache"))
        images = list((kept / "draw_jax").glob("*.npz"))
        found.append((bool(programs), bool(images)))
        (kept / "draw_jax").mkdir(exist_ok=True)
        (kept / "draw_jax" / "decoded.npz").touch()  # as data sets that are decoded do
        return first_update(command, kept)

    monkeypatch.setattr(start, "first_update", look_first)
    monkeypatch.chdir(ROOT)
    # ml_collections looks there for the fields to override.
    monkeypatch.setattr(sys, "argv", ["start", *(f for f in TINY if f.startswith("--config"))])
    flags.FLAGS(sys.argv)
    command = start.command()
    flags.FLAGS.unparse_flags()
    assert "--config.model.enc_size=8" in command and "--config.train.log_every=1" in command
    began = time.perf_counter()
    seconds = start.measure(command, 1)
    assert found == [(False, False), (False, True), (True, True)]
    assert 0 < sum(s for (s,) in seconds.values()) < time.perf_counter() - began


def test_a_start_that_fails_says_why(rooms, tmp_path):
    command = [sys.executable, ROOT / "train.py", f"--config={ROOT}/configs/smoke.py"]
    with pytest.raises(rooms.start.NoUpdateError, match="Did you mean .time_steps."):
        rooms.start.first_update([*command, "--config.model.time_stepz=1"], tmp_path)


def test_settings_pass_on_flags_and_keep_the_users_own(rooms, monkeypatch):
    settings = rooms.settings.SETTINGS
    monkeypatch.setenv("XLA_FLAGS", "--mine=1")
    assert rooms.settings.environment(settings["default"]) == dict(os.environ)
    graphs = rooms.settings.environment(settings["while_graphs"])
    assert graphs["XLA_FLAGS"] == "--mine=1 --xla_gpu_enable_command_buffer=+WHILE"
    pages = rooms.settings.environment(settings["huge_pages"])
    assert pages["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    highest = rooms.settings.environment(settings["highest"])
    assert highest["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert rooms.settings.obstacle(settings["while_graphs"], smoke.get_config(), "cpu")
    assert not rooms.settings.obstacle(settings["while_graphs"], smoke.get_config(), "gpu")


@pytest.mark.parametrize("typing_error", [False, True])
def test_the_installed_xla_knows_the_flags_of_the_settings(typing_error, rooms):
    """Flags for GPUs are parsed on every machine; those it does not know end the process."""
    xla = " ".join(setting.xla for setting in rooms.settings.SETTINGS.values())
    assert xla.count("command_buffer") >= 4
    done = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": xla.replace("WHILE", "WHIEL") if typing_error else xla},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode == 0) != typing_error, done.stderr.decode()


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return dict(zip(MISTAKES, run_all(list(MISTAKES), cache), strict=True))


@pytest.mark.parametrize("command", MISTAKES, ids=lambda command: f"{command[0]} {command[-1]}")
def test_a_mistake_is_one_line_and_exit_code_2(command, mistakes):
    run = mistakes[command]
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
    assert MISTAKES[command] in run.stderr


class Slow:
    """A result that is there only after a while."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def block_until_ready(self):
        time.sleep(0.01)
        self.log.append(f"{self.name} is there")
        return self


def test_calls_are_timed_in_turn_until_their_results_are_there(rooms):
    log = []

    def call(name):
        log.append(name)
        return {"result": Slow(log, name)}

    times = rooms.measuring.in_turn({n: lambda n=n: call(n) for n in "ab"}, rounds=3)
    assert log == ["a", "a is there", "b", "b is there"] * 4  # one round to warm up
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert all(ms >= 10 for values in times.values() for ms in values)


def test_a_rest_comes_before_every_call_and_is_not_timed(rooms, monkeypatch):
    log, now = [], 0.0

    def pass_seconds(seconds, what):
        nonlocal now
        now += seconds
        log.append(what)

    monkeypatch.setattr(rooms.measuring.time, "sleep", lambda s: pass_seconds(s, f"rest {s}"))
    monkeypatch.setattr(rooms.measuring.time, "perf_counter", lambda: now)
    calls = {"a": lambda: pass_seconds(1, "a"), "b": lambda: pass_seconds(2, "b")}
    times = rooms.measuring.in_turn(calls, rounds=3, rest=5)
    assert log == ["rest 5", "a", "rest 5", "b"] * 4
    assert times == {"a": [1000.0] * 3, "b": [2000.0] * 3}


def test_updates_go_on_from_what_the_one_before_left(rooms):
    seen = []

    def update(state, step, images):
        seen.append((state, step, images))
        return state + 10, {"loss": state}

    call = rooms.train_step.updates(update, 5, "images")
    assert [call() for _ in range(3)][-1] == (35, {"loss": 25})
    assert seen == [(5, 0, "images"), (15, 1, "images"), (25, 2, "images")]


def test_numbers_spreads_and_tables_read_well(rooms):
    number, table = rooms.measuring.number, rooms.measuring.table
    assert [number(x) for x in (0.00123, 1.5, 99.94, 99.96, 12345.6)] == [
        *("0.00123", "1.50", "99.9", "100", "12,346")
    ]
    spread = rooms.measuring.spread([float(n) for n in range(11)])
    assert spread == (5, 1, 9) and str(spread) == "5.00 (1.00 to 9.00)"
    assert table(["piece", "ms"], [["read", "1.00"], ["filterbanks", "2"]]).splitlines() == [
        "| piece       |   ms |",
        "| ----------- | ---: |",
        "| read        | 1.00 |",
        "| filterbanks |    2 |",
    ]


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
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            for dtypes, part in weight_products(inner).items():
                total[dtypes] += part * equation.params.get("length", 1)
    return total


@pytest.mark.parametrize("write_size", [0, 5])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_floor_is_the_models_products_and_no_others(dtype, write_size, rooms):
    config = mnist.get_config()
    config.model.dtype, config.model.write_size = dtype, write_size
    config.model.read_size = write_size and 2
    config.model.time_steps, config.train.batch_size = 3, 2
    floor, inputs = rooms.train_step.make_floor(config)
    found = weight_products(jax.make_jaxpr(floor)(inputs).jaxpr)
    shapes = rooms.train_step.products(config).values()
    # Forward, to the inputs, to the weights.
    assert sum(found.values()) == 3 * 2 * (3 * 2) * sum(k * n for k, n in shapes)
    if write_size:
        assert sorted(shapes) == [(256, 35), (256, 200), (356, 1024), (520, 1024)]
    update, state, images = rooms.train_step.make_step(config)
    # The first windows are a product more; without attention, one that nothing depends on.
    rows, heads = 2 * config.train.batch_size, "float32" if write_size else dtype
    weights = math.prod(rooms.train_step.products(config)["heads"])
    found[heads, heads, "float32"] += (3 if write_size else 1) * rows * weights
    assert weight_products(jax.make_jaxpr(update)(state, 0, images).jaxpr) == found


def test_figures_are_medians_and_the_ratio_one_of_rounds(rooms):
    times = {"floor": [100.0, 200.0, 100.0], "step": [150.0, 250.0, 400.0]}
    figures = rooms.train_step.figures(mnist.get_config(), times, 3.0)
    names = ("step_ms", "floor_ms", "ratio", "compile_s", "images_per_second")
    assert [figures[name] for name in names] == [250, 100, 1.5, 3, 400]


def test_what_the_floor_returns_depends_on_every_product(rooms):
    """Or the compiler could leave a product out."""
    config = smoke.get_config()
    config.model.time_steps, config.train.batch_size = 2, 3
    floor, inputs = rooms.train_step.make_floor(config)
    last, of_weights = floor(inputs)
    for (x, g, w), (forward, backward), of_weight in zip(inputs, last, of_weights, strict=True):
        x, g, w = (np.asarray(array, np.float64) for array in (x, g, w))
        expected = (x[-1] @ w, g[-1] @ w.T, np.einsum("tbk,tbn->kn", x, g))
        for found, product in zip((forward, backward, of_weight), expected, strict=True):
            assert found.shape == product.shape
            # float32 sums of some 100 terms of size 1, which may cancel
            np.testing.assert_allclose(found, product, rtol=1e-4, atol=1e-3)
