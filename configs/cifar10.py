"""The paper's CIFAR-10 (Table 3): 32x32 in colour, RGB intensities as independent Bernoullis.

    python train.py --config=configs/cifar10.py

The set is downloaded at first use (170 MB), or read where tensorflow-datasets has prepared it;
validation is the last 10 % of train. The loss has the images' entropy as its floor and measures no
compression: configs/cifar10_bits.py does. Not yet trained to its end: an update takes 0.37 s on two
cores of an AMD EPYC machine.
"""

from ml_collections import ConfigDict

from draw_jax.configs import image_folder


def get_config() -> ConfigDict:
    config = image_folder.get_config()  # pictures that fill their frame
    config.data.name = "cifar10"
    config.model.time_steps = 64
    config.model.latent_size = 200
    config.model.canvas_bias = -0.1  # the mean pixel, 0.47
    config.train.num_steps = 50_000
    config.train.decay_steps = 50_000
    config.train.warmup_steps = 500
    return config
