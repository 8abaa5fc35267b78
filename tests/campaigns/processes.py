"""Faults of one of two or three processes of a job; the same command in all of them then finishes it.

A process gets a signal at a random moment, never comes, is told another run, another number or a port
in use; the run directory is in use; the newest checkpoint is damaged. Promised is:

- every process that is left ends within the stated time, with one line that names what happened;
- nothing that was saved is lost or moved, but for a checkpoint that was damaged;
- the same command in every process continues and, let be, ends in the metrics and arrays of a job that
  nothing disturbed, bit for bit.

    python -m tests.campaigns.processes --cases=50
"""

import fcntl
import functools
import random
import signal
import socket
import sys
import time
from pathlib import Path

from tests.campaigns.campaign import EXIT_CODES, Broken, Ended, main
from tests.campaigns.programs import Program
from tests.campaigns.undisturbed import Undisturbed, check_same, shared
from tests.helpers import NO_ATTENTION, flip, large_file, places
from tests.training.whole_runs import command, steps

_WAIT = 12  # seconds of --process_timeout
_SLACK = 40  # seconds more, for a busy machine: a process may just have begun its imports
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT)
_ENDED_BY = {signal.SIGKILL: -9, signal.SIGSTOP: -9, signal.SIGTERM: -15, signal.SIGINT: -2}
_REFUSALS = {  # flags of the last process, or what is done to all; what every process is told
    "another seed": "were not given the same: config.seed",
    "another workdir": "were not given the same: --workdir",
    "its number twice": "two processes say that they are process",
    "one that never comes": "did not arrive within",
    "the port in use": "",
    "the run in use": "is in use by another process",
}


def play(rng: random.Random, folder: Path) -> str:
    """Plays one or two faults upon a job and lets it finish."""
    count = 3 if rng.random() < 0.2 else 2
    whole, run, told = undisturbed(count), folder / "run", []
    for _ in range(rng.randint(1, 2)):
        kind = rng.random()
        if kind < 0.3:
            told.append(refuse(rng.choice(list(_REFUSALS)), folder, run, count))
        elif kind < 0.45 and len(found := steps_of(run)) > 1:
            told.append(_damage(run, found))
            break  # the next start moves it aside, as none after another fault may
        else:
            told.append(_signal(rng, folder, run, count, whole.seconds))
    ended = [program.ended(seconds=300) for program in job(folder, run, count)]
    if any(done.code for done in ended):
        raise Broken(f"after {told}: {ended}")
    check_same(run, whole.run)
    return " + ".join(told)


def job(folder: Path, run: Path, count: int, **last: str) -> list[Program]:
    """Returns the processes of a job, begun.

    Args:
        folder: for what they print.
        run: the run directory.
        count: of processes.
        last: what the last of them is told otherwise: flags, or variables.
    """
    batch = {"train.batch_size": 48} if count == 3 else {}
    flags = ("--distributed", f"--process_timeout={_WAIT}")
    programs = []
    for k, environment in enumerate(places(count)):
        more = flags
        for name, value in last.items() if k == count - 1 else ():
            if name.isupper():
                environment[name] = value
            else:
                more = (*more, f"--{name.replace('_', '.', 1)}={value}")
        words = command(run, NO_ATTENTION | batch, *more)
        programs.append(Program(words, folder, **environment))
    return programs


def undisturbed(count: int) -> Undisturbed:
    """Returns a job of so many processes, made twice: the first time it compiles."""
    return _undisturbed(shared(), count)


@functools.cache
def _undisturbed(folder: Path, count: int) -> Undisturbed:
    for name in ("first", "run"):
        began, run = time.monotonic(), folder / f"{name}{count}"
        for program in job(folder, run, count):
            if program.ended(seconds=300).code:
                raise Broken(f"a job that nothing disturbs: {program.said()}")
    return Undisturbed(run, time.monotonic() - began)


def steps_of(run: Path) -> list[int]:
    """Returns the steps of the checkpoints there are."""
    return steps(run) if (run / "checkpoints").is_dir() else []


def _signal(rng: random.Random, folder: Path, run: Path, count: int, seconds: float) -> str:
    """Sends a signal to one process at a random moment."""
    programs, number, which = job(folder, run, count), rng.choice(_SIGNALS), rng.randrange(count)
    before = steps_of(run)
    programs[which].wait(rng.uniform(0.0, 0.9 * seconds))
    programs[which].send(number)
    began = time.monotonic()
    codes = (*EXIT_CODES, _ENDED_BY[number], -6)  # 6: JAX's own end, after our line
    ended = {
        k: program.ended(codes, seconds=_WAIT + _SLACK)
        for k, program in enumerate(programs)
        if k != which
    }
    took = time.monotonic() - began
    programs[which].send(signal.SIGKILL)
    ended[which] = programs[which].ended((*codes, -9))
    for k, done in ended.items():
        if k != which:
            _check_told(done, f"{number.name} to {which}, to {k} after {took:.0f} s")
    saved = [done.out for done in ended.values() if "all saved" in done.out]
    if max(before, default=0) > max(steps_of(run), default=0) or (run / "damaged").exists():
        raise Broken(f"of the checkpoints {before}, {steps_of(run)} are left")
    if saved and f"stopped at step {max(steps_of(run), default=0)}, all" not in saved[0]:
        raise Broken(f"{saved[0][-200:]}, but the checkpoints are {steps_of(run)}")
    outcome = "stopped, all saved" if saved else "named in one line"
    if all(done.code == 0 for done in ended.values()):
        outcome = "it had finished"
    return f"{number.name} to one process: {outcome}"


def refuse(kind: str, folder: Path, run: Path, count: int) -> str:
    """Begins a job that must not be; all of it says why.

    Raises:
        Broken: if it does not.
    """
    before = steps_of(run)
    last = {
        "another seed": {"config_seed": "1"},
        "another workdir": {"workdir": str(folder / "other")},
        "its number twice": {"JAX_PROCESS_ID": f"{count - 2}"},
        "the port in use": {},
    }
    if kind == "its number twice" and count == 2:
        last[kind] = {"JAX_PROCESS_ID": "0"}
    if kind == "the port in use":
        with socket.create_server(("", 0)) as other:
            address = f"localhost:{other.getsockname()[1]}"
            ended = _ended(_all_at(folder, run, count, address))
    elif kind == "the run in use":
        run.mkdir(exist_ok=True)
        with (run / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ended = _ended(job(folder, run, count))
    elif kind == "one that never comes":
        programs = job(folder, run, count, JAX_PROCESS_ID=f"{count}")  # refuses itself at once
        programs[-1].ended()
        ended = _ended(programs[:-1])
    else:
        ended = _ended(job(folder, run, count, **last[kind]))
    for done in ended:
        if done.code in (0, 3):
            raise Broken(f"{kind}: a process ended with {done.code}: {done.out[-200:]}")
        _check_told(done, kind)
        if kind != "its number twice" and _REFUSALS[kind] not in done.err:
            raise Broken(f"{kind}: {done.err}")
    if steps_of(run) != before or (run / "damaged").exists():
        raise Broken(f"{kind}: of the checkpoints {before}, {steps_of(run)} are left")
    return f"{kind}: refused in one line by all"


def _all_at(folder: Path, run: Path, count: int, address: str) -> list[Program]:
    words = command(run, NO_ATTENTION, "--distributed", f"--process_timeout={_WAIT}")
    there = {"JAX_COORDINATOR_ADDRESS": address}
    return [Program(words, folder, **(place | there)) for place in places(count)]


def _ended(programs: list[Program]) -> list[Ended]:
    return [program.ended(seconds=2 * _WAIT + _SLACK) for program in programs]


def _check_told(done: Ended, what: str) -> None:
    """A process that did not reach its end says why in one line of ours."""
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    if done.code in (1, 2) and len(errors) != 1:
        raise Broken(f"{what}: {len(errors)} lines: {done.err[-600:]}")
    if done.code < 0 and not errors:
        raise Broken(f"{what}: ended by a signal, without a word: {done.err[-600:]}")


def _damage(run: Path, found: list[int]) -> str:
    """Flips a byte of the newest checkpoint's arrays; the job goes on from the one before it."""
    flip(large_file(run / "checkpoints" / f"{found[-1]}" / "params"))
    return "a flipped byte: the checkpoint before it taken"


if __name__ == "__main__":
    sys.exit(main("processes", play, cases=50))
