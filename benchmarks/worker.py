"""Processes that a benchmark starts and queries: each answers a line with a line of JSON."""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmarks import measuring


class WorkerFailed(Exception):
    """A process ended and did not answer."""


class Worker(NamedTuple):
    """A process at work."""

    name: str
    process: subprocess.Popen[str]
    said: IO[bytes]  # its stderr


@contextlib.contextmanager
def started(
    name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[Worker]:
    """Gives a process, which may still be getting ready, and ends it afterwards.

    Args:
        name: what errors call it.
        words: its command line.
        environment: its environment.
        folder: where it works; None = here.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        with process:
            try:
                yield Worker(name, process, said)
            finally:
                process.kill()


def ask(worker: Worker, question: str) -> None:
    """Writes a line to a process."""
    assert worker.process.stdin
    with contextlib.suppress(BrokenPipeError):  # answer says why it ended
        worker.process.stdin.write(f"{question}\n")
        worker.process.stdin.flush()


def answer(worker: Worker) -> Any:
    """Returns a process's next line, read as JSON.

    Raises:
        WorkerFailed: it has ended instead; with the line that says why.
    """
    assert worker.process.stdout
    line = worker.process.stdout.readline()
    if not line:
        code = worker.process.wait()
        why = measuring.complaint(measuring.end_of(worker.said), code)
        raise WorkerFailed(f"{worker.name} failed: {why}")
    return json.loads(line)
