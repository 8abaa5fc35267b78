"""RAM, the baseline of the paper's Table 1 with hard attention: 8 glimpses of four 12x12 patches.

    python train.py --config=configs/cluttered_mnist_ram.py

18.72 % errors on test, from update 192,000, its best on validation; the RAM of Mnih et al. has
8.11 %. Ours does not search for the digit (docs/results.md). About 80 minutes of one core of an AMD
EPYC (Zen 5) machine.
"""

from ml_collections import ConfigDict

from draw_jax.configs import cluttered_mnist


def get_config() -> ConfigDict:
    config = cluttered_mnist.get_config()
    config.kind = "ram"

    config.model = ConfigDict()
    config.model.image_shape = (100, 100, 1)  # height, width, channels
    config.model.time_steps = 8  # T, glimpses
    config.model.classes = 10  # labels are 0 to 9
    config.model.read_size = 12  # height and width of every patch, pixels of the finest
    config.model.scales = 4  # patches of a glimpse, each twice as wide as the one before
    config.model.retina_size = 128  # units that see the patches
    config.model.location_size = 128  # units that know the place
    config.model.feature_size = 256  # units that join both
    config.model.core_size = 256  # units of the recurrent net
    config.model.location_std = 0.2  # of the drawn locations; 1 = half the image
    config.model.location_rate = 0.1  # learning rate of where to look, as a fraction of the rest's
    config.model.monte_carlo_samples = 1  # episodes of each image in an update
    config.model.reinforce_weight = 0.01  # of the term that trains where to look
    config.model.baseline_weight = 0.01  # of the term that trains the expected reward
    config.model.dtype = "float32"  # of the matrix products' operands: float32 or bfloat16
    config.model.unroll = 1  # time steps in one pass of the compiled loop: speed only

    config.train.learning_rate = 1e-3
    config.train.num_steps = 200_000
    config.train.decay_steps = 200_000
    return config
