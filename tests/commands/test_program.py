"""draw-jax, the one program of all commands, and what Python calls in place of it."""

import os
import threading

import pytest

import draw_jax
from draw_jax.__main__ import COMMANDS
from draw_jax.commands import filters, models
from draw_jax.runs.metrics import MetricsFile
from draw_jax.training import loop
from tests.helpers import NO_ATTENTION, ROOT, assert_one_error, forked, program, small_config

RUNS = {
    "alone": ("draw_jax",),
    "nosuch": ("draw_jax", "nosuch"),
    "--version": ("draw_jax", "--version"),
    "train --version": ("draw_jax", "train", "--version"),
    "models": ("draw_jax", "models"),
    "models mnist": ("draw_jax", "models", "mnist"),
    "models nosuch": ("draw_jax", "models", "nosuch"),
    "models mnist x": ("draw_jax", "models", "mnist", "x"),
    "export": ("draw_jax", "export"),
    "export nowhere": ("draw_jax", "export", "--workdir=nowhere", "--out=out"),
    "export card": ("draw_jax", "export", "--workdir=.", "--out=out", "--card=no.md"),
    "export into a run": ("draw_jax", "export", "--workdir=run", "--out=run"),
    "export picture": ("draw_jax", "export", "--workdir=.", "--out=out", "--card=no_text.md"),
    "export dtype": ("draw_jax", "export", "--workdir=.", "--out=out", "--dtype=int8"),
    **{f"{name} -h": ("draw_jax", name, "-h") for name in COMMANDS},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere")  # not the clone
    (place / "run" / "checkpoints").mkdir(parents=True)
    (place / "no_text.md").write_bytes(b"\xff\xfe")
    return dict(zip(RUNS, forked(RUNS.values(), cwd=place), strict=True))


def test_alone_it_tells_its_commands(runs):
    assert runs["alone"].returncode == 2 and runs["alone"].stderr == ""
    assert all(f"\n  {name}" in runs["alone"].stdout for name in COMMANDS)


def test_a_command_that_is_none_is_told_with_those_that_are(runs):
    assert_one_error(runs["nosuch"], 2, "no command 'nosuch'; there are train, sample, ")


@pytest.mark.parametrize("name", ["--version", "train --version"])
def test_the_version_is_the_packages(runs, name):
    done = runs[name]
    assert (done.returncode, done.stdout) == (0, f"draw_jax {draw_jax.__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_the_commands_flags_each_once(runs, name):
    done = runs[f"{name} -h"]
    assert (done.returncode, done.stderr) == (0, "")
    assert f"draw-jax {name} " in done.stdout.splitlines()[0]
    assert "Exit codes" in done.stdout
    told = [line.split(":")[0].strip() for line in done.stdout.split("Flags:")[1].splitlines()]
    flags = [line for line in told if line.startswith("--")]
    assert len(flags) >= 2 and len(flags) == len({*flags})


def test_weights_are_listed_and_their_cards_printed(runs):
    assert (runs["models"].returncode, runs["models"].stderr) == (0, "")
    assert runs["models"].stdout.startswith("cifar10_bits ")
    assert runs["models mnist"].stdout.startswith("# mnist")
    names = sorted(
        card.parent.name for card in (ROOT / "draw_jax" / "pretrained").glob("*/card.md")
    )
    told = f"no weights 'nosuch'; draw_jax comes with {', '.join(names)}"
    assert "mnist" in names
    assert_one_error(runs["models nosuch"], 2, told)
    assert_one_error(runs["models mnist x"], 2, "unexpected argument 'x'")


def test_export_tells_what_it_misses(runs):
    assert_one_error(runs["export"], 2, "where to? Such as --out=")
    assert_one_error(runs["export nowhere"], 2, "--workdir: 'nowhere' is no directory")
    assert_one_error(runs["export card"], 1, "--card: cannot read no.md (No such file")
    assert_one_error(runs["export into a run"], 2, "--out: run is a run, which would lose its")
    assert_one_error(runs["export picture"], 2, "--card: no_text.md is no text (UTF-8)")
    assert_one_error(runs["export dtype"], 2, "--dtype=int8", "float16")


def test_modules_run_from_another_folder(tmp_path):
    done = program("draw_jax.filters", "no.png", cwd=tmp_path)
    assert_one_error(done, 1, "cannot read no.png: No such file")
    done = program("draw_jax", "filters", "--size=1", cwd=tmp_path)
    assert_one_error(done, 2, "--size: expected at least 2 pixels, got 1")


def test_commands_can_be_called_more_than_once_in_one_process(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["mine"])
    assert models.command(["draw-jax models", "nosuch"]) == 2
    assert models.command(["draw-jax models"]) == 0  # the name before does not stay
    assert filters.command(["draw-jax filters", "no.png"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("cifar10_bits ") and printed.err.count("error: ") == 2


@pytest.mark.parametrize("in_thread", [pytest.param(False, marks=pytest.mark.slow), True])
def test_python_trains_in_any_thread(tmp_path, in_thread, capsys, monkeypatch):
    config = small_config(**NO_ATTENTION | {"train.num_steps": 2, "train.eval_every": 2})
    monkeypatch.setattr(loop.Clock, "steps_per_second", lambda self, step: 3.0)
    codes = []

    def train():
        codes.append(draw_jax.train(config, tmp_path / "run"))

    if in_thread:
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    else:
        train()
    assert codes == [0]
    assert "finished at step 2" in capsys.readouterr().out
    loaded, model, _ = draw_jax.load(tmp_path / "run")
    assert loaded.model.latent_size == model.latent_size == 2
    rows = MetricsFile(tmp_path / "run" / "metrics.jsonl").rows()
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    assert speeds and set(speeds) == {3.0 * config.train.batch_size}


def test_python_loads_shipped_weights_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, model, variables = draw_jax.load("mnist")
    assert config.data.name == "binarized_mnist" and model.image_shape == (28, 28, 1)
    assert set(variables) == {"params"}
    assert os.path.samefile(draw_jax.__path__[0], ROOT / "draw_jax")
