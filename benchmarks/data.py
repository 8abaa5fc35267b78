"""What data costs an update: python -m benchmarks.data --config=configs/cluttered_mnist.py.

Times, in turn, how long it takes to cut or make a batch of the configured data set on the host, to
put it on the device, and to make an update that waits for nothing. Training makes the next batch
while the device still works, so the share of an update is the most that data can lengthen it.
"""

import itertools
import sys
from typing import Any

import jax
from absl import flags

from benchmarks import measuring
from draw_jax.data import splits
from draw_jax.model import build
from draw_jax.system import cli, devices
from draw_jax.training import config as settings
from draw_jax.training.step import initial_state, jit_update, make_update

flags.adopt_module_key_flags(measuring)


def main() -> int:
    """Prints the table and returns the exit code."""
    config = measuring.CONFIG.value
    task, placement = settings.check(config), devices.placement()
    split = splits.load(config.data, "train", config.model.image_shape, seed=config.seed)
    splits.check_shape(split, task.model.image_shape)
    splits.check_labels(split, task.classes)
    keys = build.keys(config.seed)
    update = jit_update(make_update(task, config, keys.train), placement)
    state: Any = initial_state(task.model, keys.init, config.train)
    state = jax.device_put(state, placement.replicated)
    steps = itertools.count()
    rows: Any = None
    batch: Any = None

    def make() -> None:
        nonlocal rows
        size = config.train.batch_size
        rows = split.batch(splits.training_indices(split, config.seed, next(steps), size))

    def put() -> Any:
        nonlocal batch
        batch = devices.gather(rows, placement.sharded)
        return batch

    def learn() -> Any:
        nonlocal state
        state, metrics = update(state, 0, batch)
        return metrics

    times = measuring.in_turn(
        {"batch": make, "to the device": put, "update": learn}, measuring.REPEATS.value
    )
    spreads = {name: measuring.spread(milliseconds) for name, milliseconds in times.items()}
    percent = {n: 100 * s.median / spreads["update"].median for n, s in spreads.items()}
    print(f"milliseconds, median (10 to 90 %), {config.data.name}, batch {config.train.batch_size}")
    cells = [[name, str(s), measuring.number(percent[name])] for name, s in spreads.items()]
    print(measuring.table(["piece", "time", "% of update"], cells))
    measuring.write_json(
        {name: spread._asdict() for name, spread in spreads.items()}
        | {"data_percent": percent["batch"] + percent["to the device"]}
        | {"batch_size": config.train.batch_size, "device": measuring.device_name()}
    )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
