"""Makes weights that can be shipped of a run: draw-jax export --workdir=runs/mnist --out=DIR.

The folder holds config.json, weights.npz and card.md; `draw_jax/pretrained/NAME` in a clone makes
them load as NAME. Exit codes: 0 written, 1 error, 2 bad flags.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from draw_jax.commands import model_flags
from draw_jax.system import cli

FLAGS = flags.FlagValues()
_MODEL = model_flags.define_model(FLAGS)
_OUT = flags.DEFINE_string("out", "", "The folder to make", flag_values=FLAGS)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float16"], "Of the file; float16 halves it", flag_values=FLAGS
)
_CARD = flags.DEFINE_string(
    "card", "", "A Markdown file for card.md; default: one to fill in", flag_values=FLAGS
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
    card = cli.read_text("--card", Path(_CARD.value)) if _CARD.value else ""
    run = _MODEL.run()

    from draw_jax.runs import checkpoint, export

    config, _, variables = checkpoint.load(run, _MODEL.checkpoint.value)
    if not card and (out / "card.md").is_file():
        card = (out / "card.md").read_text()
    card = card or export.card_to_fill_in(out.name, config)
    export.write(config, variables["params"], out, _DTYPE.value, card)
    for path in sorted(out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
    return 0


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, argv, flag_values=FLAGS)
