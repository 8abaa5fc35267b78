"""SVHN's digits cropped to 32x32 in colour, with the sizes of a public re-run in Theano.

    python train.py --config=configs/svhn_cropped.py

In grey, as in the follow-up study: --config.data.grey=True --config.model.image_shape="(32, 32, 1)".
The re-run's bound is 1825.8 nats on test. Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.data.name = "svhn_cropped"
    config.data.binarization = "none"  # RGB intensities taken as probabilities
    config.model.image_shape = (32, 32, 3)
    config.model.time_steps = 32
    config.model.enc_size = 512
    config.model.dec_size = 512
    config.model.read_size = 5
    config.model.write_size = 5
    config.model.read_delta = 1.0  # pictures fill their frame: both windows begin on all of it
    config.model.read_sigma = 3.0
    config.model.write_delta = 1.0
    config.model.write_sigma = 3.0
    config.model.canvas_bias = 0.0  # mid-grey
    config.train.num_steps = 20_000
    config.train.decay_steps = 20_000
    config.train.learning_rate = 1e-3
    config.train.eval_every = 1_000
    return config
