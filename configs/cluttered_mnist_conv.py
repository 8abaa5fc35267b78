"""Ours, beyond the paper's classifier: convolutions of each glimpse before the LSTM, 8 glimpses.

    python train.py --config=configs/cluttered_mnist_conv.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import cluttered_mnist


def get_config() -> ConfigDict:
    config = cluttered_mnist.get_config()
    config.model.conv_channels = (16, 32)
    config.model.unroll = 8  # convolutions in a compiled loop are slow on CPUs
    config.train.learning_rate = 1e-3
    config.train.num_steps = 60_000
    config.train.decay_steps = 60_000
    return config
