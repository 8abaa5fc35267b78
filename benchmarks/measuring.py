"""What the benchmarks share: flags, timing in turn, tables and figures as JSON."""

import json
import os
import re
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from draw_jax.model import build
from draw_jax.system import cli
from draw_jax.training import objective

CONFIG = config_flags.DEFINE_config_file("config", "configs/mnist.py", "What to measure")
REPEATS = flags.DEFINE_integer("repeats", 20, "Rounds timed", lower_bound=3)
JSON = flags.DEFINE_string("json", "", "A file for the figures, besides the table")
flags.register_validator("json", cli.check_writable)

# Otherwise a benchmark would take from it what it should compile.
jax.config.update("jax_enable_compilation_cache", False)

Name = TypeVar("Name", bound=Hashable)


def refuse(names: Sequence[str], why: str) -> None:
    """Raises ValueError if one of these flags is given, as it would have no effect."""
    for name in names:
        if flags.FLAGS[name].present:
            raise ValueError(f"--{name}: {why}")


def draw_config() -> ConfigDict:
    """Returns --config, for a benchmark that only knows the pieces of a Draw.

    Raises:
        ValueError: if it is of another kind, or has another objective than the negative ELBO.
    """
    build.drawing(build.build(CONFIG.value), itself=True)
    for name, only in objective.OWN.items():
        if CONFIG.value.train[name] != only:
            raise ValueError(
                f"config.train.{name}: expected {only}, as only the negative ELBO is timed"
            )
    return CONFIG.value


class Sizes(flags.ArgumentParser):
    """Reads a flag such as --batches=1,100 into a tuple of whole numbers, at least 1 each.

    Args:
        none_too: whether the flag may be empty.
    """

    syntactic_help = "whole numbers, separated by commas"

    def __init__(self, none_too: bool = False):
        self._none_too = none_too

    def parse(self, argument: Any) -> tuple[int, ...]:
        """Returns the numbers."""
        if isinstance(argument, tuple):
            return argument
        if argument == "" and self._none_too:
            return ()
        try:
            sizes = tuple(int(part) for part in argument.split(","))
        except ValueError:
            sizes = (0,)
        if min(sizes) < 1:
            raise ValueError("expected whole numbers >= 1, separated by commas")
        return sizes

    def flag_type(self) -> str:
        """Returns what the numbers are called in --help."""
        return "whole numbers"


def compiled(function: Any, *arguments: Any) -> tuple[Any, float]:
    """Returns a jitted function compiled for its arguments, and the seconds that this took."""
    began = time.perf_counter()
    executable = function.lower(*arguments).compile()
    return executable, time.perf_counter() - began


def in_turn(
    calls: Mapping[Name, Callable[[], Any]], rounds: int, rest: float = 0.0, warm: bool = False
) -> dict[Name, list[float]]:
    """Returns the milliseconds of every call in every round, until its results are there.

    A round makes each call once, in order, so that a machine whose speed drifts slows all of them
    alike and ratios hold. A first round, in which things may still compile, does not count.

    Args:
        calls: what to time; what they return is waited for.
        rounds: how often.
        rest: seconds before each call, as threads spin for a while after their work.
        warm: whether an untimed call precedes the timed one, as an update follows another in
            training. Otherwise the timed call finds the memory and caches of another call, and,
            after a rest, that the memory has been given back.
    """
    milliseconds: dict[Name, list[float]] = {name: [] for name in calls}
    for round_number in range(rounds + 1):
        for name, call in calls.items():
            time.sleep(rest)
            if warm:
                jax.block_until_ready(call())
            began = time.perf_counter()
            jax.block_until_ready(call())
            if round_number:
                milliseconds[name].append(1e3 * (time.perf_counter() - began))
    return milliseconds


class Spread(NamedTuple):
    """A median, and the 10 % and 90 % quantiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Returns 1.23 (1.10 to 1.52)."""
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


def spread(values: Sequence[float]) -> Spread:
    """Returns the median of some values and their 10 and 90 % quantiles."""
    low, high = np.percentile(values, [10, 90])
    return Spread(statistics.median(values), float(low), float(high))


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row of figures for --json, in which a Spread x becomes x, x_low and x_high."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Spread):
            found |= {name: value.median, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            found[name] = value
    return found


def number(value: float) -> str:
    """Returns a number with three significant digits, or all before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def heading(names: Sequence[str], widths: Sequence[int]) -> str:
    """Returns the first two lines of a Markdown table, whose first column is text."""
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return f"{line(names, widths)}\n{line(rule, widths)}"


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Returns one line of a Markdown table, the first column to the left, the rest to the right."""
    padded = [cells[0].ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join(padded)} |"


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table that also reads well as plain text."""
    rows = list(rows)
    widths = [max(3, *map(len, column)) for column in zip(names, *rows, strict=True)]
    return "\n".join([heading(names, widths), *(line(row, widths) for row in rows)])


def config_flags_with(overrides: Mapping[str, Any]) -> list[str]:
    """Returns --config and its fields as given here, some overridden, for another process."""
    given = config_flags.get_override_values(flags.FLAGS["config"])
    fields = [f"--config.{field}={value}" for field, value in (given | overrides).items()]
    return [f"--config={config_flags.get_config_filename(flags.FLAGS['config'])}", *fields]


def end_of(file: IO[bytes]) -> str:
    """Returns the last 100,000 bytes, as text, of what a process has written into a file."""
    begin = max(0, os.fstat(file.fileno()).st_size - 100_000)
    return os.pread(file.fileno(), 100_000, begin).decode(errors="replace")


def complaint(stderr: str, code: int) -> str:
    """Returns the line in which a failed process says what was wrong, fit for a table."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    names_a_failure = re.compile(r"error: |F\d{4} |[\w.]*(Error|Exception|Interrupt)\b")
    named = [line for line in lines if names_a_failure.match(line)]
    line = (named or lines or [f"exit code {code}"])[-1]
    return line.removeprefix("error: ").replace("|", "\\|")


def device_name(count: int = 1) -> str:
    """Returns how many devices of which kind take part."""
    return f"{count} x {jax.devices()[0].device_kind}"


def write_json(figures: Mapping[str, Any]) -> None:
    """Writes the figures to the file that --json names, if it does."""
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(figures) + "\n")
