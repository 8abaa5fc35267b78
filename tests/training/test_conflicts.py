"""What may change between a run and its continuation, and what is refused."""

import json

import pytest

from draw_jax.runs import directory
from draw_jax.training import loop
from tests.training.whole_runs import files, finish, rows, small, start

pytestmark = [
    pytest.mark.usefixtures("compiled_once"),
    # Of the reads that Orbax gives up when one of them finds damage.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
    ),
]


def test_another_mathematics_is_refused(copy, whole):
    returncode, _, errors = finish(start(copy, {"model.latent_size": 3}))
    assert returncode == 1 and "Traceback" not in errors
    assert "config.model.latent_size: 2 -> 3" in errors and "another --workdir" in errors
    assert errors.count("config.") == 1
    with pytest.raises(directory.RunConflictError, match="config.train.num_steps: 24 -> 20"):
        loop.train(small(**{"train.num_steps": 20}), copy)
    assert files(copy) == files(whole)


@pytest.mark.slow
def test_where_data_lies_how_often_to_look_and_more_steps_may_change(copy, whole, tmp_path):
    fields = {"train.num_steps": 26, "train.log_every": 2, "data.data_dir": str(tmp_path)}
    assert loop.train(small(**fields), copy) == loop.FINISHED
    assert rows(copy)[:-2] == rows(whole)
    tail = [(row["step"], row["split"]) for row in rows(copy)[-2:]]
    assert tail == [(26, "train"), (26, "validation")]


def test_settings_changed_on_purpose_stay_so_until_a_checkpoint_has_them(copy):
    file, fields = copy / "config.json", {"train.learning_rate": 0.125}
    config = json.loads(file.read_text())
    config["train"]["learning_rate"] = 0.125
    del config["digest"]
    file.write_text(json.dumps(config))
    for _ in range(2):  # at its last update, so that nothing is saved: the same command again
        assert loop.train(small(**fields), copy) == loop.FINISHED
        assert "digest" not in json.loads(file.read_text())
    fields["train.num_steps"] = 25
    for _ in range(2):
        assert loop.train(small(**fields), copy) == loop.FINISHED
    assert "digest" in json.loads(file.read_text())
