"""All devices of all processes as one: where arrays lie, who brings which rows, how much fits."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_LEAST_ROWS = 8  # of a batch on a device; with fewer, products of matrices become slow
_FOREVER = 10**8  # seconds


class Placement(NamedTuple):
    """Where the arrays of a step lie: weights on every device, a batch spread over them."""

    replicated: NamedSharding
    sharded: NamedSharding  # by the first axis


def placement(count: int | None = None, among: Sequence[Any] | None = None) -> Placement:
    """Returns the placement over the first `count` devices, or over all of them.

    Args:
        count: how many.
        among: devices to take in place of those that JAX has, only to compile for.
    """
    mesh = Mesh(np.array((jax.devices() if among is None else among)[:count]), ("data",))
    return Placement(
        NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    )


def cores() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_cores(batch_size: int) -> int:
    """Returns into how many devices the cores are best split, to share a batch.

    The most that divide the batch, with at least a core and 8 images each. XLA shares a device's
    large operations among cores, but in a recurrent network's time steps most are small.
    """
    most = max(1, min(cores(), batch_size // _LEAST_ROWS))
    return next(count for count in range(most, 0, -1) if batch_size % count == 0)


def share_cores(count: int) -> None:
    """Splits the CPU into `count` devices; to be called before JAX starts any work.

    Nothing changes if JAX has already started, or if the environment says how many there are
    (JAX_NUM_CPU_DEVICES, or XLA_FLAGS with xla_force_host_platform_device_count).
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in flags or count < 2:
        return
    with contextlib.suppress(RuntimeError):  # it has begun
        jax.config.update("jax_num_cpu_devices", count)
        # Otherwise XLA would end a process in which one device waits 40 seconds for another, as
        # when the process was stopped or its machine slept.
        for name in ("terminate", "warn_stuck"):
            flag = f"--xla_cpu_collective_call_{name}_timeout_seconds"
            flags += "" if flag in flags else f" {flag}={_FOREVER}"
        os.environ["XLA_FLAGS"] = flags.strip()


def own_rows(indices: np.ndarray) -> np.ndarray:
    """Returns the part of a batch's indices that this process brings."""
    return np.split(indices, jax.process_count())[jax.process_index()]


def gather(rows: Any, sharding: NamedSharding) -> Any:
    """Returns one array over all devices of the rows that each process brings, leaf by leaf."""
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), rows)


def spread(array: Any, axis: int = 0) -> Any:
    """Returns an array spread over this process's devices, which must divide the axis.

    One device gets it as it is.
    """
    local = jax.local_devices()
    if len(local) == 1:
        return array
    cut = PartitionSpec(*[None] * axis, "data")
    return jax.device_put(array, NamedSharding(Mesh(np.array(local), ("data",)), cut))


def check_divides(batch_size: int) -> None:
    """Raises ValueError, with the two nearest valid batch sizes, unless the devices divide this."""
    devices = jax.device_count()
    if batch_size % devices:
        below = batch_size // devices * devices
        sizes = " or ".join(str(n) for n in (below, below + devices) if n)
        fewer = next(n for n in range(devices - 1, 0, -1) if batch_size % n == 0)
        how = " (CUDA_VISIBLE_DEVICES)" if jax.default_backend() == "gpu" else ""
        raise ValueError(
            f"config.train.batch_size: {devices} devices do not divide {batch_size}; take {sizes}, or "
            f"{fewer} of the devices{how}, as a run that has begun keeps its batch size"
        )


def batches(
    count: int, batch_size: int, multiple: int = 1, begin: int = 0
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the indices begin..count-1 in batches of one size, and how many of each are to count.

    The last batch is filled up with its last index, so that every batch compiles to one program.

    Args:
        count: indices in all, >= 1.
        batch_size: at most this many at a time, rounded up to the multiple.
        multiple: of the batches' size, the number of devices that share one.
        begin: the first index.
    """
    size = -(-min(batch_size, count) // multiple) * multiple
    for start in range(begin, count, size):
        indices = np.minimum(np.arange(start, start + size), count - 1)
        yield indices, min(size, count - start)


def memory_bytes(free: bool = True) -> int | None:
    """Returns how much memory one device has for arrays, None where that cannot be known.

    Args:
        free: of a CPU, only what no program uses now.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
        except OSError:
            return None
        kibibytes = {line.split(":")[0]: line.split()[1] for line in lines}
        return (
            1024
            * int(kibibytes["MemAvailable" if free else "MemTotal"])
            // jax.local_device_count()
        )
    return (device.memory_stats() or {}).get("bytes_limit")
