"""The follow-up study's "no-privy": the encoder is not given the decoder's output.

    python train.py --config=configs/study_no_privy.py

Not yet trained to its end.
"""

from ml_collections import ConfigDict

from draw_jax.configs import study


def get_config() -> ConfigDict:
    config = study.get_config()
    config.model.privy = False
    return config
