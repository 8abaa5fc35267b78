"""Commands called in this process, which costs no imports: a mistake is a traceback here as there."""

import atexit
import contextlib
import io
import os
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from draw_jax.system.errors import UserError
from tests.campaigns.campaign import EXIT_CODES, Broken

# Errors that go on with a list, a line for each: fields that differ, ways out, broken pictures.
_LISTS = ("different settings:", "Three ways out:", "Or make the clutter", "cannot use any of")


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class _Late(BaseException):
    """What interrupts a command that hangs; no Exception, or it would be told as an error."""


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Breaks off what takes longer, of this process's time; or of any, six times as long.

    Raises:
        Broken: if it did.
    """

    def stop(number, frame):
        raise _Late

    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, 6 * seconds),  # of a machine that others use, too
    )
    before = [(number, signal.signal(number, stop)) for number, _, _ in timers]
    left = [signal.setitimer(timer, limit) for _, timer, limit in timers]
    try:
        yield
    except _Late:
        raise Broken(f"still running after {seconds:g} s") from None
    finally:
        for (_, timer, _), (rest, _) in zip(timers, left, strict=True):
            signal.setitimer(timer, rest)
        for number, handler in before:
            signal.signal(number, handler)


def called(command: Callable[[], int], seconds: float = 30.0) -> Outcome:
    """Returns how a command ended, called in this process.

    Raises:
        Broken: if it hangs, raises anything, ends with another code or tells more than one error.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        in_time(seconds),
    ):
        # As Python does; pytest would keep them for itself.
        warnings.showwarning = lambda *told, **more: err.write(warnings.formatwarning(*told[:4]))
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "the load_module")  # of how ml_collections loads a file
        try:
            code = command()
        except (Exception, SystemExit):  # noqa: BLE001 - whatever a command lets through
            raise Broken(f"a traceback: {traceback.format_exc()[-600:]}") from None
    outcome = Outcome(code, out.getvalue(), err.getvalue())
    if code not in EXIT_CODES:
        raise Broken(f"exit code {code}")
    errors = [line for line in outcome.err.splitlines() if not line.startswith("warning: ")]
    if code in (1, 2):
        if len(errors) != 1 and not any(words in outcome.err for words in _LISTS):
            raise Broken(f"not one line: {outcome.err}")
        if not errors[0].startswith("error: ") or len(errors[0]) < 20:
            raise Broken(f"no error that says why: {outcome.err}")
    elif errors:
        raise Broken(f"a strange line: {errors[0]}")
    return outcome


def refused(act: Callable[[], object], seconds: float = 10.0) -> str | None:
    """Returns the line by which our own code refuses something, None where it was taken.

    Raises:
        Broken: if it hangs, raises anything else or tells more than a line.
    """
    try:
        with warnings.catch_warnings(), in_time(seconds):
            warnings.simplefilter("ignore")
            act()
        return None
    except (UserError, ValueError, OSError) as error:
        text = str(error)
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if isinstance(error, ValueError) and f"{os.sep}draw_jax{os.sep}" not in (
            frame.f_code.co_filename
        ):
            raise Broken(f"a traceback: {traceback.format_exc()[-600:]}") from None
        if not text or len(text) > 20_000:
            raise Broken(f"says too little or too much: {text[:300]!r}") from None
        if len(text.splitlines()) != 1 and not any(words in text for words in _LISTS):
            raise Broken(f"not one line: {text!r}") from None
        return text
    except Broken:
        raise
    except Exception:  # noqa: BLE001 - whatever it lets through
        raise Broken(f"a traceback: {traceback.format_exc()[-600:]}") from None


def own_folder() -> Path:
    """Returns a folder for what many cases share; it goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="campaign-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
