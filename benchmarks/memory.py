"""The memory of a training step: python -m benchmarks.memory.

What the compiled step needs on its device, as the compiler says: arguments (state and images),
outputs (the next state and the metrics), temporaries (mostly what the forward pass keeps for the
backward pass), and the part of the outputs that takes the arguments' place because the state is
donated. The peak is arguments + outputs + temporaries - that part. Nothing runs for this.

On devices that count their memory the step then runs once, and the most that was in use is shown
beside it. That count cannot be set back, so rows run from the smallest peak to the largest, and
one that stays below what was in use before shows none.

Tasks: `config` is the configuration as it is; `svhn` and `cifar10` give it the sizes of the
paper's Table 3, at the configuration's batch size.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring, train_step
from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.system import cli, devices
from draw_jax.training.step import initial_state

TASKS: dict[str, dict[str, Any]] = {
    "config": {},
    "svhn": {
        "image_shape": (54, 54, 3),
        "time_steps": 32,
        "enc_size": 800,
        "dec_size": 800,
        "latent_size": 100,
        "read_size": 12,
        "write_size": 12,
    },
    "cifar10": {
        "image_shape": (32, 32, 3),
        "time_steps": 64,
        "enc_size": 400,
        "dec_size": 400,
        "latent_size": 200,
        "read_size": 5,
        "write_size": 5,
    },
}
_TASKS = flags.DEFINE_list("tasks", list(TASKS), f"Among {', '.join(TASKS)}")
flags.register_validator(
    "tasks", lambda tasks: set(tasks) <= set(TASKS), f"expected names among {', '.join(TASKS)}"
)
flags.adopt_module_key_flags(measuring)

_BYTES = ("argument_bytes", "output_bytes", "alias_bytes", "temp_bytes", "peak_bytes")


def compile_step(config: ConfigDict, placement: devices.Placement | None = None) -> Any:
    """Returns the compiled update, made from shapes only, by default for one device."""
    model, init = build.build(config), build.keys(config.seed).init
    update = train_step.jitted(config, placement)
    state = jax.eval_shape(lambda key: initial_state(model, key, config.train), init)
    shape = (config.train.batch_size, *model.image_shape)
    images: Any = jax.ShapeDtypeStruct(shape, jnp.uint8)
    return measuring.compiled(update, state, 0, Batch(images, None))[0]


def needs(executable: Any) -> dict[str, int]:
    """Returns the bytes that a compiled function needs on its device, by their use."""
    analysis = executable.memory_analysis()
    names = ("argument", "output", "alias", "temp")
    sizes = {f"{name}_bytes": getattr(analysis, f"{name}_size_in_bytes") for name in names}
    peak = sum(sizes.values()) - 2 * sizes["alias_bytes"]
    return sizes | {"peak_bytes": peak}


def in_use() -> int | None:
    """Returns the most bytes of the device in use so far; None where it does not count them."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def measured_peak(config: ConfigDict, executable: Any) -> int | None:
    """Returns the most bytes in use while a step ran; None where that is unknown."""
    before = in_use()
    if before is None:
        return None
    _, state, images = train_step.make_step(config, 1)
    jax.block_until_ready(executable(state, 0, images))
    after = in_use()
    return after if after is not None and after > before else None


def main() -> int:
    """Prints the table and returns the exit code."""
    rows = []
    for name in _TASKS.value:
        config = measuring.draw_config().copy_and_resolve_references()
        config.model.update(TASKS[name])
        executable = compile_step(config)
        rows.append((name, config, executable, needs(executable)))
    rows.sort(key=lambda row: row[-1]["peak_bytes"])
    figures = []
    for name, config, executable, sizes in rows:
        facts = {"task": name, "batch": config.train.batch_size}
        facts |= {"time_steps": config.model.time_steps, "dtype": config.model.dtype}
        measured = measured_peak(config, executable)
        figures.append(facts | sizes | ({} if measured is None else {"measured_bytes": measured}))
    columns = [*_BYTES, *(["measured_bytes"] if in_use() is not None else [])]
    names = ["task", "batch", "T", *(column.removesuffix("_bytes") for column in columns)]
    cells = [
        [figure["task"], str(figure["batch"]), str(figure["time_steps"])]
        + [mebibytes(figure[column]) if column in figure else "-" for column in columns]
        for figure in figures
    ]
    print(f"MiB on {measuring.device_name()}; peak = argument + output + temp - alias")
    print(measuring.table(names, cells))
    measuring.write_json({"rows": figures, "device": measuring.device_name()})
    return 0


def mebibytes(size: int) -> str:
    """Returns bytes in MiB."""
    return measuring.number(size / 2**20)


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
