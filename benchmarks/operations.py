"""Where the time of an update goes, by the compiled program's operations: python -m benchmarks.operations.

XLA's profiler times every operation of some updates on the threads that run it. The table sums them
by sort, known from an operation's name. "busy" is the share of the time of all cores that
operations take: with the cores busy all the time, it is 100 %. For CPUs.
"""

import collections
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from benchmarks import measuring, train_step
from draw_jax.system import cli, devices

flags.adopt_module_key_flags(measuring)

# In this order: the first whose word is in an operation's name. XLA names a fusion by what it does.
SORTS = {
    "products": ("ynn_fusion", "dot", "convolution"),
    "clearing": ("wrapped_broadcast",),
    "storing": ("dynamic-update-slice",),
    "moving": ("copy", "transpose", "concatenate", "slice", "pad"),
    "tanh and exp": ("tanh", "exponential"),
}
OTHER = "other elementwise"
_LOOPS = ("while", "call", "conditional")  # whose operations are counted themselves


class NoProfile(Exception):
    """The profiler reports no single operations here."""


class Operation(NamedTuple):
    """One execution of an operation."""

    name: str
    milliseconds: float


def sort(name: str) -> str:
    """Returns the sort of an operation, "" for a loop around others."""
    if name.split(".")[0] in _LOOPS:
        return ""
    return next((s for s, words in SORTS.items() if any(w in name for w in words)), OTHER)


def profiled(call: Callable[[], Any], updates: int) -> Iterator[Operation]:
    """Yields the operations of some updates.

    Raises:
        NoProfile: the profiler reports none.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(updates):
                jax.block_until_ready(call())
        (file,) = Path(folder).rglob("*.xplane.pb")
        found = False
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    if "hlo_op" in dict(event.stats):
                        found = True
                        yield Operation(event.name, event.duration_ns / 1e6)
        if not found:
            raise NoProfile(f"no operations in the profile of a {jax.default_backend()}")


def main() -> int:
    """Prints the table and returns the exit code."""
    config, updates = measuring.draw_config(), measuring.REPEATS.value
    call = train_step.updates(*train_step.make_step(config))
    clock = []
    for number in range(updates + 2):
        began = time.perf_counter()
        jax.block_until_ready(call())
        if number > 1:  # the first two compile and warm up
            clock.append(1e3 * (time.perf_counter() - began))
    took: dict[str, float] = collections.defaultdict(float)
    count = collections.Counter[str]()
    for operation in profiled(call, updates):
        if kind := sort(operation.name):
            took[kind] += operation.milliseconds / updates
            count[kind] += 1
    whole, update = sum(took.values()), statistics.median(clock)
    rows = {
        kind: {"ms": took[kind], "share": took[kind] / whole, "operations": count[kind] / updates}
        for kind in [*SORTS, OTHER]
        if count[kind]
    }
    cells = [
        [kind, measuring.number(r["ms"]), f"{100 * r['share']:.0f}", f"{r['operations']:,.0f}"]
        for kind, r in rows.items()
    ]
    cells.append(["all", measuring.number(whole), "100", f"{sum(count.values()) / updates:,.0f}"])
    print(measuring.table(["operations", "ms of threads", "%", "in an update"], cells))
    busy = whole / (update * devices.cores())
    print(
        f"An update takes {measuring.number(update)} ms on {devices.cores()} cores: busy {100 * busy:.0f} %."
    )
    facts = {
        "update_ms": update,
        "cores": devices.cores(),
        "busy": busy,
        "device": measuring.device_name(jax.device_count()),
    }
    measuring.write_json({"operations": rows} | facts)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (NoProfile,)))
