"""A run that nothing disturbs, which the cases of a campaign are compared with."""

import functools
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.campaigns.campaign import Broken, ended
from tests.training.whole_runs import assert_same_run, start


class Undisturbed(NamedTuple):
    """A finished run."""

    run: Path
    seconds: float  # that it took from its start, with everything compiled


@functools.cache
def shared() -> Path:
    """Returns a folder for what all cases share, removed when this process ends."""
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    os.environ.update(
        JAX_DISABLE_MOST_OPTIMIZATIONS="true",
        JAX_COMPILATION_CACHE_DIR=f"{folder.name}/compiled",
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def undisturbed() -> Undisturbed:
    """Returns the run of `whole_runs.start`, made twice: the first time it compiles."""
    for name in ("first", "run"):
        began = time.monotonic()
        done = ended(start(shared() / name))
        seconds = time.monotonic() - began
        if done.code or done.err:
            raise Broken(f"a run that nothing disturbs: {done.err}")
    return Undisturbed(shared() / "run", seconds)


def check_same(run: Path) -> None:
    """Checks that a run ended as the one that nothing disturbed, bit for bit.

    Raises:
        Broken: if it did not.
    """
    try:
        assert_same_run(run, undisturbed().run)
    except AssertionError as error:
        raise Broken(f"not the run that nothing disturbed: {str(error)[:300]}") from None
