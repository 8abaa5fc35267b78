"""Large pages of memory, requested from Linux before a program starts.

An update keeps a hundred megabytes and more for its backward pass, in newly allocated memory. With
pages of 4 KiB, tens of thousands of page faults an update take a fifth of its time on CPUs; with
pages of 2 MiB their time is not noticeable. The C library requests such pages if an environment
variable says so when the process starts, so a program starts itself again.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE, VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
_OURS = ("draw_jax", "benchmarks")  # programs that python -m runs
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> None:
    """Restarts this program with large pages, if they are available and not yet requested.

    The process stays the same, and so do its number, its arguments and everything else it was
    started with. Called first, before anything is in memory. Nothing happens where the C library is
    not glibc 2.35 or newer, where the kernel gives large pages to all or to none, where the
    variable is set already (`GLIBC_TUNABLES=` turns this off), and inside another program, a
    notebook for example.
    """
    try:
        kernel = _KERNEL.read_text()
        library = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return
    if can_gain(os.environ, kernel, library) and is_program(sys.orig_argv, sys.argv):
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, os.environ | {VARIABLE: VALUE})


def can_gain(environment: Mapping[str, str], kernel: str, library: str) -> bool:
    """Returns whether large pages are available on request, and not yet requested.

    Args:
        environment: of the process.
        kernel: which pages the kernel makes large, as Linux has it: always [madvise] never.
        library: name and version of the C library, as "glibc 2.36".
    """
    name, _, version = library.partition(" ")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    return (
        VARIABLE not in environment
        and "[madvise]" in kernel
        and name == "glibc"
        and numbers >= [2, 35]
    )


def is_program(started: Sequence[str], arguments: Sequence[str]) -> bool:
    """Returns whether Python was started to run this program, so that it may be restarted.

    Args:
        started: the whole command line, `sys.orig_argv`.
        arguments: `sys.argv`.
    """
    place = len(started) - len(arguments)
    if place < 1 or not sys.executable or list(started[place + 1 :]) != list(arguments[1:]):
        return False
    if started[place - 1] == "-m":
        return started[place].split(".")[0] in _OURS
    return Path(started[place]).name == Path(arguments[0]).name
