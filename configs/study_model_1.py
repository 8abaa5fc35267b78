"""The follow-up study's Model I: convolutions of image and error image at every time step.

    python train.py --config=configs/study_model_1.py

Reaches 89.31 nats (negative ELBO, validation, mean of 3 seeds) in about 19 minutes of one
AMD EPYC (Zen 5) core: docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study_no_attention


def get_config() -> ConfigDict:
    config = study_no_attention.get_config()
    config.kind = "model_1"
    config.model.unroll = 10  # convolutions in a compiled loop are slow on CPUs
    config.model.filters = (8, 16)  # of each layer of convolutions
    config.model.filter_size = 5  # height and width of a filter, pixels; odd
    config.model.stride = 2  # from one place of a filter to the next, pixels
    config.model.with_images = False  # whether the encoder reads the images besides their maps
    return config
