"""The base of the 2016 follow-up study: mnist_small on dynamically binarised MNIST.

    python train.py --config=configs/study.py

Reaches 89.22 nats (negative ELBO, validation, mean of 3 seeds) in about 9 minutes of one AMD EPYC
(Zen 5) core: docs/study.md. All rows of the study are on this data, so that their losses compare.
`python -m draw_jax.studies.follow_up` trains them.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist_small


def get_config() -> ConfigDict:
    config = mnist_small.get_config()
    config.data.name = "mnist"  # whose labels study_model_2 needs
    config.data.binarization = "dynamic"
    return config
