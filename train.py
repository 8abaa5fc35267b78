"""Trains a model: python train.py --config=configs/mnist.py [--config.train.num_steps=10000].

The same command again continues the run. Exit codes: 0 finished, 1 error, 2 bad flags or
configuration, 3 stopped by a signal with everything saved, 4 diverged.
"""

import os
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from draw_jax.data import splits
from draw_jax.runs import checkpoint, directory
from draw_jax.system import cli, compilation
from draw_jax.training import loop

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train, such as configs/mnist.py")
_WORKDIR = flags.DEFINE_string("workdir", "", "The run directory; default runs/<config name>")
_INIT_FROM = flags.DEFINE_string("init_from", "", "A run or shipped weights to start from")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes of one job")


def main() -> int:
    """Trains and returns the exit code."""
    compilation.keep()
    config = _CONFIG.value
    if config is None:
        raise ValueError("which configuration? Such as --config=configs/digits.py")
    if _DISTRIBUTED.value:
        # Outside a cluster that JAX knows, it reads JAX_COORDINATOR_ADDRESS alone.
        count, process = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
        jax.distributed.initialize(
            num_processes=int(count) if count else None,
            process_id=int(process) if process else None,
        )
    if _INIT_FROM.value:
        config.train.init_from = _INIT_FROM.value
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    return loop.train(config, _WORKDIR.value or Path("runs") / name)


if __name__ == "__main__":
    expected = (checkpoint.CheckpointError, splits.DataNotFound, directory.Refused)
    sys.exit(cli.run(main, sys.argv, expected))
