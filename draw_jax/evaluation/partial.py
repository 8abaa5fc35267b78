"""A pass's results so far, in a file, so that the same pass can continue after a kill."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from draw_jax.system import files

Columns = dict[str, list[np.ndarray]]  # by the terms' names, parts [n, ...] in the images' order
_EVERY = 10.0  # seconds between two savings


class Partial:
    """The terms of the images that a pass has finished, and the samples of its current batch.

    Args:
        path: the file; None keeps nothing.
        identity: all that decides the terms, by name; what JSON can hold.

    Raises:
        ValueError: if the file is part of another pass, which would be lost; names what differs.
    """

    def __init__(
        self, path: Path | None = None, identity: Mapping[str, Any] = MappingProxyType({})
    ):
        self.done = 0  # images
        self.losses: Columns = {}
        self.others: Columns = {}
        self.samples = 0  # of the batch after those images
        self.log_sum: np.ndarray | None = None  # [B], log of the sum of their weights
        self.damaged = False  # whether there is a file that cannot be used
        self._path, self._identity = path, dict(identity)
        self._saved = time.monotonic()
        if path is not None and path.exists():
            self._read(path)

    def add(
        self, losses: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], count: int
    ) -> None:
        """Takes the next batch's terms, arrays [B, ...] whose first `count` rows are of images."""
        for columns, found in ((self.losses, losses), (self.others, others)):
            for name, column in found.items():
                columns.setdefault(name, []).append(column[:count].astype(np.float64))
        self.done += count
        self.samples, self.log_sum = 0, None
        self._save_in_time()

    def at(self, samples: int, log_sum: np.ndarray) -> None:
        """Takes the current batch's number of samples, and the log of the sum of their weights."""
        self.samples, self.log_sum = samples, log_sum
        self._save_in_time()

    def begun(self, size: int) -> tuple[int, np.ndarray] | None:
        """Returns the samples of the batch after the images done and the log of their weights' sum.

        None if there are none, or if their batch had another size, as on other devices.
        """
        if self.log_sum is None or len(self.log_sum) != size:
            return None
        return self.samples, self.log_sum

    def finish(self) -> None:
        """Removes the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _save_in_time(self) -> None:
        if self._path is None or time.monotonic() < self._saved + _EVERY:
            return
        identity = np.array(json.dumps(self._identity))
        arrays: dict[str, Any] = {"identity": identity, "done": np.array(self.done)}
        if self.log_sum is not None:
            arrays |= {"samples": np.array(self.samples), "log_sum": self.log_sum}
        for group, columns in (("losses", self.losses), ("others", self.others)):
            arrays |= {f"{group}/{k}": np.concatenate(parts) for k, parts in columns.items()}
        files.write_whole(self._path, lambda file: np.savez(file, **arrays))
        self._saved = time.monotonic()

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as file, np.load(file) as stored:
                arrays = {name: stored[name] for name in stored.files}
            theirs = dict(json.loads(str(arrays["identity"])))
            done, samples = int(arrays["done"]), int(arrays.get("samples", 0))
        except Exception:  # noqa: BLE001 - cut short, damaged or something else: start over
            self.damaged = True
            return
        ours = json.loads(json.dumps(self._identity))
        if differ := [name for name in ours if ours[name] != theirs.get(name)]:
            raise ValueError(
                f"{path} is part of another evaluation, with other {', '.join(differ)}: give what it "
                "had (--checkpoint=STEP for its weights), another --json, or delete it"
            )
        self.done = done
        if "log_sum" in arrays:
            self.samples, self.log_sum = samples, arrays["log_sum"]
        for name, array in arrays.items():
            group, _, column = name.partition("/")
            if column:
                (self.losses if group == "losses" else self.others)[column] = [array]
