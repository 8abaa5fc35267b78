"""What all campaigns share: cases that follow from a seed, promises, and the counts at the end."""

import argparse
import collections
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT

# How a command of ours may end: finished, error, bad flags, stopped by a signal, diverged, Ctrl-C.
EXIT_CODES = (0, 1, 2, 3, 4, 130)


class Broken(Exception):
    """A promise that a case has broken."""


class Ended(NamedTuple):
    """How a program ended."""

    code: int  # negative: the signal that killed it
    out: str
    err: str


# Plays one case and returns in a few words how it went: what is counted, parts by " + ".
Play = Callable[[random.Random, Path], str]


def main(name: str, play: Play, cases: int) -> int:
    """Plays the cases that the command line asks for, prints counts; 1 if a promise was broken.

    Args:
        name: of the campaign.
        play: called with the case's own generator and its own empty folder, whose name is its number.
        cases: how many, unless --cases says.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.campaigns.{name}")
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    began = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    broken = []
    for number in range(options.first, options.first + options.cases):
        try:
            outcome = play_one(play, options.seed, number)
            counts.update(outcome.split(" + "))
        except Broken as error:
            outcome = f"BROKEN: {error}"
            broken.append(number)
        print(f"case {number}: {outcome}", flush=True)
    print(f"\n{name}: {options.cases} cases, seed {options.seed}")
    for outcome, count in counts.most_common():
        print(f"{count:6d}  {outcome}")
    print(f"{len(broken):6d}  broke a promise{': cases ' if broken else ''}{broken or ''}")
    print(f"took {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if broken else 0


def play_one(play: Play, seed: int, number: int) -> str:
    """Returns how one case went, played in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, f"{number}")
        folder.mkdir()
        return play(random.Random(f"{seed} {number}"), folder)


def run(words: list[str], seconds: float = 120.0, **environment: str) -> Ended:
    """Runs `python WORDS` in the project's root to its end.

    Raises:
        Broken: if it ends as no program of ours may.
    """
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return ended(process, seconds)


def ended(process: subprocess.Popen[str], seconds: float = 120.0, codes=EXIT_CODES) -> Ended:
    """Waits for a program and returns how it ended.

    Raises:
        Broken: if it takes longer, prints a traceback or ends with another code.
    """
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise Broken(f"still running after {seconds:g} s: {_tail(out + err)}") from None
    return judged(Ended(process.returncode, out, err), codes)


def judged(done: Ended, codes=EXIT_CODES) -> Ended:
    """Returns how a program ended, if it may end so.

    Raises:
        Broken: if it printed a traceback, ended with a code not among `codes`, or with an error and
            no line that says why.
    """
    if "Traceback" in done.out + done.err:
        raise Broken(f"a traceback: {_tail(done.err)}")
    if done.code not in codes:
        raise Broken(f"exit code {done.code}: {_tail(done.err)}")
    if done.code in (1, 2) and not re.search(r"^error: ", done.err, re.MULTILINE):
        raise Broken(f"exit code {done.code} without a line that says why: {_tail(done.err)}")
    return done


def _tail(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-4:])[-600:]
