"""Stopping a run in good order: signals become a request that the loop asks for."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from draw_jax.evaluation import passes


class Stop:
    """Whether a signal has asked this process, or another of the same job, to stop."""

    def __init__(self) -> None:
        self.signalled = False

    def requested(self, step: int, log_every: int) -> bool:
        """Returns the processes' common answer; several of them agree at every log_every."""
        if jax.process_count() == 1:
            return self.signalled
        if step % log_every:
            return False
        return bool(multihost_utils.process_allgather(np.array(self.signalled)).any())

    def interrupt_evaluation(self) -> None:
        """Raises Interrupted in the middle of a pass; one process alone can do so."""
        if self.signalled and jax.process_count() == 1:
            raise passes.Interrupted


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turns SIGINT and SIGTERM into a request to stop; a second one quits at once."""
    stop = Stop()

    def handle(number: int, frame: Any) -> None:
        if stop.signalled:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.signalled = True
        name = signal.Signals(number).name
        text = f"\n{name}: saving, then stopping; once more quits at once\n"
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(1, text.encode())  # print is not reentrant, and this may interrupt one

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # a thread other than the main one gets no signals
        previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
