"""How soon the first update is done."""

import sys
import time
import warnings

import pytest
from absl import flags

from tests.benchmarks.commands import TINY
from tests.helpers import ROOT


@pytest.fixture(scope="module")
def command(modules):
    """Returns the command line that trains a tiny model."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(ROOT)
        # ml_collections looks there for the fields to override.
        patch.setattr(sys, "argv", ["start", *(f for f in TINY if f.startswith("--config"))])
        warnings.simplefilter("ignore", DeprecationWarning)  # of how ml_collections loads a file
        flags.FLAGS(sys.argv)
        command = modules.start.command()
    flags.FLAGS.unparse_flags()
    return command


def look_first(first_update, found):
    """Returns first_update, noting in `found` first whether programs and images are kept."""

    def look(command, kept):
        programs = list((kept / "draw_jax" / "compiled").rglob("*-cache"))
        images = list((kept / "draw_jax").glob("*.npz"))
        found.append((bool(programs), bool(images)))
        (kept / "draw_jax").mkdir(exist_ok=True)
        (kept / "draw_jax" / "decoded.npz").touch()  # as data sets that are decoded do
        return first_update(command, kept)

    return look


def test_the_command_is_the_configurations_and_reports_every_update(command):
    assert "--config.model.enc_size=8" in command and "--config.train.log_every=1" in command


def test_what_is_kept_is_removed_between_the_starts(modules, monkeypatch):
    def compile_something(command, kept):
        (kept / "draw_jax" / "compiled" / "cpu").mkdir(parents=True, exist_ok=True)
        (kept / "draw_jax" / "compiled" / "cpu" / "a-cache").touch()
        return float(len(found))

    found = []
    monkeypatch.setattr(modules.start, "first_update", look_first(compile_something, found))
    seconds = modules.start.measure([], 2)
    assert found == [(False, False), (False, True), (True, True)] * 2
    assert list(seconds.values()) == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.slow
def test_starts_find_what_they_are_said_to_find(command, modules, monkeypatch):
    found = []
    first_update = modules.start.first_update
    monkeypatch.setattr(modules.start, "first_update", look_first(first_update, found))
    began = time.perf_counter()
    seconds = modules.start.measure(command, 1)
    assert found == [(False, False), (False, True), (True, True)]
    assert 0 < sum(s for (s,) in seconds.values()) < time.perf_counter() - began


def test_a_start_that_fails_says_why(modules, tmp_path):
    command = [sys.executable, ROOT / "train.py", f"--config={ROOT}/configs/smoke.py"]
    with pytest.raises(modules.start.NoUpdateError, match="Did you mean .time_steps."):
        modules.start.first_update([*command, "--config.model.time_stepz=1"], tmp_path)
