"""Greyscale CIFAR-10 with the sizes of the 2016 follow-up study (docs/study.md), with attention.

    python train.py --config=configs/cifar10_grey.py

Reaches 632.53 nats (negative ELBO, validation), most of them the entropy of grey values, after
10,000 of its updates on 20,000 of the 50,000 images, about 33 minutes of one AMD EPYC (Zen 5) core:
docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import image_folder


def get_config() -> ConfigDict:
    config = image_folder.get_config()  # pictures that fill their frame
    config.data.name = "cifar10"
    config.data.grey = True
    config.model.image_shape = (32, 32, 1)
    config.model.time_steps = 10
    config.model.enc_size = 256
    config.model.dec_size = 256
    config.model.latent_size = 10
    config.train.num_steps = 15_000
    config.train.decay_steps = 15_000
    return config
