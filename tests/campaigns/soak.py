"""Hours of training and evaluation beside it: memory, open files and threads must not grow.

A tiny run trains without end, with a validation and a checkpoint every few seconds, while evaluate.py and
sample.py read it again and again. The run's memory, open files and threads are counted every
few seconds; promised is that their medians over the last quarter are those of the second one, within
5 % and 2 MiB of memory, and that no evaluation fails.

    python -m tests.campaigns.soak --minutes=120
"""

import argparse
import math
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.held import Count, count
from draw_jax.runs import stored
from tests.campaigns.campaign import Broken
from tests.campaigns.programs import Program
from tests.campaigns.undisturbed import shared
from tests.training.whole_runs import command

_PAUSE = 2.0  # seconds between two counts
FIELDS = {
    "train.num_steps": 10**9,
    "train.log_every": 100,
    "train.eval_every": 2000,
    "train.checkpoint_every": 500,
}


def medians(counts: list[Count]) -> Count:
    """Returns the median of each number."""
    return Count(*(statistics.median(column) for column in zip(*counts, strict=True)))


def grown(counts: list[Count]) -> list[str]:
    """Returns which numbers have grown from the second quarter to the last, [] for none."""
    quarter = len(counts) // 4
    early, late = medians(counts[quarter : 2 * quarter]), medians(counts[-quarter:])
    most = Count(1.05 * early.mebibytes + 2, early.files, early.threads)
    return [
        f"{name}: {getattr(early, name):g}, then {getattr(late, name):g}"
        for name in Count._fields
        if getattr(late, name) > getattr(most, name)
    ]


def soak(run: Path, folder: Path, seconds: float) -> tuple[list[Count], int]:
    """Returns the counts of a run in its first seconds after a checkpoint, and how often it was read.

    Raises:
        Broken: if the run or a reader of it fails.
    """
    begin, end = time.monotonic(), math.inf
    training = Program(command(run, FIELDS), folder)
    counts, readers, read = [], 0, None
    while time.monotonic() < end:
        if training.wait(_PAUSE) is not None:
            raise Broken(f"training ended: {training.said()}")
        if not stored.steps(run / "checkpoints"):
            if time.monotonic() - begin > 180:
                raise Broken(f"no checkpoint after three minutes: {training.said()}")
            continue
        if not counts:
            end = time.monotonic() + seconds
        counts.append(count(training.pid))
        if read is None or read.wait(0) is not None:
            if read is not None and (done := read.ended()).code:
                raise Broken(f"a reader ended with exit code {done.code}: {done.err}")
            words = [f"--workdir={run}"]
            if readers % 2:
                words = ["sample.py", *words, f"--out={folder / 'out'}", "--kind=samples"]
            else:
                words = ["evaluate.py", *words, "--split=validation"]
            read, readers = Program(words, folder), readers + 1
    training.send(signal.SIGTERM)
    if (done := training.ended()).code != 3:
        raise Broken(f"training ended with exit code {done.code}: {done.err}")
    if read is not None:
        read.ended()
    return counts, readers


def main() -> int:
    """Prints what the run held in each quarter, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.soak")
    parser.add_argument("--minutes", type=float, default=120.0)
    minutes = parser.parse_args().minutes
    shared()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        try:
            counts, readers = soak(run, Path(folder), 60 * minutes)
        except Broken as error:
            print(f"BROKEN: {error}")
            return 1
        lines = (run / "metrics.jsonl").read_text().splitlines()
    print(f"soak: {minutes:g} minutes, {len(counts)} counts, {readers} evaluations and samples")
    print(f"{len(lines)} lines of metrics")
    quarter = len(counts) // 4
    for k in range(4):
        held = medians(counts[k * quarter : (k + 1) * quarter])
        print(
            f"quarter {k + 1}: {held.mebibytes:.1f} MiB, {held.files} files, {held.threads} threads"
        )
    for line in (found := grown(counts)):
        print(f"BROKEN: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
