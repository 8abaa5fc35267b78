"""The convolutional baseline of Table 1 (Gregor et al. 2015): two layers, no attention; its task.

From Mnih et al. 2014, arXiv 1406.6247: 8 filters of 10x10 pixels with stride 5, then 256 units,
rectifiers after both, then a softmax over the classes.
"""

import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from draw_jax.model import classifier
from draw_jax.model.layers import Linear, check_fields, check_images
from draw_jax.model.task import Task, Terms, Variables


class ConvNet(nn.Module):
    """A layer of filters and a layer of units over the whole image.

    `net.apply(variables, x)` gives the logits; `init` through it.
    """

    image_shape: tuple[int, int, int]  # (H, W, C)
    classes: int
    filters: int = 8
    filter_size: int = 10  # height and width of a filter, pixels
    stride: int = 5  # from one place of a filter to the next, pixels
    hidden_size: int = 256  # units of the second layer
    dtype: str = "float32"  # of the products' operands; float32 or bfloat16

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        _check_fields(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the logits of the classes [1, B, classes]: one time step, as of one glimpse.

        Args:
            x: images [B, H, W, C], in [0, 1].

        Raises:
            ValueError: if the images do not have the shape that the model is built for.
        """
        check_images(x, self.image_shape)
        maps = nn.Conv(
            self.filters,
            (self.filter_size, self.filter_size),
            self.stride,
            padding="VALID",  # a filter never leaves the image
            dtype=self.dtype,
            kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
            name="convolution",
        )(x)
        features = jax.nn.relu(maps).reshape(len(x), -1).astype(jnp.float32)
        hidden = jax.nn.relu(Linear(self.hidden_size, self.dtype, name="hidden")(features))
        return Linear(self.classes, "float32", name="classification")(hidden)[None]


def _check_fields(model: ConvNet) -> None:
    """Raises ValueError naming the first invalid field."""
    sizes = ("filters", "filter_size", "stride", "hidden_size")
    check_fields(model, {"classes": 2} | dict.fromkeys(sizes, 1))
    shorter = min(model.image_shape[:2])
    if model.filter_size > shorter:
        raise ValueError(
            f"expected filter_size <= {shorter}, the image's shorter side, got {model.filter_size}"
        )


def task(model: ConvNet) -> Task:
    """Returns the task of a convolutional net: its cross-entropy, in nats."""

    def loss_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> Terms:
        return classifier.terms(cast(jax.Array, model.apply(variables, x)), labels)

    def evaluation_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, keys: jax.Array
    ) -> tuple[Terms, Terms]:
        logits = cast(jax.Array, model.apply(variables, x))
        return classifier.terms(logits, labels), classifier.diagnostics(logits, labels)

    height, width, _ = model.image_shape
    places = [(pixels - model.filter_size) // model.stride + 1 for pixels in (height, width)]
    kept = math.prod(model.image_shape) + math.prod(places) * model.filters + model.hidden_size
    return classifier.of_classes(model, model.classes, loss_terms, evaluation_terms, kept)
