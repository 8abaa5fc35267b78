"""The paper's two MNIST digits in 60x60 (figure 8), each at a place of its own.

    python train.py --config=configs/mnist_two_digits.py

Reaches 201.48 nats (negative ELBO, test) in 71 minutes of one AMD EPYC (Zen 4) core in bfloat16:
the shipped weights `mnist_two_digits`.

The paper gives no sizes for it. A public re-run has T = 96, a read window of 2x2 and a write window
of 5x5; in the same time, T = 32 and windows of 8x8 get much further (docs/recipes.md).
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
    config.model.time_steps = 32
    config.model.read_size = 8
    config.model.write_size = 8
    config.model.read_delta = 0.5
    config.model.read_sigma = 2.0
    config.model.read_gamma = 2.0
    config.model.write_delta = 0.25
    config.model.write_sigma = 1.5
    config.model.write_gamma = 0.1
    config.model.canvas_bias = -2.8  # 5.5 % of the canvas is ink
    config.model.window_init_scale = 0.25
    config.model.state_clip_norm = 200.0
    config.train.batch_size = 50
    config.train.num_steps = 24_000
    config.train.decay_steps = 24_000
    config.train.learning_rate = 2e-3
    config.train.window_rate = 0.25
    config.train.warmup_steps = 500
    config.train.eval_every = 1_000
    config.train.on_divergence = "rollback"
    return config
