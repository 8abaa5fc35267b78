"""What a training step costs as it grows: python -m benchmarks.scaling.

One table each for the time steps, the batch size, the side of a square image and the number of
devices; all else is as in the configuration. The steps of a table are compiled one after another
and then timed in turn, each with its batch already on the devices. By default an axis has a
quarter, a half, once and twice the configuration's value; a flag left empty
(--image_sizes=) leaves its table out.

Devices: first the same batch spread over the first 1, 2, 3... devices, as far as they divide it, laid
out as training lays it out (strong scaling); then as many batches as devices (weak scaling). One
device of several that share a processor already uses all of it: then this shows what spreading
costs, not what it gains.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring, train_step
from draw_jax.system import cli

_SIZES = measuring.Sizes(none_too=True)
_TIME_STEPS = flags.DEFINE(_SIZES, "time_steps", None, "T, such as 16,32,64")
_BATCHES = flags.DEFINE(_SIZES, "batches", None, "Images a step, such as 50,100")
_IMAGE_SIZES = flags.DEFINE(_SIZES, "image_sizes", None, "Pixels a side: 28,56")
_DEVICES = flags.DEFINE_bool("devices", True, "Whether to measure 1, 2, ... devices")
flags.adopt_module_key_flags(measuring)


class Axis(NamedTuple):
    """One thing that grows, and the configurations with it."""

    name: str
    cost: str  # what step_ms / units is
    configs: dict[int, ConfigDict]  # by the thing's size
    units: dict[int, float]  # by the thing's size


def near(size: int) -> tuple[int, ...]:
    """Returns a quarter, a half, once and twice a size, whole and at least 1."""
    return tuple(sorted({max(1, size // 4), max(1, size // 2), size, 2 * size}))


def changed(config: ConfigDict, group: str, field: str, value: Any) -> ConfigDict:
    """Returns a copy of a configuration with one field changed."""
    config = config.copy_and_resolve_references()
    config[group][field] = value
    return config


def axes(config: ConfigDict) -> list[Axis]:
    """Returns the axes that the flags ask for, except devices."""
    found = []
    for name, cost, group, field, sizes in (
        ("time steps", "ms per time step", "model", "time_steps", _TIME_STEPS.value),
        ("batch", "ms per image", "train", "batch_size", _BATCHES.value),
    ):
        sizes = near(config[group][field]) if sizes is None else sizes
        configs = {size: changed(config, group, field, size) for size in sizes}
        found.append(Axis(name, cost, configs, {size: size for size in sizes}))
    height, _, channels = config.model.image_shape
    sides = near(height) if _IMAGE_SIZES.value is None else _IMAGE_SIZES.value
    shapes = {side: (side, side, channels) for side in sides}
    configs = {s: changed(config, "model", "image_shape", shape) for s, shape in shapes.items()}
    found.append(Axis("image side", "ms per pixel", configs, {side: side**2 for side in sides}))
    return [axis for axis in found if axis.configs]


def device_axes(config: ConfigDict) -> list[Axis]:
    """Returns the axes of devices that share one batch, and of devices with a batch each."""
    numbers, size = range(1, jax.device_count() + 1), config.train.batch_size
    counts = [count for count in numbers if size % count == 0]
    shared = dict.fromkeys(counts, config)
    own = {count: changed(config, "train", "batch_size", count * size) for count in numbers}
    return [
        Axis("devices", "ms x devices", shared, {n: 1 / n for n in counts}),
        Axis("devices, a batch each", "ms per batch", own, {n: n for n in numbers}),
    ]


def measure(axis: Axis, rounds: int) -> list[dict[str, Any]]:
    """Returns an axis' rows, smallest first."""
    calls, compile_seconds = {}, {}
    for size, config in axis.configs.items():
        devices = size if axis.name.startswith("devices") else 1
        update, state, images = train_step.make_step(config, devices)
        update, compile_seconds[size] = measuring.compiled(update, state, 0, images)
        calls[size] = train_step.updates(update, state, images)
    times = measuring.in_turn(calls, rounds)
    rows = []
    for size in sorted(times):
        step_ms = measuring.spread(times[size])
        rows.append(
            {
                "size": size,
                "step_ms": step_ms,
                "cost": step_ms.median / axis.units[size],
                "compile_s": compile_seconds[size],
            }
        )
    return rows


def show(axis: Axis, rows: Sequence[dict[str, Any]]) -> None:
    """Prints an axis' table."""
    cells = [
        [
            str(row["size"]),
            str(row["step_ms"]),
            measuring.number(row["cost"]),
            measuring.number(row["compile_s"]),
        ]
        for row in rows
    ]
    names = [axis.name, "step ms (10 to 90 %)", axis.cost, "compile s"]
    print(measuring.table(names, cells), flush=True)


def main() -> int:
    """Prints the tables and returns the exit code."""
    config = measuring.draw_config()
    figures: dict[str, Any] = {}
    for axis in [*axes(config), *(device_axes(config) if _DEVICES.value else [])]:
        rows = measure(axis, measuring.REPEATS.value)
        show(axis, rows)
        print()
        name = axis.name.replace(",", "").replace(" ", "_")
        figures[name] = {"unit": axis.cost, "rows": [measuring.flat(row) for row in rows]}
    print(f"on {measuring.device_name(jax.device_count())}; one of them where not said otherwise")
    measuring.write_json(figures | {"device": measuring.device_name(jax.device_count())})
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
