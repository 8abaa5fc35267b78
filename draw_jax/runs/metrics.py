"""What a run says: metrics.jsonl for programs, a progress line for people."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, appended, on disk as soon as it is written."""

    def __init__(self, path: Path):
        self._path = path

    def rows(self) -> list[dict[str, Any]]:
        """Returns all complete lines; one that a kill cut short is left out."""
        if not self._path.exists():
            return []
        rows = []
        for line in self._path.read_text().splitlines(keepends=True):
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def cut_back(self, step: int) -> None:
        """Drops what was written after a step, as a resumed run is going to write it again."""
        if not self._path.exists():
            return
        kept = [row for row in self.rows() if row["step"] <= step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        temporary.replace(self._path)

    def write(self, row: dict[str, Any]) -> None:
        """Appends one line."""
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


class TensorBoard:
    """Event files for TensorBoard: scalars as `split/name`, KL per time step, pictures.

    Args:
        directory: where they lie; made if missing.
        step: updates done; events after it, of a run cut off, are hidden.
    """

    def __init__(self, directory: Path, step: int):
        self._writer = SummaryWriter(str(directory), purge_step=step + 1 if step else None)

    def write(self, row: dict[str, Any]) -> None:
        """Writes one row of metrics."""
        for name, value in row.items():
            if isinstance(value, list):
                for t, part in enumerate(value, start=1):
                    self._writer.add_scalar(f"{name}/t_{t:03d}", part, row["step"])
            elif isinstance(value, float):
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Writes a picture, uint8 [h, w, 3]."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


class Progress:
    """A bar with step, loss and remaining time on a terminal; plain lines elsewhere.

    Args:
        total: updates of the whole run.
        done: updates done already.
        silent: print nothing (all processes but one).
    """

    def __init__(self, total: int, done: int, silent: bool = False):
        self._total, self._start, self._began = total, done, time.monotonic()
        self._silent = silent
        self._bar = None
        if sys.stderr.isatty() and not silent:
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def advance(self, step: int) -> None:
        """Moves the bar to a step."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def show(self, row: dict[str, Any]) -> None:
        """Shows one row of metrics."""
        names = {"elbo_loss": "loss", "nll": "nll", "kl": "kl", "images_per_second": "images/s"}
        shown = {label: f"{row[name]:.1f}" for name, label in names.items() if name in row}
        if self._bar is not None and row["split"] == "train":
            self._bar.set_postfix(shown)
        elif not self._silent:
            step, done = row["step"], row["step"] - self._start
            text = "  ".join(f"{label} {value}" for label, value in shown.items())
            if row["split"] == "train" and done > 0:
                seconds = (time.monotonic() - self._began) / done * (self._total - step)
                text += f"  eta {duration(seconds)}"
            self.say(f"step {step}/{self._total}  {row['split']}  {text}")

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


def duration(seconds: float) -> str:
    """Returns seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
