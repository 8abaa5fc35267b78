"""Commands of the benchmarks, run at sizes too small to mean anything."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
TINY = (
    "--config=configs/smoke.py",
    *("--config.model.time_steps=2", "--config.model.enc_size=8", "--config.model.dec_size=8"),
    *("--config.train.batch_size=4", "--repeats=3"),
)
PLAIN = ("--config.model.read_size=0", "--config.model.write_size=0")  # compiles faster
# Slow code, but compiled many times faster.
FAST_COMPILING = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)

# Runs each command in a process of its own, forked from one that has made the imports.
FORKS = """
import json, os, runpy, sys, tempfile, traceback, warnings
import jax
from ml_collections import config_flags
from draw_jax.training import loop

warnings.simplefilter("ignore")  # JAX warns of forks, but has not begun any work here
sys.path.insert(0, "")
outcomes = []
for name, *arguments in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            if name == "benchmarks.settings":  # which is to leave the device to its rows
                jax.config.update("jax_platforms", "none")
            sys.argv = [name, *arguments]
            code = 1
            try:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code
            except Exception:
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)  # a tidy end takes far longer than any mistake
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes.append([code, *(os.pread(f.fileno(), 100_000, 0).decode() for f in (out, err))])
print(json.dumps(outcomes))
"""


def run_all(commands, cache):
    """Returns returncode, stdout and stderr of each command."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {FAST_COMPILING}",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", FORKS, json.dumps(commands)]
    forks = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=300
    )
    names = ("returncode", "stdout", "stderr")
    return [SimpleNamespace(**dict(zip(names, o, strict=True))) for o in json.loads(forks.stdout)]


def run_measurements(commands, folder):
    """Returns each command's run under its name, with what it wrote for --json as `figures`."""
    whole = [(*command, f"--json={folder / name}.json") for name, command in commands.items()]
    runs = dict(zip(commands, run_all(whole, folder / "cache"), strict=True))
    for name, run in runs.items():
        file = folder / f"{name}.json"
        run.figures = json.loads(file.read_text()) if file.exists() else None
    return runs


def check_measured(run):
    """Asserts that a command ended well and wrote positive figures only."""
    assert run.returncode == 0 and run.stderr == "", run.stderr
    found = numbers(run.figures)
    assert found and all(math.isfinite(n) and n > 0 for n in found)


def check_table(run):
    """Asserts that a command printed a table with a heading and a row at least."""
    tables = [line for line in run.stdout.splitlines() if line.startswith("|")]
    assert len(tables) >= 3 and len({line.count("|") for line in tables}) == 1


def numbers(figures):
    """Returns all numbers anywhere in some JSON."""
    if isinstance(figures, dict | list):
        parts = figures.values() if isinstance(figures, dict) else figures
        return [n for part in parts for n in numbers(part)]
    return [figures] if isinstance(figures, int | float) else []
