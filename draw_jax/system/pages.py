"""Large pages of memory, asked of Linux before a program begins.

An update keeps a hundred megabytes and more for its way back, in memory that is new each time. In
pages of 4 KiB, tens of thousands of page faults an update take a fifth of its time on CPUs; in
pages of 2 MiB they take none that can be seen. The C library asks for such pages where a variable
of the environment says so at the start of the process, hence a program starts itself once more.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE, VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
_OURS = ("draw_jax", "benchmarks")  # programs that python -m runs
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> None:
    """Starts this program again, with large pages, where they are to be had and not yet asked for.

    The process stays the same, and so do its number, its arguments and what else it was started
    with. Called first of all, before anything is in memory. Nothing happens where the C library is
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
    """Returns whether large pages come for the asking, and have not been asked for.

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
    """Returns whether what Python was started for is this program, so that it may start again.

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
