"""CIFAR-10 turned grey, 32x32, with attention (Table 3 has 64 steps and colour).

    python train.py --config=configs/cifar10_grey.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import image_folder


def get_config() -> ConfigDict:
    config = image_folder.get_config()  # pictures that fill their frame
    config.data.name = "cifar10"
    config.data.grey = True
    config.model.image_shape = (32, 32, 1)
    config.model.latent_size = 200
    return config
