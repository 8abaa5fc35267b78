"""One training step under several settings: python -m benchmarks.settings --batches=100,512,2048.

Each row is `benchmarks.train_step` in a process of its own, since flags of XLA and of JAX are
fixed when a process starts. A row is printed as soon as it is done; one that fails says why and
the others go on. Rows run one after another, so a machine whose speed drifts favours some of them;
the floor, timed in turn with the step and under the row's own setting, shows it.

Further flags of a configuration (--config.model.time_steps=16) hold for all rows.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks import measuring
from draw_jax.system import cli


class Setting(NamedTuple):
    """What one row changes."""

    fields: dict[str, Any]  # of the configuration
    precision: str = ""  # of float32 products, jax_default_matmul_precision
    xla: str = ""  # flags of XLA
    tunables: str = ""  # of the C library, GLIBC_TUNABLES
    gpu_only: bool = False


_WHILE = "--xla_gpu_enable_command_buffer=+WHILE"
SETTINGS = {
    "default": Setting({}),
    # Otherwise a CPU has a device for each core.
    "one_device": Setting({"train.cpu_devices": 1}),
    "unroll_2": Setting({"model.unroll": 2}),
    "unroll_4": Setting({"model.unroll": 4}),
    "unroll_8": Setting({"model.unroll": 8}),
    "tensorfloat32": Setting({}, precision="tensorfloat32"),
    "highest": Setting({}, precision="highest"),
    "bfloat16": Setting({"model.dtype": "bfloat16"}),
    # Programs ask for large pages of memory (system/pages.py).
    "small_pages": Setting({}, tunables="glibc.malloc.hugetlb=0"),
    # Command buffers are CUDA graphs: many kernels, one launch. A list with + adds to the kinds
    # of commands recorded by default, which loops are not among; an empty list records none.
    "no_graphs": Setting({}, xla="--xla_gpu_enable_command_buffer=", gpu_only=True),
    "while_graphs": Setting({}, xla=_WHILE, gpu_only=True),
    # What a scan stacks for its backward pass need not be cleared before it is written.
    "no_clearing": Setting(
        {}, xla="--xla_gpu_enable_dus_accumulator_zero_init_elimination=true", gpu_only=True
    ),
    "unrolled_graphs": Setting(
        {}, xla=f"{_WHILE} --xla_gpu_command_buffer_unroll_loops=true", gpu_only=True
    ),
}
_BATCHES = flags.DEFINE(
    measuring.Sizes(), "batches", None, "Images a step, such as 100,512; default: the config's"
)
_SETTINGS = flags.DEFINE_list("settings", list(SETTINGS), f"Among {', '.join(SETTINGS)}")
flags.register_validator(
    "settings",
    lambda names: set(names) <= set(SETTINGS),
    f"expected names among {', '.join(SETTINGS)}",
)
flags.adopt_module_key_flags(measuring)

_COLUMNS = ("compile_s", "step_ms", "floor_ms", "ratio", "images_per_second")
_NAMES = ("batch", "setting", "compile s", "step ms", "floor ms", "ratio", "images/s")
_WIDTHS = (5, max(map(len, SETTINGS)), *(max(8, len(name)) for name in _NAMES[2:]))


def backend() -> str:
    """Returns JAX's backend, found by another process: this one must leave the device free."""
    code = "import jax; print(jax.default_backend())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()[-1]


def obstacle(setting: Setting, config: ConfigDict, device: str) -> str:
    """Returns why a setting cannot be tried here, or nothing."""
    if setting.gpu_only and device != "gpu":
        return "for GPUs only"
    places = {field: field.split(".") for field in setting.fields}
    missing = [field for field, (group, name) in places.items() if name not in config[group]]
    return f"no config.{missing[0]}" if missing else ""


def command(overrides: dict[str, Any], repeats: int, file: str) -> list[str]:
    """Returns the command line that measures --config with fields of it overridden."""
    module = [sys.executable, "-m", "benchmarks.train_step"]
    return [
        *module,
        *measuring.config_flags_with(overrides),
        f"--repeats={repeats}",
        f"--json={file}",
    ]


def environment(setting: Setting) -> dict[str, str]:
    """Returns this process's environment with what a setting adds to it."""
    found = dict(os.environ)
    if setting.xla:
        found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} {setting.xla}".strip()
    if setting.precision:
        found["JAX_DEFAULT_MATMUL_PRECISION"] = setting.precision
    if setting.tunables:
        found["GLIBC_TUNABLES"] = setting.tunables
    return found


def measure(setting: Setting, overrides: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of benchmarks.train_step under a setting, or {"error": ...}."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        done = subprocess.run(
            command(overrides | setting.fields, measuring.REPEATS.value, str(file)),
            env=environment(setting),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return {"error": measuring.complaint(done.stderr, done.returncode)}
        return json.loads(file.read_text())


def rows(names: list[str], batches: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Yields each row's figures as it is done."""
    for batch in batches:
        for name in names:
            found = measure(SETTINGS[name], {"train.batch_size": batch})
            yield {"batch": batch, "setting": name} | found


def main() -> int:
    """Prints the table row by row and returns the exit code: 1 if no row could be measured."""
    config = measuring.draw_config()
    device = backend()
    obstacles = {name: obstacle(SETTINGS[name], config, device) for name in _SETTINGS.value}
    names = [name for name in _SETTINGS.value if not obstacles[name]]
    batches = (config.train.batch_size,) if _BATCHES.value is None else _BATCHES.value
    print(f"{config_flags.get_config_filename(flags.FLAGS['config'])}, backend {device}")
    print(measuring.heading(_NAMES, _WIDTHS), flush=True)
    done: list[dict[str, Any]] = []
    for row in rows(names, batches):
        figures = [measuring.number(row[column]) for column in _COLUMNS if column in row]
        figures = figures or ["-"] * (len(_COLUMNS) - 1) + [f"failed: {row['error']}"]
        print(measuring.line([str(row["batch"]), row["setting"], *figures], _WIDTHS), flush=True)
        done.append(row)
        measuring.write_json({"rows": done, "backend": device})
    for name, reason in obstacles.items():
        if reason:
            print(f"left out: {name}, {reason}")
    return 0 if any("error" not in row for row in done) else cli.ERROR


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (subprocess.CalledProcessError,)))
