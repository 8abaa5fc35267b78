"""Whether a run has diverged: by non-finite numbers, or finite ones that show a collapse."""

import contextlib
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from draw_jax.training.step import Metrics

_TIMES, _MORE = 2, 0.2  # an error above both of best * _TIMES and best + _MORE is a collapse
_IMAGES = 500  # fewest images in a mean of training errors: its standard error is at most 0.022
_TENFOLD, _LINES = 10, 5  # a norm or loss so many times too large, for so many lines


class DivergedError(RuntimeError):
    """A run that is not worth going on with.

    Args:
        text: what was seen, and at which step.
        good_until: the divergence does not affect checkpoints up to this step.
    """

    def __init__(self, text: str, good_until: int):
        super().__init__(text)
        self.good_until = good_until


class FiniteCheck:
    """Looks at each update's metrics one update later, so that the device never waits for it."""

    def __init__(self) -> None:
        self._pending: tuple[int, Metrics] | None = None

    def watch(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of an update that may still be computing; checks those before."""
        self.values()
        self._pending = step, metrics

    def values(self) -> dict[str, float]:
        """Returns the metrics taken last as numbers, {} if they were already returned.

        Raises:
            DivergedError: naming the first that is not finite, and the step.
        """
        if self._pending is None:
            return {}
        (step, metrics), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise DivergedError(f"{name} is {value} at step {step}", step - 1)
        return values


class Watch:
    """Compares each row of metrics with those before it; keeps little of them.

    Args:
        objective: name of the loss in training rows that have no `objective`.
        batch_size: images of one row of training.
        rows: of the run so far.
    """

    def __init__(self, objective: str, batch_size: int, rows: Iterable[Mapping[str, Any]] = ()):
        self._objective = objective
        self._first: Mapping[str, Any] | None = None  # row of training
        self._latest: deque[Mapping[str, Any]] = deque(maxlen=_LINES)  # rows of training
        self._earlier = 0  # rows of training before these,
        self._earlier_step = 0  # step of the last of them,
        self._highest = 0.0  # and the highest norm of the gradient in them
        self._best: Mapping[str, Any] | None = None  # row of validation
        self._validated = 0  # step of the last validation whose losses are finite
        lines = max(_LINES, math.ceil(_IMAGES / batch_size))
        self._errors: deque[float] = deque(maxlen=lines)  # of the latest rows of training
        self._learned = (math.inf, 0)  # the lowest mean of as many, and the step of the last
        self._ruined: int | None = None  # step since which every loss has been ten times too large
        for row in rows:
            with contextlib.suppress(DivergedError):
                self.take(row)

    @property
    def good_until(self) -> float:
        """The last step before the loss became ten times that of the first row; inf if it is not."""
        return math.inf if self._ruined is None else self._ruined - 1

    def take(self, row: Mapping[str, Any]) -> None:
        """Looks at the next row.

        Raises:
            DivergedError: if it tells that the run has collapsed or exploded, or has a loss of
                validation that is not finite.
        """
        if row["split"] == "validation":
            self._take_validation(row)
        if row["split"] == "train" and _has_numbers(row, self._objective, "grad_norm"):
            self._take_training(row)
        elif row["split"] == "validation" and _has_numbers(row, "error"):
            self._take_error(row)
        if row["split"] == "train" and _has_numbers(row, "error"):
            self._errors.append(row["error"])
            if len(self._errors) == self._errors.maxlen:
                self._learned = min(self._learned, (self._recent, row["step"]))

    def _take_validation(self, row: Mapping[str, Any]) -> None:
        """All losses of a validation are finite, or what is good ends at the one before."""
        for name in row:
            value = row.get(name.removesuffix("_se"))
            if name.endswith("_se") and isinstance(value, float) and not math.isfinite(value):
                told = f"validation {name.removesuffix('_se')} is {value} at step {row['step']}"
                raise DivergedError(told, self._validated)
        self._validated = row["step"]

    @property
    def _recent(self) -> float:
        """The mean of the latest training errors."""
        return sum(self._errors) / len(self._errors)

    def _take_error(self, row: Mapping[str, Any]) -> None:
        """A classifier's error may not rise far above its best, nor both above training's best."""
        error, told = row["error"], f"validation error {row['error']:.4f} at step {row['step']}"
        best = self._best or row
        if error <= best["error"]:
            self._best = row
        elif error > _highest_error(best["error"]):
            raise DivergedError(
                f"collapsed: {told}, after {best['error']:.4f} at step {best['step']}", best["step"]
            )
        # It may have learned and collapsed before the first validation. A high validation error
        # beside a low training error is overfitting.
        learned, step = self._learned
        if step and min(error, self._recent) > _highest_error(learned):
            raise DivergedError(
                f"collapsed: {told}, after {learned:.4f} in training until step {step}", step
            )

    def _take_training(self, row: Mapping[str, Any]) -> None:
        """Neither loss nor gradient may stay far too large for several rows."""
        self._first = self._first or row
        if len(self._latest) == _LINES:
            oldest = self._latest[0]
            self._earlier, self._earlier_step = self._earlier + 1, oldest["step"]
            self._highest = max(self._highest, oldest["grad_norm"])
        self._latest.append(row)
        name = "objective" if "objective" in row else self._objective
        first, loss = self._first[name], row[name]
        if loss - first <= (_TENFOLD - 1) * max(abs(first), 1.0):
            self._ruined = None
        elif self._ruined is None:
            self._ruined = row["step"]
        told = f"in all {_LINES} lines to step {row['step']}"
        long = len(self._latest) == _LINES
        if long and self._ruined is not None and self._ruined <= self._latest[0]["step"]:
            raise DivergedError(
                f"exploded: {name} is {loss:.4g}, above ten times that of step "
                f"{self._first['step']}, {told}",
                self._ruined - 1,
            )
        least = min(r["grad_norm"] for r in self._latest)
        if self._earlier >= _LINES and least > _TENFOLD * self._highest:
            raise DivergedError(
                f"exploded: grad_norm is {row['grad_norm']:.4g}, above ten times the highest "
                f"before, {self._highest:.4g}, {told}",
                self._earlier_step,
            )


def _highest_error(best: float) -> float:
    """Returns the error above which a run with this best error has collapsed."""
    return max(_TIMES * best, best + _MORE)


def _has_numbers(row: Mapping[str, Any], *names: str) -> bool:
    """Returns whether a row, which may be of an earlier version, has these values."""
    return all(isinstance(row.get(name), int | float) for name in names)
