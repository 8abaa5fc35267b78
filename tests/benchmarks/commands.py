"""Commands of the benchmarks, run at sizes too small to mean anything."""

import json
import math

from tests.helpers import FAST_COMPILING, forked

TINY = (
    "--config=configs/smoke.py",
    *("--config.model.time_steps=2", "--config.model.enc_size=8", "--config.model.dec_size=8"),
    *("--config.train.batch_size=4", "--repeats=3"),
)
PLAIN = ("--config.model.read_size=0", "--config.model.write_size=0")  # compiles faster
# benchmarks.settings is to leave the device to its rows.
LEAVE_THE_DEVICE = """
if name == "benchmarks.settings":
    import jax
    jax.config.update("jax_platforms", "none")
"""


def run_all(commands, cache):
    """Returns returncode, stdout and stderr of each command."""
    return forked(
        commands,
        LEAVE_THE_DEVICE,
        timeout=300,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS=f"--xla_force_host_platform_device_count=2 {FAST_COMPILING}",
        JAX_COMPILATION_CACHE_DIR=str(cache),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )


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
