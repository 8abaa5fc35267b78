"""From a command line to values, every mistake one line and an exit code."""

import contextlib
import importlib.util
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from draw_jax import __version__, configs
from draw_jax.system.errors import UserError

ERROR, BAD_FLAGS, INTERRUPTED = 1, 2, 130
_AGAIN = 0.05  # seconds, until a callback that lost a Ctrl-C has returned
MAX_SEED = 2**32 - 1  # JAX's keys drop the bits above
_HELP = {"-h", "--h", "-help", "--help", "--helpshort", "--helpfull"}


def run(
    main: Callable[[], int],
    argv: Sequence[str],
    expected: tuple[type[Exception], ...] = (),
    flag_values: flags.FlagValues = flags.FLAGS,
    progress: bool = False,
) -> int:
    """Parses the flags, calls main and returns the process's exit code.

    Args:
        main: does the work; returns an exit code. A ValueError it raises is about the flags.
        argv: the command line, program name first.
        expected: exceptions of main, besides UserError and OSError, that are a user's errors
            rather than defects.
        flag_values: where the flags are defined.
        progress: whether main prints only progress, which may be lost.

    Returns:
        main's code, 2 for bad flags or configuration, 1 for an expected error, 130 for Ctrl-C.
    """
    argv = _with_path(argv)
    *_, file = _find_config(argv)
    sys.argv = list(argv)  # where ml_collections looks for a configuration's fields
    # What these would print is also raised as an exception.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _tell_unraisable
    warnings.formatwarning = lambda message, *where, **more: f"warning: {message}\n"
    if importlib.util.find_spec("configs") is None:
        sys.modules["configs"] = configs  # files of version 0.1 say `from configs import mnist`
    if _HELP & set(argv[1:]):
        return _show(_help(main, argv[0], flag_values))
    if "--version" in argv[1:]:
        return _show(f"draw_jax {__version__}")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be text
    try:
        flag_values.unparse_flags()
        # Again: absl's own flag, if defined, has changed it.
        absl_logging.set_verbosity(absl_logging.FATAL)
        rest = flag_values(list(argv))
        if len(rest) > 1:
            raise flags.Error(f"unexpected argument {rest[1]!r}; flags are written --name=value")
        config = flag_values["config"].value if "config" in flag_values else None
        if config is not None:
            _check_is_config(config)
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as error:
        ended = ValueError(f"it ends the program (sys.exit({error.code}))")
        return _say(ended, BAD_FLAGS, f"--config={file}: ")
    except flags.Error as error:
        return _say(error, BAD_FLAGS)
    except Exception as error:  # noqa: BLE001  (a configuration file may raise anything)
        cause = _cause(error)
        if file and not Path(file).exists():
            known = ", ".join(configs.names())
            cause = ValueError(f"no such file; the configurations of draw_jax are {known}")
        return _say(cause, BAD_FLAGS, f"--config={file}: ")
    errors: tuple[type[Exception], ...] = (UserError, OSError, *expected)
    try:
        code = main()
        if not progress:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted()
    except ValueError as error:
        if not _raised_here(error, argv[0]):  # a defect: its traceback is what helps
            raise
        return _say(error, BAD_FLAGS)
    except errors as error:
        if isinstance(error, OSError) and error.errno and not error.filename:
            error = _unwritable(sys.stdout, "\n") or error  # was it a print?
        return _say(error, ERROR)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _unwritable(stream)


def read_text(flag: str, path: Path) -> str:
    """Returns the text of a file that a flag names.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OSError(f"{flag}: cannot read {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{flag}: {path} is no text (UTF-8)") from None


def check_seed(name: str, seed: int) -> None:
    """Raises ValueError unless a seed, called `name` in the message, is 0 to 2^32 - 1."""
    if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"{name}: expected 0 to {MAX_SEED} (2^32 - 1), got {seed!r}")


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


def define_config(purpose: str, flag_values: flags.FlagValues) -> flags.FlagHolder:
    """Defines --config, a configuration of draw_jax or a file; `purpose` says what it is for."""
    help_text = f"{purpose}: mnist, ..., or a file; --config.FIELD=VALUE sets a field"
    return config_flags.DEFINE_config_file("config", None, help_text, flag_values=flag_values)


def given_config(holder: flags.FlagHolder) -> ConfigDict:
    """Returns the configuration that --config gives; raises ValueError where it gives none."""
    if holder.value is None:
        raise ValueError(f"which configuration? --config={'|'.join(configs.names())}, or a file")
    return holder.value


def config_name(flag_values: flags.FlagValues) -> str:
    """Returns the name of the configuration that --config gives, without folder and suffix."""
    return Path(config_flags.get_config_filename(flag_values["config"])).stem


def check_writable(file: str) -> bool:
    """Returns True if a file, "" for none, can be written; absl's validator of such a flag.

    Raises:
        flags.ValidationError: if it could not, before any work is done for it.
    """
    path = Path(file)
    if file and ((path.exists() and not path.is_file()) or not path.parent.is_dir()):
        raise flags.ValidationError("expected a file in a folder that is there")
    try:
        if file and path.exists():
            path.open("ab").close()
        elif file:  # permissions are not enough: root ignores them, some file systems have none
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise flags.ValidationError(f"that cannot be written ({error.strerror})") from None
    return True


def with_first_word(argv: Sequence[str], name: str, flag_values: flags.FlagValues) -> list[str]:
    """Returns the command line with its first word outside any flag turned into --name=word."""
    value_follows = False  # of a flag written `--out DIR`
    for k, word in enumerate(argv[1:], start=1):
        if value_follows:
            value_follows = False
        elif word.startswith("-"):
            flag = word.lstrip("-")
            known = flag in flag_values
            value_follows = known and not flag_values[flag].boolean
        else:
            return [*argv[:k], f"--{name}={word}", *argv[k + 1 :]]
    return list(argv)


def _unwritable(stream: TextIO, more: str = "") -> OSError | None:
    """Returns why a stream cannot take what was printed, None if it does.

    What it does not take is dropped: otherwise Python would retry at exit, and complain.
    """
    try:
        stream.write(more)
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        return OSError(f"cannot write to standard output ({error.strerror}); give it another file")
    return None


def _show(text: str) -> int:
    """Prints what was asked for and returns the exit code; a reader may stop reading, as head does."""
    try:
        print(text, flush=True)
    except OSError as error:
        reason = _unwritable(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            return _say(reason or error, ERROR)
    return 0


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def _check_is_config(config: Any) -> None:
    kind = getattr(config, "kind", None)  # raises what kept the file from being read
    if not isinstance(config, ConfigDict):
        name = type(config).__name__
        raise ValueError(f"get_config() returns no ConfigDict but a {name}")  # noqa: TRY004
    if kind is None:
        raise ValueError("no field `kind`: start from a copy of one of configs/")


def _find_config(argv: Sequence[str]) -> tuple[int, str, str]:
    """Returns where --config has its value: the word's index, the text before it there, the value.

    The value is "" if there is none.
    """
    for k, word in enumerate(argv[1:], start=1):
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-config"):
            if equals:
                return k, f"{flag}=", value
            return (k + 1, "", argv[k + 1]) if k + 1 < len(argv) else (k, flag, "")
    return 0, "", ""


def _with_path(argv: Sequence[str]) -> list[str]:
    """Returns the command line with a configuration's bare name, --config=mnist, as its file."""
    place, before, name = _find_config(argv)
    result = list(argv)
    if name in configs.names():
        result[place] = f"{before}{configs.FOLDER / name}.py"
    return result


def _help(main: Callable[[], int], program: str, flag_values: flags.FlagValues) -> str:
    """Returns what --help prints: the module's docstring and its flags with their defaults."""
    lines = [(sys.modules[main.__module__].__doc__ or "").strip(), "", "Flags:"]
    shown = [flag_values[name] for name in flag_values]
    if flag_values is flags.FLAGS:  # which also has every library's flags
        shown = flag_values.get_key_flags_for_module(program)
    for flag in shown:
        default = "" if flag.default in (None, "") else f" (default: {flag.default_as_str})"
        lines.append(f"  --{flag.name}: {flag.help}{default}")
    return "\n".join([*lines, "  --version: print the version", "  --help, -h: print this"])


def _cause(error: Exception) -> Exception:
    """Returns the exception behind one of ml_collections, which says more."""
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


def _tell_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Ignores the errors of Orbax's other reads and writes once one of them has failed.

    A Ctrl-C that hits a callback, as JAX has in garbage collection, is lost: it is sent again.
    """
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        main = threading.main_thread().ident
        threading.Timer(_AGAIN, signal.pthread_kill, (main, signal.SIGINT)).start()
    elif str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _raised_here(error: Exception, script: str) -> bool:
    """Returns whether our own code, or what lies beside the script, raised an error for a user."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    file = Path(frame.f_code.co_filename).resolve()
    ours = file.is_relative_to(Path(__file__).resolve().parents[1])
    return ours or file.parent == Path(script).resolve().parent


def _say(error: Exception, code: int, prefix: str = "") -> int:
    while error.args and isinstance(error.args[0], Exception):  # ml_collections nests them
        error = error.args[0]
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    if code == BAD_FLAGS:  # one line, also where ml_collections hands on a traceback
        if "Traceback" in text:
            text = text.split("Traceback")[0] + text.splitlines()[-1]
        text = " ".join(text.split())
    with contextlib.suppress(OSError):  # the exit code still tells
        print(f"error: {prefix}{text or type(error).__name__}", file=sys.stderr)
    return code
