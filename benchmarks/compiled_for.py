"""The training update compiled for hardware that is not there: python -m benchmarks.compiled_for.

XLA compiles the whole update for --target, a GPU or TPUs, on a machine without one; nothing runs.
In the compiled program are counted: the kernels of a time step forward and backward, by sort, those
outside the two loops, what chips tell each other, and bytes of memory. The counts are exact, and
the same on every machine with the same XLA. Only tuning takes the GPU itself: without it XLA guesses
which of its own kernels multiplies fastest, and calls no library.

A GPU's kernels go to it in command buffers (CUDA graphs) where XLA can record them; the last table
tells how often the host sends something, a graph or a single kernel. Flags in $XLA_FLAGS are obeyed.

    pip install -e '.[cuda]'  # 3 GB; '.[tpu]' is 0.5 GB
    python -m benchmarks.compiled_for --target=h200 --rows=config,no_attention,bfloat16
    python -m benchmarks.compiled_for --target=v5e:1x1,v5e:2x2,v5e:8x8 --batch_a_chip=128
"""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import collectives, hlo_counts, measuring, memory, targets, thunks
from draw_jax.system import cli
from draw_jax.system.devices import placement

ROWS: dict[str, dict[str, Any]] = {
    "config": {},
    "no_attention": {"read_size": 0, "write_size": 0},
    "bfloat16": {"dtype": "bfloat16"},
    "cifar10": memory.TASKS["cifar10"],
    "svhn": memory.TASKS["svhn"],
}
_TARGETS = flags.DEFINE_list("target", None, f"What to compile for: {targets.KNOWN}")
_ROWS = flags.DEFINE_list("rows", ["config"], f"The config and changes of it: {', '.join(ROWS)}")
flags.register_validator(
    "rows", lambda rows: set(rows) <= set(ROWS), f"expected names among {', '.join(ROWS)}"
)
_BATCH = flags.DEFINE_integer(
    "batch_a_chip", None, "Images a step on each chip; default: the config's, over all of them", 1
)
_HLO = flags.DEFINE_string("hlo", "", "A file for the text of the last compiled program")
flags.register_validator("hlo", cli.check_writable)
flags.adopt_module_key_flags(measuring)

PARTS = ("forward", "backward", "outside")


def part(name: str) -> str:
    """Returns which of PARTS a loop is, by the operation that it comes from."""
    if "transpose(" in name:
        return "backward"
    return "forward" if "jvp(" in name else "outside"


def kernels(launches: hlo_counts.Launches, steps: int) -> dict[str, dict[str, float]]:
    """Returns the kernels by sort: a time step forward and backward, an update outside these loops.

    Args:
        launches: of the whole update.
        steps: time steps, which a loop may take several of at once.
    """
    found: dict[str, Counter[str]] = {each: Counter() for each in PARTS}
    found["outside"].update(launches.kernels)
    for loop in launches.loops:
        found[part(loop.name)].update(hlo_counts.Launches(Counter(), [loop]).flat())
    per = {"forward": steps, "backward": steps, "outside": 1}
    return {each: {kind: n / per[each] for kind, n in found[each].items()} for each in PARTS}


def row_of(config: ConfigDict, target: str, dump: Path) -> dict[str, Any]:
    """Returns the figures of an update compiled for a target.

    Args:
        config: a whole configuration.
        target: what to compile for.
        dump: the folder where XLA writes what it makes of a program.
    """
    chips = targets.devices(target)
    if _BATCH.value:
        config.train.batch_size = _BATCH.value * len(chips)
    if config.train.batch_size % len(chips):
        raise ValueError(
            f"--target={target}: {len(chips)} chips do not divide config.train.batch_size, "
            f"{config.train.batch_size}; see --batch_a_chip"
        )
    executable = memory.compile_step(config, placement(among=chips))
    text = executable.as_text()
    if _HLO.value:
        Path(_HLO.value).write_text(text)
    launches = hlo_counts.launches(hlo_counts.parse(text))
    told = collectives.all_reduces(text)
    figures = {
        "chips": len(chips),
        "batch": config.train.batch_size,
        "time_steps": config.model.time_steps,
        "kernels": kernels(launches, config.model.time_steps),
        "kernels_an_update": launches.flat().total(),
        "all_reduces": told.operations,
        "all_reduce_bytes": told.bytes,
    }
    return figures | memory.needs(executable) | sending(launches, dump)


def sending(launches: hlo_counts.Launches, dump: Path) -> dict[str, Any]:
    """Returns what the host sends to a GPU, {} of a program that XLA has dumped no thunks of."""
    files = sorted(dump.glob("*thunk_sequence_after_thunk_passes.txt"))
    if not files:
        return {}
    sent = thunks.sent(files[-1].read_text())
    for file in files:  # or the next row would take them for its own
        file.unlink()
    loops = launches.every_loop()
    if len(sent) != 1 + len(loops):  # loops in one another, or in a graph
        return {"sent": {"outside": sent[0]._asdict()}}
    named = {"outside": sent[0]} | {
        part(loop.name): each for loop, each in zip(loops, sent[1:], strict=True)
    }
    times = sent[0].times + sum(
        (loop.trips or 1) * each.times for loop, each in zip(loops, sent[1:], strict=True)
    )
    return {"sent": {name: each._asdict() for name, each in named.items()}, "sent_an_update": times}


def rows(dump: Path) -> Iterator[dict[str, Any]]:
    """Yields the figures of every target and row."""
    for target in _TARGETS.value or ():
        for name in _ROWS.value or ():
            config = measuring.draw_config().copy_and_resolve_references()
            config.model.update(ROWS[name])
            yield {"target": target, "row": name} | row_of(config, target, dump)


def main() -> int:
    """Prints the tables and returns the exit code."""
    if not _TARGETS.value:
        raise ValueError(f"--target: what to compile for? One of {targets.KNOWN}")
    for target in _TARGETS.value:
        targets.check(target)
    measuring.draw_config()
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as dump:
        needed = dict.fromkeys(targets.xla_flags(each, Path(dump)) for each in _TARGETS.value)
        os.environ["XLA_FLAGS"] = " ".join([*needed, os.environ.get("XLA_FLAGS", "")]).strip()
        figures = list(rows(Path(dump)))
    print(summary(figures))
    print("\n" + by_sort(figures))
    if any("sent" in row for row in figures):
        print("\n" + by_sending(figures))
    measuring.write_json({"rows": figures})
    return 0


def summary(figures: list[dict[str, Any]]) -> str:
    """Returns the table of a line for each program."""
    names = ["target", "row", "batch", "forward", "backward", "outside", "an update"]
    names += ["all-reduces", "their bytes", "arguments", "outputs", "temporary", "peak, MiB"]
    cells = []
    for row in figures:
        counts = [count(sum(row["kernels"][each].values())) for each in PARTS]
        sizes = ("argument_bytes", "output_bytes", "temp_bytes", "peak_bytes")
        cells.append(
            [row["target"], row["row"], f"{row['batch']}", *counts]
            + [f"{row['kernels_an_update']:,}", f"{row['all_reduces']}"]
            + [f"{row['all_reduce_bytes']:,}", *(memory.mebibytes(row[size]) for size in sizes)]
        )
    return measuring.table(names, cells)


def by_sort(figures: list[dict[str, Any]]) -> str:
    """Returns the table of kernels by their sort, a line for each part of each program."""
    parts = [(row, each, row["kernels"][each]) for row in figures for each in PARTS]
    kinds = [kind for kind in hlo_counts.SORTS if any(kind in found for _, _, found in parts)]
    cells = [
        [f"{row['target']} {row['row']}", each, *(count(found.get(kind, 0)) for kind in kinds)]
        for row, each, found in parts
    ]
    return measuring.table(["kernels", "part", *kinds], cells)


def by_sending(figures: list[dict[str, Any]]) -> str:
    """Returns the table of what the host sends to a GPU."""
    cells = []
    for row in figures:
        for each, sent in row.get("sent", {}).items():
            numbers = [f"{value}" for value in sent.values()]
            times = f"{row['sent_an_update']:,}" if "sent_an_update" in row else "-"
            cells.append([f"{row['target']} {row['row']}", each, *numbers, times])
    names = ["sent", "part", "graphs", "kernels in them", "kernels alone", "sent an update"]
    return measuring.table(names, cells)


def count(value: float) -> str:
    """Returns a count, with a digit behind the point where it is not whole."""
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (jax.errors.JaxRuntimeError,)))
