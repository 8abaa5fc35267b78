"""How fast a model draws: python -m benchmarks.sample --batches=1,100,1000.

For each batch size two compiled functions of a key, timed in turn, on one device: one draws z and
returns the images, the means of the last canvases; the other returns the whole trace of
`generate`, every time step's canvas and window, as pictures of a sequence need it. The weights
are those before training: the work does not depend on them. Results stay on the device.
"""

import sys
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring
from draw_jax.model import build, draw, likelihood
from draw_jax.system import cli

_BATCHES = flags.DEFINE(
    measuring.Sizes(), "batches", "1,100,1000", "Images drawn at a time, such as 1,100"
)
flags.adopt_module_key_flags(measuring)


def drawings(config: ConfigDict, batch: int) -> dict[str, Any]:
    """Returns jitted functions of (variables, key), "images" and "traces"."""
    model = build.drawing(build.build(config))

    def trace(variables: Any, key: jax.Array) -> Any:
        return model.apply(variables, draw.batch_noise(model, key, batch), method="generate")

    def images(variables: Any, key: jax.Array) -> jax.Array:
        return likelihood.named(model.likelihood).mean(trace(variables, key).canvases[-1])

    return {"images": jax.jit(images), "traces": jax.jit(trace)}


def measure(config: ConfigDict, batch: int, rounds: int) -> dict[str, Any]:
    """Returns a row of the table."""
    streams = build.keys(config.seed)
    init = jax.jit(build.initial_variables, static_argnums=0)
    inputs = init(build.build(config), streams.init), streams.sample
    calls, compile_seconds = {}, {}
    for name, function in drawings(config, batch).items():
        executable, compile_seconds[name] = measuring.compiled(function, *inputs)
        calls[name] = lambda executable=executable: executable(*inputs)
    times = measuring.in_turn(calls, rounds)
    milliseconds = {name: measuring.spread(values) for name, values in times.items()}
    return {
        "batch": batch,
        "compile_s": compile_seconds["images"],
        "batch_ms": milliseconds["images"],
        "images_per_second": 1e3 * batch / milliseconds["images"].median,
        "traces_per_second": 1e3 * batch / milliseconds["traces"].median,
    }


def main() -> int:
    """Prints the table and returns the exit code."""
    config = measuring.draw_config()
    rows = [measure(config, batch, measuring.REPEATS.value) for batch in _BATCHES.value]
    names = ["batch", "compile s", "ms a batch (10 to 90 %)", "images/s", "whole traces/s"]
    cells = [
        [
            str(row["batch"]),
            measuring.number(row["compile_s"]),
            str(row["batch_ms"]),
            measuring.number(row["images_per_second"]),
            measuring.number(row["traces_per_second"]),
        ]
        for row in rows
    ]
    print(f"T {config.model.time_steps}, {config.model.dtype}, {measuring.device_name()}")
    print(measuring.table(names, cells))
    measuring.write_json(
        {
            "rows": [measuring.flat(row) for row in rows],
            "time_steps": config.model.time_steps,
            "dtype": config.model.dtype,
            "device": measuring.device_name(),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
