"""Trains a model: draw-jax train --config=mnist [--config.train.num_steps=10000].

--config takes the name of a configuration of draw_jax, or a file of one's own. The same command
again continues the run. Exit codes: 0 finished, 1 error, 2 bad flags or configuration, 3 stopped by
a signal with everything saved, 4 diverged.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from draw_jax import configs
from draw_jax.system import cli

FLAGS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "What to train: mnist, ..., or a file; --config.FIELD=VALUE sets a field",
    flag_values=FLAGS,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run directory; default runs/<config name>", flag_values=FLAGS
)
_INIT_FROM = flags.DEFINE_string(
    "init_from", "", "A run or shipped weights to start from", flag_values=FLAGS
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes of one job", flag_values=FLAGS
)


def main() -> int:
    """Trains and returns the exit code."""
    config = _CONFIG.value
    if config is None:
        raise ValueError(f"which configuration? --config={'|'.join(configs.names())}, or a file")
    if _INIT_FROM.value and "init_from" in config.get("train", {}):  # else a check names it
        config.train.init_from = _INIT_FROM.value
    run = Path(_WORKDIR.value or Path("runs") / cli.config_name(FLAGS))
    print(f"draw_jax: {cli.config_name(FLAGS)} -> {run}; starting JAX", flush=True)

    from draw_jax.system import compilation, devices
    from draw_jax.training import loop

    compilation.keep()
    if _DISTRIBUTED.value:
        devices.join_processes()
    return loop.train(config, run)


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, argv, flag_values=FLAGS)
