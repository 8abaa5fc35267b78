"""The paper's two MNIST digits in 60x60 (figure 8), each at a place of its own.

    python train.py --config=configs/mnist_two_digits.py

Not yet trained to its end: an update takes 0.27 s on two cores of an AMD EPYC machine.
The paper gives no sizes for it; those here are of a public re-run, and the first windows were the
best of seven pairs that were tried for 500 updates with 32 steps.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.data.name = "two_digits"
    config.data.source = "mnist"  # whose digits: mnist, or digits (scikit-learn's, no download)
    config.data.size = 60  # height and width of the images, pixels
    config.data.binarization = "none"  # the paper tells of intensities, added and clipped at 1
    config.model.image_shape = (60, 60, 1)
    config.model.time_steps = 96
    config.model.read_delta = 0.2
    config.model.read_sigma = 4.0
    config.model.write_delta = 0.25
    config.model.write_sigma = 1.5
    config.model.canvas_bias = -2.8  # 5.5 % of the canvas is ink
    config.train.num_steps = 20_000
    config.train.decay_steps = 20_000
    config.train.learning_rate = 2e-3
    config.train.warmup_steps = 500
    config.train.eval_every = 1_000
    return config
