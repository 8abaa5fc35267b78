"""The training update compiled for hardware that is not there: python -m benchmarks.compiled_for.

XLA compiles the whole update for --target, a GPU or TPUs, on a machine without one; nothing runs.
Counted in the compiled program are the kernels of a time step forward and backward, by sort, those
outside the two loops, what chips send each other, and bytes of memory. The counts are exact, and
the same on every machine with the same XLA. Only tuning needs the GPU itself: without it XLA
guesses which of its own kernels multiplies fastest, and calls no library.

A GPU's kernels go to it in command buffers (CUDA graphs) where XLA can record them; the last table
shows how often the host sends something, a graph or a single kernel. $XLA_FLAGS are respected.

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
flags.register_validator(
    "target", lambda names: all(map(targets.known, names or [])), f"expected {targets.KNOWN}"
)
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
    """Returns the kernels by sort: per time step, forward and backward; per update, outside them.

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
    summed = collectives.all_reduces(text)
    figures = {
        "chips": len(chips),
        "batch": config.train.batch_size,
        "time_steps": config.model.time_steps,
        "kernels": kernels(launches, config.model.time_steps),
        "kernels_an_update": launches.flat().total(),
        "all_reduces": summed.operations,
        "all_reduce_bytes": summed.bytes,
    }
    return figures | memory.needs(executable) | sending(launches, dump)


def sending(launches: hlo_counts.Launches, dump: Path) -> dict[str, Any]:
    """Returns what the host sends to a GPU; {} for TPUs, for whose programs XLA lists no thunks."""
    files = sorted(dump.glob("*thunk_sequence*"))
    if not files:
        return {}
    text = files[-1].read_text()  # of the last pass over them
    for file in files:  # otherwise the next row would take them for its own
        file.unlink()
    outside, *inside = thunks.sent(text)
    figures: dict[str, Any] = {"outside": outside._asdict()}
    total = outside.times
    for (loop, passes), sent in zip(launches.every_loop(), inside, strict=True):
        name = part(loop.name)
        figures[f"{name}, loop within" if name in figures else name] = sent._asdict()
        total += passes * sent.times
    return {"sent": figures, "sent_an_update": total}


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
    if len({targets.is_gpu(target) for target in _TARGETS.value}) > 1:
        raise ValueError("--target: GPUs and TPUs need a command each, as XLA's flags are theirs")
    measuring.draw_config()
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as dump:
        needed = dict.fromkeys(targets.xla_flags(each, Path(dump)) for each in _TARGETS.value)
        os.environ["XLA_FLAGS"] = " ".join([*needed, os.environ.get("XLA_FLAGS", "")]).strip()
        figures = list(rows(Path(dump)))
    print(f"kernels and MiB a chip; jax {jax.__version__}")
    print(summary(figures))
    print("\n" + by_sort(figures))
    if any("sent" in row for row in figures):
        print("\n" + by_sending(figures))
    measuring.write_json({"rows": figures, "jax": jax.__version__})
    return 0


def summary(figures: list[dict[str, Any]]) -> str:
    """Returns the table of a line for each program."""
    names = ["target", "row", "batch", *PARTS, "an update", "sent"]
    names += ["all-reduces", "their bytes", "argument", "output", "temporary", "peak"]
    sizes = ("argument_bytes", "output_bytes", "temp_bytes", "peak_bytes")
    cells = [
        [row["target"], row["row"], f"{row['batch']}"]
        + [count(sum(row["kernels"][each].values())) for each in PARTS]
        + [f"{row['kernels_an_update']:,}"]
        + [f"{row['sent_an_update']:,}" if "sent" in row else "-"]
        + [f"{row['all_reduces']}", f"{row['all_reduce_bytes']:,}"]
        + [memory.mebibytes(row[size]) for size in sizes]
        for row in figures
    ]
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
    """Returns the table of what the host sends to a GPU: outside loops, and per pass of each."""
    cells = [
        [f"{row['target']} {row['row']}", each, *(f"{value}" for value in sent.values())]
        for row in figures
        for each, sent in row.get("sent", {}).items()
    ]
    return measuring.table(["sent", "part", "graphs", "kernels in them", "kernels alone"], cells)


def count(value: float) -> str:
    """Returns a count, with one decimal if it is not whole."""
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (jax.errors.JaxRuntimeError,)))
