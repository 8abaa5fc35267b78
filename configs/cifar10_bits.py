"""CIFAR-10 in bits per dimension: the paper's sizes (Table 3), a discretized logistic for D(X | c_T).

    python train.py --config=configs/cifar10_bits.py

The canvas holds the mean and the log-scale of each channel of each pixel, so its bound is that of a
code for the 8-bit images. A later paper by DRAW's authors measured 4.13 bits per dimension for DRAW
(Gregor et al. 2016, arXiv 1604.08772), and 3.58 for convolutional DRAW; equally likely values have 8.
Not yet trained to its end: an update takes 0.42 s on two cores of an AMD EPYC machine.
"""

from ml_collections import ConfigDict

from draw_jax.configs import cifar10


def get_config() -> ConfigDict:
    config = cifar10.get_config()
    config.model.likelihood = "discretized_logistic"
    config.model.canvas_bias = 0.47  # the mean pixel
    config.model.canvas_log_scale = -2.0  # of a logistic as wide as all pixels are, 0.25
    return config
