"""The paper's classifier (section 4.1, Table 3): 8 glimpses of 12x12 on 100x100 cluttered MNIST.

    python train.py --config=configs/cluttered_mnist.py

The shipped weights `cluttered_mnist` are its best on validation, update 294,000: 3.31 % errors on test (the
paper: 3.36 %). Nearly three hours on one core of an AMD EPYC (Zen 5) machine.
"""

from ml_collections import ConfigDict

from draw_jax.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.kind = "classifier"

    config.data.name = "cluttered_mnist"
    config.data.source = "mnist"  # whose digits: mnist, or digits (scikit-learn's, no download)
    config.data.size = 100  # height and width of the images, pixels
    config.data.clutter = 8  # crops of other digits in an image
    config.data.crop_size = 8  # height and width of a crop, pixels
    config.data.binarization = "none"  # grey values as they are

    config.model = ConfigDict()
    config.model.image_shape = (100, 100, 1)  # height, width, channels
    config.model.time_steps = 8  # T, glimpses
    config.model.lstm_size = 256  # LSTM units
    config.model.read_size = 12  # N of the read window
    config.model.classes = 10  # labels are 0 to 9
    config.model.scales = 1  # grids of a glimpse, each twice as wide as the one before
    config.model.loss_steps = 4  # the last glimpses whose mean cross-entropy is the loss
    config.model.read_delta = 1.0  # first read window: stride, 1 = covers the image
    config.model.read_sigma = 4.0  # first read window: standard deviation of a filter, pixels
    config.model.max_gamma = 4.0  # bound of a glimpse's intensity; 0 = none, as in the paper
    config.model.dtype = "float32"  # of the matrix products' operands: float32 or bfloat16
    config.model.unroll = 1  # time steps in one pass of the compiled loop: speed only

    config.train.num_steps = 300_000
    config.train.learning_rate = 2e-3
    config.train.warmup_steps = 1_000
    config.train.decay_steps = 300_000
    config.train.final_learning_rate = 0.01
    config.train.clip_norm = 1.0
    config.train.average_decay = 0.9995
    config.train.log_every = 100
    config.train.eval_every = 2_000
    config.train.checkpoint_every = 1_000
    config.train.on_divergence = "rollback"
    return config
