"""The retina of RAM: patches about one place, each twice as wide and half as sharp as the last.

Hard attention (Mnih et al. 2014, arXiv 1406.6247): a place is rounded to whole pixels, and there is
no gradient w.r.t. it. What lies outside the image is black. A location is (x, y), both in [-1, 1]:
(-1, -1) is the top left corner of the image and (0, 0) its centre.
"""

import jax
import jax.numpy as jnp

from draw_jax.model.attention import Window


def averages(image: jax.Array, scales: int) -> list[jax.Array]:
    """Returns, of each scale k = 0, 1, ..., the mean of every square of 2^k x 2^k pixels.

    All that any glimpse can see, so that a glimpse is a gather and nothing else: for 8 glimpses at
    100 images of 100x100, a quarter of the time of filterbanks of boxes.

    Args:
        image: [B, H, W, C].
        scales: >= 1.

    Returns:
        For each scale [B, H + 2^k - 1, W + 2^k - 1, C]: the squares that touch the image, the
        first with its bottom right pixel on the image's top left one.
    """
    levels = [image]
    for k in range(scales - 1):
        side = 2**k
        # A square is four of half its side; those beyond the edge are black.
        half = jnp.pad(levels[-1], ((0, 0), (side, side), (side, side), (0, 0)))
        rows = half[:, side:] + half[:, :-side]
        levels.append((rows[:, :, side:] + rows[:, :, :-side]) / 4)
    return levels


def patches(levels: list[jax.Array], location: jax.Array, size: int) -> jax.Array:
    """Returns the patches about a location, [B, scales, size, size, C]: rows (y) first.

    Args:
        levels: of `averages`.
        location: (x, y) [B, 2], in [-1, 1].
        size: height and width of each patch.
    """
    height, width = levels[0].shape[1:3]
    seen = []
    for k, level in enumerate(levels):
        batch_size, rows, columns, channels = level.shape
        steps = 2**k * jnp.arange(size) + 2**k - 1
        x = _first(location[:, 0], size * 2**k, width)[:, None] + steps[None]  # [B, size]
        y = _first(location[:, 1], size * 2**k, height)[:, None] + steps[None]
        inside = _within(y, rows)[:, :, None] & _within(x, columns)[:, None]
        flat = y.clip(0, rows - 1)[:, :, None] * columns + x.clip(0, columns - 1)[:, None]
        patch = jnp.take_along_axis(
            level.reshape(batch_size, rows * columns, channels),
            flat.reshape(batch_size, size * size, 1),
            axis=1,
            mode="promise_in_bounds",
        )
        patch = patch.reshape(batch_size, size, size, channels)
        seen.append(jnp.where(inside[..., None], patch, 0.0))
    return jnp.stack(seen, axis=1)


def window(location: jax.Array, size: int, height: int, width: int) -> Window:
    """Returns the finest patch as a window of DRAW, arrays [...], for pictures and comparisons.

    Its filters are a pixel apart and so narrow that each sees one pixel: `attention.read` through
    it gives that patch, where it lies inside the image.

    Args:
        location: (x, y) [..., 2], in [-1, 1].
        size: height and width of the patch, pixels.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    middle = (size + 1) / 2  # of pixels 1..size
    g_x = _first(location[..., 0], size, width) + middle
    g_y = _first(location[..., 1], size, height) + middle
    return Window(g_x, g_y, jnp.full_like(g_x, 0.01), jnp.ones_like(g_x), jnp.ones_like(g_x))


def _first(coordinate: jax.Array, side: int, pixels: int) -> jax.Array:
    """Returns the first of the `side` pixels about a coordinate, counted from 0; int32 [...]."""
    # Not `round`: it rounds halves to even, and so puts scales at different places.
    return jnp.floor((coordinate + 1) / 2 * pixels - side / 2 + 0.5).astype(jnp.int32)


def _within(index: jax.Array, count: int) -> jax.Array:
    return (index >= 0) & (index < count)
