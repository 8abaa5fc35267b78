"""Damage upon the files of a finished run: no wrong number, no traceback, nothing lost.

    python -m tests.campaigns.corrupt --cases=300

A case damages one file of a run, or of its exported weights, in one way; every (file, damage) comes
once before any comes again. Then the run is evaluated, sampled from, and trained on, in one process.
"""

import contextlib
import functools
import json
import os
import random
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.campaigns.campaign import Broken, main
from tests.campaigns.commands import Outcome, called, own_folder
from tests.training.whole_runs import files, rows, small, timeless

STEPS, FURTHER = 24, 26
KILLED = 21  # so that the newest checkpoint is not the best, of step 16
FIELDS = {
    "train.keep_checkpoints": 20,  # nothing is removed, so that whatever is gone was lost
    "train.learning_rate": 0.05,
}
DAMAGED_STEPS = ("3", "16", "18", "21")  # checkpoints: the oldest, the best, and the newest two


class Sound(NamedTuple):
    """A finished run, and what is right to say of it."""

    folder: Path  # with `run`, `export`, and the same of `other`, of another seed
    numbers: dict[int, dict[str, Any]]  # of every checkpoint, by its step
    samples: dict[int, bytes]
    exported: dict[str, Any]
    best: int
    rows: list[dict[str, Any]]  # of the undisturbed continuation
    digests: dict[str, Any]  # of its last checkpoint
    deck: list[tuple[str, str]]  # every file and damage


def evaluate(run: Path, *flags: str) -> Outcome:
    from draw_jax.commands import evaluate

    return called(lambda: evaluate.command(["evaluate.py", f"--workdir={run}", *flags]))


def sample(run: Path, out: Path, *flags: str) -> Outcome:
    from draw_jax.commands import sample

    words = ["sample.py", f"--workdir={run}", f"--out={out}", "--kind=samples", *flags]
    return called(lambda: sample.command([*words, "--rows=2", "--columns=2"]))


def train(run: Path, steps: int, seed: int = 0) -> Outcome:
    """Returns how `train.py` ends; its flags are left out, as absl takes each only once."""
    from absl import flags

    from draw_jax.system import cli
    from draw_jax.training import loop

    config = small(**FIELDS, **{"train.num_steps": steps, "seed": seed})
    none = flags.FlagValues()
    return called(lambda: cli.run(lambda: loop.train(config, run), ["train.py"], flag_values=none))


def export(run: Path, out: Path) -> Outcome:
    from draw_jax.commands import export

    return called(lambda: export.command(["export", f"--workdir={run}", f"--out={out}"]))


_updates: dict[str, Any] = {}  # the compiled one


def _prepare(image, key):
    from draw_jax.data import splits

    return splits.prepare(image, "none", key)


@contextlib.contextmanager
def compiled_once():
    """Lets every case take what the first has compiled; the report is read for, but not drawn."""
    from draw_jax.drawing.figures import curves
    from draw_jax.evaluation import passes
    from draw_jax.training import job

    one_pass, jit_update = passes.evaluate, job.jit_update

    def evaluate(task, variables, split, _, *rest, **options):
        return one_pass(task, variables, split, _prepare, *rest, **options)

    def update_once(update, placement):
        if "update" not in _updates:
            _updates["update"] = jit_update(update, placement)
        return _updates["update"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "evaluate", evaluate)
        patch.setattr(job, "jit_update", update_once)
        patch.setattr(curves, "report", lambda *given, **options: None)
        yield


@functools.cache
def sound() -> Sound:
    """Returns the sound run, made once."""
    from draw_jax.runs.metrics import MetricsFile

    folder = own_folder()
    with compiled_once():
        for name, seed in (("other_", 1), ("", 0)):
            run = folder / f"{name}run"
            _updates.clear()  # of another seed
            _must(train(run, STEPS, seed))
            shutil.rmtree(run / "checkpoints" / f"{STEPS}")
            for path in (run / "samples").glob(f"*{STEPS}.*"):
                path.unlink()
            MetricsFile(run / "metrics.jsonl").cut_back(KILLED)
            _must(export(run, folder / f"{name}export"))
            _add_old_losses(run)
        whole = folder / "whole"
        shutil.copytree(folder / "run", whole)
        _must(train(whole, FURTHER))
        steps = [int(path.name) for path in (folder / "run" / "checkpoints").iterdir()]
        numbers, samples = {}, {}
        for step in steps:
            flag = f"--checkpoint={step}"
            numbers[step] = _numbers(_must(evaluate(folder / "run", flag)))
            _must(sample(folder / "run", folder / "samples", flag))
            samples[step] = (folder / "samples" / "samples.npz").read_bytes()
        best = _numbers(_must(evaluate(folder / "run")))
        exported = _numbers(_must(evaluate(folder / "export")))
    assert best == exported and len({str(n) for n in numbers.values()}) == len(steps)
    return Sound(
        folder,
        numbers,
        samples,
        exported,
        next(step for step in steps if numbers[step] == best),
        [timeless(row) for row in rows(whole)],
        json.loads((whole / "checkpoints" / f"{FURTHER}" / "digests" / "metadata").read_bytes()),
        _deck(folder),
    )


def _add_old_losses(run: Path) -> None:
    """Adds what version 0.1 kept beside its checkpoints."""
    (run / "checkpoints" / "16" / "metrics").mkdir()
    (run / "checkpoints" / "16" / "metrics" / "metrics").write_text('{"loss": 350.5}')


def _must(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome
    return outcome


def _numbers(outcome: Outcome) -> dict[str, Any]:
    found = json.loads(outcome.out.splitlines()[-1])
    return {name: value for name, value in found.items() if name not in ("run", "checkpoint")}


# --- damage


def flip_bit(path: Path, rng: random.Random, instead: dict[str, bytes]) -> None:
    _change(path, rng, 1 << rng.randrange(8))


def flip_byte(path: Path, rng: random.Random, instead: dict[str, bytes]) -> None:
    _change(path, rng, 255)


def _change(path: Path, rng: random.Random, mask: int) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= mask
        path.write_bytes(data)


def truncate(path: Path, rng: random.Random, instead: dict[str, bytes]) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) or 1)])


def delete(path: Path, rng: random.Random, instead: dict[str, bytes]) -> None:
    path.unlink()


def _text(data: bytes) -> Callable[..., None]:
    return lambda path, rng, instead: path.write_bytes(data)


def _instead(name: str) -> Callable[..., None]:
    return lambda path, rng, instead: path.write_bytes(instead[name])


def bad_line(path: Path, rng: random.Random, instead: dict[str, bytes]) -> None:
    """A line that could be one of metrics.jsonl, somewhere among the others."""
    lines = path.read_bytes().splitlines(keepends=True)
    row = rng.choice(
        [
            {"split": "validation", "elbo_loss": 1.0},
            {"step": 16, "split": "validation", "elbo_loss": "x"},
            {"step": 8, "split": "validation", "elbo_loss": None},
            {"step": 24, "split": "validation"},
            {"step": -1, "split": "train"},
            {"loss": "x"},
        ]
    )
    lines.insert(rng.randrange(len(lines) + 1), json.dumps(row).encode() + b"\n")
    path.write_bytes(b"".join(lines))


DAMAGES: dict[str, Callable[..., None]] = {
    "a bit flipped": flip_bit,
    "a byte flipped": flip_byte,
    "cut short": truncate,
    "emptied": _text(b""),
    "deleted": delete,
    "that of another run": _instead("run"),
    "that of another step": _instead("step"),
    "not UTF-8": _text(b"\xff\xfe\x80{}"),
    "[]": _text(b"[]"),
    "5": _text(b"5"),
    '{"loss": "x"}': _text(b'{"loss": "x"}'),
    "a bad line": bad_line,
}
_TEXT = (
    *("config.json", "metrics.jsonl", "_METADATA", "_CHECKPOINT_METADATA"),
    *("metadata", "metrics"),
)
_JSON = ("not UTF-8", "[]", "5", '{"loss": "x"}')


def _deck(folder: Path) -> list[tuple[str, str]]:
    """Returns every file and damage, each file by the name of its place, in a fixed order."""
    deck = []
    for name in places(folder):
        parts = name.split("/")
        if parts[1] == "checkpoints" and parts[2] not in DAMAGED_STEPS:
            continue
        text = parts[-1] in _TEXT
        for damage in DAMAGES:
            if damage in _JSON and not text:
                continue
            if damage == "a bad line" and parts[-1] != "metrics.jsonl":
                continue
            if damage == "that of another step" and _of_another_step(name) is None:
                continue
            deck.append((name, damage))
    random.Random(0).shuffle(deck)
    deck.sort(key=lambda pair: _rank(pair[0]))
    return deck


def _rank(name: str) -> int:
    """Returns which files come first: those that a run has once, then the best and the newest."""
    if not name.startswith("run/checkpoints/"):
        return 0
    return 1 if name.split("/")[2] in ("16", "21") else 2


def places(folder: Path, groups: tuple[str, ...] = ("run", "export")) -> dict[str, Path]:
    """Returns files by the name of their place: Orbax gives its own random names."""
    found: dict[str, Path] = {}
    for group in groups:
        for path in sorted((folder / group).rglob("*")):
            if path.is_file():
                parts = [*path.relative_to(folder).parts]
                if parts[-2] == "d" or path.name.startswith("events."):
                    same = sorted(p.stat().st_size for p in path.parent.iterdir())
                    parts[-1] = f"#{same.index(path.stat().st_size)}"
                found["/".join(parts)] = path
    return found


def _of_another_step(name: str) -> str | None:
    parts = name.split("/")
    if parts[1] == "checkpoints":
        return "/".join([*parts[:2], "12", *parts[3:]])
    if parts[1] == "samples":
        return name.replace("0016", "0008")
    return None


# --- one case

# What may keep training from going on, for want of what only a user can say or mend.
_REFUSED = ("config.json", "metrics.jsonl", "metrics/metrics", "_CHECKPOINT_METADATA")


def play(rng: random.Random, folder: Path) -> str:
    """Damages one file, as the folder's number deals it, and plays what a user would."""
    right = sound()
    name, damage = right.deck[int(folder.name) % len(right.deck)]
    for group in ("run", "export"):
        shutil.copytree(right.folder / group, folder / group)
    path = places(folder)[name]
    other = places(right.folder, ("other_run", "other_export")).get(f"other_{name}")
    step = places(right.folder).get(_of_another_step(name) or "")
    instead = {k: p.read_bytes() if p else b"" for k, p in (("run", other), ("step", step))}
    before = path.read_bytes()
    DAMAGES[damage](path, rng, instead)
    if path.exists() and path.read_bytes() == before:
        return "no damage: the same bytes"
    try:
        with compiled_once():
            outcome = _play(right, folder, name)
    except Broken as error:
        raise Broken(f"{name}, {damage}: {error}") from None
    where = name.split("/")
    kind = where[0] if where[0] == "export" else where[1]
    return f"{kind}: {outcome}"


def _play(right: Sound, folder: Path, name: str) -> str:
    group = folder / name.split("/")[0]
    # What may keep a run from being used at all, for want of a copy.
    vital = name.endswith(("config.json", "weights.npz"))
    before = files(group)
    told = _check_use(right, folder, group, vital)
    if files(group) != before:
        raise Broken("evaluation or sampling changed files")
    if group.name == "export":
        return told
    return f"{told}; {_check_training(right, group, name)}"


def _check_use(right: Sound, folder: Path, group: Path, vital: bool) -> str:
    """Returns how a damaged run is evaluated and sampled from."""
    evaluated, out = evaluate(group), folder / "out"
    sampled = sample(group, out)
    for outcome in (evaluated, sampled):
        foreign = "metrics.jsonl is not of this run" in outcome.err
        if outcome.code and not (vital or foreign):
            raise Broken(f"there are sound checkpoints, but: {outcome.err}")
    if (evaluated.code == 0) != (sampled.code == 0):
        raise Broken(f"only one can use it: {evaluated.err} {sampled.err}")
    if evaluated.code:
        return "refused in one line"
    found = _numbers(evaluated)
    steps = [step for step, numbers in right.numbers.items() if numbers == found]
    if not steps:
        raise Broken(f"a wrong number: {found['elbo_loss']}")
    if right.samples[steps[0]] != (out / "samples.npz").read_bytes():
        raise Broken("samples of another checkpoint")
    if steps[0] == right.best:
        return "used as if sound" + (", with a warning" if "warning" in evaluated.err else "")
    for outcome in (evaluated, sampled):
        if "warning" not in outcome.err:
            raise Broken(f"checkpoint {steps[0]} without a word, in place of {right.best}")
    return "another checkpoint, with a warning"


def _check_training(right: Sound, run: Path, name: str) -> str:
    """Returns how a damaged run is continued; all that was sound must still be there."""
    if name.endswith("config.json"):  # other settings must not go on with it
        before = _kept(run)
        if train(run, FURTHER, seed=1).code == 0 or _kept(run) != before:
            raise Broken("training went on with another seed")
    before = _kept(run)
    trained = train(run, FURTHER)
    after = _kept(run)
    if trained.code:
        if after != before:
            raise Broken(f"refused, but changed files: {trained.err}")
        if not name.endswith(_REFUSED):
            raise Broken(f"there are sound checkpoints, but: {trained.err}")
        return "training refused in one line"
    there = set(after.values())
    for path, data in before.items():
        if path.parts[0] in ("checkpoints", "samples") and data not in there:
            raise Broken(f"{path} was lost")
    last = run / "checkpoints" / f"{FURTHER}" / "digests" / "metadata"
    theirs = json.loads(last.read_bytes())
    if any(theirs[item] != right.digests[item] for item in ("params", "average", "optimizer")):
        raise Broken("other weights after training went on")
    return _check_rows(right, run, trained, name)


def _check_rows(right: Sound, run: Path, trained: Outcome, name: str) -> str:
    from draw_jax.runs.metrics import MetricsFile

    said = trained.out + trained.err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged lines: training must have told of them
        found = [timeless(row) for row in MetricsFile(run / "metrics.jsonl").rows()]
    wrong = [row for row in found if row not in right.rows]
    if wrong and not name.endswith("metrics.jsonl"):
        raise Broken(f"a line of metrics.jsonl is not that of the undisturbed run: {wrong[0]}")
    if found == right.rows:
        return "training goes on bit for bit"
    if "warning" not in said or "metrics.jsonl" not in said:
        raise Broken(f"{len(right.rows) - len(found)} lines of metrics.jsonl are gone, no word")
    return "training goes on bit for bit, and warns of lost lines"


def _kept(run: Path) -> dict[Path, bytes]:
    return {path: data for path, data in files(run).items() if path.name != ".lock"}


if __name__ == "__main__":
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(own_folder())
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
    sys.exit(main("corrupt", play, 300))
