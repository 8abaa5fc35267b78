"""What a process of Linux holds."""

import os
from pathlib import Path
from typing import NamedTuple


class Count(NamedTuple):
    """What a process holds."""

    mebibytes: float  # private: the system takes back those of files at any time
    files: int
    threads: int


def count(pid: int) -> Count:
    """Returns what a process of Linux holds.

    Raises:
        ProcessLookupError: if it has ended, but its exit code has not been read.
        FileNotFoundError: if there is none.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    if "RssAnon" not in status:
        raise ProcessLookupError(f"process {pid} has ended")
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Count(int(status["RssAnon"].split()[0]) / 1024, files, int(status["Threads"]))
