"""The follow-up study's "no-privy": the encoder is not given the decoder's output.

    python train.py --config=configs/study_no_privy.py

Reaches 90.62 nats (negative ELBO, validation, mean of 3 seeds) in about 7 minutes of one
AMD EPYC (Zen 5) core: docs/study.md.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.privy = False
    return config
