import errno
import json
import os
import pathlib
import shutil
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import draw_jax
from draw_jax.model import build
from draw_jax.runs import checkpoint, directory, export
from draw_jax.runs import stored as stored_checkpoints
from draw_jax.runs.metrics import MetricsFile
from tests.helpers import large_file, small_config

LOSSES = {1: 9.0, 2: 7.0, 3: 8.0}  # of `run`
SIZES = {"model.enc_size": 7, "model.dec_size": 6, "model.latent_size": 3}

# Of the reads that Orbax gives up when one of them finds damage.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)


def trees(seed, average=True):
    """Returns the items of a checkpoint, random in every leaf."""
    rng = np.random.default_rng(seed)
    model = build.build(small_config(**SIZES))
    shapes = build.shapes(model)

    def draw(leaf):
        if leaf.dtype == np.int32:
            return np.asarray(seed, leaf.dtype)
        return rng.standard_normal(leaf.shape).astype(leaf.dtype)

    optimizer = jax.eval_shape(optax.adam(1e-3).init, shapes["params"])
    items = {"params": shapes["params"], "optimizer": optimizer}
    if average:
        items["average"] = shapes["params"]
    return jax.tree.map(draw, items)


def make_run(run, losses, keep=5, average=True):
    """Writes a run of checkpoints {step: loss or None}; each step is the seed of its trees."""
    run.mkdir(exist_ok=True)
    directory.write_config(run, small_config(**SIZES))
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", keep, config=small_config(**SIZES))
    metrics = MetricsFile(run / "metrics.jsonl")
    for step, loss in losses.items():
        if loss is not None:
            metrics.write({"step": step, "split": "validation", "elbo_loss": loss})
        checkpoints.save(step, trees(step, average), loss)
    checkpoints.close()
    return run


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Returns a run whose validation got worse after step 2."""
    return make_run(tmp_path_factory.mktemp("runs") / "run", LOSSES | {4: None})


@pytest.fixture
def run(stored, tmp_path):
    return shutil.copytree(stored, tmp_path / "run")


def restore(run, templates=None):
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 5, LOSSES)
    try:
        return checkpoints.restore_newest(templates or trees(0))
    finally:
        checkpoints.close()


def steps(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def flip(run, step, item):
    """Flips 16 bits, evenly spaced, of an item's largest file: some of it may be read by nobody."""
    path = large_file(run / "checkpoints" / str(step) / item)
    data = bytearray(path.read_bytes())
    for k in range(16):
        data[(2 * k + 1) * len(data) // 32] ^= 1
    path.write_bytes(data)


def assert_trees_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


def test_what_is_saved_comes_back_bit_by_bit(run):
    step, items = restore(run)
    assert step == 4
    assert_trees_equal(items, trees(4))


def test_arrays_may_change_once_save_has_returned(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints", 1)
    items = trees(5)
    checkpoints.save(5, items, None)
    for leaf in jax.tree.leaves(items):
        leaf[...] = 0
    checkpoints.close()
    assert_trees_equal(restore(tmp_path)[1], trees(5))


def test_a_run_without_checkpoints_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path) is None


def test_a_checkpoint_is_on_the_disk_before_an_older_one_is_deleted(tmp_path, monkeypatch):
    config, synced, deleted = small_config(**SIZES), set(), []
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints", 1, config=config)
    checkpoints.save(1, trees(1), None)
    assert checkpoints.steps() == [1]

    def delete(path, **options):
        newest = tmp_path / "checkpoints" / "2"
        files = {newest, *newest.rglob("*")} - {newest / "commit_success.txt"}  # is for buckets
        missing = [path for path in files if path.stat().st_ino not in synced]
        deleted.append((path, missing))
        rmtree(path, **options)

    rmtree = shutil.rmtree
    monkeypatch.setattr(os, "fsync", lambda number: synced.add(os.fstat(number).st_ino))
    monkeypatch.setattr(shutil, "rmtree", delete)
    checkpoints.save(2, trees(2), None)
    checkpoints.close()
    ((path, missing),) = [one for one in deleted if Path(one[0]).name == "1"]
    assert missing == [] and not Path(path).exists()


def test_the_newest_and_the_best_are_kept(tmp_path):
    make_run(tmp_path, {1: 9.0, 2: 7.0, 3: None, 4: 8.0, 5: None, 6: None}, keep=2)
    assert steps(tmp_path) == [2, 5, 6]


def test_a_step_saved_again_is_left_alone_and_takes_its_loss(run):
    before = {
        path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()
    }
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 1, LOSSES)
    checkpoints.save(4, trees(14), 1.0)  # nothing is deleted that is not replaced yet
    checkpoints.close()
    assert {path: path.read_bytes() for path in before} == before
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 1, LOSSES)
    checkpoints.save(4, trees(4), 1.0)
    for step in (5, 6):
        checkpoints.save(step, trees(step), None)
    checkpoints.close()
    assert steps(run) == [4, 6]  # the best now, and the newest


def test_a_loss_that_a_killed_process_had_measured_is_not_told_by_what_follows(run):
    """Its line was written and its checkpoint was not: the run goes on before it."""
    losses = LOSSES | {6: 5.0}
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 5, losses, small_config(**SIZES))
    restored, _ = checkpoints.restore_newest(trees(0))
    assert restored == 4
    checkpoints.save(6, trees(6), None)  # stopped before its validation
    checkpoints.close()
    told = stored_checkpoints.told_of_run(run / "checkpoints", 6)["losses"]
    assert told == {f"{step}": loss for step, loss in LOSSES.items()}


def test_load_takes_the_average_of_the_best_on_validation(run):
    assert draw_jax.load is checkpoint.load
    config, model, variables = checkpoint.load(run)
    fields = json.loads((run / "config.json").read_text())
    assert fields.pop("digest") and config.to_dict() == fields and config.is_locked
    assert model == build.build(small_config(**SIZES))
    assert set(variables) == {"params"}
    assert_trees_equal(variables["params"], trees(2)["average"])
    assert_trees_equal(checkpoint.load(str(run), 4)[2]["params"], trees(4)["average"])


def test_load_takes_the_newest_where_nothing_was_validated(tmp_path):
    make_run(tmp_path, {1: None, 2: None}, average=False)
    MetricsFile(tmp_path / "metrics.jsonl").write({"step": 1, "split": "train"})
    assert_trees_equal(checkpoint.load(tmp_path)[2]["params"], trees(2, average=False)["params"])


def test_load_needs_no_optimiser_state(run):
    for step in steps(run):
        shutil.rmtree(run / "checkpoints" / str(step) / "optimizer")
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])


def test_load_changes_nothing(run):
    before = {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))}
    checkpoint.load(run)
    assert {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))} == before


def test_a_damaged_best_gives_way_to_the_next_best_with_a_warning(run):
    flip(run, 2, "average")
    with pytest.warns(UserWarning, match="checkpoint 2 is damaged.*taking the next best"):
        _, _, variables = checkpoint.load(run)
    assert_trees_equal(variables["params"], trees(3)["average"])
    with pytest.raises(checkpoint.CheckpointError, match="checkpoint 2 is damaged"):
        checkpoint.load(run, 2)


def test_missing_averages_are_damage_and_not_a_reason_to_take_other_weights(run):
    shutil.rmtree(run / "checkpoints" / "2" / "average")
    with pytest.raises(checkpoint.CheckpointError, match="checkpoint 2 is damaged"):
        checkpoint.load(run, 2)


def test_damage_where_nobody_looks_does_not_matter(run):
    flip(run, 2, "params")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])


def test_a_damaged_loss_is_told_and_ranks_nothing(run):
    file = run / "metrics.jsonl"
    file.write_bytes(file.read_bytes().replace(b"7.0", b"9.5"))  # of step 2, the best
    with (
        pytest.warns(UserWarning, match=r"metrics.jsonl: line 2 is damaged"),
        pytest.warns(UserWarning, match=r"lost the validation of step 2; its loss is taken from"),
    ):
        assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])
    for lose in (lambda: file.write_bytes(b""), file.unlink):
        lose()
        with pytest.warns(UserWarning, match=r"lost the validation of step 1, 2, 3; its loss is"):
            assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])
    forget(run)
    with pytest.warns(UserWarning, match=r"no metrics.jsonl to tell the best; taking the newest"):
        assert_trees_equal(checkpoint.load(run)[2]["params"], trees(4)["average"])


def forget(run):
    """Makes checkpoints like those of earlier versions, which told nothing of their run."""
    for path in (run / "checkpoints").glob("*/digests/metadata"):
        fields = json.loads(path.read_bytes())
        del fields["run"]
        path.write_text(json.dumps(fields))


def test_metrics_of_another_run_are_refused(run):
    file = run / "metrics.jsonl"
    file.unlink()
    MetricsFile(file).write({"step": 3, "split": "validation", "elbo_loss": 1.0})
    with pytest.raises(checkpoint.CheckpointError, match=r"metrics.jsonl is not of this run: of s"):
        checkpoint.load(run)
    forget(run)
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(3)["average"])


@pytest.mark.parametrize("field", ["seed", "data.binarization", "data.data_dir", "model.unroll"])
def test_a_configuration_of_another_run_is_refused(run, field):
    value = {"seed": 7, "data.binarization": "fixed", "data.data_dir": "x", "model.unroll": 2}
    directory.write_config(run, small_config(**SIZES | {field: value[field]}))
    if field in ("data.data_dir", "model.unroll"):  # which change no number
        assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])
        return
    with pytest.raises(
        checkpoint.CheckpointError, match=rf"checkpoint 2 .* another config\.{field} than"
    ):
        checkpoint.load(run, 2)
    forget(run)
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])


@pytest.mark.parametrize("text", ["5", "{", "\udcff"])
def test_what_stops_orbax_is_named_and_loses_nothing(run, text):
    path = run / "checkpoints" / "3" / "_CHECKPOINT_METADATA"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])
    try:
        assert restore(run)[0] == 4
    except checkpoint.CheckpointError as error:
        assert f"{path} is damaged" in str(error) and f"move {path.parent} away" in str(error)
    else:
        assert text != "5"
    assert steps(run) == [1, 2, 3, 4]
    shutil.move(path.parent, run / "damaged_3")
    assert restore(run)[0] == 4


def with_losses(run, text):
    """Makes checkpoints like those of earlier versions, which kept their loss beside them."""
    for step in steps(run):
        (run / "checkpoints" / str(step) / "metrics").mkdir()
        (run / "checkpoints" / str(step) / "metrics" / "metrics").write_text(text)


@pytest.mark.parametrize("text", ["[]", '{"loss": "x"}', '{"loss": 1.0}'])
def test_a_loss_beside_a_checkpoint_is_not_read(run, text):
    with_losses(run, text)
    assert restore(run)[0] == 4
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])


def test_a_loss_that_stops_orbax_is_named_and_can_be_deleted(run):
    with_losses(run, "{")
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])
    with pytest.raises(checkpoint.CheckpointError, match="1/metrics/metrics is damaged .*delete"):
        restore(run)
    for step in steps(run):
        shutil.rmtree(run / "checkpoints" / str(step) / "metrics")
    assert restore(run)[0] == 4


def test_the_best_is_still_kept_after_a_restart(run):
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 1, LOSSES)
    for step in (5, 6):
        MetricsFile(run / "metrics.jsonl").write(
            {"step": step, "split": "validation", "elbo_loss": 7.5}
        )
        checkpoints.save(step, trees(step), 7.5)
    checkpoints.close()
    assert steps(run) == [2, 6]
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])


def test_a_run_of_damaged_checkpoints_cannot_be_loaded(run):
    for step in steps(run):
        flip(run, step, "average")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(checkpoint.CheckpointError, match=r"no checkpoint that can be read \(of 4\)"),
    ):
        checkpoint.load(run)


def test_nothing_is_moved_unless_a_sound_one_is_before_it(run):
    for step in steps(run):
        flip(run, step, "params")
    with pytest.raises(
        checkpoint.CheckpointError, match="no checkpoint .*they stay where they are"
    ):
        restore(run)
    assert steps(run) == [1, 2, 3, 4] and not (run / "damaged").exists()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_what_cannot_be_read_is_not_taken_for_damage(run, monkeypatch, number):
    def fail(*args, **kwargs):
        raise ValueError(f"INTERNAL: {os.strerror(number)} [source locations]")

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", fail)
    with pytest.raises(checkpoint.CheckpointError, match=f"cannot read .*{os.strerror(number)}"):
        restore(run)
    assert steps(run) == [1, 2, 3, 4] and not (run / "damaged").exists()


def test_a_file_that_the_disk_does_not_give_is_not_taken_for_damage(run, monkeypatch):
    opened = pathlib.Path.open
    lost = large_file(run / "checkpoints" / "4" / "params")

    def fail(path, *args, **kwargs):
        if path == lost:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *args, **kwargs)

    lost.write_bytes(lost.read_bytes()[:100])  # what a library meets is an error of its own
    monkeypatch.setattr(pathlib.Path, "open", fail)
    with pytest.raises(checkpoint.CheckpointError, match="cannot read .*Input/output error"):
        restore(run)
    assert steps(run) == [1, 2, 3, 4]


def test_a_damaged_checkpoint_never_replaces_another_that_lies_aside(run):
    flip(run, 4, "params")
    assert restore(run)[0] == 3
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 5, LOSSES)
    checkpoints.save(4, trees(4), None)
    checkpoints.close()
    flip(run, 4, "optimizer")
    assert restore(run)[0] == 3
    assert sorted(path.name for path in (run / "damaged").iterdir()) == ["4", "4_2"]


def test_a_checkpoint_that_a_training_run_replaces_is_no_damage(run, monkeypatch):
    """As when the best of `keep_checkpoints` 1 goes while it is read."""
    read = stored_checkpoints.read

    def gone_once(directory, step, items):
        if step == 2:
            shutil.rmtree(directory / "2")
        return read(directory, step, items)

    monkeypatch.setattr(stored_checkpoints, "read", gone_once)
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(3)["average"])


@pytest.mark.parametrize("late", [1, 3])
def test_a_first_checkpoint_that_is_being_written_is_waited_for(run, late, monkeypatch):
    """So does a reader that finds, of `keep_checkpoints` 1, the old gone and the new not yet there."""
    complete, asked = stored_checkpoints.steps, []

    def being_written(directory):
        asked.append(1)
        return complete(directory) if len(asked) > late else []

    monkeypatch.setattr(stored_checkpoints, "steps", being_written)
    assert_trees_equal(checkpoint.load(run)[2]["params"], trees(2)["average"])


def test_a_checkpoint_that_never_comes_is_said(run, monkeypatch):
    monkeypatch.setattr(stored_checkpoints, "_ATTEMPTS", 3)
    for step in steps(run):
        (run / "checkpoints" / f"{step}").rename(
            run / "checkpoints" / f"{step}.orbax-checkpoint-tmp"
        )
    with pytest.raises(checkpoint.CheckpointError, match="holds no checkpoint yet"):
        checkpoint.load(run)


@pytest.mark.parametrize("item", ["params", "average", "optimizer"])
def test_flipped_bits_in_any_item_send_restore_one_back(run, item, capsys):
    flip(run, 4, item)
    step, items = restore(run)
    assert step == 3
    assert_trees_equal(items, trees(3))
    assert "checkpoint 4 is damaged" in capsys.readouterr().out
    assert steps(run) == [1, 2, 3] and (run / "damaged" / "4").is_dir()


def test_the_newest_sound_of_some_steps(run):
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 5, config=small_config(**SIZES))
    items = ["params", "optimizer"]
    assert checkpoints.newest_sound([1, 3, 4], items) == 4
    flip(run, 4, "params")
    flip(run, 3, "optimizer")
    assert checkpoints.newest_sound([1, 3, 4], items) == 1
    assert checkpoints.newest_sound([3, 4], items) is None is checkpoints.newest_sound([], items)
    assert checkpoints.steps() == [1, 2, 3, 4]  # nothing is moved or deleted


def test_a_loss_of_a_start_that_saved_nothing_ranks_nothing(tmp_path):
    """As of a run that was killed in its first checkpoint, and begun anew with other settings."""
    config = small_config(**SIZES)
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints", 5, {1: 0.5}, config)
    assert checkpoints.restore_newest({}) is None
    checkpoints.save(1, trees(1), None)
    checkpoints.save(2, trees(2), 0.75)
    checkpoints.close()
    assert stored_checkpoints.told_of_run(tmp_path / "checkpoints", 2)["losses"] == {"2": 0.75}


def test_a_flipped_bit_in_the_digests_is_damage_too(run):
    path = run / "checkpoints" / "4" / "digests" / "metadata"
    text = path.read_text()
    place = text.index('": "') + 10
    path.write_text(text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :])
    assert restore(run)[0] == 3


def test_arrays_of_another_model_are_no_damage(run):
    templates = trees(0)
    templates["params"]["cell"]["canvas_0"] = np.zeros((3, 3, 1), np.float32)
    with pytest.raises(checkpoint.CheckpointError, match="cell.canvas_0 is .*expected"):
        restore(run, templates)
    templates = trees(0)
    del templates["params"]["cell"]["canvas_0"]
    with pytest.raises(checkpoint.CheckpointError, match=r"unexpected \['cell.canvas_0'\]"):
        restore(run, templates)
    assert steps(run) == [1, 2, 3, 4] and not (run / "damaged").exists()


def test_weights_that_do_not_fit_the_configuration_are_named(run):
    config = json.loads((run / "config.json").read_text())
    config["model"]["latent_size"] = 4
    del config["digest"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(checkpoint.CheckpointError, match="of another model: cell"):
        checkpoint.load(run)


def test_what_is_not_there_is_said(run, tmp_path, monkeypatch):
    exported(run, tmp_path / "pretrained" / "mine", "float32")
    monkeypatch.setattr(export, "FOLDER", tmp_path / "pretrained")
    for name, told in {
        "nobody": "'nobody' is no directory .* or one of: mine",
        str(tmp_path): "is a directory without config.json",
    }.items():
        with pytest.raises(checkpoint.CheckpointError, match=told):
            checkpoint.load(name)
    with pytest.raises(checkpoint.CheckpointError, match=r"no checkpoint of step 7; .*\[1, 2, 3"):
        checkpoint.load(run, 7)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(checkpoint.CheckpointError, match="holds no checkpoint yet"):
        checkpoint.load(run)


DOTS = '{"seed": 0, "kind": "draw", "data": {}, "model": {}, "train": {"train.clip_norm": 1}}'


@pytest.mark.parametrize("text", ["", '{"seed": 0,', "[]", "3", '{"seed": 0}', DOTS])
def test_a_config_json_that_is_none_is_one_line(run, text):
    (run / "config.json").write_text(text)
    with pytest.raises(checkpoint.CheckpointError, match="config.json") as caught:
        checkpoint.load(run)
    assert "\n" not in str(caught.value)


def test_read_config_of_no_run(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="is no run directory"):
        directory.read_config(tmp_path)


def exported(run, target, dtype):
    config, _, variables = checkpoint.load(run)
    export.write(config, variables["params"], target, dtype, "# mine\n")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exported_weights_load_by_name(run, tmp_path, monkeypatch, dtype):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "FOLDER", tmp_path / "pretrained")
    exported(run, tmp_path / "pretrained" / "mine", dtype)
    assert export.names() == ["mine"]
    config, model, variables = checkpoint.load("mine")
    assert config.to_dict() == checkpoint.load(run)[0].to_dict() and config.is_locked
    expected = jax.tree.map(lambda x: x.astype(dtype).astype("float32"), trees(2)["average"])
    assert_trees_equal(variables["params"], expected)
    x = np.zeros((1, *model.image_shape), np.float32)
    assert np.isfinite(model.apply(variables, x, np.zeros((2, 1, 3), np.float32)).nll).all()


def test_float16_takes_half_the_bytes(run, tmp_path):
    sizes = []
    for dtype in ("float32", "float16"):
        exported(run, tmp_path / dtype, dtype)
        with np.load(tmp_path / dtype / "weights.npz") as arrays:
            assert {arrays[name].dtype for name in arrays.files} == {np.dtype(dtype)}
        sizes.append((tmp_path / dtype / "weights.npz").stat().st_size)
    assert sizes[1] < 0.65 * sizes[0]  # each array has a header besides


def test_a_full_disk_is_an_error_that_says_what_stays(run, monkeypatch):
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 5)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(checkpoint.CheckpointError, match="cannot write .*No space .*stay"):
        checkpoints.save(5, trees(5), None)
    checkpoints.close()
    assert restore(run)[0] == 4


def test_where_no_folder_can_be_made_nothing_waits(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints", 5)
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").touch()  # as where a disk holds no more files
    before = set(threading.enumerate())
    with pytest.raises(checkpoint.CheckpointError, match="cannot write"):
        checkpoints.save(5, trees(5), None)
    checkpoints.close()
    begun = [thread for thread in threading.enumerate() if thread not in before]
    # Threads that wait for others are of a class of Orbax's; idle ones of asyncio end by themselves.
    assert not [thread for thread in begun if type(thread) is not threading.Thread], begun


def test_a_directory_that_cannot_be_made_is_an_error_that_says_so(tmp_path):
    (tmp_path / "run").touch()  # as where a disk holds no more files
    with pytest.raises(checkpoint.CheckpointError, match=r"cannot write to .*run.checkpoints \("):
        checkpoint.Checkpoints(tmp_path / "run" / "checkpoints", 5)
