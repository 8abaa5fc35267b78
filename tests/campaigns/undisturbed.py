"""A run that nothing disturbs, which the cases of a campaign are compared with."""

import functools
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.campaigns.campaign import Broken
from tests.campaigns.programs import Program
from tests.training.whole_runs import assert_same_run, command, rows, timeless


class Undisturbed(NamedTuple):
    """A finished run."""

    run: Path
    seconds: float  # that it took from its start, with everything compiled


def shared() -> Path:
    """Returns a folder for what all cases share, removed when this process ends.

    Among that is what XLA has compiled, quickly: programs begun after this find it there.
    """
    folder = Path(_shared().name)
    os.environ.update(
        JAX_DISABLE_MOST_OPTIMIZATIONS="true",
        JAX_COMPILATION_CACHE_DIR=str(folder / "compiled"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )
    return folder


@functools.cache
def _shared() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def training(run: Path) -> list[str]:
    """Returns the command line of a run on two devices, as a program makes of two cores."""
    words: list[str] = command(run, {"train.cpu_devices": 2})
    return words


def undisturbed() -> Undisturbed:
    """Returns the run of `training`, made twice: the first time it compiles."""
    return _undisturbed(shared())


@functools.cache
def _undisturbed(folder: Path) -> Undisturbed:
    for name in ("first", "run"):
        began = time.monotonic()
        done = Program(training(folder / name), folder).ended()
        seconds = time.monotonic() - began
        if done.code or done.err:
            raise Broken(f"a run that nothing disturbs: {done.err}")
    return Undisturbed(folder / "run", seconds)


def check_same(run: Path, theirs: Path) -> None:
    """Checks that a run ended as one that nothing disturbed, bit for bit.

    Raises:
        Broken: if it did not.
    """
    told = shared() / "difference"
    told.unlink(missing_ok=True)
    # Orbax begins threads, which a process that forks others must not have.
    process = multiprocessing.get_context("forkserver").Process(
        target=_compare, args=(run, theirs, told)
    )
    process.start()
    process.join()
    if process.exitcode or told.exists():
        cause = told.read_text() if told.exists() else f"exit code {process.exitcode}"
        raise Broken(f"not the run that nothing disturbed: {cause[:600]}")


def _compare(run: Path, theirs: Path, told: Path) -> None:
    try:
        for one, other in zip(rows(run), rows(theirs), strict=False):
            assert timeless(one) == timeless(other), f"{timeless(one)} instead of {timeless(other)}"
        assert_same_run(run, theirs)
    except Exception as error:  # noqa: BLE001 - told by the process that waits for this one
        told.write_text(str(error) or "more or fewer lines of metrics")
