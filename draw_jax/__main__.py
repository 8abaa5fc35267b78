"""The program: draw-jax COMMAND [--flags], also as python -m draw_jax COMMAND."""

import importlib
import sys

from draw_jax import __version__
from draw_jax.system import pages

COMMANDS = {
    "train": "train a model; the same command again continues the run",
    "sample": "draw with a model",
    "evaluate": "measure a model on a split",
    "data": "draw what a model would be trained on",
    "filters": "the paper's figures 3 and 4 of a picture",
    "models": "list the weights that come with draw_jax",
    "export": "make weights that can be shipped of a run",
}


def main() -> int:
    """Runs the command that the command line names and returns its exit code."""
    words = sys.argv[1:]
    if words[:1] in (["--version"], ["-V"]):
        print(f"draw_jax {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if words else 2
    if words[0] not in COMMANDS:
        print(f"error: no command {words[0]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        pages.use_large_pages()  # before anything is in memory
        module = importlib.import_module(f"draw_jax.commands.{words[0]}")
    except KeyboardInterrupt:  # Ctrl-C, before anything has begun
        print("interrupted", file=sys.stderr)
        return 130
    return module.command([f"draw-jax {words[0]}", *words[1:]])


def _usage() -> str:
    lines = [f"  {name:10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            f"draw_jax {__version__}: DRAW, the deep recurrent attentive writer, in JAX",
            "",
            "draw-jax COMMAND [--flags]; draw-jax COMMAND --help tells its flags",
            *lines,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
