"""Runs that are stopped or killed, and the same command again."""

import os
import shutil
import signal
import time

import numpy as np
import pytest

from draw_jax.evaluation import passes
from draw_jax.runs import directory
from draw_jax.training import loop
from draw_jax.training.job import Job
from tests.helpers import classifier_config
from tests.training.whole_runs import (
    arrays,
    assert_same_run,
    files,
    finish,
    rows,
    rows_so_far,
    small,
    start,
    steps,
    timeless,
)

pytestmark = [
    pytest.mark.usefixtures("compiled_once"),
    # Of the reads that Orbax gives up when one of them finds damage.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
    ),
]


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
        pytest.param(
            f"line 16 validation {signal.SIGKILL:d}", signal.SIGKILL, None, marks=pytest.mark.slow
        ),
        pytest.param(f"save 12 {signal.SIGKILL:d}", signal.SIGKILL, None, marks=pytest.mark.slow),
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


@pytest.mark.slow
def test_a_run_from_given_weights_continues_as_if_nothing_had_been(whole, tmp_path):
    """Also where the weights that it began from are no longer there."""
    source = tmp_path / "source"
    shutil.copytree(whole, source)
    flag, first = f"--init_from={source}", tmp_path / "first"
    returncode, _, errors = finish(start(first, None, flag))
    assert (returncode, errors) == (0, "")
    assert timeless(rows(first)[0]) != timeless(rows(whole)[0])
    run = tmp_path / "run"
    returncode, *_ = finish(start(run, None, flag, driver=f"save 12 {signal.SIGKILL:d}"))
    assert returncode == -signal.SIGKILL
    shutil.rmtree(source)  # from here on, what the run itself holds must do
    returncode, output, errors = finish(start(run, None, flag))
    assert (returncode, errors) == (0, "") and "continuing at step" in output
    assert_same_run(run, first)


@pytest.mark.slow
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
    assert loop.train(small(), run) == loop.FINISHED
    assert_same_run(run, whole)


def test_a_second_ctrl_c_quits_at_once_and_a_running_run_is_not_shared(tmp_path):
    process = start(tmp_path, driver="hang")  # from the first checkpoint on, at step 3
    deadline = time.monotonic() + 300
    while not (tmp_path / "metrics.jsonl").exists() or len(rows_so_far(tmp_path)) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(directory.RunConflictError, match=r"in use by another process.*--workdir"):
        loop.train(small(), tmp_path)
    process.send_signal(signal.SIGINT)
    printed = ""
    while "once more quits at once" not in printed:
        line = process.stdout.readline()
        assert line, process.communicate()[1]  # it has ended
        printed += line
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    assert time.monotonic() - began < 10
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("step", [8, 24])  # 24: the last
def test_a_signal_in_the_middle_of_a_validation(step, whole, tmp_path, monkeypatch):
    evaluate = passes.evaluate
    began = []

    def evaluate_and_stop(*args, **kwargs):
        began.append(True)
        if len(began) == step // 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(passes, "evaluate", evaluate_and_stop)
    assert loop.train(small(), tmp_path) == loop.STOPPED
    assert len(began) == step // 8  # it had begun, but left no line
    assert (rows(tmp_path)[-1]["step"], rows(tmp_path)[-1]["split"]) == (step, "train")
    monkeypatch.undo()
    assert loop.train(small(), tmp_path) == loop.FINISHED
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
def test_a_classifier_of_endless_images_continues_as_if_nothing_had_been(tmp_path, monkeypatch):
    fields = {"data.size": 40, "model.image_shape": (40, 40, 1), "train.num_steps": 6}
    config = classifier_config(**fields | {"train.decay_steps": 6, "train.eval_every": 6})
    assert loop.train(config, tmp_path / "whole") == loop.FINISHED
    make, made = Job.batch, []

    def make_and_stop(job, step):
        made.append(step)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return make(job, step)

    monkeypatch.setattr(Job, "batch", make_and_stop)
    assert loop.train(config, tmp_path / "run") == loop.STOPPED
    assert loop.train(config, tmp_path / "run") == loop.FINISHED
    assert made == [0, 1, 2, 3, 4, 5]
    found = [[timeless(row) for row in rows(tmp_path / name)] for name in ("run", "whole")]
    assert [row["step"] for row in found[0]] == [1, 2, 3, 4, 5, 6, 6]
    assert found[0] == found[1] and {"error", "confusion"} <= set(found[0][-1])
    ours, theirs = (arrays(tmp_path / name, 6) for name in ("run", "whole"))
    assert set(ours) == set(theirs) and len(ours) > 12
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
