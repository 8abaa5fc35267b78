"""Model I of the 2016 follow-up study: convolutions of image and error image at every time step."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from draw_jax.model import draw
from draw_jax.model.draw import Draw
from draw_jax.model.layers import Convolutions, check_convolutions, floats_of_maps
from draw_jax.model.task import Task


class Model1(Draw):
    """DRAW without attention for reading, whose encoder is given feature maps of what it reads.

    At every step the image and the error image, as channels of one image, pass layers of
    convolutions. The encoder reads their last maps in place of the images, or beside them.

    Convolutions in a compiled loop are slow on CPUs: with `unroll` = T there is no loop.
    """

    filters: tuple[int, ...] = (8, 16)  # of each layer
    filter_size: int = 5  # height and width of a filter, pixels; odd
    stride: int = 2  # from one place of a filter to the next, pixels
    with_images: bool = False  # whether the encoder reads the images themselves, too

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "filters", tuple(self.filters))
        super().__post_init__()
        check_convolutions(self)
        if self.read_size:
            raise ValueError(
                f"expected read_size 0, as model_1 convolves whole images, got {self.read_size}"
            )

    def setup(self) -> None:
        """Makes the cell, with its convolutions."""
        layers = (self.filters, self.filter_size, self.stride, self.dtype)
        self.cell = self.make_cell(Reader(*layers, self.with_images, parent=None))


class Reader(nn.Module):
    """What the encoder is given of the images that it reads. Its fields are those of `Model1`."""

    filters: tuple[int, ...]
    filter_size: int
    stride: int
    dtype: str
    with_images: bool

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns the last maps, and the images where they are wanted, flat [B, any].

        Args:
            images: image and error image as channels of one, [B, H, W, 2 C].
        """
        layers = Convolutions(
            self.filters, self.filter_size, self.stride, self.dtype, name="convolutions"
        )
        read = [layers(images), images] if self.with_images else [layers(images)]
        return jnp.concatenate([maps.reshape(len(maps), -1) for maps in read], axis=-1)


def task(model: Model1) -> Task:
    """Returns the task of a Draw, of which an update keeps the maps of every step as well."""
    whole = draw.task(model)
    maps = model.time_steps * floats_of_maps(model)
    return whole._replace(floats_kept=whole.floats_kept + maps)
