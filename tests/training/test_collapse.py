"""A run that lost what it had learned is told, from the rows of its metrics."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from draw_jax.training.collapse import collapsed
from draw_jax.training.job import Job


def rows(*errors):
    """Returns rows of validations at steps 10, 20, ... among those of training."""
    validations = [
        {"step": 10 * k, "split": "validation", "error": error}
        for k, error in enumerate(errors, start=1)
    ]
    return [{"step": 1, "split": "train", "error": 0.0}, *validations]


@pytest.mark.parametrize(
    "errors",
    [
        (),
        (0.9,),
        (0.9, 0.9),
        (0.03, 0.1),  # more than twice, but not 0.2 more
        (0.5, 0.9),  # 0.2 more, but not twice
        (0.03, 0.9, 0.04),  # recovered
        (0.25, 0.5),  # neither is passed, only reached
    ],
)
def test_no_collapse(errors):
    assert collapsed(rows(*errors)) is None


@pytest.mark.parametrize(
    ("errors", "best_step"),
    [((0.03, 0.24), 10), ((0.4, 0.2, 0.3, 0.41), 20), ((0.1, 0.9, 0.9), 10)],
)
def test_a_collapse_names_the_best_validation_before(errors, best_step):
    collapse = collapsed(rows(*errors))
    best = errors[best_step // 10 - 1]
    assert collapse == (10 * len(errors), errors[-1], best_step, best)
    told = collapse.text(Path("runs/a"))
    assert "\n" not in told
    assert f"{errors[-1]:.4f} at step {10 * len(errors)}" in told
    assert f"{best:.4f} at step {best_step}, whose checkpoint is kept" in told
    assert "--init_from=runs/a" in told and "--config.train.learning_rate" in told


def test_a_run_tells_a_collapse_once_until_it_recovers_and_again_when_resumed(tmp_path):
    def job():
        return SimpleNamespace(
            task=SimpleNamespace(metric="error"),
            run=tmp_path,
            log=SimpleNamespace(say=told.append),
            _main=True,
            _collapsed=False,
        )

    told = []
    running = job()
    for errors, lines in (
        ((0.1, 0.9), 1),
        ((0.1, 0.9, 0.8), 1),
        ((0.1, 0.9, 0.8, 0.1), 1),
        ((0.1, 0.9, 0.8, 0.1, 0.7), 2),
    ):
        text = "".join(json.dumps(row) + "\n" for row in rows(*errors))
        (tmp_path / "metrics.jsonl").write_text(text)
        Job._tell_collapse(running)
        assert len(told) == lines, errors
    Job._tell_collapse(job())  # another process, from the rows alone
    assert len(told) == 3 and told[2] == told[1]
    running = job()
    running.task.metric = "elbo_loss"
    Job._tell_collapse(running)
    assert len(told) == 3
