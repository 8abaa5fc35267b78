"""CIFAR-10 in bits per dimension: a discretized logistic for D(X | c_T).

    python train.py --config=configs/cifar10_bits.py

The canvas holds the mean and the log-scale of each channel of each pixel, so its bound is that of a
code for the 8-bit images. A later paper by DRAW's authors measured 4.13 bits per dimension for DRAW
(Gregor et al. 2016, arXiv 1604.08772), and 3.58 for convolutional DRAW; equally likely values have 8.

Reaches 4.838 bits per dimension on test, trained on 18,000 of the images: about 3 hours of one AMD
EPYC (Zen 4) core in bfloat16, the shipped weights `cifar10_bits`.

Two sizes are not the paper's (Table 3): 32 time steps in place of 64, so that twice as many updates
fit into an hour, and windows of 8x8 in place of 5x5, so that half as many write as much. Nor are the
first weights, by which the windows run over the image and the LSTMs forget, or the encoder's input,
the error image alone: with the paper's, the windows stayed in the middle (docs/recipes.md).
"""

from ml_collections import ConfigDict

from draw_jax.configs import cifar10


def get_config() -> ConfigDict:
    config = cifar10.get_config()
    config.model.likelihood = "discretized_logistic"
    config.model.canvas_bias = 0.47  # the mean pixel
    config.model.canvas_log_scale = -2.0  # of a logistic as wide as all pixels are, 0.25
    config.model.time_steps = 32
    config.model.read_size = 8
    config.model.write_size = 8
    config.model.read_delta = 0.3
    config.model.read_sigma = 0.8
    config.model.write_delta = 0.3
    config.model.write_sigma = 0.8
    config.model.encoder_input = "error"
    config.model.forget_bias = -2.0
    config.model.scan_rows = 4
    config.train.learning_rate = 2e-3
    config.train.warmup_steps = 200
    config.train.num_steps = 16_000
    config.train.decay_steps = 16_000
    return config
