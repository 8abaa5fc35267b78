"""One version's half of benchmarks.before_after, which starts this file as a program.

It imports `benchmarks` and `draw_jax` from the version that is first on PYTHONPATH, whatever
version this file is from. Of that version it uses only `make_step` and `updates` of
`benchmarks.train_step`. The first line that it prints is a JSON object with the losses of its first
updates. Then, for each line N on stdin, it makes an update and N more, and prints the seconds that
the N took.
"""

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

FIRST = 3  # updates whose losses are reported; the first one compiles
_LOSSES = ("elbo_loss", "cross_entropy", "loss")  # the first of these metrics that there is


class NotMeasurable(Exception):
    """This version lacks what before_after needs."""


def load_train_step(root: Path) -> Any:
    """Returns the module `benchmarks.train_step` of the version in a folder.

    Raises:
        NotMeasurable: it has none, or another version is imported in its place.
    """
    try:
        module = importlib.import_module("benchmarks.train_step")
    except ModuleNotFoundError as error:
        if error.name not in ("benchmarks", "benchmarks.train_step"):
            raise
        raise NotMeasurable("it has no benchmarks/train_step.py") from None
    for name in ("make_step", "updates"):
        if not hasattr(module, name):
            raise NotMeasurable(f"its benchmarks/train_step.py has no function {name}")
    for name in ("benchmarks.train_step", "draw_jax"):
        file = Path(importlib.import_module(name).__file__ or "").resolve()
        if not file.is_relative_to(root.resolve()):
            raise NotMeasurable(f"{name} was imported from {file}")
    return module


def read_config(arguments: list[str]) -> Any:
    """Returns the configuration that a command line names, program name first."""
    if "config" not in flags.FLAGS:  # most versions' train_step has defined it
        config_flags.DEFINE_config_file("config", None, "What to measure")
    flags.FLAGS(arguments)
    return flags.FLAGS["config"].value


def first_losses(call: Any) -> list[float]:
    """Returns the losses of the next updates, in nats per image.

    Raises:
        NotMeasurable: the metrics of an update have no loss.
    """
    losses = []
    for _ in range(FIRST):
        _, metrics = call()
        names = [name for name in _LOSSES if name in metrics]
        if not names:
            raise NotMeasurable(f"no loss among the metrics {', '.join(sorted(metrics))}")
        losses.append(float(metrics[names[0]]))
    return losses


def main() -> int:
    """Answers until stdin ends and returns the exit code."""
    with contextlib.suppress(ImportError):  # an older version asks for no large pages
        importlib.import_module("draw_jax.system.pages").use_large_pages()
    # What a version prints goes to stderr, so that it cannot be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        train_step = load_train_step(Path.cwd())
        config = read_config(sys.argv)
        jax.config.update("jax_enable_compilation_cache", False)
        call = train_step.updates(*train_step.make_step(config))
        facts = {
            "losses": first_losses(call),
            "device": jax.devices()[0].device_kind,
            "batch": config.train.batch_size,
        }
    except (NotMeasurable, flags.Error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(json.dumps(facts), file=answers)
    for line in sys.stdin:
        jax.block_until_ready(call())  # the first after a rest must allocate memory
        began = time.perf_counter()
        for _ in range(int(line)):
            result = call()
        jax.block_until_ready(result)
        print(time.perf_counter() - began, file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
