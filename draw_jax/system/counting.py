"""Progress of long work: a bar on a terminal, now and then a line elsewhere."""

import contextlib
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

_FIRST, _EVERY = 30.0, 60.0  # seconds until the first line, and between two


class Counting:
    """Shows on stderr how many of a number of things are done, as a context manager.

    Args:
        total: how many there are.
        unit: of one of them, such as "image".
        name: of the work.
    """

    def __init__(self, total: int, unit: str, name: str):
        self._total, self._unit, self._name = total, unit, name
        self._bar = tqdm(total=total, unit=unit, desc=name, disable=None)
        self._first: tuple[int, float] | None = None  # done and when, at the first call
        self._next = time.monotonic() + _FIRST

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def to(self, done: int) -> None:
        """Reports how many are done so far."""
        now = time.monotonic()
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
            return
        if self._first is None:
            self._first = done, now
        before, began = self._first
        if now < self._next or done <= before or done >= self._total:
            return
        self._next = now + _EVERY
        left = (now - began) / (done - before) * (self._total - done)
        with contextlib.suppress(OSError):  # whoever reads may be gone
            print(
                f"{self._name}: {done:,} of {self._total:,} {self._unit}s, "
                f"about {max(1, round(left / 60)):,} min left",
                file=sys.stderr,
                flush=True,
            )
