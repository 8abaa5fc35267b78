"""Signals at random moments of a run and of an export; the same command then finishes them.

A case sends one to three signals, each at a random moment from the program's first instruction to past its
end: SIGKILL, SIGTERM, SIGINT, or SIGSTOP with a later SIGCONT. Promised is:

- what says "all saved" is saved; nothing ends in a traceback;
- the same command continues and, let be, ends in the metrics and arrays of a run that nothing
  disturbed, bit for bit;
- an export is whole or not there.

    python -m tests.campaigns.kill --cases=60
"""

import random
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np

from tests.campaigns.campaign import EXIT_CODES, Broken, Ended, main
from tests.campaigns.programs import Program
from tests.campaigns.undisturbed import check_same, training, undisturbed
from tests.training.whole_runs import steps

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
    whole = undisturbed()  # begun before all others, which share what it has compiled
    if rng.random() < 1 / 8:
        return _play_export(rng, folder)
    run, told = folder / "run", []
    for _ in range(rng.randint(1, 3)):
        forked = rng.random() < 5 / 6  # else the signal can meet it in its imports
        program = Program(training(run), folder, forked)
        number = _interrupt(program, rng, whole.seconds + (0.0 if forked else 5.0))
        done = program.ended((*EXIT_CODES, _ENDED_BY.get(number, 0)))
        _check_saved(done, run)
        told.append(f"{_name(number)} {_phase(done)}")
    for _ in range(2):  # the second finds nothing left to do
        done = Program(training(run), folder).ended()
        if done.code or done.err:
            raise Broken(f"after {told}: exit code {done.code}: {done.err or done.out[-300:]}")
    check_same(run, whole.run)
    return " + ".join(told)


def _interrupt(program: Program, rng: random.Random, seconds: float) -> int:
    """Sends a random signal at a random moment; returns 0 where the program has ended before."""
    (number,) = rng.choices(list(_SIGNALS), list(_SIGNALS.values()))
    if program.wait(rng.uniform(0.0, 1.05 * seconds)) is not None:
        return 0
    program.send(number)
    if number == signal.SIGSTOP:
        time.sleep(rng.uniform(0.1, 2.0))
        program.send(signal.SIGCONT)
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


def _play_export(rng: random.Random, folder: Path) -> str:
    out = folder / "weights"
    words = ["-m", "draw_jax", "export", f"--workdir={undisturbed().run}", f"--out={out}"]
    program = Program(words, folder)
    number = _interrupt(program, rng, undisturbed().seconds / 2)
    done = program.ended((*EXIT_CODES, _ENDED_BY.get(number, 0)))
    if (out / "weights.npz").exists():
        _load(out)  # whole
    again = Program(words, folder).ended()
    if again.code:
        raise Broken(f"after {_name(number)}: {again.err}")
    _load(out)
    return f"{_name(number)} in an export" + (", which was done" if done.code == 0 else "")


def _load(out: Path) -> None:
    with np.load(out / "weights.npz") as arrays:
        if not all(np.isfinite(arrays[name]).all() for name in arrays.files):
            raise Broken(f"{out} holds arrays that are not finite")


if __name__ == "__main__":
    sys.exit(main("kill", play, cases=60))
