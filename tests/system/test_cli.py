"""Command lines: every mistake is one line and an exit code."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags

from draw_jax.system import cli

ROOT = Path(__file__).parents[2]
SMOKE = "--config=configs/smoke.py"
# A command line -> what its one line on stderr names.
MISTAKES = {
    (): "--config=configs/",
    (SMOKE, "--confg=1"): "'confg'",
    (SMOKE, "--config.train.num_step=3"): '"num_steps" instead of "num_step"',
    (SMOKE, "--config.train.num_steps=1e4"): "--config.train.num_steps=1e4",
    (SMOKE, "--config.train.num_steps=0"): "config.train.num_steps: expected >= 1, got 0",
    (SMOKE, "--config.seed=-1"): "config.seed: expected >= 0, got -1",
    (SMOKE, "--config.kind=drew"): "config.kind: expected 'draw', got 'drew'",
    (SMOKE, "runs/mine"): "'runs/mine'",
    ("--config=configs/nothing.py",): "configs/nothing.py",
    ("--config=configs/nothing.py", "--config.seed=1"): "configs/nothing.py",
    ("--config={folder}/raises.py",): "raises.py: no such luck",
    ("--config={folder}/value.py",): "value.py: Error whilst parsing config file: ValueError: no",
    ("--config={folder}/syntax.py",): "syntax.py: ",
    ("--config={folder}/empty.py",): "get_config",
    ("--config={folder}/bare.py",): "bare.py: no field `kind`: start from a copy",
}

# Runs train.py once per command line, each in a process of its own; forked from one that has made
# the imports, which take far longer than any mistake.
FORKS = """
import json, os, runpy, sys, tempfile, warnings
from draw_jax.training import loop

warnings.simplefilter("ignore")  # JAX warns of forks, but has not begun any work here
sys.path.insert(0, "")
outcomes = []
for arguments in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["train.py", *arguments]
            runpy.run_path("train.py", run_name="__main__")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes.append([code, *(os.pread(f.fileno(), 100_000, 0).decode() for f in (out, err))])
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Returns {command line: returncode, stdout and stderr} of all mistakes, and of --help."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "raises.py").write_text("raise RuntimeError('no such\\nluck')\n")
    (folder / "value.py").write_text("def get_config():\n    raise ValueError('no')\n")
    (folder / "syntax.py").write_text("def get_config(:\n")
    (folder / "empty.py").write_text("")
    bare = "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict()\n"
    (folder / "bare.py").write_text(bare)

    commands = [*MISTAKES, ("--help",)]
    filled = [
        [*(argument.format(folder=folder) for argument in command), f"--workdir={folder / 'run'}"]
        for command in commands
    ]
    command = [sys.executable, "-c", FORKS, json.dumps(filled)]
    forks = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    names = ("returncode", "stdout", "stderr")
    found = [SimpleNamespace(**dict(zip(names, o, strict=True))) for o in json.loads(forks.stdout)]
    assert not (folder / "run").exists()  # nothing was begun
    return dict(zip(commands, found, strict=True))


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_and_exit_code_2(command, outcomes):
    process = outcomes[command]
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1
    assert MISTAKES[command] in process.stderr


def test_help_is_no_mistake(outcomes):
    process = outcomes[("--help",)]
    assert process.returncode == 0 and process.stderr == ""
    for text in ("--config", "--workdir", "--init_from", "Exit codes"):
        assert text in process.stdout


class Expected(RuntimeError):
    pass


@pytest.fixture
def process_settings():
    """Gives back what belongs to the process, which `cli.run` takes."""
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    flags.FLAGS.unparse_flags()


@pytest.mark.usefixtures("process_settings")
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError("two\nlines"), 2, "error: two lines\n"),
        (ValueError(), 2, "error: ValueError\n"),
        (Expected("two\nlines"), 1, "error: two\nlines\n"),
        (OSError(28, "No space left", "a file"), 1, "error: [Errno 28] No space left: 'a file'\n"),
    ],
)
def test_what_is_raised_becomes_an_exit_code(error, code, told, capsys):
    def main():
        raise error

    assert cli.run(main, [__file__], (Expected,)) == code
    assert capsys.readouterr().err == told


@pytest.mark.usefixtures("process_settings")
def test_a_code_is_handed_on_and_a_defect_is_not_hidden():
    assert cli.run(lambda: 3, ["program"], ()) == 3
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0, ["program"], (Expected,))
    with pytest.raises(json.JSONDecodeError):  # a ValueError, but no words for a user
        cli.run(lambda: json.loads("{"), [__file__], (Expected,))


def test_which_run_wants_exactly_one(tmp_path):
    assert cli.which_run(str(tmp_path), "") == str(tmp_path)
    assert cli.which_run("", "mnist") == "mnist"
    for both in (("", ""), (str(tmp_path), "mnist")):
        with pytest.raises(ValueError, match="one of --workdir=DIR and --pretrained=NAME"):
            cli.which_run(*both)
    with pytest.raises(ValueError, match="'nowhere' is no directory"):
        cli.which_run("nowhere", "")
