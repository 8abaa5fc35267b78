"""Programs in processes of their own, forked from one that has made the imports.

These take far longer than all that a tiny run does.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

from tests.campaigns.campaign import EXIT_CODES, Broken, Ended, judged
from tests.helpers import ROOT

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["tests.campaigns.programs", "draw_jax.training.loop", "draw_jax.commands.train"]
)


class Program:
    """`python WORDS` in the project's root, begun.

    Args:
        words: of the command line.
        folder: for what it prints.
        forked: whether it finds its imports made.
        environment: variables besides this process's.
    """

    def __init__(self, words: list[str], folder: Path, forked: bool = True, **environment: str):
        Program.begun += 1
        self._out, self._err = (folder / f"{name}{Program.begun}" for name in ("out", "err"))
        self._process: subprocess.Popen[bytes] | multiprocessing.process.BaseProcess
        if forked:
            places = str(self._out), str(self._err)
            self._process = _forks.Process(target=_run, args=(words, *places, environment))
            self._process.start()
            return
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=out,
                stderr=err,
            )

    begun = 0  # programs, by which the files are named

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process.pid
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """Returns the exit code, None if the program runs on after some seconds."""
        if isinstance(self._process, subprocess.Popen):
            try:
                return self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        self._process.join(seconds)
        return self._process.exitcode

    def send(self, number: int) -> None:
        """Sends a signal."""
        if self.wait(0) is None:
            os.kill(self.pid, number)

    def said(self) -> tuple[str, str]:
        """Returns what it has printed so far, on stdout and stderr."""
        return (
            self._out.read_text() if self._out.exists() else "",
            self._err.read_text() if self._err.exists() else "",
        )

    def ended(self, codes=EXIT_CODES, seconds: float = 180.0) -> Ended:
        """Waits for the end.

        Raises:
            Broken: if it takes longer, prints a traceback or ends with another code.
        """
        code = self.wait(seconds)
        if code is None:
            self.send(signal.SIGKILL)
            raise Broken(f"still running after {seconds:g} s: {self.said()}")
        return judged(Ended(code, *self.said()), codes)


def _run(words: list[str], out: str, err: str, environment: dict[str, str]) -> None:
    """Runs a command line in this forked process."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
    os.chdir(ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = None
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path.insert(0, "")
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))  # a tidy end takes longer
