"""A few cases of the campaigns of kills, of several processes and of hours."""

import pytest

from tests.campaigns import kill, processes, soak
from tests.campaigns.campaign import Broken, Ended, judged, play_one
from tests.campaigns.soak import Count


@pytest.mark.parametrize(
    ("done", "told"),
    [
        (Ended(1, "", "Traceback (most recent call last):\n"), "a traceback"),
        (Ended(-11, "", ""), "exit code -11"),
        (Ended(2, "", "wrong\n"), "without a line that says why"),
    ],
)
def test_a_program_may_not_end_so(done, told):
    with pytest.raises(Broken, match=told):
        judged(done)


@pytest.mark.parametrize(
    "done", [Ended(0, "", ""), Ended(3, "all saved", ""), Ended(1, "", "error: x")]
)
def test_a_program_may_end_so(done):
    assert judged(done) == done


def test_what_grows_is_named():
    flat = [Count(500.0 + k % 3, 30, 40) for k in range(40)]
    assert soak.grown(flat) == []
    slowly = [Count(500.0 + 2 * k, 30, 40) for k in range(40)]
    assert soak.grown(slowly) == ["mebibytes: 529, then 569"]
    assert soak.grown([Count(500.0, 30 + k // 20, 40) for k in range(40)]) == ["files: 30, then 31"]


@pytest.mark.slow
def test_a_few_signals_lose_nothing():
    told = play_one(kill.play, 0, 4530)  # two early in the run, so that neither comes after its end
    assert "SIGKILL" in told and "SIGTERM" in told


@pytest.mark.slow
def test_faults_of_one_of_two_processes_are_told_by_both(tmp_path):
    for kind in ("another workdir", "its number twice"):
        assert "refused in one line" in processes.refuse(kind, tmp_path, tmp_path / "run", 2)


@pytest.mark.slow
def test_some_seconds_of_training_and_reading(tmp_path):
    counts, readers = soak.soak(tmp_path / "run", tmp_path, 4.0)
    assert readers >= 1 and len(counts) >= 2
    assert all(c.files < 100 and c.threads < 200 for c in counts)
