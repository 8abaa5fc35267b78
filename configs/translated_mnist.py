"""A quick classifier: digits at random places on black, 60x60, no clutter, 4 glimpses.

    python train.py --config=configs/translated_mnist.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import cluttered_mnist


def get_config() -> ConfigDict:
    config = cluttered_mnist.get_config()
    config.data.size = 60
    config.data.clutter = 0
    config.model.image_shape = (60, 60, 1)
    config.model.time_steps = 4
    config.model.loss_steps = 2
    config.train.num_steps = 10_000
    config.train.decay_steps = 10_000
    config.train.learning_rate = 2e-3
    config.train.warmup_steps = 200
    config.train.average_decay = 0.999
    config.train.eval_every = 1_000
    config.train.checkpoint_every = 500
    return config
