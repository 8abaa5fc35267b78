"""The kernels that a run has learned: python -m draw_jax.studies.kernels --workdir=runs/study_model_1.

Draws the convolutions of Models I to III, or of a classifier, into --out. Exit codes: 0 drawn,
1 error, 2 bad flags.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import flags
from flax.traverse_util import flatten_dict
from PIL import Image

from draw_jax.drawing.figures import grids, look
from draw_jax.model.task import Variables
from draw_jax.runs import checkpoint
from draw_jax.system import cli

_PANEL = 40  # pixels of a kernel, about
_SWATCH = 12  # pixels of the legend's

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string("workdir", "", "A run", flag_values=FLAGS)
_PRETRAINED = flags.DEFINE_string(
    "pretrained", "", "Or the name of shipped weights", flag_values=FLAGS
)
_OUT = flags.DEFINE_string("out", "kernels.png", "The picture", flag_values=FLAGS)


def of_layers(variables: Variables) -> dict[str, np.ndarray]:
    """Returns the kernels [N, N, C, F] of a model's convolutions by name, first layer first.

    The name is "layer 1", and where the model has several nets, begins with the net's.
    """
    flat = flatten_dict(variables["params"])
    nets: dict[str, dict[int, np.ndarray]] = {}
    for (*net, layer, name), leaf in flat.items():
        if name == "kernel" and leaf.ndim == 4:
            number = layer.rpartition("_")[2]
            layers = nets.setdefault("/".join(net), {})
            layers[int(number) if number.isdecimal() else 1] = np.asarray(leaf)
    return {
        f"{net}, layer {number}" if len(nets) > 1 else f"layer {number}": nets[net][number]
        for net in sorted(nets)
        for number in sorted(nets[net])
    }


def picture(kernels: Mapping[str, np.ndarray]) -> Image.Image:
    """Returns every kernel of every layer: a column for each filter, a row for each of its inputs.

    A layer has a grey scale of its own: black is minus its largest weight, white is plus that.

    Args:
        kernels: [N, N, C, F] of each layer by its name, at least one.

    Raises:
        ValueError: if there is no layer.
    """
    if not kernels:
        raise ValueError("expected a model with convolutions, got one without")
    parts = []
    for layer, kernel in kernels.items():
        size, _, inputs, filters = kernel.shape
        largest = float(np.abs(kernel).max()) or 1.0
        tiles = kernel.transpose(2, 3, 0, 1).reshape(inputs * filters, size, size, 1)
        shown = grids.grid((1 + tiles / largest) / 2, filters, max(1, round(_PANEL / size)))
        swatches = [
            (np.full((_SWATCH, _SWATCH, 3), value, np.uint8), text)
            for value, text in ((255, f"{largest:.2f}"), (128, "0"), (0, f"-{largest:.2f}"))
        ]
        of = f"{inputs} input{'s' * (inputs != 1)} (row{'s' * (inputs != 1)})"
        name = f"{layer}: {filters} filters (columns) of {of}"
        title = look.line(name, look.PADDING + int(look.font().getlength(name)) + 1)
        parts += [title, shown, look.legend(swatches, shown.width)]
    return look.stack(parts)


def main() -> int:
    """Draws the kernels of a run, prints the picture's name and returns the exit code."""
    run = cli.which_run(_WORKDIR.value, _PRETRAINED.value)
    out = Path(_OUT.value)
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out: expected a name that ends in .png, got {_OUT.value!r}")
    config, _, variables = checkpoint.load(run)
    kernels = of_layers(variables)
    if not kernels:
        raise ValueError(f"a model of config.kind {config.kind!r} has no convolutions here")
    print(look.save(picture(kernels), out))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, flag_values=FLAGS))
