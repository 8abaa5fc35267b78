"""Two versions in turn: a small repository stands for the project, as no test needs a real model."""

import json
import os
import subprocess
import sys
import time
import warnings

import pytest

from tests.helpers import FAST_COMPILING, ROOT

with warnings.catch_warnings():
    # A --config flag with a default reads it at once, by a call that Python is about to drop.
    warnings.simplefilter("ignore", DeprecationWarning)
    from benchmarks import before_after, worker

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"kind": "draw", "train": {"batch_size": 7}})
"""
# An update whose loss tells the version, the batch size and how often it was made.
TRAIN_STEP = """
from draw_jax.PLACE import LOSS

def make_step(config):
    print("compiling")  # no answer
    def update(state, step, images):
        return state + 1, {"elbo_loss": LOSS + state / 8, "grad_norm": 1.0}
    return update, 0, config.train.batch_size

def updates(update, state, images):
    step = 0
    def call():
        nonlocal state, step
        state, metrics = update(state, step, images)
        step += 1
        return state, metrics
    return call
"""


def write_version(root, place, loss):
    """Writes a version whose package has the module `place`."""
    files = {
        "benchmarks/__init__.py": "",
        "benchmarks/train_step.py": TRAIN_STEP.replace("PLACE", place),
        "configs/tiny.py": CONFIG,
        "draw_jax/__init__.py": "",
        f"draw_jax/{place.replace('.', '/')}.py": f"LOSS = {loss}\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def git(root, *words):
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", root, *author, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """Returns a repository: its tag `flat` has the loss 100, its work tree, in folders, 200."""
    root = write_version(tmp_path / "project", "optimization", 100.0)
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "Flat")
    git(root, "tag", "flat")
    (root / "draw_jax/optimization.py").unlink()
    return write_version(root, "training.step", 200.0)


def test_a_flat_version_and_the_work_tree_make_their_own_updates(repository, monkeypatch):
    commit = before_after.find_commit("flat", repository)
    order, ask = [], worker.ask

    def noted(version, count):
        order.append((version.name, int(count)))
        ask(version, count)

    monkeypatch.setattr(worker, "ask", noted)
    with before_after.unpacked(commit, repository) as old:
        roots = {"old": old, "new": repository}
        times, facts = before_after.measure(roots, ["--config=configs/tiny.py"], 3, 5)
    assert order == [
        *(("old", 5), ("new", 5)),  # which does not count
        *(("new", 5), ("old", 5), ("old", 5), ("new", 5), ("new", 5), ("old", 5)),
    ]
    assert {name: len(values) for name, values in times.items()} == {"old": 3, "new": 3}
    assert all(ms > 0 for values in times.values() for ms in values)
    assert facts["old"]["losses"] == [100.0, 100.125, 100.25]
    assert facts["new"]["losses"] == [200.0, 200.125, 200.25]
    assert facts["old"]["batch"] == facts["new"]["batch"] == 7
    assert not old.exists()


def test_the_repository_is_left_as_it_was(repository):
    def state():
        words = (["status", "--porcelain"], ["worktree", "list"], ["rev-parse", "HEAD"])
        return [before_after.git(*some, root=repository) for some in words]

    before = state()
    with before_after.unpacked("flat", repository) as old:
        assert (old / "draw_jax/optimization.py").is_file()
        assert not (old / "draw_jax/training").exists()
        assert not (old / ".git").exists()
    assert state() == before and before[0]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("benchmarks/train_step.py", None, "new failed: it has no benchmarks/train_step.py"),
        ("benchmarks/train_step.py", "updates = 1", "train_step.py has no function make_step"),
        ("benchmarks/train_step.py", "import draw_jax.nowhere", "new failed: ModuleNotFoundError"),
        ("draw_jax/training/step.py", "LOSS = 'a'", "new failed: TypeError: "),
        ("draw_jax/training/step.py", "import os; os._exit(3)", "new failed: exit code 3"),
        ("draw_jax/__init__.py", "__file__ = '/a/b.py'", "draw_jax was imported from /a/b.py"),
        ("configs/tiny.py", None, "new failed: "),
    ],
)
def test_a_version_that_fails_says_why_in_one_line(repository, file, text, told):
    (repository / file).unlink()
    if text is not None:
        (repository / file).write_text(text)
    with pytest.raises(worker.WorkerFailed) as error:
        before_after.measure({"new": repository}, ["--config=configs/tiny.py"], 3, 1)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_version_that_ends_between_two_rounds_is_told(repository):
    (repository / "draw_jax/training/step.py").write_text(
        "class Loss(float):\n"
        "    def __add__(self, more):\n"
        "        if more > 5 / 8: raise MemoryError('no more')\n"
        "        return 1.0\n"
        "LOSS = Loss()\n"
    )
    with pytest.raises(worker.WorkerFailed, match="^new failed: MemoryError: no more$"):
        before_after.measure({"new": repository}, ["--config=configs/tiny.py"], 3, 1)


def test_a_revision_is_a_commit_of_a_repository(repository, tmp_path, monkeypatch):
    commit = before_after.find_commit("flat", repository)
    assert before_after.git("rev-parse", "flat", root=repository).startswith(commit)
    for wrong in ("no-such", "-x", "flat:configs/tiny.py", "flat^{tree}"):
        with pytest.raises(ValueError, match="--old: the repository has no revision"):
            before_after.find_commit(wrong, repository)
    with pytest.raises(ValueError, match="--old=HEAD"):
        before_after.find_commit("", repository)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(before_after.NoRepository, match="is in no git repository"):
        before_after.find_commit("flat", tmp_path / "elsewhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(before_after.NoRepository, match="git is not installed"):
        before_after.find_commit("flat", repository)


def test_figures_are_medians_and_the_ratio_one_of_rounds():
    times = {"old": [100.0, 200.0, 100.0], "new": [150.0, 100.0, 120.0]}
    found = before_after.figures(times, {"old": [1.0, 2.0], "new": [1.0, 2.5]})
    assert (found["old_ms"], found["new_ms"], found["ratio"].median) == (100, 120, 1.2)
    assert found["ratio"].low == pytest.approx(0.64)  # a fifth of the way from 0.5 to 1.2
    assert found["ratio"].high == pytest.approx(1.44)
    assert found["same_losses"] is False
    assert before_after.figures(times, {"old": [1.0], "new": [1.0]})["same_losses"] is True


def test_losses_agree_to_the_last_digit_or_the_first_difference_is_told():
    same = before_after.told_losses([1.0, 2.0], [1.0, 2.0])
    assert same == "The losses of the first 2 updates agree to the last digit."
    told = before_after.told_losses([1.0, 2.0, 3.0], [1.0, 2.0000002384185791, 4.0])
    assert told == "The losses differ from update 2 on: old 2.0, new 2.000000238418579 nats."


@pytest.fixture
def last_commit():
    try:
        return before_after.find_commit("HEAD")
    except before_after.NoRepository:
        pytest.skip("the project lies in no git repository")


def command(*words):
    module = (sys.executable, "-m", "benchmarks.before_after", "--old=HEAD")
    return [*module, "--config=configs/smoke.py", *words]


@pytest.mark.slow
@pytest.mark.usefixtures("last_commit")
def test_a_terminated_command_leaves_no_folder(tmp_path):
    process = subprocess.Popen(command(), cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)})
    end = time.monotonic() + 120
    while not list(tmp_path.glob("*/version/draw_jax")) and time.monotonic() < end:
        time.sleep(0.05)
    assert process.poll() is None and list(tmp_path.iterdir())
    process.terminate()
    assert process.wait(60) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_finds_no_difference_from_the_last_commit(last_commit, tmp_path):
    sizes = ("time_steps=2", "enc_size=8", "dec_size=8", "read_size=0", "write_size=0")
    sizes = (f"--config.model.{size}" for size in sizes)
    done = subprocess.run(
        command("--repeats=3", "--updates=2", f"--json={tmp_path / 'figures.json'}", *sizes),
        check=False,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": FAST_COMPILING},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    tables = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(tables) == 4 and f"old ({last_commit})" in tables[2]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["old_ms"] > 0 and figures["new_ms"] > 0
    assert figures["ratio_low"] <= figures["ratio"] <= figures["ratio_high"]
    assert figures["rounds"] == 3 and figures["updates"] == 2
    assert len(figures["old_losses"]) == len(figures["new_losses"]) == 3
