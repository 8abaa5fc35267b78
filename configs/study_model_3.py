"""The follow-up study's Model III: the encoder reads a net's features in place of the image.

    python train.py --config=configs/study_model_3.py

Reaches 88.31 nats (negative ELBO, validation, mean of 3 seeds) in about 13 minutes of one
AMD EPYC (Zen 5) core (measured before a later speed-up): docs/study.md.
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
