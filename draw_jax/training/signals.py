"""Stopping a run cleanly: signals become a request that the loop checks."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from draw_jax.evaluation import passes
from draw_jax.system import processes


class Stop:
    """Whether a signal has asked this process, or another of the same job, to stop."""

    def __init__(self, team: processes.Team | None = None) -> None:
        self.signalled = False
        self.begun = False  # whether there is something to save
        self._team = team

    def requested(self) -> bool:
        """Returns the answer that all processes give here; each must ask at the same points."""
        return self.signalled if self._team is None else self._team.agree(self.signalled)

    def interrupt_evaluation(self) -> None:
        """Raises Interrupted in the middle of a pass, in all processes after the same batch."""
        if self.requested():
            raise passes.Interrupted


@contextlib.contextmanager
def stop_signals(team: processes.Team | None = None) -> Iterator[Stop]:
    """Turns SIGINT and SIGTERM into a request to stop; a second one quits at once.

    So does the first while a process alone has not begun: preparing data may take long, and until
    then nothing could be lost.

    Args:
        team: the processes of one job, which all stop at the same step; None for one alone.
    """
    stop = Stop(team)

    def handle(number: int, frame: Any) -> None:
        before = previous.get(number) or signal.SIG_DFL
        if stop.signalled or not (stop.begun or team or before == signal.SIG_IGN):
            signal.signal(number, signal.SIG_DFL if stop.signalled else before)
            signal.raise_signal(number)
            return
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
