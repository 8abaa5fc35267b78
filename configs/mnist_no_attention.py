"""The paper's binarised MNIST without attention (eqs 17 and 18): the 87.40 row of its Table 2.

    python train.py --config=configs/mnist_no_attention.py

Otherwise mnist_full, at half its length. Not trained to its end yet.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist_full


def get_config() -> ConfigDict:
    config = mnist_full.get_config()
    config.model.read_size = 0
    config.model.write_size = 0
    config.train.num_steps = 50_000
    config.train.decay_steps = 50_000
    return config
