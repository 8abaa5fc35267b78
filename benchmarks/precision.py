"""What bfloat16 does to the loss and the gradient of trained weights.

python -m benchmarks.precision [--pretrained=mnist | --workdir=DIR] [--split=test] [--images=100]

The same weights, images and noise, once with float32 and once with bfloat16 operands of the
products; the images are the first of the split.
loss_difference and norm_difference are relative.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import measuring
from benchmarks.agreement import agreement, loss_and_gradient
from draw_jax.data import splits
from draw_jax.model import build, draw
from draw_jax.runs import checkpoint
from draw_jax.system import cli

_WORKDIR = flags.DEFINE_string("workdir", "", "A run directory")
_PRETRAINED = flags.DEFINE_string("pretrained", "mnist", "Or the name of shipped weights")
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Images of which split"
)
_IMAGES = flags.DEFINE_integer("images", 100, "How many", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where data sets lie; default that of the run")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "Original files, in place of a download")
flags.adopt_module_key_flags(measuring)


def main() -> int:
    """Prints the figures and returns the exit code."""
    why = "the run decides; give --workdir or --pretrained instead"
    measuring.refuse(("config", "repeats"), why)
    config, model, variables = checkpoint.load(_WORKDIR.value or _PRETRAINED.value)
    with config.unlocked():
        config.data.data_dir = _DATA_DIR.value or config.data.data_dir
        config.data.manual_dir = _MANUAL_DIR.value or config.data.manual_dir
    split = splits.load(config.data, _SPLIT.value, model.image_shape, flags="--")
    splits.check_shape(split, model.image_shape)
    images = split.batch(np.arange(min(_IMAGES.value, len(split)))).images
    model = build.drawing(model)
    streams = build.keys(config.seed)
    x_key, eps_key = jax.random.split(streams.evaluate)
    x = splits.prepare(jnp.asarray(images), config.data.binarization, x_key)
    eps = draw.batch_noise(model, eps_key, len(images))
    losses = [
        loss_and_gradient(model.clone(dtype=dtype), variables["params"], x, eps)
        for dtype in ("float32", "bfloat16")
    ]
    result = {"float32_loss": losses[0][0], "bfloat16_loss": losses[1][0]}
    result |= agreement(*losses)._asdict()
    for name, value in result.items():
        print(f"  {name:18} {value:.6f}")
    measuring.write_json(
        result | {"images": len(images), "split": _SPLIT.value, "device": measuring.device_name()}
    )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
