"""The follow-up study's "only error image", without attention.

    python train.py --config=configs/study_error_image_no_attention.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study_no_attention


def get_config() -> ConfigDict:
    config = study_no_attention.get_config()
    config.model.encoder_input = "error"
    return config
