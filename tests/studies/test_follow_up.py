"""The follow-up study's command: what it runs, keeps, leaves and writes."""

import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from draw_jax.data import splits
from draw_jax.runs import directory
from draw_jax.studies import follow_up, results
from draw_jax.system import compilation
from draw_jax.training import loop
from tests.data.helpers import store
from tests.helpers import FAST_COMPILING, assert_one_error, forked

READINGS = ("nearest_nll", "nearest_rounded_nll")
ROWS = "--rows=study_t1,study"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Returns run(*flags) -> exit code, training and measuring nothing; `trained` lists the runs."""
    trained, codes, command_stop = [], {}, []

    def train(config, run, asked):
        command_stop.append(asked)
        assert config.is_locked and config.train.decay_steps == config.train.num_steps
        trained.append(f"{run.relative_to(tmp_path)}, seed {config.seed}")
        return codes.get(run.parent.name, loop.FINISHED)

    def measure(run, config, stop):
        names = [f"{n}{end}" for n in READINGS for end in ("", "_std", "_max")]
        bound = {"importance_weighted_nll": 95.0, "minutes": 12.3}
        loss = {"elbo_loss": 100.0 + config.seed, "config": json.loads(config.to_json())}
        found = loss | bound | dict.fromkeys(names, 50.0)
        run.parent.mkdir(parents=True, exist_ok=True)
        run.with_name(f"{run.name}.json").write_text(json.dumps(found))
        return found

    monkeypatch.setattr(compilation, "keep", lambda: None)
    monkeypatch.setattr(splits, "load", lambda *_, flags: None)
    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(follow_up, "measure", measure)

    def run(*words):
        trained.clear()
        follow_up.FLAGS.unparse_flags()
        for name in follow_up.FLAGS:
            follow_up.FLAGS[name].unparse()
        follow_up.FLAGS(["x", f"--workdir={tmp_path}", ROWS, "--seeds=2", *words])
        return follow_up.main()

    run.trained, run.codes, run.asked = trained, codes, command_stop
    return run


def test_every_row_and_seed_has_a_run_and_is_measured_once(command, tmp_path):
    assert command() == loop.FINISHED
    assert command.trained == [
        f"{row}/seed_{seed}, seed {seed}" for seed in (0, 1) for row in ("study", "study_t1")
    ]
    text = (tmp_path / "study.md").read_text()
    assert "Each run has 10,000 updates" in text and "| DRAW | 100.50 +- 0.50 |" in text
    assert "| T = 1 | DRAW | +0.00 +- 0.71 |" in text
    assert "(worth.png)" not in text  # a chart of one number
    assert command() == loop.FINISHED and command.trained == []
    assert command("--updates=20000") == loop.FINISHED and len(command.trained) == 4


def test_set_changes_a_field_of_every_run(command, tmp_path):
    changes = "--set=train.clip_norm=0,train.on_divergence=continue"
    assert command("--seeds=1", changes) == loop.FINISHED
    for row in ("study", "study_t1"):
        kept = json.loads((tmp_path / row / "seed_0.json").read_text())["config"]
        assert kept["train"]["clip_norm"] == 0.0 and kept["train"]["on_divergence"] == "continue"
    text = (tmp_path / "study.md").read_text()
    assert "10,000 updates and train.clip_norm=0, train.on_divergence=continue." in text
    assert command("--seeds=1", changes) == loop.FINISHED and command.trained == []
    assert command("--seeds=1") == loop.FINISHED and len(command.trained) == 2  # other settings


def test_a_signal_ends_it_and_the_same_command_goes_on(command):
    command.codes["study_t1"] = loop.STOPPED
    assert command() == loop.STOPPED
    assert command.trained == ["study/seed_0, seed 0", "study_t1/seed_0, seed 0"]
    command.codes.clear()
    assert command() == loop.FINISHED
    assert command.trained[0] == "study_t1/seed_0, seed 0" and len(command.trained) == 3


def test_a_signal_in_the_last_moments_of_a_run_is_not_lost(command, monkeypatch):
    """A training that is at its end has no more to stop, but what follows has."""
    train = loop.train

    def signalled(config, run, asked):
        signal.raise_signal(signal.SIGTERM)
        return train(config, run, asked)

    monkeypatch.setattr(loop, "train", signalled)
    assert command() == loop.STOPPED and len(command.trained) == 1
    assert command.asked[0].signalled


def test_a_run_that_diverges_is_left_out_and_told(command, tmp_path, capsys):
    command.codes["study_t1"] = loop.DIVERGED
    assert command() == loop.DIVERGED
    assert len(command.trained) == 4
    assert f"{tmp_path}/study_t1/seed_1 has diverged, and is left out" in capsys.readouterr().out
    assert "T = 1" not in (tmp_path / "study.md").read_text()


def test_a_damaged_measurement_is_made_again(command, tmp_path):
    command()
    file = tmp_path / "study" / "seed_1.json"
    whole = json.loads(file.read_text())
    for damaged in ("{", json.dumps({k: v for k, v in whole.items() if k != "minutes"})):
        file.write_text(damaged)
        assert command() == loop.FINISHED and command.trained == ["study/seed_1, seed 1"]


def test_the_page_has_the_tables_and_its_pictures(command, tmp_path):
    page = tmp_path / "docs" / "study.md"
    page.parent.mkdir()
    page.write_text("\n".join(["# Study", *results.marks(10_000), "end\n"]))
    assert command(f"--page={page}", "--rows=study_t1,study_t2,study") == loop.FINISHED
    text = page.read_text()
    assert text.startswith("# Study\n") and text.endswith("end\n") and "| DRAW | 100.50" in text
    assert "(figures/study_10000_worth.png)" in text
    with Image.open(page.parent / "figures" / "study_10000_worth.png") as picture:
        assert min(picture.size) > 100


@pytest.mark.slow
def test_two_rows_from_data_to_table(tmp_path):
    rng = np.random.default_rng(0)
    images = {
        s: rng.integers(0, 256, (n, 28, 28, 1), np.uint8) for s, n in (("train", 60), ("test", 9))
    }
    store(tmp_path / "data", "mnist", images, labels=True)
    flags = ("--workdir=runs", "--data_dir=data", "--seeds=1", "--updates=2")
    command = ("draw_jax.studies.follow_up", ROWS, *flags)
    options = {"XLA_FLAGS": FAST_COMPILING, "XDG_CACHE_HOME": str(tmp_path / "caches")}
    for done in forked([command, command], cwd=tmp_path, timeout=300, **options):
        assert done.returncode == 0, done.stderr
        assert "| T = 1 | DRAW | " in done.stdout
    found = json.loads((tmp_path / "runs/study_t1/seed_0.json").read_text())
    assert found["images"] == 10 and found["nearest_images"] == 1_000
    assert found["minutes"] > 0
    run, data = "--workdir=runs/study_t1/seed_0", "--data_dir=data"
    words = ("evaluate.py", run, data, "--split=validation", "--nearest_nll=1000")
    (done,) = forked([(*words, "--importance_samples=10")], cwd=tmp_path, timeout=300, **options)
    expected = json.loads(done.stdout.splitlines()[-1])
    for name in ("nll", "kl", "elbo_loss", "importance_weighted_nll", "nearest_nll"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    assert directory.has_begun(tmp_path / "runs/study/seed_0")


def test_mistakes_are_one_line(tmp_path):
    (tmp_path / "page.md").write_text("no marks")
    (tmp_path / "no_text.md").write_bytes(b"\xff\xfe")
    told = {
        ("--rows=draw",): (2, "--rows: expected of study, study_no_attention"),
        ("--seeds=0",): (2, "--seeds: expected 1 to 100, got 0"),
        ("--updates=0",): (2, "--updates: expected 1 to"),
        ("--set=train.clip=0",): (2, "--set: expected FIELD=VALUE of configs/study.py"),
        ("--set=clip",): (2, "such as train.clip_norm=0; got 'clip'"),
        ("--set=seed=5",): (2, "--set: seed is given by --seeds"),
        ("--set=train.num_steps=9",): (2, "--set: train.num_steps is given by --updates"),
        ("--set=model.time_steps=20",): (
            2,
            "--set: model.time_steps is what row study_t1 changes of study: leave it out, or the row",
        ),
        ("--set=train.clip_norm=much",): (2, "got 'train.clip_norm=much'"),
        ("--set=model.likelihood=discretized_logistic",): (2, "--set: expected model.likelihood"),
        ("--set=train.clip_norm=-1",): (2, "config.train.clip_norm: expected"),
        ("--page=nowhere.md",): (1, "--page: cannot read nowhere.md (No such file"),
        ("--page=no_text.md",): (2, "--page: no_text.md is no text"),
        ("--page=page.md",): (
            2,
            "--page: expected a page with one <!-- follow_up, 10000 updates: begin -->",
        ),
    }
    commands = [("draw_jax.studies.follow_up", *words) for words in told]
    for done, (code, text) in zip(forked(commands, cwd=tmp_path), told.values(), strict=True):
        assert_one_error(done, code, text)


def test_settings_are_split_at_the_commas_outside_of_brackets(monkeypatch):
    for text, expected in {
        "": [],
        "train.clip_norm=0": ["train.clip_norm=0"],
        "model.filters=(16, 32),train.clip_norm=0": ["model.filters=(16, 32)", "train.clip_norm=0"],
        "a=[1,2],b=(3,),c=4": ["a=[1,2]", "b=(3,)", "c=4"],
    }.items():
        monkeypatch.setattr(follow_up, "_SET", SimpleNamespace(value=text))
        assert follow_up._settings() == expected


def test_a_table_needs_no_runs_but_for_their_kernels(command, tmp_path):
    assert command("--rows=study,study_model_1") == loop.FINISHED
    assert "| Model I" in (tmp_path / "study.md").read_text()
