"""Whether a classifier's run has collapsed: finite losses, but what it had learned is gone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_TIMES, _MORE = 2, 0.2  # an error above both of best * _TIMES and best + _MORE is a collapse


class Collapse(NamedTuple):
    """The latest validation, and the best before it."""

    step: int
    error: float
    best_step: int
    best_error: float

    def text(self, run: Path) -> str:
        """Returns what happened and how to go on, in one line."""
        return (
            f"collapsed: validation error {self.error:.4f} at step {self.step}, after "
            f"{self.best_error:.4f} at step {self.best_step}, whose checkpoint is kept; to go on from "
            f"it in a new run: --workdir=... --init_from={run} with a smaller "
            "--config.train.learning_rate"
        )


def collapsed(rows: Sequence[Mapping[str, Any]]) -> Collapse | None:
    """Returns the collapse that the latest validation shows; None if it shows none.

    Args:
        rows: of metrics.jsonl; those of validation have a `step` and an `error` in [0, 1].
    """
    validations = [row for row in rows if row["split"] == "validation"]
    if len(validations) < 2:
        return None
    *earlier, latest = validations
    best = min(earlier, key=lambda row: row["error"])
    if latest["error"] <= max(_TIMES * best["error"], best["error"] + _MORE):
        return None
    return Collapse(latest["step"], latest["error"], best["step"], best["error"])
