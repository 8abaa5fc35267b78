"""The follow-up study with one time step, which comes close to a plain VAE.

    python train.py --config=configs/study_t1.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.time_steps = 1
    return config
