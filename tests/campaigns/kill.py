"""Signals at random moments of a run and of an export; the same command then finishes them.

A case sends one to three signals, each at a random moment from the program's first instruction to past its
end: SIGKILL, SIGTERM, SIGINT, SIGQUIT, or SIGSTOP with a SIGCONT. Promised is:

- what says "all saved" is saved; nothing ends in a traceback;
- the same command continues and, let be, ends in the metrics and arrays of a run that nothing
  disturbed, bit for bit;
- an export is whole or not there.

    python -m tests.campaigns.kill --cases=60
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.campaigns.campaign import EXIT_CODES, Broken, Ended, ended, main
from tests.campaigns.undisturbed import check_same, shared, undisturbed
from tests.helpers import ROOT
from tests.training.whole_runs import start, steps

_SIGNALS = {
    signal.SIGKILL: 5,
    signal.SIGTERM: 3,
    signal.SIGINT: 2,
    signal.SIGSTOP: 2,
}
# How a program may end that a signal met before it could take it.
_ENDED_BY = {signal.SIGKILL: -9, signal.SIGTERM: -15, signal.SIGINT: -2}


def play(rng: random.Random, folder: Path) -> str:
    """Interrupts a run, in one of eight cases an export, and lets it finish."""
    if rng.random() < 1 / 8:
        return _play_export(rng, folder / "weights")
    run, told = folder / "run", []
    for _ in range(rng.randint(1, 3)):
        process = start(run)
        number = _interrupt(process, rng, undisturbed().seconds)
        done = ended(process, codes=(*EXIT_CODES, _ENDED_BY.get(number, 0)))
        _check_saved(done, run)
        told.append(f"{_name(number)} {_phase(done)}")
    for _ in range(2):
        done = ended(start(run))
        if done.code or done.err:
            raise Broken(f"after {told}: exit code {done.code}: {done.err or done.out[-300:]}")
        check_same(run)
    return "; ".join(told)


def _interrupt(process: subprocess.Popen[str], rng: random.Random, seconds: float) -> int:
    """Sends a random signal at a random moment; 0 where the program has ended before."""
    (number,) = rng.choices(list(_SIGNALS), list(_SIGNALS.values()))
    moment = rng.uniform(0.0, 1.1 * seconds)
    try:
        process.wait(moment)
        return 0
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    if number == signal.SIGSTOP:
        time.sleep(rng.uniform(0.1, 2.0))
        process.send_signal(signal.SIGCONT)
    return number


def _check_saved(done: Ended, run: Path) -> None:
    """A run that says that all is saved has a checkpoint of that step."""
    said = re.search(r"stopped at step (\d+), all saved", done.out)
    if (done.code == 3) != bool(said):
        raise Broken(f"exit code {done.code}, but it said: {done.out[-300:]}")
    if said and int(said[1]) not in steps(run):
        raise Broken(f"{said[0]}, but the checkpoints are {steps(run)}")


def _phase(done: Ended) -> str:
    """Returns how far the program had come, in words."""
    if "finished at step" in done.out:
        return "at the end"
    if re.search(r"step \d+/\d+ ", done.out):
        return "in training"
    return "before the first update"


def _name(number: int) -> str:
    return signal.Signals(number).name if number else "no signal, ended"


def _play_export(rng: random.Random, out: Path) -> str:
    words = [sys.executable, "-m", "draw_jax", "export", f"--workdir={undisturbed().run}"]

    def export() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*words, f"--out={out}"], cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=os.environ
        )

    process = export()
    number = _interrupt(process, rng, undisturbed().seconds / 2)
    done = ended(process, codes=(*EXIT_CODES, _ENDED_BY.get(number, 0)))
    if (out / "weights.npz").exists():
        _load(out)  # whole
    again = ended(export())
    if again.code and "overwrite" not in again.err:
        raise Broken(f"after {_name(number)}: {again.err}")
    _load(out)
    return f"{_name(number)} in an export" + (", which was done" if done.code == 0 else "")


def _load(out: Path) -> None:
    with np.load(out / "weights.npz") as arrays:
        if not all(np.isfinite(arrays[name]).all() for name in arrays.files):
            raise Broken(f"{out} holds arrays that are not finite")


if __name__ == "__main__":
    shared()
    sys.exit(main("kill", play, cases=60))
