"""Memory and time of a set that is mapped, not read: python -m benchmarks.mapped.

Writes two prepared `svhn` sets of noise into a temporary folder, one of the original's size (2.9 GB)
and a small one, and trains a tiny model on each with train.py in a separate process, while
watching that process's private memory (Linux's RssAnon: without mapped files). Then times, in
turn, how long each takes to cut out a batch on the host. Neither training reuses what was
compiled before. The folder is deleted at the end.
"""

import contextlib
import importlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import held, measuring, start
from draw_jax.data import splits
from draw_jax.data.builders import svhn_numbers
from draw_jax.data.sets import svhn
from draw_jax.system import cli

_SHAPE = (svhn_numbers.SIZE, svhn_numbers.SIZE, 3)
_PARTS = {part: svhn_numbers.COUNTS[part] for part in ("train", "extra")}
_ALL = sum(_PARTS.values()) - 1  # the one of six digits is not prepared
_SMALL = 10_240  # numbers: 126 MB, of which validation fills a batch, as that of the large set does
_BLOCK = 1_024  # numbers written at a time, 13 MB
_PAUSE = 0.02  # seconds between two looks at a process
_AIM = 200e6  # the most bytes of memory that a large set may take beyond a small one
_TINY = {
    "model.time_steps": 2,
    **dict.fromkeys(("model.enc_size", "model.dec_size"), 8),
    **dict.fromkeys(("model.latent_size", "model.read_size", "model.write_size"), 2),
    "train.warmup_steps": 1,
}
_NUMBERS = flags.DEFINE_integer(
    "numbers", _ALL, "House numbers of the large set, with validation", lower_bound=200
)
_UPDATES = flags.DEFINE_integer("updates", 200, "Of each training", lower_bound=1)
_FOLDER = flags.DEFINE_string(
    "folder", "", "Where the temporary folder is made, on a disk with 3.1 GB; default: the system's"
)
flags.declare_key_flag("json")
flags.declare_key_flag("repeats")


class TrainingFailed(Exception):
    """A training ended with an error, which is the message."""


def main() -> int:
    """Prints the table and returns the exit code."""
    measuring.refuse(("config",), "a tiny model of configs/svhn.py is measured; leave it out")
    if _FOLDER.value and not Path(_FOLDER.value).is_dir():
        raise ValueError(f"--folder: {_FOLDER.value!r} is no directory")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(cli.ERROR))  # so that the folder is removed
    counts = {"large": _NUMBERS.value, "small": min(_SMALL, _NUMBERS.value // 2)}
    figures: dict[str, dict[str, Any]] = {}
    makes: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory(prefix="draw_jax_", dir=_FOLDER.value or None) as folder:
        for name, count in counts.items():
            data, run = Path(folder, name), Path(folder, f"run_{name}")
            size = write(data, count)
            environment = start.environment(Path(folder, f"kept_{name}"))
            most = peak(command(data, run, _UPDATES.value), environment)
            makes[name], images = maker(data)
            figures[name] = {"images": images, "bytes": size, "peak_mebibytes": most}
        times = measuring.in_turn(makes, measuring.REPEATS.value)
    rows = []
    for name, found in figures.items():
        spread = measuring.spread(times[name])
        found |= {"batch_ms": spread._asdict()}
        cells = [f"{found['images']:,}", f"{found['bytes'] / 1e9:.2f}"]
        rows.append([name, *cells, f"{found['peak_mebibytes']:,.0f}", str(spread)])
    head = [
        "set",
        "training images",
        "GB",
        "peak memory of its own, MiB",
        "a batch, ms (10 to 90 %)",
    ]
    print(measuring.table(head, rows))
    more = figures["large"]["peak_mebibytes"] - figures["small"]["peak_mebibytes"]
    most = _AIM / 2**20
    print(
        f"\nthe large set takes {more:+,.0f} MiB; the aim is at most {most:+,.0f} (200 MB): "
        f"{'reached' if more <= most else 'missed'}"
    )
    shared = {"difference_mebibytes": more, "updates": _UPDATES.value}
    measuring.write_json(figures | shared | {"device": measuring.device_name()})
    return 0


def write(data: Path, count: int) -> int:
    """Writes a prepared set of so many numbers of noise and returns its bytes.

    Raises:
        OSError: if there is no room.
    """
    folder = svhn.prepared_folder(data)
    folder.mkdir(parents=True)
    train = count * _PARTS["train"] // sum(_PARTS.values())
    rng, size = np.random.default_rng(0), 0
    for part, numbers in (("train", train), ("extra", count - train)):
        images = reserved(folder / f"{part}.npy", numbers)
        for begin in range(0, numbers, _BLOCK):
            block = images[begin : begin + _BLOCK]
            block[:] = rng.integers(0, 256, block.shape, np.uint8)
        images.flush()
        size += images.nbytes
    return size


def reserved(path: Path, count: int) -> np.memmap:
    """Returns the memory map of a new file of `count` numbers, with its disk space already taken.

    A disk that is full at a write through a memory map ends the process silently.

    Raises:
        OSError: if there is no room.
    """
    try:
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *_SHAPE))
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        needed = count * np.prod(_SHAPE) / 1e9
        raise OSError(
            f"cannot write {path} of {needed:.2f} GB ({error.strerror}): give a --folder that has "
            "room, or fewer --numbers"
        ) from None
    return images


def fields(data: Path, updates: int) -> dict[str, Any]:
    """Returns the fields by which a tiny model on the set in a folder differs from configs/svhn.py."""
    ends = {f"train.{name}": updates for name in ("num_steps", "decay_steps", "eval_every")}
    return _TINY | ends | {"data.data_dir": str(data)}


def command(data: Path, run: Path, updates: int) -> list[str]:
    """Returns the command line that trains on the set in a folder."""
    script = Path(__file__).parents[1] / "train.py"
    values = [f"--config.{name}={value}" for name, value in fields(data, updates).items()]
    return [sys.executable, str(script), "--config=svhn", f"--workdir={run}", *values]


def peak(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Returns the most memory of its own that a process was seen to hold until its end, MiB.

    Raises:
        TrainingFailed: it ended with an error.
    """
    most = 0.0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        try:
            while process.poll() is None:
                with contextlib.suppress(ProcessLookupError):  # it ends just now
                    most = max(most, held.count(process.pid).mebibytes)
                time.sleep(_PAUSE)
        finally:
            process.kill()
            code = process.wait()
        if code:
            why = measuring.complaint(measuring.end_of(said), code)
            raise TrainingFailed(f"training failed: {why}")
    return most


def maker(data: Path) -> tuple[Callable[[], Any], int]:
    """Returns a call that makes the next batch of the set in a folder, and its training images."""
    config = importlib.import_module("draw_jax.configs.svhn").get_config()
    config.data.data_dir = str(data)
    split = splits.load(config.data, "train", config.model.image_shape, seed=config.seed)
    steps, size = itertools.count(), config.train.batch_size
    return (
        lambda: split.batch(splits.training_indices(split, config.seed, next(steps), size)),
        len(split),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (TrainingFailed,)))
