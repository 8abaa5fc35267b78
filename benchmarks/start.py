"""How soon the first update is done: python -m benchmarks.start --repeats=3.

Starts train.py in its own process and run directory, until the metrics of its first update are on
disk. What a start keeps for the next one lies in a folder used only here. Each round has three
starts: the first finds nothing there; the second finds the decoded images, if any had to be
decoded; the third the compiled programs, too. Downloading is not counted: the data set must have
been prepared.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks import measuring, train_step
from draw_jax.system import cli, compilation

flags.adopt_module_key_flags(measuring)

STARTS = ("nothing kept", "images decoded", "programs compiled")
_POLL = 0.01  # seconds


class NoUpdateError(Exception):
    """A training ended before its first update."""


def command() -> list[str]:
    """Returns the command line that trains as --config says and reports every update."""
    script = Path(__file__).parents[1] / "train.py"
    every = {"train.log_every": 1}
    return [sys.executable, str(script), *measuring.config_flags_with(every)]


def environment(kept: Path) -> dict[str, str]:
    """Returns the environment of a training that has its own folder for caches."""
    others = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    ours = {name: value for name, value in os.environ.items() if name not in others}
    return ours | {"XDG_CACHE_HOME": str(kept)}


def first_update(command: list[str], kept: Path) -> float:
    """Returns the seconds from starting a training to its first line of metrics, and ends it.

    Args:
        command: of the training, without its run directory.
        kept: its folder for caches, which earlier ones may have filled.

    Raises:
        NoUpdateError: it ended without an update, with what it said.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        metrics = Path(folder, "run", "metrics.jsonl")
        began = time.perf_counter()
        training = subprocess.Popen(
            [*command, f"--workdir={metrics.parent}"],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=environment(kept),
        )
        try:
            while not (metrics.exists() and metrics.stat().st_size):
                code = training.poll()
                if code is not None:
                    raise NoUpdateError(measuring.complaint(measuring.end_of(said), code))
                time.sleep(_POLL)
            return time.perf_counter() - began
        finally:
            training.kill()
            training.wait()


def measure(command: list[str], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds to the first update in every round, for each of STARTS."""
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            shutil.rmtree(folder)
            os.mkdir(folder)
            for name in STARTS:
                if name == "images decoded":
                    shutil.rmtree(Path(folder, "draw_jax", compilation.NAME))
                seconds[name].append(first_update(command, Path(folder)))
    return seconds


def main() -> int:
    """Prints the table and returns the exit code."""
    seconds = {
        name: measuring.spread(values)
        for name, values in measure(command(), measuring.REPEATS.value).items()
    }
    rows = [[name, str(spread)] for name, spread in seconds.items()]
    print(measuring.table(["start", "first update after s (10 to 90 %)"], rows))
    device = measuring.device_name(train_step.share_cores(measuring.CONFIG.value))
    print(f"on {device}")
    figures = {f"{name.replace(' ', '_')}_s": spread for name, spread in seconds.items()}
    measuring.write_json(measuring.flat(figures) | {"device": device})
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (NoUpdateError,)))
