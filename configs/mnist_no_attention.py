"""The paper's binarised MNIST without attention (eqs 17 and 18): the 87.40 row of its Table 2.

    python train.py --config=configs/mnist_no_attention.py

Not trained to its end yet.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.model.read_size = 0
    config.model.write_size = 0
    return config
