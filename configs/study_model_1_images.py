"""The follow-up study's Model I whose encoder reads maps and images.

    python train.py --config=configs/study_model_1_images.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study_model_1


def get_config() -> ConfigDict:
    config = study_model_1.get_config()
    config.model.with_images = True
    return config
