"""Runs whose files are damaged, or that meet a full disk."""

import json
import re
import shutil

import pytest

from draw_jax.runs import checkpoint, digests, directory
from draw_jax.runs.directory import RunConflictError
from draw_jax.training import loop
from tests.helpers import flip, large_file
from tests.training.whole_runs import assert_same_run, finish, rows, small, start, steps

pytestmark = [
    pytest.mark.usefixtures("compiled_once"),
    # Of the reads that Orbax gives up when one of them finds damage.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
    ),
]


def flip_params(step):
    flip(large_file(step / "params"))


def truncate(step):
    path = large_file(step / "optimizer")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_item(step):
    shutil.rmtree(step / "average")


@pytest.mark.parametrize(
    "damage",
    [
        flip_params,
        pytest.param(truncate, marks=pytest.mark.slow),
        pytest.param(remove_item, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, copy, whole, capsys):
    damage(copy / "checkpoints" / "24")
    assert loop.train(small(), copy) == loop.FINISHED
    printed = capsys.readouterr().out
    assert "checkpoint 24 is damaged" in printed and "continuing at step 21" in printed
    assert [path.name for path in (copy / "damaged").iterdir()] == ["24"]
    assert_same_run(copy, whole)


def test_when_every_checkpoint_is_damaged_nothing_starts_anew(copy):
    for step in steps(copy):
        flip_params(copy / "checkpoints" / str(step))
    lines = (copy / "metrics.jsonl").read_text()
    for _ in range(2):  # and not on the second try either
        with pytest.raises(checkpoint.CheckpointError, match="no checkpoint .* --workdir"):
            loop.train(small(), copy)
        assert (copy / "metrics.jsonl").read_text() == lines


def test_missing_checkpoints_are_no_reason_to_start_anew(copy):
    lines = (copy / "metrics.jsonl").read_bytes()
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(
        checkpoint.CheckpointError, match="tells of 24 updates, but checkpoints/ hol"
    ):
        loop.train(small(), copy)
    assert (copy / "metrics.jsonl").read_bytes() == lines


@pytest.mark.slow
def test_the_litter_of_a_kill_is_no_obstacle(copy, whole):
    checkpoints = copy / "checkpoints"
    (checkpoints / "24").rename(checkpoints / "24.orbax-checkpoint-tmp")
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[-1] = lines[-1][:40]
    (copy / "metrics.jsonl").write_text("".join(lines))
    assert loop.train(small(), copy) == loop.FINISHED
    assert not list(checkpoints.glob("*tmp*"))
    assert_same_run(copy, whole)


def test_a_broken_config_json_is_one_line(copy):
    (copy / "config.json").write_text('{"seed": 0,')
    returncode, _, errors = finish(start(copy))
    assert returncode == 1 and errors.count("\n") == 1
    assert re.search(r"error: .*config\.json cannot be read", errors)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_costs_no_checkpoint(whole, tmp_path):
    returncode, _, errors = finish(start(tmp_path, driver="full 7"))
    assert returncode == 1 and errors.count("\n") == 1, errors
    # Whichever comes first: the checkpoint of step 6 in its thread, or the samples of step 8.
    assert errors.startswith("error: cannot write ") and "File too large" in errors
    assert checkpoint.load(tmp_path)[2]["params"]
    assert loop.train(small(), tmp_path) == loop.FINISHED
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
def test_pictures_that_cannot_be_written_end_no_run(tmp_path, capsys):
    (tmp_path / "samples").touch()
    (tmp_path / "report.png").mkdir()
    assert loop.train(small(**{"train.num_steps": 3}), tmp_path) == loop.FINISHED
    said = [line for line in capsys.readouterr().out.splitlines() if "without this picture" in line]
    assert ["samples" in said[0], "report.png" in said[1]] == [True, True] and len(said) == 2
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 3] and steps(tmp_path) == [3]


@pytest.mark.parametrize(
    "lost", [pytest.param("deleted", marks=pytest.mark.slow), "that of another run"]
)
def test_a_run_that_lost_its_config_json_goes_on_under_its_own_settings_alone(copy, whole, lost):
    (copy / "config.json").unlink()
    if lost != "deleted":
        directory.write_config(copy, small(seed=1))
    with pytest.raises(RunConflictError, match=r"different settings:\n  config.seed: 0 -> 1"):
        loop.train(small(seed=1), copy)
    assert loop.train(small(), copy) == loop.FINISHED
    assert (copy / "config.json").read_bytes() == (whole / "config.json").read_bytes()


def test_lost_lines_of_metrics_are_told_when_a_run_goes_on(copy):
    lines = (copy / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_bytes(b"".join(lines[:-4]))
    with (
        pytest.warns(UserWarning, match="ends at step 21, but the run went on to 24: lines are l"),
        pytest.warns(UserWarning, match="lost the validation of step 24; its loss is taken"),
    ):
        loop.train(small(), copy)


@pytest.mark.slow
def test_a_checkpoint_of_another_run_gives_way_to_the_one_before(copy, whole, capsys):
    (file,) = (copy / "checkpoints" / "24" / "digests").glob("metadata")
    fields = json.loads(file.read_text())
    told, sound = digests.verified(fields["run"])
    assert sound
    told["config"]["seed"] = 1
    file.write_text(json.dumps(fields | {"run": digests.signed(told)}))
    assert loop.train(small(), copy) == loop.FINISHED
    printed = capsys.readouterr().out
    assert "checkpoint 24 is of a run with another config.seed" in printed
    assert [path.name for path in (copy / "damaged").iterdir()] == ["24"]
    assert_same_run(copy, whole)
