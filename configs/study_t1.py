"""The follow-up study with one time step, which comes close to a plain VAE.

    python train.py --config=configs/study_t1.py

Reaches 123.85 nats (negative ELBO, validation, mean of 3 seeds) in about 2 minutes of one
AMD EPYC (Zen 5) core: docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.time_steps = 1
    return config
