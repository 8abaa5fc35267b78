"""The follow-up study with 5 time steps.

    python train.py --config=configs/study_t5.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.time_steps = 5
    return config
