"""Your own pictures, at 32x32 in colour: a folder of PNG, JPEG or WebP files.

    python train.py --config=configs/image_folder.py --config.data.data_dir=my_pictures

Sub-folders are searched too. A few thousand pictures of one kind of thing are a good start. Other
sizes: --config.model.image_shape="(64, 64, 3)"; 1 in place of 3 draws in grey. Not trained to its
end yet.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.data.name = "image_folder"
    config.data.binarization = "none"  # grey values and RGB intensities taken as probabilities
    config.model.image_shape = (32, 32, 3)
    config.model.time_steps = 32
    config.model.enc_size = 400
    config.model.dec_size = 400
    config.model.read_size = 5
    config.model.write_size = 5
    config.model.read_delta = 1.0  # pictures fill their frame: both windows begin on all of it
    config.model.read_sigma = 3.0
    config.model.write_delta = 1.0
    config.model.write_sigma = 3.0
    config.model.canvas_bias = 0.0  # mid-grey
    config.train.learning_rate = 1e-3
    config.train.num_steps = 20_000
    config.train.decay_steps = 20_000
    config.train.eval_every = 1_000
    config.train.checkpoint_every = 500
    return config
