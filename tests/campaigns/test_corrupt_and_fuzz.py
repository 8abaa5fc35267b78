"""A few cases of the campaigns `corrupt` and `fuzz`."""

import random
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draw_jax.runs import checkpoint, digests
from draw_jax.runs.leaves import CheckpointError, flatten
from tests.campaigns import corrupt, fuzz, fuzz_files
from tests.campaigns.campaign import Broken, play_one
from tests.campaigns.commands import called, in_time, refused
from tests.training.conftest import compiled_once

__all__ = ["compiled_once"]  # a fixture


pytestmark = [
    # Of the reads that Orbax gives up when one of them finds damage.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
    ),
]


# Damage of each kind: to what a run has once, to its best and its newest checkpoint, to an export.
DAMAGED = (
    ("run/config.json", "[]"),
    ("run/metrics.jsonl", "a bad line"),
    ("run/checkpoints/16/metrics/metrics", "a byte flipped"),
    ("run/checkpoints/16/params/d/#0", "that of another run"),
    ("run/checkpoints/21/digests/metadata", "cut short"),
    ("export/weights.npz", "deleted"),
)


def weights(run, step=None):
    return flatten(checkpoint.load(run, step)[2])


@pytest.mark.slow
def test_damage_of_any_file_gives_the_weights_of_a_checkpoint_or_one_line(tmp_path):
    right = {step: weights(fuzz.tiny_run(), step) for step in (16, 24)}
    assert any((right[16][name] != right[24][name]).any() for name in right[16])
    places = sorted(corrupt.places(fuzz.tiny_run().parent, (fuzz.tiny_run().name,)))
    assert len(places) > 50
    counts = {"best": 0, "other": 0, "refused": 0}
    for case in range(12):
        rng = random.Random(case)
        folder = tmp_path / f"{case}"
        shutil.copytree(fuzz.tiny_run(), folder / fuzz.tiny_run().name)
        run = folder / fuzz.tiny_run().name
        digest = [name for name in places if name.endswith("16/digests/metadata")]
        name = rng.choice([places[-2:], digest, places][case // 4])  # first what is vital
        path = corrupt.places(folder, (run.name,))[name]
        damage = rng.choice(["a bit flipped", "a byte flipped", "cut short", "emptied", "[]", "5"])
        corrupt.DAMAGES[damage](path, rng, {})
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = weights(run)
            except CheckpointError as error:
                assert name.endswith("config.json") and str(path) in str(error), (name, damage)
                counts["refused"] += 1
                continue
        step = next(s for s in right if all((right[s][k] == found[k]).all() for k in found))
        assert step == 16 or told, (name, damage)
        counts["best" if step == 16 else "other"] += 1
    assert all(counts.values()), counts


def assert_taken_or_refused(play, rng):
    with tempfile.TemporaryDirectory() as folder, fuzz.here(Path(folder)):
        assert play(rng, Path(folder)) in ("taken", "refused")


@pytest.mark.parametrize("area", ["pictures", "archives", "files of a run", "folders of pictures"])
@settings(max_examples=6, derandomize=True)  # the campaign draws others
@given(rng=st.randoms(use_true_random=False))
def test_strange_files_work_or_are_refused_in_one_line(area, rng):
    assert_taken_or_refused(fuzz.AREAS[area][1], rng)


@pytest.mark.parametrize("play", [fuzz.play_config, fuzz.play_flags])
@settings(max_examples=4, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_strange_settings_and_flags_are_refused_in_one_line(play, rng):
    assert_taken_or_refused(play, rng)


def test_a_case_leaves_no_trace_in_the_next():
    before = repr(fuzz_files.VALUES)
    for case in range(300):
        fuzz_files.strange_json(b'{"a": {"b": [1, 2]}}', random.Random(case))
    assert repr(fuzz_files.VALUES) == before


def test_a_campaign_tells_what_breaks_a_promise():
    with pytest.raises(Broken, match="still running after"), in_time(0.05):
        while True:
            pass
    with pytest.raises(Broken, match="a traceback"):
        called(lambda: int("x"))
    with pytest.raises(Broken, match="a traceback"):
        refused(lambda: np.zeros(3).reshape(2, 2))
    with pytest.raises(Broken, match="exit code 7"):
        called(lambda: 7)
    assert refused(lambda: None) is None
    assert fuzz_files.damaged(b"x" * 50, random.Random(0)) != b"x" * 50
    assert digests.signed({})["digest"]


@pytest.mark.slow
def test_a_damaged_run_is_evaluated_drawn_and_continued_or_refused(compiled_once):
    deck = corrupt.sound().deck  # its order is not that of the next deck: Orbax picks file names
    numbers = [deck.index(case) for case in DAMAGED]
    outcomes = [play_one(corrupt.play, 0, number) for number in numbers]
    assert any("bit for bit" in outcome for outcome in outcomes), outcomes
