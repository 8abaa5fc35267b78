"""The follow-up study's "only error image", without attention.

    python train.py --config=configs/study_error_image_no_attention.py

Reaches 90.42 nats (negative ELBO, validation, mean of 3 seeds) in about 12 minutes of one
AMD EPYC (Zen 5) core: docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study_no_attention


def get_config() -> ConfigDict:
    config = study_no_attention.get_config()
    config.model.encoder_input = "error"
    return config
