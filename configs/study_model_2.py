"""The follow-up study's Model II: a digit classifier's maps join the encoder's input.

    python train.py --config=configs/study_model_2.py

Reaches 88.36 nats (negative ELBO, validation, mean of 3 seeds) in about 14 minutes of one
AMD EPYC (Zen 5) core (measured before a later speed-up): docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.kind = "model_2"
    config.model.classes = 10  # labels are 0 to 9
    config.model.filters = (8, 16)  # of each layer of convolutions
    config.model.filter_size = 5  # height and width of a filter, pixels; odd
    config.model.stride = 2  # from one place of a filter to the next, pixels
    config.model.hidden_size = 128  # units of the classifier's first dense layer
    config.model.class_weight = 1.0  # of the classifier's cross-entropy in the loss
    return config
