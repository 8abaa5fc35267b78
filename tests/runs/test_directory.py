"""Who may write into a run directory, and what its config.json may hold."""

import errno
import fcntl
import json

import pytest

from draw_jax.runs import directory, stored
from draw_jax.runs.leaves import CheckpointError
from draw_jax.runs.metrics import MetricsFile
from tests.helpers import small_config


def claim(run):
    with directory.claim(run):
        pass


def test_one_process_at_a_time_holds_a_directory(tmp_path):
    run = tmp_path / "new" / "run"
    refused = pytest.raises(directory.RunConflictError, match="in use by another process")
    with directory.claim(run), refused:
        claim(run)
    claim(run)  # given back


def test_a_directory_of_something_else_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    (tmp_path / "slurm-1.out").write_text("x")
    with pytest.raises(directory.RunConflictError, match=r"files \(thesis.tex\); give another"):
        claim(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slurm-1.out", "thesis.tex"]
    directory.write_config(tmp_path, small_config())  # a run's own directory may hold notes
    claim(tmp_path)


def test_a_jobs_own_output_is_welcome(tmp_path):
    for name in ("slurm-1.out", "train.log", ".nfs01", "checkpoints", "metrics.jsonl"):
        (tmp_path / name).touch()
    claim(tmp_path)


@pytest.mark.parametrize(
    ("name", "cause"), [("file", "it is a file"), ("file/run", "Not a directory")]
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, name, cause):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=rf"{name} \({cause}\); give another --workdir"):
        claim(tmp_path / name)


def test_a_file_system_without_locks_is_no_conflict(tmp_path, monkeypatch, capsys):
    def no_locks(*arguments):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    claim(tmp_path / "run")
    told = f"warning: {tmp_path / 'run'} cannot be locked (Operation not supported): see to it"
    assert told in capsys.readouterr().err


def test_a_configuration_comes_back_locked_and_whole(tmp_path):
    config = small_config()
    directory.write_config(tmp_path, config)
    found = directory.read_config(tmp_path)
    assert json.loads(found.to_json()) == json.loads(config.to_json()) and found.is_locked


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read"),
        ('{"seed": 0', "cannot be read"),
        ("\udc80", "cannot be read"),
        ("[]", "is no configuration: expected seed, kind and the groups data, model, train"),
        ('{"seed": 0, "kind": "draw"}', "is no configuration"),
        ('{"seed": 0, "kind": "draw", "data": {}, "model": 5, "train": {}}', "is no configuration"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, text, told):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=f"config.json {told}"):
        directory.read_config(tmp_path)


def test_a_directory_without_configuration_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="is no run directory: it has no config.json"):
        directory.read_config(tmp_path)


def test_a_flipped_bit_in_the_configuration_is_no_other_model(tmp_path):
    directory.write_config(tmp_path, small_config())
    assert not directory.is_unsigned(tmp_path)
    path = tmp_path / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"time_steps": 2', '"time_steps": 3'))
    assert path.read_text() != text
    with pytest.raises(CheckpointError, match=r"config.json is not what was written: .*\"digest\""):
        directory.read_config(tmp_path)
    fields = json.loads(path.read_text())
    del fields["digest"]  # as the message says
    path.write_text(json.dumps(fields))
    assert directory.read_config(tmp_path).model.time_steps == 3
    assert directory.is_unsigned(tmp_path)


def test_the_layout_of_the_configuration_does_not_matter(tmp_path):
    directory.write_config(tmp_path, small_config())
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(fields.items()))))
    assert directory.read_config(tmp_path).model.enc_size == small_config().model.enc_size


@pytest.mark.parametrize("text", ["", "{", "5", "[" * 100_000, '{"seed": 0, "digest": "x"}'])
def test_what_is_no_configuration_has_no_earlier_version(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert not directory.is_unsigned(tmp_path)
    with pytest.raises(CheckpointError, match="config.json "):
        directory.read_config(tmp_path)


def test_the_litter_of_a_first_checkpoint_is_no_beginning(tmp_path):
    (tmp_path / "checkpoints" / "10.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not directory.has_begun(tmp_path)
    (tmp_path / "checkpoints" / "10").mkdir()
    assert directory.has_begun(tmp_path)


def test_checkpoints_are_missed_by_the_intervals_that_the_run_had(tmp_path):
    def every(count):
        return small_config(**{"train.checkpoint_every": count, "train.eval_every": count})

    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write({"step": 90, "split": "train"})
    for had, given, missed in ((100, 10, False), (10, 100, True), (10, 10, True)):
        directory.write_config(tmp_path, every(had))
        if missed:
            with pytest.raises(
                CheckpointError, match="tells of 90 updates, but checkpoints/ holds"
            ):
                stored.check_none_are_missing(tmp_path, every(given))
        else:
            stored.check_none_are_missing(tmp_path, every(given))


def test_only_folders_named_by_their_step_are_checkpoints(tmp_path):
    for name in ("300", "old_300", "old_200", "7.orbax-checkpoint-tmp", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "old_300" / "_CHECKPOINT_METADATA").touch()
    assert stored.steps(tmp_path) == [300]
