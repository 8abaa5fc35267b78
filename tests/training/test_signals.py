"""A stop at every point at which a run asks for one: what is said of it is so."""

import re

import pytest

from draw_jax.training import loop, signals
from tests.helpers import NO_ATTENTION
from tests.training.whole_runs import rows, small, steps, timeless

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

# After updates 1 and 2, in the validation of 2, after 3 (the last), in its validation; no more.
FIELDS = NO_ATTENTION | {"train.num_steps": 3, "train.eval_every": 2, "train.checkpoint_every": 2}
POINTS = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)]


class StopAt(signals.Stop):
    """A stop that is wanted from the so manyth question on."""

    def __init__(self, question, team=None):
        super().__init__(team)
        self.asked, self.question = 0, question

    def requested(self):
        self.asked += 1
        return self.asked >= self.question


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compiled_once):
    run = tmp_path_factory.mktemp("whole")
    assert loop.train(small(**FIELDS), run) == loop.FINISHED
    return run


@pytest.mark.parametrize(("question", "step"), POINTS)
def test_what_is_said_to_be_saved_is(whole, tmp_path, monkeypatch, capsys, question, step):
    with monkeypatch.context() as patch:
        patch.setattr(signals, "Stop", lambda team: StopAt(question, team))
        assert loop.train(small(**FIELDS), tmp_path) == loop.STOPPED
    said = re.search(r"stopped at step (\d+), all saved", capsys.readouterr().out)
    assert int(said[1]) == step == steps(tmp_path)[-1] == rows(tmp_path)[-1]["step"]
    assert rows(tmp_path)[-1]["split"] == "train"
    assert loop.train(small(**FIELDS), tmp_path) == loop.FINISHED
    assert [timeless(row) for row in rows(tmp_path)] == [timeless(row) for row in rows(whole)]


def test_a_run_that_no_question_stops_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "Stop", lambda team: StopAt(len(POINTS) + 1, team))
    assert loop.train(small(**FIELDS), tmp_path) == loop.FINISHED
