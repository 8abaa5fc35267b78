"""What a run says: metrics.jsonl for programs, TensorBoard and progress for people."""

import contextlib
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from draw_jax.runs import digests
from draw_jax.runs.tensorboard import TensorBoard
from draw_jax.system import files

# Progress never ends a run: the output may go to a full disk, or its terminal be gone.
_MAY_FAIL = contextlib.suppress(OSError)
# Decimals, where progress shows more than one.
_PLACES = {"error": 4, "cross_entropy": 4, "bits_per_dim": 3}


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, appended, on disk as soon as it is written.

    Each line ends with its digest. Those of earlier versions have none and are taken as they are.
    """

    def __init__(self, path: Path):
        self._path = path

    def rows(self) -> list[dict[str, Any]]:
        """Returns all sound lines; a warning names every damaged one.

        A last line that a kill cut short is silently left out.
        """
        return [row for row, _ in self._lines() if row is not None]

    def _lines(self) -> list[tuple[dict[str, Any] | None, bytes]]:
        """Returns every line except a torn last one, with its row: None if it is damaged."""
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().split(b"\n")
        torn = lines.pop()  # what follows the last line's end: mostly nothing
        signed = any(digests.FIELD in _fields(line) for line in lines)
        found = [(_row(line, signed), line) for line in lines]
        for number, (row, _) in enumerate(found, start=1):
            if row is None:
                warnings.warn(
                    f"{self._path}: line {number} is damaged, so what it told is left out",
                    stacklevel=3,
                )
        if (row := _row(torn, signed)) is not None:
            found.append((row, torn))
        return found

    def cut_back(self, step: int) -> None:
        """Drops what was written after a step, as a resumed run is going to write it again.

        Lines without a digest get one. A damaged line stays where it is.
        """
        if not self._path.exists():
            return
        kept, before = [], 0
        for row, line in self._lines():
            before = before if row is None else row["step"]
            if before <= step:
                kept.append((line if row is None else _line(row)) + b"\n")
        files.write_whole(self._path, lambda file: file.writelines(kept))

    def warn_of_lost(self, every: int, since: int, until: int) -> None:
        """Warns if a training line is missing that was due, every so many updates, in (since, until]."""
        last = max((row["step"] for row in self.rows()), default=0)
        if last < until // every * every > since:
            warnings.warn(
                f"{self._path} ends at step {last}, but the run went on to {until}: lines are lost",
                stacklevel=3,
            )

    def sync(self) -> None:
        """Waits until what was written has reached the disk, also for a power cut."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            os.fsync(file.fileno())

    def write(self, row: dict[str, Any]) -> None:
        """Appends one line.

        Raises:
            OSError: if it cannot be written, naming the file.
        """
        try:
            with self._path.open("ab") as file:
                file.write(_line(row) + b"\n")
        except OSError as error:
            raise OSError(
                f"{files.cannot_write(self._path, error)}: then the same command continues"
            ) from error


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(digests.signed(row)).encode()


def _fields(line: bytes) -> dict[str, Any]:
    """Returns the object on a line, {} where there is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deep
        return {}
    return fields if isinstance(fields, dict) else {}


def _row(line: bytes, signed: bool) -> dict[str, Any] | None:
    """Returns a line's row, without its digest; None if it is not a sound line of ours.

    Args:
        line: of a file.
        signed: whether other lines of the file have digests; one without is then not ours.
    """
    row, sound = digests.verified(_fields(line))
    known = type(row.get("step")) is int and isinstance(row.get("split"), str)
    if sound is None:
        numbers = (value for name, value in row.items() if name != "split")
        known = known and not signed and all(map(_is_number, numbers))
    return row if known and sound is not False else None


def _is_number(value: Any) -> bool:
    """Returns whether a value is a number, or a list or a table of numbers."""
    try:
        array = np.array(value)
    except ValueError:  # lists of different lengths
        return False
    return array.dtype.kind in "if" and array.ndim <= 2 and array.size > 0


class Progress:
    """A bar with step, loss and remaining time on a terminal; plain lines elsewhere.

    Args:
        total: updates of the whole run.
        done: updates done already.
        columns: the metrics to show; the negative ELBO as "loss".
        silent: print nothing (all processes but one).
    """

    def __init__(self, total: int, done: int, columns: Sequence[str], silent: bool = False):
        self._total, self._silent = total, silent
        self._labels = {name: name for name in columns}
        self._labels |= {"elbo_loss": "loss", "images_per_second": "images/s"}
        self._first: tuple[int, float] | None = None  # the first update done, and when
        self._bar = None
        if silent or done >= total:
            return
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)
            self._bar.set_description("compiling")
        else:
            print("compiling the first update", flush=True)

    def advance(self, step: int) -> None:
        """Moves the bar to a step; the first update, which compiles, is left out of its times."""
        if self._first is None:
            self._first = step, time.monotonic()
            if self._bar is not None:
                self._bar.unpause()
                self._bar.set_description("")
                self._bar.initial = step
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def show(self, row: dict[str, Any]) -> None:
        """Shows one row of metrics."""
        shown = {
            self._labels[n]: f"{row[n]:.{_PLACES.get(n, 1)}f}" for n in self._labels if n in row
        }
        if not shown:
            return
        if self._bar is not None and row["split"] == "train":
            self._bar.set_postfix(shown)
        elif not self._silent:
            text = "  ".join(f"{label} {value}" for label, value in shown.items())
            if row["split"] == "train" and self._first and row["step"] > self._first[0]:
                first, began = self._first
                seconds = (time.monotonic() - began) / (row["step"] - first)
                text += f"  eta {duration(seconds * (self._total - row['step']))}"
            self.say(f"step {row['step']}/{self._total}  {row['split']}  {text}")

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        if self._silent:
            return
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class RunLog:
    """All that a run says: metrics.jsonl, TensorBoard and progress. One process of a job writes.

    Args:
        run: the run directory.
        start: updates done; lines written after them, by a run cut off, are dropped.
        total: updates of the whole run.
        columns: the metrics that progress shows.
        silent: of a process that neither writes nor prints.
    """

    def __init__(self, run: Path, start: int, total: int, columns: Sequence[str], silent: bool):
        self._run, self._start, self._silent = run, start, silent
        self._file = MetricsFile(run / "metrics.jsonl")
        self._board: TensorBoard | None = None
        self._total, self._columns = total, columns
        self._progress: Progress | None = None
        self.written = False  # whether anything was
        if not silent:
            self._file.cut_back(start)

    def start(self) -> None:
        """Begins to show progress, before the first update."""
        with _MAY_FAIL:
            self._progress = Progress(self._total, self._start, self._columns, self._silent)

    def write(self, row: dict[str, Any]) -> None:
        """Writes and shows one row of metrics."""
        self.written = True
        if not self._silent:
            self._file.write(row)
            self._tensorboard().write(row)
        if self._progress:
            with _MAY_FAIL:
                self._progress.show(row)

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Writes a picture, uint8 [h, w, 3], for TensorBoard."""
        if not self._silent:
            self._tensorboard().image(name, picture, step)

    def _tensorboard(self) -> TensorBoard:
        if self._board is None:  # a run that is finished already writes none
            self._board = TensorBoard(self._run / "tensorboard", self._start, self.say)
        return self._board

    def advance(self, step: int) -> None:
        """Tells progress that an update is done."""
        if self._progress:
            with _MAY_FAIL:
                self._progress.advance(step)

    def say(self, text: str) -> None:
        """Prints a line."""
        with _MAY_FAIL:
            if self._progress:
                self._progress.say(text)
            elif not self._silent:
                print(text, flush=True)

    def close(self) -> None:
        """Writes what is left and ends progress."""
        if self._progress:
            with _MAY_FAIL:
                self._progress.close()
        if self._board:
            self._board.close()


def duration(seconds: float) -> str:
    """Returns seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def minutes(rows: Sequence[Mapping[str, Any]], batch_size: int, updates: int) -> float:
    """Returns the minutes of the updates only, by the median speed in the rows; nan if none has it.

    Args:
        rows: of a metrics.jsonl.
        batch_size: images an update.
        updates: how many.
    """
    speeds = [speed for row in rows if (speed := row.get("images_per_second"))]
    return updates * batch_size / statistics.median(speeds) / 60 if speeds else math.nan
