"""The follow-up study's Model III: the encoder reads a net's features in place of the image.

    python train.py --config=configs/study_model_3.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.kind = "model_3"
    config.model.encoder_input = "error"  # features stand for the image
    config.model.filters = (8, 16)  # of each layer of convolutions
    config.model.filter_size = 5  # height and width of a filter, pixels; odd
    config.model.stride = 2  # from one place of a filter to the next, pixels
    return config
