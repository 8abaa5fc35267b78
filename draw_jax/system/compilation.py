"""Keeps what a process has compiled for the next one: its first update takes seconds."""

import contextlib
import hashlib
import os
import platform
import re
import warnings
from pathlib import Path
from typing import Any

import jax

from draw_jax.system import devices, files

NAME = "compiled"  # in the user's folder of caches
_FAILED = re.compile(
    r"Error (reading|writing) persistent compilation cache entry for '(?P<of>\w+)'"
)


def keep() -> None:
    """Lets programs compiled by this process start the next one at once.

    They lie in `$XDG_CACHE_HOME/draw_jax/compiled` (default `~/.cache/...`), in a folder for each kind
    of processor and number of cores, since a home may be shared. `$JAX_COMPILATION_CACHE_DIR`
    names another place, `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing; nor does a place that
    is not there or cannot be written. What is damaged is compiled again and replaced.
    """
    if named := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        _drop_damaged(Path(named))
        return
    try:
        folder = files.cache_folder() / NAME / _machine()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            # The many small programs of a start take as long together as the large one.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        _drop_damaged(folder)


def _machine() -> str:
    """Returns a name for what programs are compiled for, as far as JAX leaves it out of its keys.

    They may not run on another kind of processor, and share their work among as many cores as the
    process had that compiled them.
    """
    told = [platform.machine(), str(devices.cores())]
    with contextlib.suppress(OSError):  # Linux has this file
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        told += [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _drop_damaged(folder: Path) -> None:
    """Deletes the entries that JAX cannot read or write, in place of printing its warnings.

    JAX writes an entry in place and never replaces it, so a kill or a full disk leaves a part of
    it: without this, every later start would warn and compile. A warning names only the function,
    so its entries for other models are deleted as well and compiled once more.
    """
    show = warnings.showwarning

    def drop(message: Warning | str, *where: Any, **options: Any) -> None:
        failed = _FAILED.match(str(message))
        if not failed:
            return show(message, *where, **options)
        with contextlib.suppress(OSError):
            for entry in folder.glob(f"{failed['of']}-*-cache"):
                entry.unlink(missing_ok=True)

    warnings.showwarning = drop
