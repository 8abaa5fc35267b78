"""One core against several: python -m benchmarks.cores.

The same update on one device with one core, on as many devices of one process as there are cores,
and in as many processes, each pinned to a core and with one device. Devices first share the
configuration's batch (strong scaling), then have a batch each (weak). The layouts run in their own
processes and take turns, in reverse order every other round, while all others wait, so that a
machine whose speed drifts slows all alike: trust the ratios. No device gets more than one core:
otherwise one device would use them all, and more devices could gain nothing.
"""

import contextlib
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring, train_step, worker
from benchmarks.worker import Worker
from draw_jax.system import cli

_UPDATES = flags.DEFINE_integer(
    "updates_a_turn", 2, "Updates of a layout in a round", lower_bound=1
)
_CORES = flags.DEFINE_integer("cores", None, "How many, at least 2; default all", lower_bound=2)
_PART = flags.DEFINE_string("part", "", "What a process of a layout is, given by the command")
flags.adopt_module_key_flags(measuring)

_REST = 0.05  # seconds between the layouts, as threads spin for a while after their work
_KINDS = ("shared", "own")  # the batch: one for all devices, or one for each


class Layout(NamedTuple):
    """How devices are made of cores."""

    name: str
    parts: list[dict[str, Any]]  # of each process: its cores, devices, number, and where they meet
    devices: int


class Row(NamedTuple):
    """A line of the table."""

    layout: str
    devices: int
    batch: int
    step_ms: measuring.Spread
    images_per_second: float
    ratio: measuring.Spread  # to the images a second of one device


def layouts(cores: Sequence[int]) -> list[Layout]:
    """Returns one device on one core, and a device a core in one process and in several."""
    count = len(cores)
    with socket.create_server(("localhost", 0)) as free:
        address = f"localhost:{free.getsockname()[1]}"
    alone: dict[str, Any] = {"cores": [cores[0]], "devices": 1, "process": 0, "total": 1}
    return [
        Layout("one device", [alone], 1),
        Layout(f"{count} devices", [alone | {"cores": [*cores], "devices": count}], count),
        Layout(
            f"{count} processes",
            [
                alone | {"cores": [core], "process": k, "total": count, "address": address}
                for k, core in enumerate(cores)
            ],
            count,
        ),
    ]


def started(part: Mapping[str, Any]) -> contextlib.AbstractContextManager[Worker]:
    """Gives a process at work, still compiling, and ends it afterwards."""
    xla = f"--xla_force_host_platform_device_count={part['devices']}"
    environment = {
        "JAX_PLATFORMS": "cpu",
        # One thread computes for each device, as many threads as the layout has cores.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {xla} --xla_cpu_multi_thread_eigen=false",
    }
    words = [*measuring.config_flags_with({}), f"--part={json.dumps(part)}"]
    command = [sys.executable, "-m", "benchmarks.cores", *words]
    return worker.started("a process", command, os.environ | environment)


def seconds(parts: Sequence[Worker], kind: str, count: int) -> float:
    """Returns the seconds of so many updates, once the slowest process has made them."""
    for part in parts:
        worker.ask(part, f"{kind} {count}")
    return max(worker.answer(part) for part in parts)


def measure(
    layouts: Sequence[Layout], rounds: int, count: int
) -> dict[tuple[str, str], list[float]]:
    """Returns the milliseconds of an update in each round, by layout and kind of batch."""
    with contextlib.ExitStack() as stack:
        at_work = {
            layout.name: [stack.enter_context(started(part)) for part in layout.parts]
            for layout in layouts
        }
        for parts in at_work.values():
            for part in parts:
                worker.answer(part)  # that it has compiled
        # On one device the two kinds of batch are the same.
        turns = [(layout.name, kind) for layout in layouts for kind in _KINDS][1:]
        times: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
        for round_number in range(rounds + 1):  # the first does not count
            for name, kind in turns[:: -1 if round_number % 2 else 1]:
                time.sleep(_REST)
                took = seconds(at_work[name], kind, count)
                if round_number:
                    times[name, kind].append(1e3 * took / count)
    return times


def rows(
    times: Mapping[tuple[str, str], Sequence[float]], devices: Mapping[str, int], batch: int
) -> list[Row]:
    """Returns the lines of the table; a ratio is the median over the rounds.

    Args:
        times: milliseconds of an update in each round, those of one device first.
        devices: of each layout.
        batch: of one device.
    """
    alone, found = next(iter(times.values())), []
    for (name, kind), own in times.items():
        images = batch * (devices[name] if kind == "own" else 1)
        ratio = measuring.spread([images / batch * a / b for a, b in zip(alone, own, strict=True)])
        rate = 1e3 * images / statistics.median(own)
        found.append(Row(name, devices[name], images, measuring.spread(own), rate, ratio))
    return found


def work(config: ConfigDict, part: Mapping[str, Any]) -> int:
    """Makes updates as stdin says and prints the seconds that they took, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # otherwise prints of others could be taken for an answer
    os.sched_setaffinity(0, part["cores"])
    if part["total"] > 1:
        jax.distributed.initialize(part["address"], part["total"], part["process"])
    count, calls = jax.device_count(), {}
    for kind in _KINDS:
        own = config.copy_and_resolve_references()
        own.train.batch_size *= count if kind == "own" else 1
        calls[kind] = train_step.updates(*train_step.make_step(own, count))
        jax.block_until_ready(calls[kind]())
    print("true", file=answers)
    for line in sys.stdin:
        kind, number = line.split()
        jax.block_until_ready(calls[kind]())  # the first after a rest must allocate memory
        began = time.perf_counter()
        for _ in range(int(number)):
            result = calls[kind]()
        jax.block_until_ready(result)
        print(time.perf_counter() - began, file=answers)
    return 0


def main() -> int:
    """Prints the table and returns the exit code."""
    config = measuring.draw_config()
    if _PART.value:
        return work(config, json.loads(_PART.value))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < (_CORES.value or 2):
        raise ValueError(f"--cores: this process may use {len(cores)}, and it takes several")
    cores = cores[: _CORES.value]
    batch = config.train.batch_size
    if batch % len(cores):
        raise ValueError(f"config.train.batch_size: {len(cores)} cores do not divide {batch}")
    found = layouts(cores)
    times = measure(found, measuring.REPEATS.value, _UPDATES.value)
    table = rows(times, {layout.name: layout.devices for layout in found}, batch)
    cells = [
        [
            row.layout,
            f"{row.batch:,}",
            str(row.step_ms),
            measuring.number(row.images_per_second),
            str(row.ratio),
        ]
        for row in table
    ]
    names = ["layout", "batch", "update, ms (10 to 90 %)", "images/s", "times one device"]
    print(measuring.table(names, cells))
    print(f"on {len(cores)} cores, a device each")
    figures = [measuring.flat(row._asdict()) for row in table]
    measuring.write_json({"cores": len(cores), "rows": figures})
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (worker.WorkerFailed,)))
