"""Whole runs: stopped, killed, damaged, refused, on several devices and in several processes."""

import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from draw_jax.evaluation import passes
from draw_jax.runs import checkpoint, directory
from draw_jax.runs.metrics import MetricsFile
from draw_jax.training import loop

# Of the reads that Orbax gives up when one of them finds damage.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)
ROOT = Path(__file__).parents[2]
SMALL = {
    "model.time_steps": 2,
    "model.enc_size": 8,
    "model.dec_size": 8,
    "model.latent_size": 2,
    "train.num_steps": 24,
    "train.log_every": 1,
    "train.eval_every": 8,
    "train.checkpoint_every": 3,
}
EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"
NO_ATTENTION = {"model.read_size": 0, "model.write_size": 0}  # compiles in half the time

# What a process does to itself, exactly where the argument says: after it has written a line of
# metrics ("line STEP SPLIT SIGNAL"), or when it has begun to save ("save STEP SIGNAL").
DRIVER = """
import os, resource, runpy, signal, sys, time
from draw_jax.runs import checkpoint, metrics

what, *where = sys.argv.pop(1).split()
write, save = metrics.MetricsFile.write, checkpoint.Checkpoints.save

def write_and_act(self, row):
    write(self, row)
    if what == "line" and [str(row["step"]), row["split"]] == where[:2]:
        os.kill(os.getpid(), int(where[2]))
    if what == "full" and row["step"] == int(where[0]):  # as a full disk: no file may grow
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

def save_and_act(self, step, *rest):
    if what == "hang":
        time.sleep(120)
    save(self, step, *rest)
    if what == "save" and step == int(where[0]):
        os.kill(os.getpid(), int(where[1]))

metrics.MetricsFile.write, checkpoint.Checkpoints.save = write_and_act, save_and_act
sys.path.insert(0, "")
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Lets all these runs, in whichever process, share what XLA has compiled, and not for long."""
    values = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in values}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the directory of a run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    process = start(run)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output + errors
    return run


@pytest.fixture
def copy(whole, tmp_path):
    """Returns a copy of the whole run, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def command(run, fields=None, *flags):
    values = SMALL | (fields or {})
    return [
        "train.py",
        "--config=configs/smoke.py",
        f"--workdir={run}",
        *(f"--config.{name}={value}" for name, value in values.items()),
        *flags,
    ]


def start(run, fields=None, *flags, driver=None, **environment):
    begin = ["-c", DRIVER, driver] if driver else []
    return subprocess.Popen(
        [sys.executable, *begin, *command(run, fields, *flags)[bool(driver) :]],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def small_config(**fields):
    config = importlib.import_module("configs.smoke").get_config()
    config.update_from_flattened_dict(SMALL | fields)
    return config.lock()


def rows(run):
    """Returns the lines of metrics.jsonl, every one of which must be whole."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(row):
    return {name: value for name, value in row.items() if name != "images_per_second"}


def steps(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def arrays(run, step):
    with ocp.CheckpointManager(run.resolve() / "checkpoints") as manager:
        names = ("params", "average", "optimizer")
        args = {name: ocp.args.PyTreeRestore() for name in names}
        restored = manager.restore(step, args=ocp.args.Composite(**args))
        return {
            f"{name}/{key}": np.asarray(a) for name in names for key, a in restored[name].items()
        }


def files(run):
    return {p.relative_to(run): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


def assert_same_run(run, whole):
    assert [timeless(row) for row in rows(run)] == [timeless(row) for row in rows(whole)]
    ours, theirs = arrays(run, 24), arrays(whole, 24)
    assert set(ours) == set(theirs) and len(ours) > 40
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_a_run_leaves_what_the_contract_says(whole):
    assert {"config.json", "metrics.jsonl", "checkpoints", "samples"} <= set(os.listdir(whole))
    lines = rows(whole)
    train = [(row["step"], row["split"]) for row in lines if row["split"] == "train"]
    validation = [(row["step"], row["split"]) for row in lines if row["split"] != "train"]
    assert train == [(step, "train") for step in range(1, 25)]
    assert validation == [(step, "validation") for step in (8, 16, 24)]
    for row in lines:
        assert row["elbo_loss"] == pytest.approx(row["nll"] + row["kl"], rel=1e-5)
        assert ("grad_norm" in row) == ("images_per_second" in row) == (row["split"] == "train")
    assert steps(whole)[-2:] == [21, 24]
    assert (whole / "samples" / "step_0000024.png").is_file()


def test_a_finished_run_ends_at_once_and_changes_nothing(copy, whole):
    returncode, output, errors = finish(start(copy))
    assert (returncode, errors) == (0, "") and "finished at step 24" in output
    assert files(copy) == files(whole)


@pytest.mark.parametrize(
    ("driver", "number", "newest"),
    [
        (f"line 8 train {signal.SIGTERM:d}", signal.SIGTERM, 8),  # a validation is due
        # What is on disk by then, no one knows; 16 has a line, but is not.
        (f"line 16 validation {signal.SIGKILL:d}", signal.SIGKILL, None),
        (f"save 12 {signal.SIGKILL:d}", signal.SIGKILL, None),
    ],
)
def test_a_stopped_run_continues_as_if_nothing_had_been(driver, number, newest, whole, tmp_path):
    run = tmp_path / "run"
    returncode, output, errors = finish(start(run, driver=driver))
    if number == signal.SIGKILL:
        assert returncode == -signal.SIGKILL
    else:
        assert (returncode, errors) == (3, "") and f"stopped at step {newest}" in output
        assert rows(run)[-1]["step"] == newest and rows(run)[-1]["split"] == "train"
    assert newest is None or steps(run)[-1] == newest
    returncode, output, errors = finish(start(run))
    assert (returncode, errors) == (0, "") and "continuing at step" in output
    assert_same_run(run, whole)


def test_ctrl_c_from_outside_saves_and_the_same_command_continues(whole, tmp_path):
    run, process = tmp_path / "run", None
    process = start(run)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "metrics.jsonl").exists() and len(rows_so_far(run)) >= 3:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.002)
    returncode, output, errors = finish(process)
    assert (returncode, errors) == (3, ""), output + errors
    assert "SIGINT: saving, then stopping" in output
    stopped = steps(run)[-1]
    assert 3 <= stopped < 24 and rows(run)[-1]["step"] == stopped
    assert loop.train(small_config(), run) == loop.FINISHED
    assert_same_run(run, whole)


def rows_so_far(run):
    return MetricsFile(run / "metrics.jsonl").rows()


def test_a_second_ctrl_c_quits_at_once_and_a_running_run_is_not_shared(tmp_path):
    process = start(tmp_path, driver="hang")  # from the first checkpoint on, at step 3
    while not (tmp_path / "metrics.jsonl").exists() or len(rows_so_far(tmp_path)) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(directory.Refused, match=r"in use by another process.*--workdir"):
        loop.train(small_config(), tmp_path)
    process.send_signal(signal.SIGINT)
    printed = ""
    while "once more quits at once" not in printed:
        printed += process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    assert time.monotonic() - began < 10
    process.communicate()


@pytest.mark.parametrize("step", [8, 24])  # 24 is the last one
def test_a_signal_in_the_middle_of_a_validation(step, whole, tmp_path, monkeypatch):
    evaluate = passes.evaluate
    began = []

    def evaluate_and_stop(*args, **kwargs):
        began.append(True)
        if len(began) == step // 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(passes, "evaluate", evaluate_and_stop)
    assert loop.train(small_config(), tmp_path) == loop.STOPPED
    assert len(began) == step // 8  # it had begun, but left no line
    assert (rows(tmp_path)[-1]["step"], rows(tmp_path)[-1]["split"]) == (step, "train")
    monkeypatch.undo()
    assert loop.train(small_config(), tmp_path) == loop.FINISHED
    assert_same_run(tmp_path, whole)


def large_file(folder):
    return max(folder.glob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


def truncate(step):
    path = large_file(step / "optimizer")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(step):
    path = large_file(step / "params")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove_item(step):
    shutil.rmtree(step / "average")


@pytest.mark.parametrize("damage", [truncate, flip, remove_item])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, copy, whole, capsys):
    damage(copy / "checkpoints" / "24")
    assert loop.train(small_config(), copy) == loop.FINISHED
    printed = capsys.readouterr().out
    assert "checkpoint 24 is damaged" in printed and "continuing at step 21" in printed
    assert [path.name for path in (copy / "damaged").iterdir()] == ["24"]
    assert_same_run(copy, whole)


def test_when_every_checkpoint_is_damaged_nothing_starts_anew(copy):
    for step in steps(copy):
        flip(copy / "checkpoints" / str(step))
    lines = (copy / "metrics.jsonl").read_text()
    for _ in range(2):  # and not on the second try either
        with pytest.raises(checkpoint.CheckpointError, match="every checkpoint .* --workdir"):
            loop.train(small_config(), copy)
        assert (copy / "metrics.jsonl").read_text() == lines


def test_the_litter_of_a_kill_is_no_obstacle(copy, whole):
    checkpoints = copy / "checkpoints"
    (checkpoints / "24").rename(checkpoints / "24.orbax-checkpoint-tmp")
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[-1] = lines[-1][:40]
    (copy / "metrics.jsonl").write_text("".join(lines))
    assert loop.train(small_config(), copy) == loop.FINISHED
    assert not list(checkpoints.glob("*tmp*"))
    assert_same_run(copy, whole)


def test_a_broken_config_json_is_one_line(copy):
    (copy / "config.json").write_text('{"seed": 0,')
    returncode, _, errors = finish(start(copy))
    assert returncode == 1 and errors.count("\n") == 1
    assert re.search(r"error: .*config\.json cannot be read", errors)


def test_another_mathematics_is_refused(copy, whole):
    returncode, _, errors = finish(start(copy, {"model.latent_size": 3}))
    assert returncode == 1 and "Traceback" not in errors
    assert "config.model.latent_size: 2 -> 3" in errors and "another --workdir" in errors
    assert errors.count("config.") == 1
    with pytest.raises(directory.Refused, match="config.train.num_steps: 24 -> 20"):
        loop.train(small_config(**{"train.num_steps": 20}), copy)
    assert files(copy) == files(whole)


def test_where_data_lies_how_often_to_look_and_more_steps_may_change(copy, whole, tmp_path):
    fields = {"train.num_steps": 26, "train.log_every": 2, "data.data_dir": str(tmp_path)}
    assert loop.train(small_config(**fields), copy) == loop.FINISHED
    assert rows(copy)[:-2] == rows(whole)
    tail = [(row["step"], row["split"]) for row in rows(copy)[-2:]]
    assert tail == [(26, "train"), (26, "validation")]


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(whole, tmp_path):
    returncode, _, errors = finish(start(tmp_path, driver="full 7"))
    assert returncode == 1 and errors.count("\n") == 1, errors
    # Whichever comes first: the checkpoint of step 6 in its thread, or the samples of step 8.
    assert errors.startswith("error: cannot write ") and "File too large" in errors
    assert checkpoint.load(tmp_path)[2]["params"]
    assert loop.train(small_config(), tmp_path) == loop.FINISHED
    assert_same_run(tmp_path, whole)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Returns the rows of a run without attention, in one process on one device."""
    run = tmp_path_factory.mktemp("single")
    assert loop.train(small_config(**NO_ATTENTION), run) == loop.FINISHED
    return rows(run)


def assert_close_rows(ours, theirs):
    assert [(row["step"], row["split"]) for row in ours] == [
        (row["step"], row["split"]) for row in theirs
    ]
    for row, other in zip(ours, theirs, strict=True):
        for name in ("nll", "elbo_loss"):
            # Sums over the batch are made in another order; 24 updates carry that on.
            assert row[name] == pytest.approx(other[name], rel=1e-4), (row["step"], name)


def test_eight_devices_continue_what_one_began_and_back(single, tmp_path):
    assert jax.device_count() == 1
    fields = NO_ATTENTION | {"train.num_steps": 8}
    assert loop.train(small_config(**fields), tmp_path) == loop.FINISHED
    fields["train.num_steps"] = 16
    returncode, output, errors = finish(start(tmp_path, fields, XLA_FLAGS=EIGHT_DEVICES))
    assert (returncode, errors) == (0, "") and "8 x cpu; continuing at step 8" in output
    assert checkpoint.load(tmp_path)[2]["params"]
    fields["train.num_steps"] = 24
    assert loop.train(small_config(**fields), tmp_path) == loop.FINISHED
    assert_close_rows(rows(tmp_path), single)


def test_a_batch_that_the_devices_do_not_divide(tmp_path):
    returncode, _, errors = finish(
        start(tmp_path, {"train.batch_size": 30}, XLA_FLAGS=EIGHT_DEVICES)
    )
    assert returncode == 2 and errors.count("\n") == 1
    assert "config.train.batch_size: 8 devices do not divide 30; take 24 or 32" in errors
    assert not list(tmp_path.iterdir())


def test_two_processes_train_as_one(single, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [
        start(
            tmp_path,
            NO_ATTENTION | {"train.num_steps": 8},
            "--distributed",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(process),
        )
        for process in range(2)
    ]
    (first, told, errors), (second, silent, _) = [finish(process) for process in both]
    assert (first, second) == (0, 0), errors
    assert "2 x cpu" in told and "finished at step 8" in told
    assert "step" not in silent  # one of them writes and prints
    assert_close_rows(rows(tmp_path), single[:9])
    assert steps(tmp_path)[-1] == 8 and checkpoint.load(tmp_path)[2]["params"]
