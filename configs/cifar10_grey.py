"""CIFAR-10 turned grey, 32x32, with attention (Table 3 has 64 steps and colour).

    python train.py --config=configs/cifar10_grey.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.data.name = "cifar10"
    config.data.binarization = "none"  # grey values taken as probabilities
    config.data.grey = True
    config.model.image_shape = (32, 32, 1)
    config.model.time_steps = 32
    config.model.enc_size = 400
    config.model.dec_size = 400
    config.model.latent_size = 200
    config.model.read_size = 5
    config.model.write_size = 5
    config.model.read_delta = 1.0  # pictures fill their frame: both windows begin on all of it
    config.model.read_sigma = 3.0
    config.model.write_delta = 1.0
    config.model.write_sigma = 3.0
    config.model.canvas_bias = 0.0  # mid-grey
    config.train.learning_rate = 1e-3
    config.train.num_steps = 20_000
    config.train.decay_steps = 20_000
    config.train.eval_every = 1_000
    return config
