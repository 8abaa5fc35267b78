"""What devices send each other in an update: python -m benchmarks.collectives --devices=1,2,8.

Every device has the weights and a part of the batch; the gradients are summed over all of them once
an update. The table counts, for each number of devices, the all-reduce operations in the program
that XLA compiled and the bytes of their results; nothing is timed.

With --step_ms, the milliseconds of an update on one device, a second table estimates how training
speeds up on more of them, where each keeps its batch ("weak") or they share one ("strong"). An all-reduce of
b bytes over N devices in a ring takes 2 (N - 1) / N b / bandwidth + 2 (N - 1) latency; the estimate
hides none of it behind computing. It is a model of the network, not a measurement.

    python -m benchmarks.collectives --step_ms=10 --bandwidth_gbs=200 --latency_us=5
"""

import math
import os
import re
import sys
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring, train_step
from draw_jax.system import cli

_DEVICES = flags.DEFINE(
    measuring.Sizes(), "devices", (1, 2, 4), "Devices to compile for; the CPU is cut into as many"
)
_GPUS = flags.DEFINE(measuring.Sizes(), "gpus", (1, 2, 4, 8, 16, 32, 64), "Devices to estimate")
_STEP_MS = flags.DEFINE_float(
    "step_ms", 0.0, "Milliseconds of an update on one device, for the estimate", lower_bound=0.0
)
_FIXED_MS = flags.DEFINE_float(
    "fixed_ms", 0.0, "Part of --step_ms that a smaller batch does not shorten", lower_bound=0.0
)
_BANDWIDTH = flags.DEFINE_float(
    "bandwidth_gbs", 200.0, "GB/s that a device sends to the next", lower_bound=1e-3
)
_LATENCY = flags.DEFINE_float(
    "latency_us", 5.0, "Microseconds of one message to the next device", lower_bound=0.0
)
flags.adopt_module_key_flags(measuring)

_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "s32": 32, "u32": 32, "f64": 64, "s64": 64}
_RESULT = re.compile(r"= (.+?) all-reduce(?:-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class AllReduces(NamedTuple):
    """The all-reduces of a compiled program."""

    operations: int
    bytes: int  # of their results, on each device


class Estimate(NamedTuple):
    """An update on N devices."""

    all_reduce_ms: float
    weak: float  # times the images a second of one device, each keeping its batch
    strong: float  # the same, sharing one batch


def all_reduces(program: str) -> AllReduces:
    """Returns what a program in XLA's text form sums over devices.

    Raises:
        ValueError: if an array has a type that is not known here.
    """
    operations, total = 0, 0
    for result in _RESULT.findall(program):
        operations += 1
        for kind, shape in _ARRAY.findall(result):
            if kind not in _BITS:
                raise ValueError(f"expected one of {', '.join(_BITS)}, got {kind}")
            total += _BITS[kind] // 8 * math.prod(int(n) for n in shape.split(",") if n)
    return AllReduces(operations, total)


def compiled_for(config: ConfigDict, count: int) -> tuple[AllReduces, int]:
    """Returns the all-reduces of an update on so many devices, and the bytes of the weights."""
    update, state, batch = train_step.make_step(config, count)
    program = update.lower(state, 0, batch).compile().as_text()
    return all_reduces(program), sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))


def estimate(
    count: int, size: int, step_ms: float, fixed_ms: float, gbs: float, latency_us: float
) -> Estimate:
    """Returns what an update takes on `count` devices.

    Args:
        count: N.
        size: bytes of the all-reduce.
        step_ms: of an update on one device.
        fixed_ms: the part of them that stays when the batch is cut into N parts.
        gbs: GB/s from a device to the next.
        latency_us: microseconds of one message.
    """
    all_reduce_ms = (
        1e-6 * 2 * (count - 1) / count * size / gbs + 1e-3 * 2 * (count - 1) * latency_us
    )
    shared = fixed_ms + (step_ms - fixed_ms) / count + all_reduce_ms
    return Estimate(all_reduce_ms, count * step_ms / (step_ms + all_reduce_ms), step_ms / shared)


def main() -> int:
    """Prints the tables and returns the exit code."""
    config = measuring.draw_config()
    counts = sorted(set(_DEVICES.value))
    odd = [n for n in counts if config.train.batch_size % n or n > jax.device_count()]
    if odd:
        raise ValueError(
            f"--devices: {odd[0]} is more than there are ({jax.device_count()}) or does not divide "
            f"config.train.batch_size, {config.train.batch_size}"
        )
    if _FIXED_MS.value > _STEP_MS.value:
        raise ValueError(f"--fixed_ms: expected at most --step_ms, {_STEP_MS.value:g}")
    rows, cells, summed = [], [], AllReduces(0, 0)
    for count in counts:
        summed, weights = compiled_for(config, count)
        rows.append({"devices": count, "weights_bytes": weights} | summed._asdict())
        cells.append([f"{count}", f"{summed.operations}", f"{summed.bytes:,}", f"{weights:,}"])
    names = ["devices", "all-reduces", "their bytes", "bytes of the weights"]
    print(measuring.table(names, cells))
    figures: dict[str, Any] = {"rows": rows}
    if _STEP_MS.value:
        network = _STEP_MS.value, _FIXED_MS.value, _BANDWIDTH.value, _LATENCY.value
        found = {n: estimate(n, summed.bytes, *network) for n in _GPUS.value}
        cells = [[f"{n}", *(measuring.number(v) for v in e)] for n, e in found.items()]
        batch = config.train.batch_size
        names = ["devices", "all-reduce, ms", f"speed-up, a batch of {batch} on each device"]
        names.append(f"speed-up, one batch of {batch} shared")
        print("\n" + measuring.table(names, cells))
        print("\nan estimate, see --help")
        figures["estimate"] = {n: e._asdict() for n, e in found.items()}
    measuring.write_json(figures)
    return 0


if __name__ == "__main__":
    wanted = re.findall(r"--devices[= ](\S+)", " ".join(sys.argv))
    most = max([8, *(int(n) for part in wanted for n in part.split(",") if n.isdecimal())])
    # JAX has these devices only if it is told before it starts.
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={most}"
    )
    jax.config.update("jax_platforms", "cpu")  # the variable was read at the import
    sys.exit(cli.run(main, sys.argv))
