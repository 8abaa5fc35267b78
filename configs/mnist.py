"""The paper's binarised MNIST (Table 3): 64 steps, attention for reading and for writing.

    python train.py --config=configs/mnist.py

Reaches 92.87 nats (negative ELBO, validation) after its 5,000 updates, 10 epochs: 31 minutes of one
AMD EPYC (Zen 4) core in bfloat16. This is the short training; the shipped weights `mnist` are of
the long one, configs/mnist_full.py. The learning rate is the best of docs/recipes.md; the paper
gives none.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # of the weights, the noise, the order of the images and the evaluation
    config.kind = "draw"  # which model draw_jax/model/build.py builds

    config.data = ConfigDict()
    config.data.name = "binarized_mnist"  # or cifar10, image_folder, npz, ...: docs/running.md
    config.data.data_dir = ""  # where prepared sets lie; "" = $TFDS_DATA_DIR, ~/tensorflow_datasets
    config.data.manual_dir = ""  # original files, taken in place of a download; "" = none
    config.data.binarization = "fixed"  # fixed = the set's own, dynamic = at each draw, none
    config.data.grey = False  # True turns a colour set grey: image_shape then has 1 channel
    config.data.resize = False  # True crops and resizes the set's images to image_shape

    config.model = ConfigDict()
    config.model.image_shape = (28, 28, 1)  # height, width, channels
    config.model.time_steps = 64  # T
    config.model.enc_size = 256  # LSTM units
    config.model.dec_size = 256  # LSTM units
    config.model.latent_size = 100  # Z, dimensions of z_t
    config.model.read_size = 2  # N of the read window; 0 = no attention
    config.model.write_size = 5  # N of the write window; 0 = no attention
    config.model.read_delta = 0.2  # first read window: stride, 1 = covers the image
    config.model.read_sigma = 2.0  # first read window: standard deviation of a filter, pixels
    config.model.read_gamma = 1.0  # first read window: what is read is multiplied by it
    config.model.write_delta = 0.25  # first write window: stride, 1 = covers the image
    config.model.write_sigma = 0.8  # first write window: standard deviation of a filter, pixels
    config.model.write_gamma = 1.0  # first write window: what is written is divided by it
    config.model.canvas_bias = -2.0  # first value of the learned c_0: logit of the mean pixel
    config.model.canvas_log_scale = -2.0  # discretized_logistic: first log-scale; bias = the mean
    config.model.dtype = "float32"  # of the matrix products' operands: float32 or bfloat16
    config.model.unroll = 1  # time steps in one pass of the compiled loop: speed only
    config.model.likelihood = "bernoulli"  # D(X given c_T); or discretized_logistic, of 8 bits
    config.model.privy = True  # whether the encoder is given the decoder's output, eq. 5
    config.model.encoder_input = "both"  # image and error image; error = that alone
    config.model.recurrent_init = "normal"  # LSTMs' first weights of h_{t-1}; or orthogonal
    config.model.forget_bias = 1.0  # LSTMs' first bias of the forget gates
    config.model.scan_rows = 0  # the first windows run over the image in so many rows; 0 = stay
    config.model.window_init_scale = 1.0  # first weights that move windows, times this
    config.model.state_clip_norm = 0.0  # of an image's gradient w.r.t. each LSTM state; 0 = none

    config.train = ConfigDict()
    config.train.batch_size = 100  # images per update, over all devices
    config.train.num_steps = 5_000  # updates
    config.train.cpu_devices = 0  # that share a batch on a CPU; 0 = a core each, if they divide it
    config.train.learning_rate = 6e-3  # Adam's, after the warm-up
    config.train.window_rate = 1.0  # learning rate of where the windows go, as a fraction of that
    config.train.warmup_steps = 200  # updates of linear rise from 0
    config.train.decay_steps = 5_000  # updates until a cosine has fallen to its end; 0 = constant
    config.train.final_learning_rate = 0.02  # the cosine's end, as a fraction of learning_rate
    config.train.clip_norm = 5.0  # of the gradient over all weights; 0 = no clipping
    config.train.weight_decay = 0.0  # of kernels, times the learning rate (AdamW); 0 = none
    config.train.adam_b2 = 0.999  # decay of Adam's mean of squared gradients
    config.train.kl_warmup_steps = 0  # updates of linear rise of the KL's weight from 0; 0 = none
    config.train.free_bits = 0.0  # nats of each step's KL, mean of the batch, that cost nothing
    config.train.importance_samples = 1  # K of the importance-weighted objective; 1 = negative ELBO
    config.train.average_decay = 0.999  # moving average of the weights for use; 0 = none
    config.train.log_every = 10  # updates between training lines
    config.train.eval_every = 500  # updates between validation, samples and a ranked checkpoint
    config.train.checkpoint_every = 100  # updates between checkpoints
    config.train.keep_checkpoints = 2  # newest ones kept, besides the best on validation
    config.train.on_divergence = "stop"  # or rollback: to the last good checkpoint; or continue
    config.train.max_rollbacks = 3  # then it stops
    config.train.rollback_rate = 0.5  # learning rate after a rollback, as a fraction of that before
    config.train.init_from = ""  # run or shipped weights to start from; --init_from sets it
    return config
