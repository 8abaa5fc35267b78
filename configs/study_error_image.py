"""The follow-up study's "only error image": the encoder reads x_err alone.

    python train.py --config=configs/study_error_image.py

Reaches 89.26 nats (negative ELBO, validation, mean of 3 seeds) in about 8 minutes of one
AMD EPYC (Zen 5) core: docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.encoder_input = "error"
    return config
