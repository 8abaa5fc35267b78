"""What a training step spends besides its matrix products: python -m benchmarks.breakdown.

Each piece of a step is compiled and run by itself, at the sizes, dtype and time steps of the
configuration, with random inputs: what recurs in a scan over the time steps. All pieces, forward
and with gradients, are timed in turn with the whole step, on one device. The table's percentages
are of the whole step, with gradients where a piece has them.

Pieces timed alone do not add up to the step: alone they read and write memory that the step
avoids by fusing them with their neighbours, and the filterbanks are part of reading and of
writing. They say where to look, not what would be saved.

- update: the whole step, as benchmarks.train_step times it
- loss: all of the model; with gradients a step without its optimiser
- products: the floor of benchmarks.train_step, forward and backward
- weight gradients: the floor's one product over all time steps for each matrix
- read, write, filterbanks: attention, from raw windows to glimpses, canvas and filters
- gates: the LSTMs' arithmetic after their products
- optimiser: new weights, Adam's moments and the averaged weights, of given gradients
- noise: the normal draws of a step
- data: the indices of a batch, its images gathered and put on the device; on the host
- logging: a row of metrics into metrics.jsonl and TensorBoard's file, every log_every steps
"""

import functools
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring, train_step
from benchmarks.agreement import mean_loss
from draw_jax.data import splits
from draw_jax.model import attention, build, draw, likelihood
from draw_jax.model.gradients import gate_activations, lstm_step
from draw_jax.runs.metrics import MetricsFile, TensorBoard
from draw_jax.system import cli
from draw_jax.training.step import TrainState, initial_state, make_optimizer

_IMAGES = flags.DEFINE_integer("images", 50_000, "Images in the data set", lower_bound=1)
flags.adopt_module_key_flags(measuring)


class Piece(NamedTuple):
    """Calls that run a piece of a step; None where it has no such pass."""

    forward: Callable[[], Any] | None = None
    gradient: Callable[[], Any] | None = None  # forward and backward


Maker = Callable[[ConfigDict], Piece]


def both(function: Callable[..., Any], inputs: Any, *fixed: Any) -> Piece:
    """Returns the passes of function(inputs, *fixed), with gradients w.r.t. the inputs.

    The gradient is that of half the sum of squares of all that the function returns, so that
    the gradient coming in is no constant that the compiler could use.
    """

    @jax.jit
    def gradient(inputs: Any, *fixed: Any) -> Any:
        outputs, pull_back = jax.vjp(lambda inputs: function(inputs, *fixed), inputs)
        return outputs, pull_back(outputs)

    forward = jax.jit(function)
    return Piece(lambda: forward(inputs, *fixed), lambda: gradient(inputs, *fixed))


def normal(*shape: int) -> jax.Array:
    """Returns a random float32 array."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def raw_windows(config: ConfigDict, kind: str) -> jax.Array:
    """Returns eq. 21's values near the configured first window of a kind, [T, B, 5]."""
    first = attention.raw_bias(config.model[f"{kind}_delta"], config.model[f"{kind}_sigma"])
    near = 0.1 * normal(config.model.time_steps, config.train.batch_size, 5)
    return near + jnp.array(first)[None, None]


def over_time(config: ConfigDict, step: Callable[..., Any], carry: Any, inputs: Any) -> Any:
    """Returns the last carry and all outputs of a step, scanned as the model scans its own."""
    return jax.lax.scan(step, carry, inputs, unroll=config.model.unroll)


def update(config: ConfigDict) -> Piece:
    """Returns the whole step."""
    return Piece(gradient=train_step.updates(*train_step.make_step(config, 1)))


def loss(config: ConfigDict) -> Piece:
    """Returns the model and its loss, of given noise."""
    model = build.drawing(build.build(config))
    params = initial_state(model, build.keys(config.seed).init, config.train).params
    batch = config.train.batch_size
    x = jnp.asarray(train_step.random_images(config, batch), jnp.float32) / 255
    eps = normal(model.time_steps, batch, model.latent_size)

    def function(params: Any, x: jax.Array, eps: jax.Array) -> jax.Array:
        return mean_loss(model, params, x, eps)

    return both(function, params, x, eps)


def products(config: ConfigDict) -> Piece:
    """Returns the floor."""
    floor, inputs = train_step.make_floor(config)
    return Piece(gradient=lambda: floor(inputs))


def weight_gradients(config: ConfigDict) -> Piece:
    """Returns the part of the floor that needs no recurrence."""
    _, inputs = train_step.make_floor(config)
    function = jax.jit(train_step.weight_gradients)
    return Piece(gradient=lambda: function(inputs))


def read(config: ConfigDict) -> Piece:
    """Returns eq. 27 of the image and the error image, through one window a time step."""
    size, (height, width, channels) = config.model.read_size, config.model.image_shape
    x, x_err = (normal(config.train.batch_size, height, width, channels) for _ in range(2))

    def function(inputs: Any, x: jax.Array) -> Any:
        x_err, raw = inputs

        def step(carry: None, raw: jax.Array) -> Any:
            window = attention.window(raw, size, height, width)
            return carry, [attention.read(image, window, size) for image in (x, x_err)]

        return over_time(config, step, None, raw)[1]

    return both(function, (x_err, raw_windows(config, "read")), x)


def write(config: ConfigDict) -> Piece:
    """Returns eq. 29, each time step's patch added to one canvas."""
    size, (height, width, channels) = config.model.write_size, config.model.image_shape
    channels *= likelihood.named(config.model.likelihood).canvas_channels
    steps, batch = config.model.time_steps, config.train.batch_size

    def function(inputs: Any) -> Any:
        def step(canvas: jax.Array, inputs: Any) -> Any:
            patch, raw = inputs
            window = attention.window(raw, size, height, width)
            return canvas + attention.write(patch, window, height, width), None

        canvas = jnp.zeros((batch, height, width, channels))
        return over_time(config, step, canvas, inputs)[0]

    patches = normal(steps, batch, size, size, channels)
    return both(function, (patches, raw_windows(config, "write")))


def filterbanks(config: ConfigDict) -> Piece:
    """Returns the windows and filters of reading and of writing, where there are any."""
    height, width, _ = config.model.image_shape
    sizes = {kind: config.model[f"{kind}_size"] for kind in ("read", "write")}
    sizes = {kind: size for kind, size in sizes.items() if size}

    def function(raws: dict[str, jax.Array]) -> Any:
        def step(carry: None, raws: dict[str, jax.Array]) -> Any:
            filters = [
                attention.filterbanks(
                    attention.window(raws[kind], size, height, width), size, height, width
                )
                for kind, size in sizes.items()
            ]
            return carry, filters

        return over_time(config, step, None, raws)[1]

    return both(function, {kind: raw_windows(config, kind) for kind in sizes})


def gates(config: ConfigDict) -> Piece:
    """Returns what both LSTMs do after their products."""
    steps, batch = config.model.time_steps, config.train.batch_size
    sizes = (config.model.enc_size, config.model.dec_size)

    def function(inputs: list[jax.Array]) -> Any:
        def step(cells: list[jax.Array], gates: list[jax.Array]) -> Any:
            lstms = zip(gates, cells, strict=True)
            out = [lstm_step(gate_activations(gate), cell) for gate, cell in lstms]
            return [cell for _, cell in out], [h for h, _ in out]

        return over_time(config, step, [jnp.zeros((batch, size)) for size in sizes], inputs)[1]

    return both(function, [normal(steps, batch, 4 * size) for size in sizes])


def optimiser(config: ConfigDict) -> Piece:
    """Returns the change of the weights, of their moments and of their average."""
    optimizer = make_optimizer(config.train)
    key = build.keys(config.seed).init
    state = initial_state(build.build(config), key, config.train)
    gradients = jax.tree.map(jnp.copy, state.params)

    @functools.partial(jax.jit, donate_argnums=0)
    def function(state: TrainState, gradients: Any) -> TrainState:
        changes, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        average = state.average
        if average is not None:
            average = optax.incremental_update(params, average, 1 - config.train.average_decay)
        return TrainState(params, average, opt_state)

    def call() -> TrainState:
        nonlocal state
        state = function(state, gradients)
        return state

    return Piece(forward=call)


def noise(config: ConfigDict) -> Piece:
    """Returns the draws of one step, from its own key."""
    model, key = build.drawing(build.build(config)), build.keys(config.seed).train

    @jax.jit
    def function(step: int) -> jax.Array:
        return draw.batch_noise(model, jax.random.fold_in(key, step), config.train.batch_size)

    return Piece(forward=lambda: function(0))


def batches(config: ConfigDict, count: int) -> Piece:
    """Returns one batch after another of a data set of some images."""
    images, steps = train_step.random_images(config, count), itertools.count()

    def call() -> jax.Array:
        indices = splits.batch_indices(config.seed, next(steps), count, config.train.batch_size)
        return jax.device_put(images[indices])

    return Piece(forward=call)


def logging(config: ConfigDict, metrics_file: MetricsFile, board: TensorBoard) -> Piece:
    """Returns the writing of rows of metrics as an update makes them."""
    update, state, images = train_step.make_step(config, 1)
    _, metrics = jax.eval_shape(update, state, 0, images)
    steps = itertools.count()

    def call() -> None:
        row = {"step": next(steps), "split": "train"} | {name: 1.5 for name in metrics}
        metrics_file.write(row | {"images_per_second": 1.5})
        board.write(row | {"images_per_second": 1.5})

    return Piece(forward=call)


def makers(config: ConfigDict) -> dict[str, Maker]:
    """Returns what makes each piece on the device, by the names of the table's rows."""
    found: dict[str, Maker] = {
        "update": update,
        "loss": loss,
        "products": products,
        "weight gradients": weight_gradients,
    }
    if config.model.read_size:
        found["read"] = read
    if config.model.write_size:
        found["write"] = write
    if config.model.read_size or config.model.write_size:
        found["filterbanks"] = filterbanks
    found |= {"gates": gates, "optimiser": optimiser, "noise": noise}
    return found


def measure(config: ConfigDict, rounds: int) -> dict[str, dict[str, measuring.Spread]]:
    """Returns milliseconds by piece and pass, "forward" and "gradient"."""
    with tempfile.TemporaryDirectory() as folder:
        board = TensorBoard(Path(folder) / "tensorboard", step=0)
        metrics_file = MetricsFile(Path(folder) / "metrics.jsonl")
        rows = {name: make(config) for name, make in makers(config).items()} | {
            "data": batches(config, _IMAGES.value),
            "logging": logging(config, metrics_file, board),
        }
        calls = {
            (name, kind): call
            for name, piece in rows.items()
            for kind, call in piece._asdict().items()
            if call
        }
        times = measuring.in_turn(calls, rounds)
        board.close()
    found: dict[str, dict[str, measuring.Spread]] = {name: {} for name in rows}
    for (name, kind), milliseconds in times.items():
        found[name][kind] = measuring.spread(milliseconds)
    return found


def main() -> int:
    """Prints the table and returns the exit code."""
    config = measuring.draw_config()
    found = measure(config, measuring.REPEATS.value)
    step = found["update"]["gradient"].median
    data_percent = 100 * found["data"]["forward"].median / step
    logging_ms = found["logging"]["forward"].median / config.train.log_every
    result = {
        "step_ms": step,
        "floor_ms": found["products"]["gradient"].median,
        "data_percent": data_percent,
        "logging_percent": 100 * logging_ms / step,
        "pieces": {
            name: {kind: spread._asdict() for kind, spread in kinds.items()}
            for name, kinds in found.items()
        },
        "dtype": config.model.dtype,
        "batch": config.train.batch_size,
        "time_steps": config.model.time_steps,
        "device": measuring.device_name(),
    }
    rows = [
        [name, *(str(kinds.get(kind, "-")) for kind in ("forward", "gradient"))]
        + [measuring.number(100 * list(kinds.values())[-1].median / step)]
        for name, kinds in found.items()
    ]
    print(f"milliseconds, median (10 to 90 %), batch {result['batch']}, T {result['time_steps']}")
    print(measuring.table(["piece", "forward", "with gradients", "% of update"], rows))
    print(
        f"data takes {data_percent:.2g} % of a step, logging {result['logging_percent']:.2g} % "
        f"(a row every {config.train.log_every} steps)\n"
        "Pieces timed alone do not add up to the update exactly; filterbanks are part of read and "
        "write."
    )
    measuring.write_json(result)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
