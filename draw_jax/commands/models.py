"""Lists the weights that come with draw_jax: draw-jax models [NAME].

With a name, prints its card: data, length of training, numbers, limits. Exit codes: 0 listed,
1 error, 2 bad flags.
"""

from collections.abc import Sequence

from absl import flags

from draw_jax.system import cli

FLAGS = flags.FlagValues()
_NAME = flags.DEFINE_string(
    "name", "", "Of weights; may be given without --name=", flag_values=FLAGS
)


def main() -> int:
    """Prints the names, or one card, and returns the exit code."""
    from draw_jax.runs import export

    names = export.names()
    if not _NAME.value:
        for name in names:
            title = export.card(name).strip("# \n").partition("\n")[0]
            print(f"{name:24}{title}")
        return 0
    if _NAME.value not in names:
        raise ValueError(f"no weights {_NAME.value!r}; draw_jax comes with {', '.join(names)}")
    print(export.card(_NAME.value).rstrip())
    return 0


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, cli.with_first_word(argv, "name", FLAGS), flag_values=FLAGS)
