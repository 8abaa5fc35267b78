"""The paper's figures 3 and 4 of a picture: what the attention filters see and write back."""

import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from draw_jax.data.sets import image_folder
from draw_jax.drawing.figures import filters as plots
from draw_jax.model import attention
from draw_jax.system.errors import UserError

_SHARE = 0.9  # of the picture's shorter side: what the widest window covers
_LEAST_SIGMA = 0.5  # pixels; sharper filters than the pixels themselves show one pixel or another


class NoPicture(UserError):
    """A file that is missing or holds no picture."""


def load_picture(
    path: str | os.PathLike[str] | None, size: int = 100, colour: bool = True
) -> np.ndarray:
    """Returns a picture with its longer side made `size` pixels, [H, W, C] in [0, 1].

    Args:
        path: a PNG, JPEG or WebP file; None: scikit-learn's photograph of a Chinese temple.
        size: pixels, at least 2; a smaller picture keeps its own size.
        colour: C = 3, else grey, C = 1.

    Raises:
        ValueError: if size is below 2.
        NoPicture: if the file is missing or is no picture.
    """
    if size < 2:
        raise ValueError(f"--size: expected at least 2 pixels, got {size}")
    if path is None:
        from sklearn.datasets import load_sample_image

        picture = Image.fromarray(load_sample_image("china.jpg")).convert("RGB" if colour else "L")
    else:
        picture = opened(path, 3 if colour else 1, size)
    shrink = max(1.0, max(picture.size) / size)
    shape = (max(1, round(picture.width / shrink)), max(1, round(picture.height / shrink)))
    small = picture.resize(shape, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(small, np.float32).reshape(shape[1], shape[0], -1) / 255


def opened(path: str | os.PathLike[str], channels: int, need: int, flag: str = "") -> Image.Image:
    """Returns `image_folder.open_picture` of a file.

    Raises:
        NoPicture: if the file is missing or is no picture; the message begins with `flag`.
    """
    try:
        return image_folder.open_picture(path, channels, need=need)
    except Exception as error:  # noqa: BLE001 - whatever Pillow raises for what is no picture
        why = image_folder.why_not(error)
        raise NoPicture(f"{flag}cannot read {os.fspath(path)}: {why}") from None


def windows(strides: Any, sigmas: Any, image: np.ndarray) -> attention.Window:
    """Returns windows [K] at the centre of an image [H, W, C], gamma 1 (eqs 19-26).

    Args:
        strides: delta [K], pixels.
        sigmas: standard deviations of the filters [K], pixels; at least half a pixel is taken.
        image: [H, W, C], for its size.
    """
    height, width = image.shape[:2]
    delta = jnp.asarray(strides, jnp.float32)
    return attention.Window(
        g_x=jnp.full_like(delta, (width + 1) / 2),
        g_y=jnp.full_like(delta, (height + 1) / 2),
        sigma_sq=jnp.square(jnp.maximum(jnp.asarray(sigmas, jnp.float32), _LEAST_SIGMA)),
        delta=delta,
        gamma=jnp.ones_like(delta),
    )


def widest_stride(image: np.ndarray, glimpse_size: int) -> float:
    """Returns the stride, in pixels, with which N filters span 90 % of the shorter side."""
    return _SHARE * (min(image.shape[:2]) - 1) / (glimpse_size - 1)


def written_back(glimpses: np.ndarray, of: attention.Window, image: np.ndarray) -> np.ndarray:
    """Returns glimpses [K, N, N, C] through the transposed filters, [K, H, W, C] (eq. 29).

    Rows of a filterbank sum to 1, so 1 / delta filters overlap on a pixel along each axis. The
    intensity gamma = 1 / delta^2 undoes that: inside the window an even glimpse comes back as it
    was, where sigma is above half the stride.
    """
    gamma = 1 / jnp.square(of.delta)
    return np.asarray(
        attention.write(jnp.asarray(glimpses), of._replace(gamma=gamma), *image.shape[:2])
    )


def two_filters(of: attention.Window, glimpse_size: int, image: np.ndarray) -> np.ndarray:
    """Returns the filters of the glimpse's first and last pixel, [K, 2, H, W, 1], largest value 1.

    A filter of pixel (i, j) is the outer product of row i of F_Y and row j of F_X (eqs 25, 26).
    """
    f_x, f_y = attention.filterbanks(of, glimpse_size, *image.shape[:2])
    ends = np.array([0, glimpse_size - 1])
    filters = np.asarray(f_y[:, ends, :, None] * f_x[:, ends, None, :])[..., None]
    return filters / filters.max(axis=(2, 3, 4), keepdims=True)


def draw(
    image: np.ndarray, out: str | os.PathLike[str], glimpse_size: int = 12, grid_size: int = 3
) -> list[Path]:
    """Writes the three figures of a picture and returns their paths.

    Args:
        image: [H, W, C] in [0, 1], C 1 or 3.
        out: the folder, made if missing.
        glimpse_size: N of the glimpses, 2 to the picture's shorter side.
        grid_size: N of figure 3's grid, 2 to the picture's shorter side.

    Raises:
        ValueError: if a size is out of range.
        OSError: if a file cannot be written.
    """
    shorter = min(image.shape[:2])
    for name, value in (("glimpse_size", glimpse_size), ("grid_size", grid_size)):
        if not 2 <= value <= shorter:
            raise ValueError(
                f"--{name}: expected 2 to {shorter}, the picture's shorter side in pixels, "
                f"got {value}"
            )
    out = Path(out)

    # A grid over half of the picture, with circles that leave each other room.
    stride = widest_stride(image, grid_size) / 2
    grid = windows([stride], [stride / 4], image)
    steps = (np.arange(1, grid_size + 1) - grid_size / 2 - 0.5) * stride  # eqs 19, 20
    paths = [
        plots.filter_grid(
            image,
            float(grid.g_x[0]) + steps,
            float(grid.g_y[0]) + steps,
            float(grid.sigma_sq[0]),
            out / "filter_grid.png",
        )
    ]

    # Figure 3: near but blurred; far and sharp, the picture made smaller; far and blurred.
    wide = widest_stride(image, glimpse_size)
    blurred = windows([wide / 3, wide, wide], [wide, wide / 4, 1.5 * wide], image)
    glimpses = np.asarray(attention.read(jnp.asarray(image), blurred, glimpse_size))
    paths.append(plots.filter_figure(image, blurred, glimpses, out / "precision.png"))

    # Figure 4: filters that just overlap, closer and closer.
    strides = np.array([wide, wide / 2, wide / 4])
    zoom = windows(strides, 0.6 * strides, image)
    glimpses = np.asarray(attention.read(jnp.asarray(image), zoom, glimpse_size))
    paths.append(
        plots.filter_figure(
            image,
            zoom,
            glimpses,
            out / "zoom.png",
            written_back(glimpses, zoom, image),
            two_filters(zoom, glimpse_size, image),
        )
    )
    return paths
