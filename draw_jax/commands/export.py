"""Makes weights that can be shipped from a run: draw-jax export --workdir=runs/mnist --out=DIR.

The folder holds config.json, weights.npz and card.md; `draw_jax/pretrained/NAME` in a clone makes
them load as NAME. A card has what the configuration and the run say, the numbers of --results, and
"(to fill in)" for the rest. Exit codes: 0 written, 1 error, 2 bad flags.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from draw_jax.commands import model_flags
from draw_jax.system import cli

FLAGS = flags.FlagValues()
_MODEL = model_flags.define_model(FLAGS)
_OUT = flags.DEFINE_string("out", "", "The folder to make", flag_values=FLAGS)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float16"], "Of the file; float16 halves it", flag_values=FLAGS
)
_CARD = flags.DEFINE_string("card", "", "A Markdown file for card.md", flag_values=FLAGS)
_RESULTS = flags.DEFINE_list(
    "results",
    [],
    "Files of `draw-jax evaluate --json` for these weights, whose numbers go into a new card.md",
    flag_values=FLAGS,
)


def main() -> int:
    """Writes the folder, prints its files and returns the exit code."""
    if not _OUT.value:
        raise ValueError("where to? Such as --out=draw_jax/pretrained/mnist")
    out = Path(_OUT.value)
    if (out / "checkpoints").exists() or (out / "metrics.jsonl").exists():
        raise ValueError(
            f"--out: {out} is a run, which would lose its config.json; give another folder"
        )
    if _CARD.value and _RESULTS.value:
        raise ValueError("--card and --results each give a card.md; take one of them")
    text = cli.read_text("--card", Path(_CARD.value)) if _CARD.value else ""
    results = [_result(Path(file)) for file in _RESULTS.value]
    run = _MODEL.run()

    from draw_jax.runs import checkpoint, export

    config, _, variables, step = checkpoint.load_with_step(run, _MODEL.checkpoint.value)
    params = variables["params"]
    written = export.of_weights(params, _DTYPE.value)
    for file, found in zip(_RESULTS.value, results, strict=True):
        if found.get("weights") != written:
            raise ValueError(
                f"--results: {file} is of other weights than these in {_DTYPE.value}. Export first, then "
                f"measure what was written: draw-jax evaluate --workdir={out} --json={file}"
            )
    kept = not text and not results and (out / "card.md").is_file()
    if kept:
        text = (out / "card.md").read_text()
    text = text or _card(out.name, config, params, Path(run), step, results)
    export.write(config, params, out, _DTYPE.value, text)
    for path in sorted(out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
    if kept:
        print(
            "card.md was there and stays; its numbers are those of --results=FILES, if you give any"
        )
    return 0


def _result(path: Path) -> dict[str, Any]:
    """Returns what `draw-jax evaluate --json` wrote into a file."""
    try:
        found = json.loads(cli.read_text("--results", path))
    except ValueError:
        found = None
    if not (isinstance(found, dict) and "split" in found and "images" in found):
        raise ValueError(f"--results: {path} is not what `draw-jax evaluate --json={path}` writes")
    return found


def _card(
    name: str,
    config: ConfigDict,
    params: Any,
    run: Path,
    step: int | None,
    results: list[dict[str, Any]],
) -> str:
    """Returns a card of what the run and its measurements tell."""
    from draw_jax.runs import card, leaves, metrics

    training = None
    if step is not None:
        rows = metrics.MetricsFile(run / "metrics.jsonl").rows()
        training = card.Training(step, metrics.minutes(rows, config.train.batch_size, step))
    parameters = sum(leaf.size for leaf in leaves.flatten(params).values())
    return card.text(name, config, parameters, training, results, _DTYPE.value)


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, argv, flag_values=FLAGS)
