"""Trains a model: draw-jax train --config=mnist [--config.train.num_steps=10000].

--config takes the name of a configuration of draw_jax, or your own file. The same command again
continues the run. Exit codes: 0 finished, 1 error, 2 bad flags or configuration, 3 stopped by
a signal with everything saved, 4 diverged.
"""

import contextlib
import resource
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from draw_jax import __version__
from draw_jax.system import cli, processes
from draw_jax.system.errors import UserError

FLAGS = flags.FlagValues()
_CONFIG = cli.define_config("What to train", FLAGS)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run directory; default runs/<config name>", flag_values=FLAGS
)
_INIT_FROM = flags.DEFINE_string(
    "init_from", "", "A run or shipped weights to start from", flag_values=FLAGS
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes of one job", flag_values=FLAGS
)
_PROCESS_TIMEOUT = flags.DEFINE_float(
    "process_timeout",
    60.0,
    "With --distributed: seconds to wait for the other processes at the start, and for one of them "
    "that falls silent",
    lower_bound=1.0,
    flag_values=FLAGS,
)
_LONGEST = 10**6  # seconds to wait for another process
_MAY_DIFFER = ("config.data.data_dir", "config.data.manual_dir")  # between the processes of a job

_OPEN_FILES = 128  # at a time: three times what was counted while a checkpoint is written

_left_early = False  # whether this process has left the others before the job's end


def main() -> int:
    """Trains and returns the exit code."""
    config = cli.given_config(_CONFIG)
    if _INIT_FROM.value and "init_from" in config.get("train", {}):  # otherwise a check names it
        config.train.init_from = _INIT_FROM.value
    run = Path(_WORKDIR.value or Path("runs") / cli.config_name(FLAGS))
    with contextlib.suppress(OSError):  # as for every progress line
        print(f"draw_jax: {cli.config_name(FLAGS)} -> {run}; starting JAX", flush=True)
    _check_open_files()

    from draw_jax.system import compilation
    from draw_jax.training import loop

    compilation.keep()
    global _left_early
    if not _DISTRIBUTED.value:
        try:
            return loop.train(config, run)
        except KeyboardInterrupt:  # while XLA compiled, perhaps, whose threads outlive it badly
            _left_early = True
            raise
    if not _PROCESS_TIMEOUT.value <= _LONGEST:  # nor is nan
        raise ValueError(
            f"--process_timeout: expected 1 to {_LONGEST:,} seconds, got {_PROCESS_TIMEOUT.value}"
        )
    try:
        with processes.join(_facts(config, run), _PROCESS_TIMEOUT.value) as team:
            return loop.train(config, run, team)
    except BaseException:
        _left_early = True
        raise


def _check_open_files() -> None:
    """Lets this process open as many files as it may; raises UserError where those are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, hard))
    elif hard != resource.RLIM_INFINITY and hard < _OPEN_FILES:
        raise UserError(
            f"a program may open {hard} files at a time here, and training needs up to {_OPEN_FILES}; "
            f"begin it where `ulimit -n` prints at least that"
        )


def _facts(config: ConfigDict, run: Path) -> dict[str, Any]:
    """Returns what must be the same in all processes of a job, by names that a user knows."""
    import jax

    from draw_jax.training.config import flat

    fields = {f"config.{name}": value for name, value in flat(config).items()}
    return (
        {"--workdir": str(run.resolve())}
        | {name: value for name, value in fields.items() if name not in _MAY_DIFFER}
        | {"the version of draw_jax": __version__, "the version of jax": jax.__version__}
    )


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    try:
        code = cli.run(main, argv, flag_values=FLAGS, progress=True)
    except Exception:
        if not _left_early:
            raise
        traceback.print_exc()
        code = 1
    if _left_early:
        processes.leave(code)
    return code
