"""Several processes of one job: what each says and how it ends when one of them does.

The table in docs/running.md has what is seen here, with the seconds that it took.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from draw_jax.runs import checkpoint
from draw_jax.training import loop
from tests.helpers import NO_ATTENTION, ROOT, flip, free_port, large_file, places
from tests.training.whole_runs import (
    arrays,
    assert_close_rows,
    command,
    finish,
    rows,
    small,
    steps,
    timeless,
)

pytestmark = pytest.mark.usefixtures("compiled_once")

FIELDS = NO_ATTENTION | {"train.num_steps": 6, "train.eval_every": 3, "train.checkpoint_every": 2}
# What one process, or each, does to itself: a signal before the batch of a step, or in the middle of
# a validation, which has three batches here: "PROCESS STEP|pass SIGNAL".
DRIVER = """
import functools, os, runpy, sys
from draw_jax.evaluation import passes
from draw_jax.training import job, signals

process, point, number = sys.argv.pop(1).split()
at = point if process == os.environ["JAX_PROCESS_ID"] else None
passes.evaluate = functools.partial(passes.evaluate, batch_size=64)
batch, interrupt = job.Job.batch, signals.Stop.interrupt_evaluation

def act(here):
    global at
    if at == here:
        at = None
        os.kill(os.getpid(), int(number))

def batch_and_act(self, step):
    act(str(step))
    return batch(self, step)

def interrupt_and_act(self):
    act("pass")
    interrupt(self)

job.Job.batch, signals.Stop.interrupt_evaluation = batch_and_act, interrupt_and_act
sys.path.insert(0, "")
runpy.run_path("train.py", run_name="__main__")
"""


def begin(run, acts="none 0 0", flags=((), ())):
    """Returns the processes of a job of len(flags), begun, each with its own flags."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, acts, *command(run, FIELDS, "--distributed", *own)[1:]],
            cwd=ROOT,
            env=os.environ | place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place, own in zip(places(len(flags)), flags, strict=True)
    ]


def job(run, acts="none 0 0", flags=((), ())):
    """Returns (exit code, output, errors) of each process of a job, run to its end."""
    return [finish(process) for process in begin(run, acts, flags)]


def the_error(errors):
    """Returns the one line of ours among what JAX's C++ has to say."""
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in errors
    return line


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compiled_once):
    """Returns the directory of a job of two processes that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole")
    (first, told, errors), (second, silent, _) = job(run)
    assert (first, second) == (0, 0), errors
    assert "2 x cpu" in told and "finished at step 6" in told
    assert "step" not in silent  # one of them writes and prints
    return run


def assert_same(run, whole):
    assert [timeless(row) for row in rows(run)] == [timeless(row) for row in rows(whole)]
    ours, theirs = arrays(run, 6), arrays(whole, 6)
    assert set(ours) == set(theirs) and len(ours) > 10
    assert all((ours[name] == theirs[name]).all() for name in ours)


@pytest.mark.slow
def test_two_processes_train_as_one(whole, tmp_path):
    assert loop.train(small(**FIELDS), tmp_path) == loop.FINISHED
    assert_close_rows(rows(whole), rows(tmp_path))
    assert steps(whole)[-1] == 6 and checkpoint.load(whole)[2]["params"]


@pytest.mark.slow
def test_after_a_kill_damage_and_a_signal_in_a_validation_nothing_is_lost(whole, tmp_path):
    (first, *_), (second, _, errors) = job(tmp_path, f"0 4 {signal.SIGKILL:d}")
    assert (first, second) == (-signal.SIGKILL, 1), errors
    assert re.match(r"error: process 0 of 2 \(on .*\) was lost", the_error(errors))
    assert not (tmp_path / "damaged").exists()

    *sound, newest = steps(tmp_path)
    flip(large_file(tmp_path / "checkpoints" / f"{newest}" / "params"))
    (first, told, errors), (second, silent, _) = job(tmp_path, f"1 pass {signal.SIGTERM:d}")
    assert (first, second) == (3, 3), errors
    assert f"continuing at step {sound[-1]}" in told
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == [f"{newest}"]
    stopped = re.search(r"stopped at step (\d), all saved", told)
    assert stopped and "SIGTERM: saving" in silent
    assert rows(tmp_path)[-1]["split"] == "train" and steps(tmp_path)[-1] == int(stopped[1])

    assert [code for code, *_ in job(tmp_path)] == [0, 0]
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_two_processes_roll_back_together(tmp_path):
    """The second update explodes, until a rollback makes the rate 1e-3."""
    values = {"warmup_steps": 1, "learning_rate": 1e30, "rollback_rate": 1e-33, "log_every": 1}
    values |= {"checkpoint_every": 1, "decay_steps": 0, "on_divergence": "rollback"}
    flags = [f"--config.train.{name}={value}" for name, value in values.items()]
    (first, told, errors), (second, *_) = job(tmp_path, flags=(flags, flags))
    assert (first, second) == (0, 0), errors
    assert "rolled back to step 1" in told and "finished at step 6" in told
    assert [row["split"] for row in rows(tmp_path)[:3]] == ["train", "rollback", "train"]


def test_a_refusal_of_one_is_told_by_the_others(tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (first, _, own), (second, _, errors) = job(tmp_path)
    assert (first, second) == (1, 1), errors
    assert the_error(own).startswith(f"error: {tmp_path} is in use by another process")
    told = f"error: process 0 of 2 ended: {tmp_path} is in use by another process"
    assert the_error(errors).startswith(told)


@pytest.mark.slow
def test_data_that_one_machine_lacks_is_told_by_the_others(tmp_path):
    pictures = ("--config.data.name=image_folder", "--config.data.data_dir=")
    flags = ([*pictures[:1], pictures[1] + str(ROOT)], [*pictures[:1], pictures[1] + "/nowhere"])
    (first, _, errors), (second, _, own) = job(tmp_path, flags=flags)
    assert (first, second) == (1, 1), errors
    assert "/nowhere" in own and "process 1 of 2" in the_error(errors)


@pytest.mark.slow
def test_processes_with_different_data_do_not_train(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 28, 28), np.uint8)
    flags = []
    for count in (90, 80):
        np.savez(tmp_path / f"{count}.npz", train_images=pixels[:count], test_images=pixels[:9])
        data = ("name=npz", f"data_dir={tmp_path}/{count}.npz", "binarization=none")
        flags.append([f"--config.data.{field}" for field in data])
    (first, _, errors), (second, _, own) = job(tmp_path / "run", flags=flags)
    assert (first, second) == (1, 1), errors
    told = "process 0 has other data than this process (train has 81 images there and 72 here; "
    assert told in the_error(own) and told in the_error(errors)
    assert the_error(errors).startswith("error: process 1 of 2")


def test_processes_that_mean_different_runs_refuse_together(tmp_path):
    flags = ((), ("--config.seed=1", f"--workdir={tmp_path}/b"))
    outcomes = job(tmp_path / "a", flags=flags)
    assert [code for code, *_ in outcomes] == [1, 1]
    for _, _, errors in outcomes:
        assert errors.count("\n") == 1
        assert f"--workdir is '{tmp_path}/a' in process 0 and '{tmp_path}/b' in" in errors
        assert "config.seed is 0 in process 0 and 1 in process 1" in errors
    assert not list(tmp_path.iterdir())


def test_several_processes_without_their_team_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="expected the team of several processes"):
        loop.train(small(**FIELDS), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_example_of_the_documentation_works_as_printed(tmp_path):
    text = (ROOT / "docs" / "running.md").read_text()
    (example,) = re.findall(r"On one machine, to try it:\n\n```sh\n(.*?)```", text, re.DOTALL)
    port = re.search(r"localhost:(\d+)", example)[1]
    done = subprocess.run(
        ["bash", "-e"],
        input=example.replace(port, str(free_port())),  # the printed one may be in use
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr
    assert "finished at step" in done.stdout and (tmp_path / "runs/smoke/config.json").exists()
