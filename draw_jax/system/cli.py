"""From a command line to values, every mistake one line and an exit code."""

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging

ERROR, BAD_FLAGS = 1, 2


def run(main: Callable[[], int], argv: Sequence[str], expected: tuple[type[Exception], ...]) -> int:
    """Parses the flags, calls main and returns the process's exit code.

    Args:
        main: does the work; returns an exit code. A ValueError it raises is about the flags.
        argv: the command line, program name first.
        expected: what main may raise besides, as errors to tell rather than defects.

    Returns:
        main's code, 2 for bad flags or configuration, 1 for an expected error.
    """
    # What these would print comes up as an exception, too.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _tell_unraisable
    app.define_help_flags()
    try:
        rest = flags.FLAGS(list(argv))
        if len(rest) > 1:
            raise flags.Error(f"unexpected argument {rest[1]!r}; flags are written --name=value")
        config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
        # A file that could not be read comes up at the first use.
        if config is not None and config.get("kind") is None:
            raise ValueError("no field `kind`: start from a copy of one of configs/")
    except SystemExit:  # --help
        return 0
    except flags.Error as error:
        return _say(error, BAD_FLAGS)
    except Exception as error:  # noqa: BLE001  (a configuration file may raise anything)
        file = next((a for a in argv[1:] if a.startswith("--config=")), "--config")
        cause = error.__cause__  # of ml_collections, which says more
        return _say(cause if isinstance(cause, Exception) else error, BAD_FLAGS, f"{file}: ")
    told: tuple[type[Exception], ...] = (*expected, OSError)
    try:
        return main()
    except ValueError as error:
        if not _raised_here(error, argv[0]):  # a defect: its traceback is what helps
            raise
        return _say(error, BAD_FLAGS)
    except told as error:
        return _say(error, ERROR)


def _tell_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Leaves out what Orbax's other reads and writes find once one of them has failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _raised_here(error: Exception, script: str) -> bool:
    """Returns whether our own code raised an error, in words meant for a user."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    file = Path(frame.f_code.co_filename).resolve()
    return (
        file.is_relative_to(Path(__file__).resolve().parents[1]) or file == Path(script).resolve()
    )


def _say(error: Exception, code: int, prefix: str = "") -> int:
    while error.args and isinstance(error.args[0], Exception):  # ml_collections nests them
        error = error.args[0]
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    if code == BAD_FLAGS:  # one line, also where ml_collections hands on a traceback
        if "Traceback" in text:
            text = text.split("Traceback")[0] + text.splitlines()[-1]
        text = " ".join(text.split())
    print(f"error: {prefix}{text or type(error).__name__}", file=sys.stderr)
    return code


def which_run(workdir: str, pretrained: str) -> str:
    """Returns the one of --workdir and --pretrained that is given, for `checkpoint.load`.

    Raises:
        ValueError: if neither or both are, or --workdir is no directory.
    """
    if bool(workdir) == bool(pretrained):
        raise ValueError("which model? Give one of --workdir=DIR and --pretrained=NAME")
    if workdir and not Path(workdir).is_dir():
        raise ValueError(f"--workdir: {workdir!r} is no directory")
    return str(Path(workdir).resolve()) if workdir else pretrained
