"""A run begun by version 0.1, whose code knew fewer fields and lay in other files, still counts."""

import importlib
import json
import tarfile
from pathlib import Path

import pytest

from draw_jax.runs import checkpoint, directory, legacy
from draw_jax.training import config as settings
from draw_jax.training import loop
from tests.helpers import program, small_config
from tests.training.whole_runs import rows, rows_so_far, steps, timeless

STORED = Path(__file__).parent / "run_of_version_0_1.tar.gz"
# Of the old program's `evaluate.py --split=test --importance_samples=3`.
LOSS, WEIGHTED = 481.0136013454861, 480.9900073581272
FIELDS = {
    "train.log_every": 1,
    "train.eval_every": 8,
    "train.checkpoint_every": 4,
    "train.keep_checkpoints": 1,
    "train.num_steps": 24,
}


@pytest.fixture
def old(tmp_path):
    """Returns a run of 12 updates; whole_metrics.jsonl is of a run of 24, never stopped."""
    with tarfile.open(STORED) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def test_it_lacks_fields_that_a_configuration_now_has(old):
    stored = json.loads((old / "config.json").read_text())
    lacking = {name for name in legacy.VALUES["draw"] if name.split(".")[1] not in stored["model"]}
    assert "model.likelihood" in lacking
    read = directory.read_config(old)
    assert read.model.likelihood == "bernoulli"
    assert settings.differing_fields(small_config(**FIELDS), read) == []


def test_a_legacy_value_is_compared_as_any_other():
    old = {"kind": "draw", "model": {"time_steps": 2}}
    filled = legacy.filled(old)
    assert filled["model"] == {
        "time_steps": 2,
        "unroll": 1,
        "likelihood": "bernoulli",
        "canvas_log_scale": -2.0,
        "privy": True,
        "encoder_input": "both",
        "recurrent_init": "normal",
        "forget_bias": 1.0,
        "scan_rows": 0,
        "read_gamma": 1.0,
        "write_gamma": 1.0,
        "window_init_scale": 1.0,
        "state_clip_norm": 0.0,
    }
    assert old == {"kind": "draw", "model": {"time_steps": 2}}  # untouched
    assert legacy.filled({"kind": "other", "model": {}}) == {"kind": "other", "model": {}}


def test_a_field_that_is_no_more_is_left_out_where_the_run_did_without_it():
    model = {"time_steps": 2, "conv_channels": []}
    assert legacy.filled({"kind": "classifier", "model": model})["model"] == {"time_steps": 2}
    assert len(model) == 2  # untouched
    model = {"conv_channels": [8]}  # what no model does now: `build` refuses it
    assert legacy.filled({"kind": "classifier", "model": model})["model"] == model


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("mnist", ("data.resize", "train.free_bits", "model.recurrent_init", "model.scan_rows")),
        (
            "study_model_1",
            ("data.resize", "train.free_bits", "model.recurrent_init", "model.scan_rows"),
        ),
        (
            "study_model_2",
            ("data.resize", "train.free_bits", "model.recurrent_init", "model.scan_rows"),
        ),
        (
            "study_model_3",
            ("data.resize", "train.free_bits", "model.recurrent_init", "model.scan_rows"),
        ),
        ("cluttered_mnist", ("data.resize", "train.free_bits")),
        ("cluttered_mnist_convnet", ("data.resize", "train.free_bits")),
        ("cluttered_mnist_ram", ("data.resize", "train.free_bits")),
    ],
)
def test_a_run_of_any_kind_from_before_a_field_is_the_same_run(name, lacking):
    config = importlib.import_module(f"draw_jax.configs.{name}").get_config()
    old = config.copy_and_resolve_references()
    for field in lacking:
        group, _, last = field.partition(".")
        del old[group][last]
    assert settings.differing_fields(config, old) == []
    config.data.resize = True
    assert settings.differing_fields(config, old) == ["config.data.resize: False -> True"]


@pytest.mark.slow
def test_it_gives_the_numbers_that_it_gave(old, tmp_path):
    result = tmp_path / "result.json"
    flags = (f"--workdir={old}", "--split=test", "--importance_samples=3", f"--json={result}")
    done = program("evaluate.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    # To the last digit on the machine that wrote it; another kind of processor rounds elsewhere.
    assert found["elbo_loss"] == pytest.approx(LOSS, rel=1e-6)
    assert found["importance_weighted_nll"] == pytest.approx(WEIGHTED, rel=1e-6)


@pytest.mark.slow
def test_it_continues_as_if_it_had_never_been_stopped(old):
    before = rows_so_far(old)
    assert before[-1]["step"] == 12 and steps(old) == [12]
    assert loop.train(small_config(**FIELDS), old) == loop.FINISHED
    expected = [json.loads(line) for line in (old / "whole_metrics.jsonl").read_text().splitlines()]
    # The shorter run ended with a validation at 12, which stays.
    found = [r for r in rows(old) if (r["step"], r["split"]) != (12, "validation")]
    assert [(r["step"], r["split"]) for r in found] == [(r["step"], r["split"]) for r in expected]
    for ours, theirs in zip(map(timeless, found), map(timeless, expected), strict=True):
        assert set(ours) == set(theirs)
        for name in ("nll", "kl", "elbo_loss"):
            # 24 updates of float32 on perhaps another kind of processor.
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), (ours["step"], name)
    assert checkpoint.load(old)[2]["params"]
