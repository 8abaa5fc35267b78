"""Command lines: every mistake is one line and an exit code."""

import json
import os
import subprocess
import sys
import warnings

import pytest
from absl import flags
from absl import logging as absl_logging

from draw_jax.system import cli
from tests.helpers import ROOT, assert_one_error, forked, program

SMOKE = "--config=configs/smoke.py"
# A command line -> what its one line on stderr names; told before JAX is imported.
FLAGS = {
    (): "which configuration? --config=cifar10|cifar10_bits|",
    (SMOKE, "--confg=1"): "'confg'",
    (SMOKE, "--config.train.num_step=3"): '"num_steps" instead of "num_step"',
    (SMOKE, "--config.train.num_steps=1e4"): "--config.train.num_steps=1e4",
    (SMOKE, "runs/mine"): "'runs/mine'",
    (SMOKE, "--process_timeout=0"): "--process_timeout=0",
    ("--config=nosuchname",): "--config=nosuchname: no such file; the configurations of draw_jax ",
    ("--config=configs/nothing.py",): "--config=configs/nothing.py: no such file",
    ("--config", "configs/nothing.py"): "--config=configs/nothing.py: no such file",
    ("--config=configs/nothing.py", "--config.seed=1"): "configs/nothing.py: no such file",
    ("--config=configs",): "--config=configs: [Errno 21] Is a directory",
    ("--config=",): "empty",
    ("--config={folder}/raises.py",): "raises.py: no such luck",
    ("--config={folder}/value.py",): "value.py: Error whilst parsing config file: ValueError: no",
    ("--config={folder}/syntax.py",): "syntax.py: ",
    ("--config={folder}/empty.py",): "get_config",
    ("--config={folder}/bare.py",): "bare.py: no field `kind`: start from a copy",
    ("--config={folder}/dict.py",): "dict.py: get_config() returns no ConfigDict but a dict",
    ("--config={folder}/opens.py",): "opens.py: ",
    ("--config={folder}/exits.py",): "exits.py: it ends the program (sys.exit(0))",
}
# The same, told by the check of a configuration that could be read.
FIELDS = {
    (SMOKE, "--config.train.num_steps=0"): "config.train.num_steps: expected >= 1, got 0",
    (SMOKE, "--config.seed=-1"): "config.seed: expected 0 to 4294967295 (2^32 - 1), got -1",
    (SMOKE, "--config.seed=4294967296"): "config.seed: expected 0 to 4294967295",
    (
        SMOKE,
        "--config.kind=drew",
    ): "config.kind: expected 'draw' or 'model_1' or 'model_2' or 'model_3' or 'classifier' or 'glimpse_convnet' or 'convnet' or 'ram', got 'drew'",
    (SMOKE, "--config.data.name="): "config.data.name is empty",
    (
        SMOKE,
        "--config.model.image_shape=(28, 28, 2)",
    ): "config.model.image_shape: expected 1 channel (grey) or 3 (colour), got (28, 28, 2)",
    (SMOKE, "--config.model.enc_size=1000000000"): "config.model.enc_size: expected <= 1048576",
    (SMOKE, "--config.model.read_size=500"): "config.model.read_size: expected at most 28, the im",
    (SMOKE, "--config.model.unroll=99"): "config.model.unroll: expected at most 4, the time steps",
    (SMOKE, "--config.train.batch_size=100000"): "config.model, config.train.batch_size: an update",
    (SMOKE, "--distributed", "--process_timeout=inf"): "--process_timeout: expected 1 to 1,000,000",
    (SMOKE, "--distributed"): "--distributed: this is no cluster that JAX knows, and $JAX_COORDI",
    (
        "--config={folder}/sixty.py",
    ): "config.train.batch_size: expected a whole number, got 'sixty'",
    ("--config={folder}/headless.py", "--init_from=mnist"): "config.train.batch_size: missing",
}
LESS_MEMORY = "from draw_jax.system import devices; devices.memory_bytes = lambda free=True: 2**29"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of configuration files that hold mistakes."""
    folder = tmp_path_factory.mktemp("configs")
    begin = "from ml_collections import ConfigDict\n\ndef get_config():\n    "
    texts = {
        "raises": "raise RuntimeError('no such\\nluck')\n",
        "value": "def get_config():\n    raise ValueError('no')\n",
        "syntax": "def get_config(:\n",
        "empty": "",
        "bare": begin + "return ConfigDict()\n",
        "headless": begin + "return ConfigDict({'kind': 'draw', 'seed': 0, 'model': {}})\n",
        "dict": "def get_config():\n    return {'kind': 'draw'}\n",
        "opens": "open('no_such_list.txt')\n",
        "exits": "import sys\nsys.exit(0)\n",
        "sixty": """
from draw_jax.configs import smoke

def get_config():
    config = smoke.get_config()
    with config.ignore_type():
        config.train.batch_size = "sixty"
    return config
""",
    }
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def outcomes(folder):
    """Returns {command line: returncode, stdout and stderr} of all mistakes, and of --help."""
    commands = [*FLAGS, *FIELDS, ("--help",)]
    run = f"--workdir={folder / 'run'}"
    filled = [["train.py", *(a.format(folder=folder) for a in c), run] for c in commands]
    found = dict(zip(commands, forked(filled, LESS_MEMORY), strict=True))
    assert not (folder / "run" / "config.json").exists()  # nothing was begun
    return found


@pytest.mark.parametrize("command", FLAGS, ids=" ".join)
def test_a_mistake_in_flags_or_file_is_one_line_and_exit_code_2(command, outcomes):
    assert_one_error(outcomes[command], 2, FLAGS[command])
    assert outcomes[command].stdout == ""


@pytest.mark.parametrize("command", FIELDS, ids=" ".join)
def test_a_mistake_in_a_field_is_one_line_and_exit_code_2(command, outcomes):
    assert_one_error(outcomes[command], 2, FIELDS[command])
    assert outcomes[command].stdout.count("\n") == 1


def test_a_file_that_opens_a_missing_one_is_not_called_missing(outcomes):
    told = outcomes[("--config={folder}/opens.py",)].stderr
    assert "no_such_list.txt" in told and "configurations of draw_jax" not in told


def test_help_is_no_mistake(outcomes):
    process = outcomes[("--help",)]
    assert process.returncode == 0 and process.stderr == ""
    for text in ("--config", "--workdir", "--init_from", "Exit codes"):
        assert text in process.stdout


WITHOUT_JAX = """
import sys
sys.modules.update(jax=None, numpy=None, flax=None)  # to import one of them is an error
from draw_jax.__main__ import main
sys.exit(main())
"""


def test_mistakes_are_told_and_the_first_line_is_there_before_jax_is_imported():
    assert_one_error(program("-c", WITHOUT_JAX, "train", "--config=smoke", "--nosuch=1"), 2, "nosu")
    assert_one_error(program("-c", WITHOUT_JAX, "evaluate", "--batch_size=0"), 2, "--batch_size: ")
    begun = program("-c", WITHOUT_JAX, "train", "--config=smoke")
    assert begun.stdout == "draw_jax: smoke -> runs/smoke; starting JAX\n"
    assert "import of jax halted" in begun.stderr


class Expected(RuntimeError):
    pass


@pytest.fixture
def process_settings():
    """Gives back what belongs to the process, which `cli.run` takes."""
    hook, words, wording = sys.unraisablehook, sys.argv, warnings.formatwarning
    yield
    sys.unraisablehook, sys.argv, warnings.formatwarning = hook, words, wording
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


@pytest.mark.usefixtures("process_settings")
def test_what_a_library_logs_is_not_printed():
    """Also where absl's own flags are parsed, which set what is printed."""
    assert cli.run(absl_logging.get_verbosity, ["program"]) == absl_logging.FATAL


@pytest.mark.usefixtures("process_settings")
def test_an_interrupt_ends_without_a_traceback(capsys):
    def main():
        raise KeyboardInterrupt

    assert cli.run(main, ["program"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_which_run_wants_exactly_one(tmp_path):
    assert cli.which_run(str(tmp_path), "") == str(tmp_path)
    assert cli.which_run("", "mnist") == "mnist"
    for both in (("", ""), (str(tmp_path), "mnist")):
        with pytest.raises(ValueError, match="one of --workdir=DIR and --pretrained=NAME"):
            cli.which_run(*both)
    with pytest.raises(ValueError, match="'nowhere' is no directory"):
        cli.which_run("nowhere", "")


@pytest.fixture
def flag_values():
    values = flags.FlagValues()
    flags.DEFINE_string("out", "", "A folder", flag_values=values)
    flags.DEFINE_bool("colour", True, "Or grey", flag_values=values)
    return values


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["a.png", "--out=d"], ["--picture=a.png", "--out=d"]),
        (["--out=d", "a.png"], ["--out=d", "--picture=a.png"]),
        (["--out", "d", "a.png"], ["--out", "d", "--picture=a.png"]),
        (["--out", "-d", "a.png"], ["--out", "-d", "--picture=a.png"]),
        (["--nocolour", "a.png"], ["--nocolour", "--picture=a.png"]),
        (["--colour", "a.png"], ["--colour", "--picture=a.png"]),
        (["a.png", "b.png"], ["--picture=a.png", "b.png"]),
        (["--out", "d"], ["--out", "d"]),
        ([], []),
    ],
)
def test_the_first_word_needs_no_flag(words, named, flag_values):
    assert cli.with_first_word(["it", *words], "picture", flag_values) == ["it", *named]


def test_what_cannot_be_written_is_told_and_nothing_is_left(tmp_path):
    file = tmp_path / "a.json"
    assert cli.check_writable("") and cli.check_writable(str(file))
    assert not file.exists()
    file.write_text("kept")
    assert cli.check_writable(str(file)) and file.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [file]
    for bad in (tmp_path, tmp_path / "no" / "a.json", file / "a.json"):
        with pytest.raises(flags.ValidationError, match="expected a file in a folder that is ther"):
            cli.check_writable(str(bad))
    with pytest.raises(flags.ValidationError, match="cannot be written"):
        cli.check_writable("/proc/a.json")  # not even root can


@pytest.mark.parametrize("words", [["--config=mnist"], ["--config", "mnist"], ["-config=mnist"]])
def test_a_configuration_goes_by_its_name(words):
    *_, last = cli._with_path(["train.py", *words])
    assert last.endswith("configs/mnist.py")
    assert cli._with_path(["x", "--config=mine/mnist.py", "mnist"])[1:] == [
        "--config=mine/mnist.py",
        "mnist",
    ]


# As from a wheel: the clone's root, and so its folder configs, is not on the path.
INSTALLED = """
import os, sys
from draw_jax.__main__ import main
sys.path.remove(os.environ["PYTHONPATH"])
sys.exit(main())
"""


def test_files_of_ones_own_take_ours_by_either_name(tmp_path):
    """`configs` was the name in version 0.1, where a clone's root was on the path."""
    for name, package in (("new", "draw_jax.configs"), ("old", "configs")):
        text = f"from {package} import smoke\n\nget_config = smoke.get_config\n"
        (tmp_path / f"{name}.py").write_text(text)
    for name in ("new", "old"):
        words = ("train", f"--config={name}.py", "--config.model.unroll=9")
        done = program("-c", INSTALLED, *words, cwd=tmp_path)
        assert_one_error(done, 2, "config.model.unroll: expected at most 4")


# Interrupts itself where `when` says, as Ctrl-C does at an unlucky moment; else it would take a minute.
INTERRUPTED = """
import builtins, gc, runpy, signal, sys, time
from draw_jax.system import cli

when, sys.argv = sys.argv[1], sys.argv[2:]
real = builtins.__import__

def importing(name, *rest):
    if name == when:
        builtins.__import__ = real
        signal.raise_signal(signal.SIGINT)
    return real(name, *rest)

def work():
    if when == "main":
        signal.raise_signal(signal.SIGINT)
    if when == "callback":  # where an exception is not raised but printed
        gc.callbacks.append(lambda *a: gc.callbacks.clear() or signal.raise_signal(signal.SIGINT))
        gc.collect()
    time.sleep(60)

builtins.__import__ = importing
if when in ("main", "callback"):
    sys.exit(cli.run(work, ["work"]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("when", "command"),
    [
        ("main", []),
        ("callback", []),
        ("draw_jax.commands.evaluate", ["evaluate.py"]),
        ("draw_jax.commands.sample", ["sample.py"]),
        ("draw_jax.commands.train", ["train.py"]),
        ("jax", ["evaluate.py", "--pretrained=mnist", "--split=test", "--data_dir=/nowhere"]),
        ("draw_jax.configs", ["train.py", "--config={folder}/sixty.py"]),
    ],
)
def test_ctrl_c_is_one_line_and_exit_code_130(when, command, folder):
    words = [word.format(folder=folder) for word in command]
    process = program("-c", INTERRUPTED, when, *words, timeout=50)
    assert (process.returncode, process.stderr) == (130, "interrupted\n"), process.stderr


def test_too_few_open_files_for_training_are_one_line(tmp_path):
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))"
    command = ["train.py", "--config=smoke", f"--workdir={tmp_path / 'run'}"]
    (done,) = forked([command], few)
    assert_one_error(done, 1, "may open 24 files", "`ulimit -n`")
    assert not (tmp_path / "run").exists()


PRINTS = """
import sys
from draw_jax.system import cli

def main():
    print("x" * {size})
    return 0

sys.exit(cli.run(main, ["work"], progress={progress}))
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")
@pytest.mark.parametrize(
    ("size", "progress", "unbuffered"),
    [(10, True, ""), (10, False, ""), (100_000, False, ""), (10, False, "1")],
)
def test_what_cannot_be_printed_is_one_line_unless_it_is_progress(size, progress, unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS.format(size=size, progress=progress)],
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    if progress:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert_one_error(done, 1, "cannot write to standard output (No space left on device)")


def test_a_result_never_takes_the_place_of_a_pipe_or_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(flags.ValidationError, match="expected a file in a folder that is there"):
        cli.check_writable(str(tmp_path / "pipe"))
    assert cli.check_writable(str(tmp_path / "new.json"))


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_who_stops_reading_the_help_sees_no_error(word):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        words = [sys.executable, "train.py", word]
        process = subprocess.run(
            words, check=False, cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_a_help_that_finds_no_room_is_one_error(word):
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "train.py", word]
        process = subprocess.run(
            words, check=False, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert_one_error(process, 1, "No space left on device")


def test_names_of_files_need_not_be_text():
    code = "from draw_jax.system import cli; cli.run(lambda: print('runs/\\udcff') or 0, ['x'])"
    words, environment = [sys.executable, "-c", code], os.environ | {"PYTHONUTF8": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, env=environment, check=True)
    assert (done.stdout, done.stderr) == (b"runs/\xff\n", b"")
