"""The paper's CIFAR-10 (Table 3): 32x32 in colour, RGB intensities as independent Bernoullis.

    python train.py --config=configs/cifar10.py

The set is downloaded at first use (170 MB), or read where tensorflow-datasets has prepared it;
validation is the last 10 % of train. The loss has the images' entropy as its floor and measures no
compression: configs/cifar10_bits.py does. Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.data.name = "cifar10"
    config.data.binarization = "none"  # RGB intensities taken as probabilities
    config.model.image_shape = (32, 32, 3)
    config.model.enc_size = 400
    config.model.dec_size = 400
    config.model.latent_size = 200
    config.model.read_size = 5
    config.model.write_size = 5
    config.model.read_delta = 1.0  # pictures fill their frame: both windows begin on all of it
    config.model.read_sigma = 3.0
    config.model.write_delta = 1.0
    config.model.write_sigma = 3.0
    config.model.canvas_bias = -0.1  # the mean pixel, 0.47
    config.train.learning_rate = 1e-3
    config.train.num_steps = 50_000
    config.train.decay_steps = 50_000
    config.train.warmup_steps = 500
    config.train.eval_every = 1_000
    config.train.checkpoint_every = 500
    return config
