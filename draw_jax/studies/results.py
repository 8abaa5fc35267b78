"""From the measurements of single runs to the follow-up study's tables and chart."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from draw_jax.drawing.figures import estimates
from draw_jax.studies.rows import Row

# For each row's configuration, the measurements of its runs: one dictionary per seed.
Measured = Mapping[str, Sequence[Mapping[str, Any]]]

# Of a run: its name in the dictionary, its column's heading and the decimals shown.
_MEASURES = (
    ("elbo_loss", "negative ELBO, validation", 2),
    ("importance_weighted_nll", "its importance-weighted bound", 2),
)
# The two readings of the report's measure 7, the nearest-image NLL, each of three numbers.
_READINGS = (
    ("nearest_nll", "nearest-image NLL: mean / standard deviation / maximum"),
    ("nearest_rounded_nll", "the same, both images rounded to 0 and 1"),
)


class Estimate(NamedTuple):
    """A mean over seeds."""

    mean: float
    error: float  # its standard error; nan of a single seed

    def text(self, digits: int = 1, sign: bool = False) -> str:
        """Returns "12.3 +- 0.4", or "12.3" of a single seed."""
        mean = f"{self.mean:+,.{digits}f}" if sign else f"{self.mean:,.{digits}f}"
        return mean if math.isnan(self.error) else f"{mean} +- {self.error:.{digits}f}"


def over_seeds(values: Sequence[float]) -> Estimate:
    """Returns the mean of one value or more and its standard error, s / sqrt(n)."""
    if len(values) < 2:
        return Estimate(float(values[0]), math.nan)
    return Estimate(statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)))


def spread(values: Sequence[float]) -> str:
    """Returns the largest distance of a value from the median, in % of it; "-" for a single one."""
    if len(values) < 2:
        return "-"
    median = statistics.median(values)
    return f"{100 * max(abs(value - median) for value in values) / abs(median):.1f}"


def worth(measured: Measured, row: Row) -> Estimate:
    """Returns how much higher a row's negative ELBO is than its base's, nats.

    Note: the runs of both are taken as independent. Those of one seed share the order of the images,
        which makes the true standard error rather smaller.
    """
    ours, base = (
        over_seeds([run["elbo_loss"] for run in measured[name]]) for name in (row.config, row.base)
    )
    return Estimate(ours.mean - base.mean, math.hypot(ours.error, base.error))


def table(measured: Measured, rows: Sequence[Row], seeds: int, updates: int) -> str:
    """Returns the results of the rows that were run, as a table of Markdown.

    Args:
        measured: of each run.
        rows: the systems, in the order of the table.
        seeds: runs of each system that were asked for.
        updates: of each run; the report's numbers of as many are shown, or of those that it has.
    """
    heads = [head for _, head, *_ in (*_MEASURES, *_READINGS)]
    names = ["system", *heads, "the report's", "minutes a run", "seeds", "spread, %"]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        runs = measured.get(row.config, ())
        if not runs:
            continue
        cells = [over_seeds([run[name] for run in runs]).text(n) for name, _, n in _MEASURES]
        cells += [_three(runs, name) for name, _ in _READINGS]
        reported, theirs = "-", updates
        if row.report:
            theirs = updates if updates in row.report else min(row.report)
            reported = " / ".join(map(str, row.report[theirs]))
        if theirs != updates:
            reported += f" ({theirs:,} updates)"
        minutes = statistics.median(run["minutes"] for run in runs)
        done = f"{len(runs)}" if len(runs) == seeds else f"{len(runs)} of {seeds}"
        last = f"{reported} | {minutes:.0f} | {done} | {spread([run['elbo_loss'] for run in runs])}"
        lines.append(f"| {row.system} | {' | '.join(cells)} | {last} |")
    return "\n".join(lines)


def _three(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """Returns the means over seeds of a reading's mean, standard deviation and maximum."""
    names = [f"{name}{end}" for end in ("", "_std", "_max")]
    return " / ".join(f"{statistics.fmean(run[name] for run in runs):.0f}" for name in names)


def compared(measured: Measured, rows: Sequence[Row]) -> list[Row]:
    """Returns the rows that were run and whose base was run."""
    return [row for row in rows if row.base and measured.get(row.config) and measured.get(row.base)]


def worth_table(measured: Measured, rows: Sequence[Row]) -> str:
    """Returns what each change costs in nats, as a table of Markdown."""
    systems = {row.config: row.system for row in rows}
    lines = ["| change | of | negative ELBO above it, nats |", "|---|---|---|"]
    for row in compared(measured, rows):
        cost = worth(measured, row).text(2, sign=True)
        lines.append(f"| {row.system} | {systems.get(row.base, row.base)} | {cost} |")
    return "\n".join(lines)


def chart(measured: Measured, rows: Sequence[Row], path: Path) -> Path | None:
    """Draws `worth_table` and returns its path; None if no two rows compare with others."""
    shown = compared(measured, rows)
    if len(shown) < 2:
        return None
    first, systems = shown[0].base, {row.config: row.system for row in rows}
    costs = [worth(measured, row) for row in shown]
    others = any(row.base != first for row in shown)
    return estimates.beneath(
        [
            row.system + ("" if row.base == first else f", against {systems[row.base]}")
            for row in shown
        ],
        np.array([cost.mean for cost in costs]),
        np.array([cost.error for cost in costs]),
        path,
        x_label=f"negative ELBO on validation, nats above that of {systems[first]}"
        + (" or of what is named" if others else ""),
        title="what each change costs, with its standard error over seeds"
        if any(math.isfinite(cost.error) for cost in costs)
        else "what each change costs, by one seed",
    )


def classified(measured: Measured, rows: Sequence[Row]) -> str:
    """Returns how often the systems that also name the digit are wrong, in a sentence each."""
    sentences = []
    for row in rows:
        errors = [100 * run["error"] for run in measured.get(row.config, ()) if "error" in run]
        if errors:
            wrong = over_seeds(errors).text(2)
            sentences.append(
                f"The classifier of {row.system} misclassifies {wrong} % of the digits."
            )
    return " ".join(sentences)


def marks(updates: int) -> tuple[str, str]:
    """Returns the first and the last line of a page's block of runs of so many updates."""
    text = f"<!-- follow_up, {updates} updates: "
    return f"{text}begin -->", f"{text}end -->"


def with_block(page: str, block: str, updates: int) -> str:
    """Returns a page with the text between the two marks of so many updates replaced.

    Raises:
        ValueError: if the page does not have each mark once, in their order.
    """
    first, last = marks(updates)
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in after or last in after:
        raise ValueError(f"--page: expected a page with one {first} and, after it, one {last}")
    return f"{before}{first}\n{block.strip()}\n{last}{after}"
