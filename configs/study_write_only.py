"""The follow-up study with attention for writing alone.

    python train.py --config=configs/study_write_only.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.read_size = 0
    return config
