"""The table of the 2016 follow-up study: python -m draw_jax.studies.follow_up [--rows=study,study_t1].

Trains what is missing of each row and seed, one run directory for each, measures it, and prints the
tables. They are written into --workdir as well, with a chart and the kernels of Models I to III;
with --page=docs/study.md into that page, too. The same command continues where it was stopped.
Exit codes: 0 finished, 1 error, 2 bad flags, 3 stopped by a signal with everything saved, 4 a run
has diverged: all others are measured.
"""

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from draw_jax.data import splits
from draw_jax.drawing.figures import look
from draw_jax.evaluation import nearest, passes
from draw_jax.model import build
from draw_jax.runs import checkpoint, metrics
from draw_jax.studies import kernels, results, rows
from draw_jax.studies.rows import Row
from draw_jax.system import cli, compilation, devices, files
from draw_jax.training import config as settings
from draw_jax.training import loop, signals

_GENERATED = 1_000  # images of the nearest-image NLL
_WEIGHTED = 10  # K of the importance-weighted bound
_MOST_SEEDS = 100
_OF_FLAGS = {  # fields that --set leaves alone
    "seed": "--seeds",
    "train.num_steps": "--updates",
    "train.decay_steps": "--updates",
    "data.data_dir": "--data_dir",
    "data.manual_dir": "--manual_dir",
}

FLAGS = flags.FlagValues()
_ROWS = flags.DEFINE_list(
    "rows", [], f"Configurations; default: all, {', '.join(rows.NAMES)}", flag_values=FLAGS
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each row, of seeds 0, 1, ...", flag_values=FLAGS)
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/follow_up", "The folder of all runs, ROW/seed_0 and so on", flag_values=FLAGS
)
_UPDATES = flags.DEFINE_integer("updates", 10_000, "Of each run", flag_values=FLAGS)
_SET = flags.DEFINE_string(
    "set",
    "",
    "Fields to set in all rows, for another --workdir: train.clip_norm=0,train.warmup_steps=0",
    flag_values=FLAGS,
)
_PAGE = flags.DEFINE_string(
    "page",
    "",
    "A page whose marked block for this many updates becomes the tables: docs/study.md",
    flag_values=FLAGS,
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where prepared data lies", flag_values=FLAGS)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", "", "Original files of the data, in place of a download", flag_values=FLAGS
)


def configuration(row: Row, seed: int, updates: int) -> ConfigDict:
    """Returns a row's configuration for one seed and so many updates, with what --set says.

    Raises:
        ValueError: if --set names no field of it, gives a value of another type, or a likelihood
            that has no nearest-image NLL.
    """
    config = _load(row.config)
    own = _changes(row)
    config.seed = seed
    config.train.num_steps = config.train.decay_steps = updates
    config.data.data_dir, config.data.manual_dir = _DATA_DIR.value, _MANUAL_DIR.value
    config.lock()  # so that a field must be there
    for text in _settings():
        field, _, value = text.partition("=")
        if field in _OF_FLAGS:
            raise ValueError(f"--set: {field} is given by {_OF_FLAGS[field]}")
        if field in own:
            raise ValueError(
                f"--set: {field} is what row {row.config} changes of {row.base}: leave it out, or the row"
            )
        try:
            config.update_from_flattened_dict({field: _literal(value)})
        except (KeyError, AttributeError, TypeError, ValueError):
            raise ValueError(
                f"--set: expected FIELD=VALUE of configs/{row.config}.py, such as train.clip_norm=0; "
                f"got {text!r}"
            ) from None
    if config.model.likelihood != "bernoulli":
        raise ValueError(
            "--set: expected model.likelihood=bernoulli, as the nearest-image NLL is of binary images, got "
            f"{config.model.likelihood!r}"
        )
    return config


def _load(name: str) -> ConfigDict:
    return importlib.import_module(f"draw_jax.configs.{name}").get_config()


def _changes(row: Row) -> set[str]:
    """Returns the fields in which a row's configuration differs from that of its base."""
    if not row.base:
        return set()
    ours, theirs = (settings.flat(_load(name)) for name in (row.config, row.base))
    return {field for field in ours.keys() | theirs if ours.get(field) != theirs.get(field)}


def main() -> int:
    """Runs and measures what is missing, writes the tables and returns the exit code."""
    chosen = rows.named(_ROWS.value)
    for name, flag, most in (("seeds", _SEEDS, _MOST_SEEDS), ("updates", _UPDATES, 2**31 - 1)):
        if not 1 <= flag.value <= most:
            raise ValueError(f"--{name}: expected 1 to {most:,}, got {flag.value}")
    page = Path(_PAGE.value) if _PAGE.value else None
    if page:  # before hours of work for it
        results.with_block(cli.read_text("--page", page), "", _UPDATES.value)
    configs = [configuration(row, 0, _UPDATES.value) for row in chosen]
    compilation.keep()
    devices.share_cores(settings.cpu_devices(configs[0]))
    for config in configs:
        settings.check(config)
    for split in ("train", "validation"):  # which all rows read; with this program's flags
        splits.load(configs[0].data, split, configs[0].model.image_shape, flags="--")
    workdir, diverged = Path(_WORKDIR.value), []
    measured: dict[str, list[dict[str, Any]]] = {}
    with signals.stop_signals() as stop:
        stop.begun = True  # a measurement listens to it, too
        for seed in range(_SEEDS.value):  # a first table of all rows comes early
            for row in chosen:
                run = workdir / row.config / f"seed_{seed}"
                config = configuration(row, seed, _UPDATES.value)
                found = kept(run, config)
                if found is None:
                    code = loop.train(config, run, asked=stop)
                    if code == loop.DIVERGED:
                        diverged.append(run)
                        continue
                    if code == loop.STOPPED:
                        return _stopped()
                    try:
                        found = measure(run, config, stop)
                    except passes.Interrupted:
                        return _stopped()
                if stop.requested():
                    return _stopped()
                measured.setdefault(row.config, []).append(found)
            write(measured, chosen, workdir, page, seed + 1)
    print((workdir / "study.md").read_text())
    for run in diverged:
        print(f"{run} has diverged, and is left out")
    return loop.DIVERGED if diverged else loop.FINISHED


def kept(run: Path, config: ConfigDict) -> dict[str, Any] | None:
    """Returns a run's earlier measurements; None if incomplete, or of different settings."""
    try:
        found = json.loads(_file(run).read_text())
        stored = ConfigDict(found["config"])
        found["nearest_rounded_nll"], found["minutes"]  # earlier versions had neither
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = stored.train.num_steps == config.train.num_steps
    return found if same and not settings.differing_fields(config, stored) else None


def measure(run: Path, config: ConfigDict, stop: signals.Stop) -> dict[str, Any]:
    """Returns a run's losses on validation and nearest-image NLL, and keeps them in a file beside it.

    They are those of `evaluate.py --split=validation --importance_samples=10 --nearest_nll=1000`: of
    the checkpoint that is best on validation. `minutes` are those of all updates only, by the
    median speed in metrics.jsonl.

    Raises:
        passes.Interrupted: where a signal asks to stop.
    """
    _, model, variables = checkpoint.load(run)
    keys, shape = build.keys(config.seed), config.model.image_shape
    training, validation = (
        splits.load(config.data, split, shape, flags="--", still=True)
        for split in ("train", "validation")
    )
    found = passes.evaluate(
        build.task(model),
        variables,
        validation,
        splits.preparation(config.data.binarization),
        keys.evaluate,
        importance_samples=_WEIGHTED,
        on_batch=lambda done: stop.interrupt_evaluation(),
        on_samples=lambda done: stop.interrupt_evaluation(),
    )
    found |= nearest.measure(
        build.drawing(model),
        variables,
        keys.sample,
        training,
        _GENERATED,
        on_batch=lambda done: stop.interrupt_evaluation(),
    )
    logged = metrics.MetricsFile(run / "metrics.jsonl").rows()
    found["minutes"] = metrics.minutes(logged, config.train.batch_size, config.train.num_steps)
    found["config"] = json.loads(config.to_json())
    files.write_text(_file(run), f"{json.dumps(found)}\n")
    print(
        f"{run}: negative ELBO {found['elbo_loss']:.2f}, nearest-image NLL {found['nearest_nll']:.0f}",
        flush=True,
    )
    return found


def write(
    measured: results.Measured, chosen: list[Row], workdir: Path, page: Path | None, seeds: int
) -> None:
    """Writes the tables and pictures of what was measured, into the page as well if there is one."""
    pictures = {"worth": results.chart(measured, chosen, workdir / "worth.png")}
    for row in chosen:
        if "_model_" in row.config and measured.get(row.config):
            run, name = workdir / row.config / f"seed_{_first(measured, row)}", _kernels(row)
            if not (run / "checkpoints").is_dir():  # only its numbers were kept
                continue
            learned = kernels.of_layers(checkpoint.load(run)[2])
            pictures[name] = look.save(kernels.picture(learned), workdir / f"{name}.png")
    drawn = {name: path for name, path in pictures.items() if path}
    text = _text(measured, chosen, seeds, {name: f"{name}.png" for name in drawn})
    files.write_text(workdir / "study.md", text)
    if page is None:
        return
    links = {}
    for name, path in drawn.items():
        target = page.parent / "figures" / f"study_{_UPDATES.value}_{name}.png"
        files.write_bytes(target, path.read_bytes())
        links[name] = f"figures/{target.name}"
    whole = results.with_block(
        cli.read_text("--page", page), _text(measured, chosen, seeds, links), _UPDATES.value
    )
    files.write_text(page, whole)


def _text(measured: results.Measured, chosen: list[Row], seeds: int, links: dict[str, str]) -> str:
    changed = f" and {', '.join(_settings())}" if _SET.value else ""
    one = all(len(runs) == 1 for runs in measured.values() if runs)
    of = "are of one seed" if one else "are means over seeds with their standard errors"
    said = (
        f"Each run has {_UPDATES.value:,} updates{changed}. Numbers {of}, in nats. The importance-weighted bound is of K = {_WEIGHTED} samples; minutes are those "
        "of the updates alone, on the machine that made the run."
    )
    parts = [said, results.table(measured, chosen, seeds, _UPDATES.value)]
    if classified := results.classified(measured, chosen):
        parts.append(classified)
    if results.compared(measured, chosen):
        parts.append(results.worth_table(measured, chosen))
    if "worth" in links:
        parts.append(f"![what each change costs]({links['worth']})")
    for row in chosen:
        if link := links.get(_kernels(row)):
            parts.append(f"![kernels of {row.system}, seed {_first(measured, row)}]({link})")
    return "\n\n".join(parts) + "\n"


def _settings() -> list[str]:
    """Returns FIELD=VALUE of --set, which are split at the commas outside of brackets."""
    return re.split(r",(?![^()\[\]]*[)\]])", _SET.value) if _SET.value else []


def _literal(text: str) -> Any:
    """Returns the value of a Python literal; the text itself if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _first(measured: results.Measured, row: Row) -> int:
    """Returns the first seed that was measured."""
    return int(measured[row.config][0]["config"]["seed"])


def _kernels(row: Row) -> str:
    return f"kernels_{row.config.removeprefix('study_')}"


def _file(run: Path) -> Path:
    return run.with_name(f"{run.name}.json")


def _stopped() -> int:
    print("stopped, all saved; the same command continues", flush=True)
    return loop.STOPPED


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, flag_values=FLAGS, progress=True))
