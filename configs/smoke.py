"""A model too small to draw well: does everything work here?

    python train.py --config=configs/smoke.py

Takes seconds once JAX has compiled it; from nothing under a minute on two shared CPU cores.
"""

from ml_collections import ConfigDict

from draw_jax.configs import digits


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.model.time_steps = 4
    config.model.enc_size = 32
    config.model.dec_size = 32
    config.model.latent_size = 4
    config.train.batch_size = 32
    config.train.num_steps = 40
    config.train.decay_steps = 40
    config.train.warmup_steps = 10
    config.train.log_every = 5
    config.train.eval_every = 20
    config.train.checkpoint_every = 10
    return config
