"""What many tests share: small configurations, runs of the program, damage."""

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from draw_jax.runs import digests

ROOT = Path(__file__).parents[1]
# A model and a run that take seconds, over `configs/smoke.py`.
SMALL = {
    "model.time_steps": 2,
    "model.enc_size": 8,
    "model.dec_size": 8,
    "model.latent_size": 2,
    "train.cpu_devices": 1,
}
# Fields of a Draw whose sizes all differ.
TINY = {
    "image_shape": (7, 5, 1),
    "time_steps": 3,
    "enc_size": 6,
    "dec_size": 5,
    "latent_size": 4,
    "read_size": 2,
    "write_size": 3,
}
# A classifier and a run that take seconds, over `configs/cluttered_mnist.py`.
SMALL_CLASSIFIER = {
    "data.source": "digits",
    "data.size": 28,
    "data.clutter": 2,
    "model.image_shape": (28, 28, 1),
    "model.time_steps": 2,
    "model.lstm_size": 8,
    "model.read_size": 4,
    "train.batch_size": 20,
    "train.cpu_devices": 1,
    "train.num_steps": 4,
    "train.warmup_steps": 1,
    "train.decay_steps": 4,
    "train.log_every": 1,
    "train.eval_every": 4,
}
NO_ATTENTION = {"model.read_size": 0, "model.write_size": 0}  # compiles in half the time

# Slow code, but compiled many times faster.
FAST_COMPILING = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)

# Runs a program once per command line, each in a process of its own; forked from one that has made
# the imports, which take far longer than any mistake.
_FORKS = """
import json, os, runpy, signal, sys, tempfile, traceback, warnings
from draw_jax.training import loop
from draw_jax.commands import evaluate, export, models, sample, train

warnings.filterwarnings("ignore", ".*fork")  # JAX warns of forks, but has not begun any work here
sys.path.insert(0, "")
commands, before, seconds = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
outcomes = []
for name, *arguments in commands:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            signal.alarm(seconds)  # ends it, should it hang
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = [name, *arguments]
            code = 1
            try:
                exec(before)
                if name.endswith(".py"):
                    runpy.run_path(name, run_name="__main__")
                else:
                    runpy.run_module(name, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)  # a tidy end takes far longer than any mistake
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes.append([code, *(os.pread(f.fileno(), 100_000, 0).decode() for f in (out, err))])
print(json.dumps(outcomes))
"""


def small_config(**fields):
    """Returns the locked smoke configuration, tiny, with fields such as {"model.unroll": 2}."""
    config = importlib.import_module("draw_jax.configs.smoke").get_config()
    config.update_from_flattened_dict(SMALL | fields)
    return config.lock()


def classifier_config(**fields):
    """Returns the locked configuration of a tiny classifier, with fields as of `small_config`."""
    config = importlib.import_module("draw_jax.configs.cluttered_mnist").get_config()
    config.update_from_flattened_dict(SMALL_CLASSIFIER | fields)
    return config.lock()


def change_data(run, target, **fields):
    """Writes a run's config.json with other fields of its data, and its metrics, to another folder."""
    config, sound = digests.verified(json.loads((run / "config.json").read_text()))
    assert sound
    config["data"] |= fields
    # Without a digest: changed on purpose.
    (target / "config.json").write_text(json.dumps(config))
    (target / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes())


def program(name, *flags, cwd=ROOT, timeout=300, **environment):
    """Returns returncode, stdout and stderr of one run to its end, in a process of its own.

    Args:
        name: of a script of ours, such as train.py, or a module; or "-c", the first flag being code.
        flags: the rest of the command line.
        cwd: the folder that it is run in.
        timeout: seconds.
        environment: variables besides those of this process.
    """
    begin = [name] if name == "-c" else [*([] if name.endswith(".py") else ["-m"]), _whole(name)]
    return subprocess.run(
        [sys.executable, *begin, *map(str, flags)],
        check=False,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def forked(commands, before="", cwd=ROOT, timeout=120, **environment):
    """Returns returncode, stdout and stderr of many short runs of scripts and modules.

    Args:
        commands: each the name of a script or module, and its flags.
        before: code run in each process first; its `name` is the script's or module's.
        cwd: the folder that they are run in.
        timeout: seconds for each.
        environment: variables besides those of this process.
    """
    whole = [[_whole(name), *map(str, flags)] for name, *flags in commands]
    done = subprocess.run(
        [sys.executable, "-c", _FORKS, json.dumps(whole), before, str(timeout)],
        check=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
    )
    names = ("returncode", "stdout", "stderr")
    return [SimpleNamespace(**dict(zip(names, o, strict=True))) for o in json.loads(done.stdout)]


def assert_one_error(process, code, *told):
    """Asserts that a run ended with this code, telling all of these in one line and no more."""
    assert process.returncode == code, process.stderr
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1, process.stderr
    assert all(text in process.stderr for text in told), process.stderr


def _whole(name):
    return str(ROOT / name) if name.endswith(".py") else name


def free_port():
    """Returns a port of this machine that nothing listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def places(count):
    """Returns the variables that make each of so many processes one of a job on this machine."""
    job = {"JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}", "JAX_NUM_PROCESSES": f"{count}"}
    return [job | {"JAX_PROCESS_ID": f"{k}"} for k in range(count)]


def large_file(folder):
    """Returns the file of an item of a checkpoint that holds its arrays."""
    return max(folder.glob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


def flip(path):
    """Flips one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
