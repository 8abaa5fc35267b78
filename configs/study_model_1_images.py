"""The follow-up study's Model I whose encoder reads maps and images.

    python train.py --config=configs/study_model_1_images.py

Reaches 90.35 nats (negative ELBO, validation, mean of 3 seeds) in about 30 minutes of one
AMD EPYC (Zen 5) core: docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study_model_1


def get_config() -> ConfigDict:
    config = study_model_1.get_config()
    config.model.with_images = True
    return config
