"""The paper's SVHN (Table 3): full house numbers in colour, 54x54 crops of 64x64, with attention.

    python train.py --config=configs/svhn.py --config.data.manual_dir=DIR

DIR holds the original train.tar.gz, extra.tar.gz and test.tar.gz; without it they are downloaded
(2.6 GB). Needs h5py: pip install -e '.[svhn]'. Not yet trained to its end: an update
takes 0.83 s on two cores of an AMD EPYC machine.
"""

from ml_collections import ConfigDict

from draw_jax.configs import image_folder


def get_config() -> ConfigDict:
    config = image_folder.get_config()  # pictures that fill their frame
    config.data.name = "svhn"
    config.model.image_shape = (54, 54, 3)
    config.model.enc_size = 800
    config.model.dec_size = 800
    config.model.read_size = 12
    config.model.write_size = 12
    config.model.read_sigma = 2.0
    config.model.write_sigma = 2.0
    config.train.num_steps = 100_000
    config.train.decay_steps = 100_000
    config.train.warmup_steps = 500
    config.train.average_decay = 0.9995
    config.train.log_every = 50
    config.train.eval_every = 2_000
    return config
