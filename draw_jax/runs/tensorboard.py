"""Event files for TensorBoard. They are only for viewing: their failures never end a run."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

_FLUSH_SECONDS = 5.0  # between two flushes to disk


class TensorBoard:
    """Scalars as `split/name`, KL per time step, pictures.

    Events are written by the calling thread: a separate one could die of a full disk and leave
    the run waiting for it.

    Args:
        directory: where they lie; made if missing.
        step: updates done; events after it, of a run cut off, are hidden.
        say: told once, if events cannot be written.
    """

    def __init__(self, directory: Path, step: int, say: Callable[[str], None] = print):
        self._directory, self._say = directory, say
        self._writer: EventsWriter | None = None
        self._failed, self._flushed = False, 0.0
        # TensorBoard drops what files before this one say of later steps.
        restart = Event(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._write(restart if step else None)

    def write(self, row: dict[str, Any]) -> None:
        """Writes one row of metrics."""
        values = []
        for name, value in row.items():
            if isinstance(value, list) and isinstance(value[0], float):
                for t, part in enumerate(value, start=1):
                    values.append(Summary.Value(tag=f"{name}/t_{t:03d}", simple_value=part))
            elif isinstance(value, float):
                values.append(Summary.Value(tag=f"{row['split']}/{name}", simple_value=value))
        self._write(Event(step=row["step"], summary=Summary(value=values)))

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Writes a picture, uint8 [h, w, 3]."""
        self._write(Event(step=step, summary=summary.image(name, picture, dataformats="HWC")))

    def close(self) -> None:
        """Closes the file; there is nothing left to write."""
        if self._writer is not None:
            # Where the first cannot write what is left, it leaves the file open.
            for end in (self._writer.close, self._writer._py_recordio_writer.close):
                with contextlib.suppress(OSError, ValueError):  # closed by the first
                    end()

    def _write(self, event: Event | None) -> None:
        if self._failed:
            return
        try:
            if self._writer is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                # Two starts within a second would otherwise share a name.
                suffix = f".{os.getpid()}"
                self._writer = EventsWriter(str(self._directory / "events"), suffix)
            if event is not None:
                event.wall_time = time.time()
                self._writer.write_event(event)
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._writer.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            self._failed = True
            self.close()
            self._say(
                f"cannot write events for TensorBoard in {self._directory} ({error.strerror}); the "
                "run goes on without them"
            )
