"""Model III of the 2016 follow-up study: the encoder reads features in place of the image."""

import jax

from draw_jax.model import draw
from draw_jax.model.draw import Draw
from draw_jax.model.layers import Convolutions, check_convolutions, floats_of_maps
from draw_jax.model.task import Task


class Model3(Draw):
    """DRAW with a convolutional encoder.

    The encoder is given the last maps of layers of convolutions, made once an image, in place of
    the image; the error image it reads as before. The loss trains the convolutions.
    """

    encoder_input: str = "error"  # reads only the error image: no other value allowed
    filters: tuple[int, ...] = (8, 16)  # of each layer
    filter_size: int = 5  # height and width of a filter, pixels; odd
    stride: int = 2  # from one place of a filter to the next, pixels

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "filters", tuple(self.filters))
        super().__post_init__()
        check_convolutions(self)
        if self.encoder_input != "error":
            raise ValueError(
                "expected encoder_input error, as model_3 has features in place of the image, "
                f"got {self.encoder_input!r}"
            )

    def setup(self) -> None:
        """Makes the cell and the convolutions."""
        super().setup()
        self.convolutions = Convolutions(self.filters, self.filter_size, self.stride, self.dtype)

    def features(self, x: jax.Array) -> jax.Array:
        """Returns the last maps of images, flat [B, K]."""
        maps: jax.Array = self.convolutions(x)
        return maps.reshape(len(x), -1)


def task(model: Model3) -> Task:
    """Returns the task of a Draw, of which an update keeps the maps as well."""
    whole = draw.task(model)
    return whole._replace(floats_kept=whole.floats_kept + floats_of_maps(model))
