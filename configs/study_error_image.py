"""The follow-up study's "only error image": the encoder reads x_err alone.

    python train.py --config=configs/study_error_image.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.encoder_input = "error"
    return config
