"""A training step against the matrix products in it: python -m benchmarks.train_step.

The floor is what the products of one step take by themselves, forward and backward, at the same
dtype: those of the recurrence once per time step, as they depend on each other, and the gradients
of the weights in one product over all time steps, the cheapest form there is. Step and floor are
timed in turn, so that their ratio holds on a machine whose speed drifts. The step is that of train.py, on
as many devices; the floor runs on one device, which uses all cores.
"""

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring
from draw_jax.data import splits
from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.system import cli, devices
from draw_jax.training import config as settings
from draw_jax.training.step import initial_state, jit_update, make_update

flags.adopt_module_key_flags(measuring)


def products(config: ConfigDict) -> dict[str, tuple[int, int]]:
    """Returns (inputs, outputs) of every weight matrix that a time step multiplies with."""
    model = build.drawing(build.build(config))
    variables = build.shapes(model)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {
        "/".join(part.key for part in path[2:-1]): leaf.shape
        for path, leaf in leaves
        if path[-1].key == "kernel"
    }


def make_floor(config: ConfigDict) -> tuple[Any, list[Any]]:
    """Returns a jitted function of the step's products alone, and its inputs.

    The inputs are, for each matrix, (x [T, B, inputs], g [T, B, outputs], w [inputs, outputs]):
    what is multiplied with w, the gradient of what comes out, and w. If the image itself is read
    without attention, the last entry is for it. It is multiplied once: its x and g are [1, B, ...].
    """
    steps, batch = config.model.time_steps, config.train.batch_size
    windows = config.model.read_size or config.model.write_size  # which the model keeps in float32
    rng = np.random.default_rng(0)
    inputs, sizes = [], products(config)
    if not config.model.read_size and config.model.encoder_input == "both":
        image, (k, n) = math.prod(config.model.image_shape), sizes["encoder/gates"]
        sizes |= {"encoder/gates": (k - image, n), "image": (image, n)}
    for name, (k, n) in sizes.items():
        dtype = "float32" if name == "heads" and windows else config.model.dtype
        times = 1 if name == "image" else steps
        shapes = (times, batch, k), (times, batch, n), (k, n)
        inputs.append(
            tuple(jnp.asarray(rng.standard_normal(shape, np.float32), dtype) for shape in shapes)
        )

    @jax.jit
    def floor(inputs: list[Any]) -> Any:
        repeated = inputs[:-1] if "image" in sizes else inputs
        once = [_product(x[0], w) for x, _, w in inputs[len(repeated) :]]

        def step(carry: Any, rows: Any) -> Any:
            out = [
                (_product(x, w), _product(g, w.T))
                for (x, g), (_, _, w) in zip(rows, repeated, strict=True)
            ]
            return out, None

        rows = [(x, g) for x, g, _ in repeated]
        start = [
            (jnp.zeros((batch, w.shape[1])), jnp.zeros((batch, w.shape[0]))) for *_, w in repeated
        ]
        last, _ = jax.lax.scan(step, start, rows)
        return last, once, weight_gradients(inputs)

    return floor, inputs


def weight_gradients(inputs: list[Any]) -> list[jax.Array]:
    """Returns each matrix's gradient in one product over all time steps, of the floor's inputs."""
    flat = [(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])) for x, g, _ in inputs]
    return [_product(x.T, g) for x, g in flat]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def share_cores(config: ConfigDict) -> int:
    """Splits a CPU into the devices of train.py, unless JAX has started; returns their number."""
    devices.share_cores(settings.cpu_devices(config))
    return jax.device_count()


def make_step(config: ConfigDict, count: int | None = None) -> tuple[Any, Any, Any]:
    """Returns the jitted update, a state and a batch on as many devices, as in training.

    Args:
        config: a whole configuration.
        count: devices, over all processes. None: as many as `train.py` takes when it starts this
            configuration.
    """
    placement = devices.placement(share_cores(config) if count is None else count)
    update = jitted(config, placement)
    init = build.keys(config.seed).init
    state = initial_state(build.build(config), init, config.train)
    size = config.train.batch_size
    rows = devices.own_rows(splits.batch_indices(config.seed, 0, size, size))
    batch = devices.gather(Batch(random_images(config, size)[rows], None), placement.sharded)
    return update, jax.device_put(state, placement.replicated), batch


def jitted(config: ConfigDict, placement: devices.Placement | None = None) -> Any:
    """Returns the jitted update over devices that divide the batch, by default over one.

    Raises:
        ValueError: if the model needs labels, which noise has not.
    """
    task = build.task(build.drawing(build.build(config)))
    if task.classes:
        raise ValueError(f"config.kind {config.kind} needs labels, and images of noise have none")
    update = make_update(task, config, build.keys(config.seed).train)
    return jit_update(update, placement or devices.placement(1))


def random_images(config: ConfigDict, count: int) -> np.ndarray:
    """Returns black and white noise in place of a data set, uint8 [count, H, W, C]."""
    shape = (count, *config.model.image_shape)
    return np.random.default_rng(0).integers(0, 2, shape, np.uint8) * np.uint8(255)


def updates(update: Any, state: Any, images: Any) -> Callable[[], Any]:
    """Returns a call that makes the next update, from the state that the one before left."""
    step = 0

    def call() -> Any:
        nonlocal state, step
        state, metrics = update(state, step, images)
        step += 1
        return state, metrics

    return call


def figures(
    config: ConfigDict,
    times: Mapping[str, Sequence[float]],
    compile_seconds: float,
    count: int,
) -> dict[str, Any]:
    """Returns what --json writes; `ratio` is the median over the rounds of the ratio in a round.

    Args:
        config: a whole configuration.
        times: milliseconds of "step" and of "floor" in every round.
        compile_seconds: of the step.
        count: devices that the step ran on.
    """
    step = statistics.median(times["step"])
    return {
        "step_ms": step,
        "floor_ms": statistics.median(times["floor"]),
        "ratio": statistics.median(
            a / b for a, b in zip(times["step"], times["floor"], strict=True)
        ),
        "compile_s": compile_seconds,
        "images_per_second": 1e3 * config.train.batch_size / step,
        "dtype": config.model.dtype,
        "batch": config.train.batch_size,
        "device": measuring.device_name(count),
    }


def main() -> int:
    """Prints the figures and returns the exit code."""
    config = measuring.draw_config()
    update, state, images = make_step(config)
    floor, inputs = make_floor(config)
    update, compile_seconds = measuring.compiled(update, state, 0, images)
    times = measuring.in_turn(
        {"floor": lambda: floor(inputs), "step": updates(update, state, images)},
        measuring.REPEATS.value,
        warm=True,
    )
    result = figures(config, times, compile_seconds, jax.device_count())
    step = measuring.spread(times["step"])
    print(
        f"step {measuring.number(step.median)} ms (10 to 90 %: {measuring.number(step.low)} to "
        f"{measuring.number(step.high)}), floor {measuring.number(result['floor_ms'])} ms"
    )
    for name, value in result.items():
        print(f"  {name:18} {value:.2f}" if isinstance(value, float) else f"  {name:18} {value}")
    measuring.write_json(result)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
