"""A training step against the matrix products in it: python -m benchmarks.train_step.

The floor is what the products of one step take by themselves, forward and backward, at the same
dtype: those of the recurrence once per time step, as they depend on each other, and the gradients
of the weights in one product over all time steps, the cheapest form there is. Step and floor are
timed in turn, so that their ratio holds on a machine whose speed drifts.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from draw_jax import build, cli, optimization

_CONFIG = config_flags.DEFINE_config_file("config", "configs/mnist.py", "What to train")
_REPEATS = flags.DEFINE_integer("repeats", 20, "Steps timed", lower_bound=3)
_JSON = flags.DEFINE_string("json", "", "A file for the figures")


def products(config: ConfigDict) -> list[tuple[int, int]]:
    """Returns (inputs, outputs) of every weight matrix that a time step multiplies with."""
    model = build.build(config)
    variables = jax.eval_shape(lambda key: build.initial_variables(model, key), jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return [leaf.shape for path, leaf in leaves if path[-1].key == "kernel"]


def make_floor(config: ConfigDict) -> tuple[Any, list[Any]]:
    """Returns a jitted function of the step's products alone, and its inputs."""
    steps, batch = config.model.time_steps, config.train.batch_size
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape, np.float32), config.model.dtype)

    inputs = [
        (normal(steps, batch, k), normal(steps, batch, n), normal(k, n))
        for k, n in products(config)
    ]

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, preferred_element_type=jnp.float32)

    @jax.jit
    def floor(inputs: list[Any]) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            out = [
                (product(x, w), product(g, w.T))
                for (x, g), (_, _, w) in zip(rows, inputs, strict=True)
            ]
            return out, None

        rows = [(x, g) for x, g, _ in inputs]
        start = [
            (jnp.zeros((batch, w.shape[1])), jnp.zeros((batch, w.shape[0]))) for *_, w in inputs
        ]
        last, _ = jax.lax.scan(step, start, rows)
        flat = [(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])) for x, g, _ in inputs]
        return last, [product(x.T, g) for x, g in flat]

    return floor, inputs


def make_step(config: ConfigDict) -> tuple[Any, Any, Any]:
    """Returns the jitted update, a state and a batch of images."""
    model, streams = build.build(config), build.keys(config.seed)
    state = optimization.initial_state(model, streams.init, config.train)
    update = jax.jit(optimization.make_update(model, config, streams.train), donate_argnums=0)
    images = np.random.default_rng(0).integers(
        0, 2, (config.train.batch_size, *model.image_shape), np.uint8
    )
    return update, state, images * np.uint8(255)


def seconds(run: Any) -> float:
    """Returns how long a call takes until its results are there."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def main() -> int:
    """Prints the table and returns the exit code."""
    config = _CONFIG.value
    update, state, images = make_step(config)
    floor, inputs = make_floor(config)
    began = time.perf_counter()
    update = update.lower(state, 0, images).compile()
    compile_seconds = time.perf_counter() - began
    floor(inputs)
    state, _ = update(state, 0, images)
    step_ms, floor_ms = [], []
    for number in range(1, _REPEATS.value + 1):
        floor_ms.append(1e3 * seconds(lambda: floor(inputs)))
        began = time.perf_counter()
        state, metrics = update(state, number, images)
        jax.block_until_ready((state, metrics))
        step_ms.append(1e3 * (time.perf_counter() - began))
    step, least = statistics.median(step_ms), statistics.median(floor_ms)
    result = {
        "step_ms": step,
        "floor_ms": least,
        "ratio": statistics.median(a / b for a, b in zip(step_ms, floor_ms, strict=True)),
        "compile_s": compile_seconds,
        "images_per_second": 1e3 * config.train.batch_size / step,
        "dtype": config.model.dtype,
        "batch": config.train.batch_size,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }
    low, high = np.percentile(step_ms, [10, 90])
    print(f"step {step:.0f} ms (10 to 90 %: {low:.0f} to {high:.0f}), floor {least:.0f} ms, ")
    for name, value in result.items():
        print(f"  {name:18} {value:.2f}" if isinstance(value, float) else f"  {name:18} {value}")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, ()))
