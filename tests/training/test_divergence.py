"""What tells that a run has diverged, and that it goes back as its configuration says."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from draw_jax.runs import checkpoint, stored
from draw_jax.training import config as settings
from draw_jax.training import loop, signals
from draw_jax.training.divergence import DivergedError, Watch
from draw_jax.training.job import Job
from tests.helpers import NO_ATTENTION, small_config
from tests.training.whole_runs import rows, steps, timeless


def validations(*errors):
    """Returns rows of validations at steps 10, 20, ... behind one of training."""
    found = [
        {"step": 10 * k, "split": "validation", "error": error}
        for k, error in enumerate(errors, start=1)
    ]
    return [{"step": 1, "split": "train", "loss": 1.0, "grad_norm": 1.0}, *found]


def training(*pairs):
    """Returns rows of training at steps 10, 20, ... with losses and norms of the gradient."""
    return [
        {"step": 10 * k, "split": "train", "loss": loss, "grad_norm": norm}
        for k, (loss, norm) in enumerate(pairs, start=1)
    ]


def told(rows, batch_size=100):
    """Returns (the divergence's text, the last good step) at the last of the rows, else None."""
    *earlier, latest = rows
    watch = Watch("loss", batch_size, earlier)
    try:
        watch.take(latest)
    except DivergedError as error:
        return str(error), error.good_until
    return None


def test_a_loss_that_is_not_made_small_tells_no_divergence():
    """The KL may be large while its weight is small."""
    large = training(*[(1.0, 1.0)] + [(50.0, 1.0)] * 10)
    assert told(large)[0].startswith("exploded: loss is 50")
    assert told([row | {"objective": 1.0} for row in large]) is None
    for row in large:
        row |= {"objective": row["loss"], "loss": 1.0}
    assert told(large)[0].startswith("exploded")


@pytest.mark.parametrize(
    "errors",
    [
        (0.9,),
        (0.9, 0.9),
        (0.03, 0.1),  # more than twice, but not 0.2 more
        (0.5, 0.9),  # 0.2 more, but not twice
        (0.03, 0.9, 0.04),  # recovered
        (0.25, 0.5),  # neither is passed, only reached
    ],
)
def test_no_collapse(errors):
    assert told(validations(*errors)) is None


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_validation_loss_that_is_not_finite(value):
    found = validations(0.5, 0.4)
    found = [row | {"elbo_loss": 90.0, "elbo_loss_se": 0.5, "read_sigma": np.inf} for row in found]
    assert told(found) is None
    found[-1] |= {"elbo_loss": value, "elbo_loss_se": np.nan}
    assert told(found) == (f"validation elbo_loss is {value} at step 20", 10)
    assert told([found[0], found[-1]]) == (f"validation elbo_loss is {value} at step 20", 0)


@pytest.mark.parametrize(
    ("errors", "best_step"),
    [((0.03, 0.24), 10), ((0.4, 0.2, 0.3, 0.41), 20), ((0.1, 0.9, 0.9), 10)],
)
def test_a_collapse_names_the_best_validation_before(errors, best_step):
    text, good = told(validations(*errors))
    best = errors[best_step // 10 - 1]
    assert good == best_step and "\n" not in text
    assert text == (
        f"collapsed: validation error {errors[-1]:.4f} at step {10 * len(errors)}, after "
        f"{best:.4f} at step {best_step}"
    )


def learning(*errors, batch_size=100, validation=0.9):
    """Returns what is told at a validation behind rows of training with these errors."""
    rows = [{"step": 10 * k, "split": "train", "error": e} for k, e in enumerate(errors, start=1)]
    rows.append({"step": 10 * len(errors), "split": "validation", "error": validation})
    return told(rows, batch_size)


def test_a_collapse_before_the_first_validation_is_told_by_the_errors_of_training():
    assert learning(*[0.9] * 5, *[0.1] * 5, *[0.8] * 5) == (
        "collapsed: validation error 0.9000 at step 150, after 0.1000 in training until step 100",
        100,
    )
    assert learning(*[0.1] * 5, *[0.8] * 20, batch_size=100)[1] == 50


@pytest.mark.parametrize(
    ("errors", "changes"),
    [
        ([0.9] * 15, {}),
        ([0.1] * 2 + [0.8] * 5, {}),  # too few rows to know that it had learned
        ([0.9] + [0.1] * 5 + [0.8], {}),  # a mean of 0.24 is below 0.1 + 0.2
        ([0.0] * 15, {}),  # overfitting: training has not lost what it knew
        ([0.1] * 5 + [0.8] * 5, {"validation": 0.3}),  # a bad moment
        ([0.1] * 5 + [0.8] * 5, {"batch_size": 20}),  # 10 rows of 20 images tell too little
    ],
)
def test_training_that_has_lost_nothing(errors, changes):
    assert learning(*errors, **changes) is None


def test_what_has_no_error_does_not_collapse():
    rows = [{"step": k, "split": "validation", "elbo_loss": 10.0**k} for k in range(5)]
    assert told(rows) is None


USUAL = [(2.3, 0.2), (2.2, 3.0), (1.0, 5.0), (0.5, 4.0), (0.4, 5.0)]


@pytest.mark.parametrize(
    "pairs",
    [
        USUAL,
        [*USUAL, *[(0.4, 50.0)] * 5],  # ten times, not above
        [*USUAL, *[(0.4, 51.0)] * 4],  # too few of them
        [*USUAL, *[(0.4, 51.0)] * 4, (0.4, 49.0)],
        [*USUAL[:4], *[(0.4, 51.0)] * 5],  # too little before them
        [*USUAL, *[(23.0, 5.0)] * 5],  # ten times the first, not above
        [*USUAL, *[(24.0, 5.0)] * 4],
        [(-5.0, 1.0), *[(39.0, 1.0)] * 5],  # nine times 5 above it is 40
    ],
)
def test_no_explosion(pairs):
    assert told(training(*pairs)) is None


@pytest.mark.parametrize(
    ("pairs", "good", "text"),
    [
        ([*USUAL, *[(0.4, 51.0)] * 5], 50, r"grad_norm is 51, above .* highest before, 5, .* 100$"),
        ([*USUAL, (0.4, 9.0), *[(0.4, 91.0)] * 5], 60, "grad_norm is 91, .* before, 9, "),
        ([*USUAL, *[(24.0, 5.0)] * 5], 59, "loss is 24, above ten times that of step 10, in all 5"),
        ([(2.3, 1.0), *[(5e12, 5.0)] * 5], 19, "loss is 5e[+]12"),
        ([(-5.0, 1.0), *[(41.0, 1.0)] * 5], 19, "loss is 41"),
    ],
)
def test_an_explosion_names_what_and_the_last_good_step(pairs, good, text):
    found, last = told(training(*pairs))
    assert last == good and re.search(f"^exploded: {text}", found)


def test_a_checkpoint_within_ruin_is_no_good_one():
    assert Watch("loss", 100, training(*USUAL)).good_until == np.inf
    assert Watch("loss", 100, training(*USUAL, (5e12, 1.0))).good_until == 59
    assert Watch("loss", 100, training(*USUAL, (5e12, 1.0), (5e12, 1.0))).good_until == 59
    assert Watch("loss", 100, training(*USUAL, (5e12, 1.0), (0.4, 1.0))).good_until == np.inf


pytestmark = pytest.mark.usefixtures("compiled_once")

# The first update of a warm-up is zero; the second explodes, until a rollback makes it 1e-3.
FIELDS = NO_ATTENTION | {
    "train.num_steps": 9,
    "train.log_every": 1,
    "train.eval_every": 4,
    "train.checkpoint_every": 1,
    "train.warmup_steps": 1,
    "train.decay_steps": 0,
    "train.learning_rate": 1e30,
    "train.rollback_rate": 1e-33,
    "train.on_divergence": "rollback",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the directory of a run that was rolled back, and what it printed."""
    run = tmp_path_factory.mktemp("whole")
    assert loop.train(small_config(**FIELDS), run) == loop.FINISHED
    return run


def assert_same(run, whole):
    assert [timeless(row) for row in rows(run)] == [timeless(row) for row in rows(whole)]
    ours, theirs = (
        checkpoint.Checkpoints(r / "checkpoints", 2).restore_newest({}, {"rollbacks": TEMPLATE})
        for r in (run, whole)
    )
    assert ours == theirs and ours[0] == 9
    ours, theirs = (checkpoint.load(r, 9)[2]["params"] for r in (run, whole))
    for name in theirs:
        np.testing.assert_equal(ours[name], theirs[name])


TEMPLATE = {"count": np.int32(0), "rate": np.float32(0)}


@pytest.mark.slow
def test_a_rollback_is_a_line_whose_step_the_later_ones_follow(whole):
    found = rows(whole)
    assert [(r["step"], r["split"]) for r in found[:4]] == [
        (1, "train"),
        (1, "rollback"),
        (2, "train"),
        (3, "train"),
    ]
    line = found[1]
    assert line["count"] == 1 and line["rate"] == float(np.float32(1e-33))
    assert line["cause"] == "param_norm is inf at step 2"
    assert found[2]["learning_rate"] == pytest.approx(1e-3, rel=1e-5)
    assert all(np.isfinite(row["elbo_loss"]) for row in found if row["split"] == "train")
    newest = checkpoint.Checkpoints(whole / "checkpoints", 2)
    step, items = newest.restore_newest({}, {"rollbacks": TEMPLATE})
    assert step == 9 and items["rollbacks"]["count"] == 1


class StopAt(signals.Stop):
    def __init__(self, question):
        super().__init__()
        self.left = question

    def requested(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.slow
@pytest.mark.parametrize("question", [1, 4])
def test_a_stop_anywhere_changes_nothing(whole, tmp_path, monkeypatch, question):
    with monkeypatch.context() as patch:
        patch.setattr(signals, "Stop", lambda team: StopAt(question))
        assert loop.train(small_config(**FIELDS), tmp_path) == loop.STOPPED
    assert loop.train(small_config(**FIELDS), tmp_path) == loop.FINISHED
    assert_same(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1, 2])
def test_what_a_stop_has_saved_is_no_place_to_go_back_to(tmp_path, monkeypatch, keep):
    """One that was not stopped has no checkpoint there."""
    real = Watch.take

    def diverging(self, row):  # at step 8, until the rate is halved
        real(self, row)
        if row["split"] == "train" and row["step"] == 8 and row["learning_rate"] > 0.75e-3:
            raise DivergedError("made up", 7)

    monkeypatch.setattr(Watch, "take", diverging)
    fields = FIELDS | {"train.checkpoint_every": 3, "train.eval_every": 9}
    fields |= {"train.learning_rate": 1e-3, "train.rollback_rate": 0.5}
    config = small_config(**fields, **{"train.keep_checkpoints": keep})
    for name, stops in (("whole", ()), ("run", (4, 2))):  # at step 5, and two steps later
        for question in stops:
            with monkeypatch.context() as patch:
                patch.setattr(signals, "Stop", lambda team, left=question: StopAt(left))
                assert loop.train(config, tmp_path / name) == loop.STOPPED
        if stops:
            assert steps(tmp_path / name) == [3, 6, 7][-1 - keep :]
        assert loop.train(config, tmp_path / name) == loop.FINISHED
    assert [row["step"] for row in rows(tmp_path / "run") if row["split"] == "rollback"] == [6]
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_kill_before_the_next_checkpoint_changes_nothing(whole, tmp_path, monkeypatch):
    save = Job.save

    def killed(self, state, step, row):
        if self.rollbacks:
            raise KeyboardInterrupt
        save(self, state, step, row)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.train(small_config(**FIELDS), tmp_path)
    assert rows(tmp_path)[1]["split"] == "rollback" and steps(tmp_path) == [1]
    assert loop.train(small_config(**FIELDS), tmp_path) == loop.FINISHED
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_divergence_that_returns_goes_further_back_until_none_is_left(tmp_path, capsys):
    """Steps 1 to 3 are sound; then each update explodes, at half the rate as well."""
    sound = FIELDS | {"train.on_divergence": "stop", "train.num_steps": 3}
    sound |= {"train.learning_rate": 1e-3, "train.keep_checkpoints": 5}
    assert loop.train(small_config(**sound), tmp_path) == loop.FINISHED
    config = json.loads((tmp_path / "config.json").read_text())
    config["train"]["learning_rate"] = 1e30
    config.pop("digest")
    (tmp_path / "config.json").write_text(json.dumps(config))
    capsys.readouterr()

    fields = {"train.rollback_rate": 0.5, "train.max_rollbacks": 2, "train.keep_checkpoints": 5}
    assert loop.train(small_config(**FIELDS | fields), tmp_path) == loop.DIVERGED
    out, err = capsys.readouterr()
    assert [int(s) for s in re.findall(r"rolled back to step (\d)", out)] == [3, 2]
    assert "at 0.25 times the learning rate (rollback 2 of at most 2)" in out
    assert err.count("\n") == 1 and "step 3, after 2 rollbacks. Checkpoint 2 is from before" in err
    assert steps(tmp_path) == [1, 2]


@pytest.mark.slow
def test_a_rollback_goes_to_a_sound_checkpoint_or_deletes_none(tmp_path, monkeypatch):
    """At step 6 it diverges; of the checkpoints before, the newest is damaged, or all are."""
    real = Watch.take

    def diverging(self, row):
        real(self, row)
        if row["split"] == "train" and row["step"] == 6 and row["learning_rate"] > 0.75e-3:
            raise DivergedError("made up", 5)

    read, damaged = stored.read, set()

    def reading(directory, step, *items):
        if step in damaged:
            raise stored.DamagedError(f"checkpoint {step} is damaged")
        return read(directory, step, *items)

    monkeypatch.setattr(Watch, "take", diverging)
    monkeypatch.setattr(stored, "read", reading)
    fields = FIELDS | {"train.learning_rate": 1e-3, "train.rollback_rate": 0.5}
    config = small_config(**fields, **{"train.keep_checkpoints": 3})
    damaged |= {1, 2, 3, 4, 5}
    assert loop.train(config, tmp_path / "all") == loop.DIVERGED
    assert steps(tmp_path / "all") == [3, 4, 5]
    damaged -= {1, 2, 3, 4}
    assert loop.train(config, tmp_path / "newest") == loop.FINISHED
    assert [row["step"] for row in rows(tmp_path / "newest") if row["split"] == "rollback"] == [4]


@pytest.mark.slow
def test_a_collapse_stops_or_goes_on_as_the_configuration_says(tmp_path, monkeypatch, capsys):
    real = Watch.take

    def collapsing(self, row):  # this run has no errors: they are made here
        errors = {4: 0.1, 8: 0.9, 9: 0.8}
        if row["split"] == "validation":
            row = {"error": errors[row["step"]]} | row
        real(self, row)

    monkeypatch.setattr(Watch, "take", collapsing)
    fields = FIELDS | {"train.learning_rate": 1e-3, "train.on_divergence": "stop"}
    assert loop.train(small_config(**fields), tmp_path) == loop.DIVERGED
    err = capsys.readouterr().err
    assert err.startswith("error: collapsed: validation error 0.9000 at step 8, after 0.1000 at")
    assert "Checkpoint 4 is from before that, and is kept. To go back to it" in err
    assert "--config.train.on_divergence=rollback" in err and f"--init_from={tmp_path}" in err
    assert 4 in steps(tmp_path)

    fields["train.on_divergence"] = "continue"
    assert loop.train(small_config(**fields), tmp_path) == loop.FINISHED
    assert capsys.readouterr().out.count("; the run goes on, as config.train.on_divergence") == 1


def test_a_new_run_from_the_ruin_is_not_offered(tmp_path, capsys):
    """Without a validation --init_from takes the newest checkpoint, which may be of the ruin."""
    for k, taken, offered in ((0, 8, False), (1, 4, True), (2, None, False)):
        run = tmp_path / str(k)
        (run / "checkpoints").mkdir(parents=True)
        job = SimpleNamespace(run=run, task=None, rollbacks=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.stored, "best_step", lambda run, task, taken=taken: taken)
            loop._tell_divergence(DivergedError("it grew", 5), job, 4)
        err = capsys.readouterr().err
        assert "Checkpoint 4 is from before that" in err and "on_divergence=rollback" in err
        assert ("--init_from" in err) == offered


def test_the_checkpoint_that_init_from_takes(tmp_path, monkeypatch):
    fields = {"train.learning_rate": 1e-3, "train.num_steps": 5, "train.keep_checkpoints": 3}
    config = small_config(**FIELDS | fields)
    assert loop.train(config, tmp_path) == loop.FINISHED
    task = settings.check(config)
    assert stored.best_step(tmp_path, task) == checkpoint.load_with_step(tmp_path)[3]
    monkeypatch.setattr(stored, "validation_losses", lambda *_: {})
    assert stored.best_step(tmp_path, task) == checkpoint.load_with_step(tmp_path)[3] == 5
