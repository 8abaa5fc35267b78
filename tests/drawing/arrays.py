"""Random arrays for pictures, and panels drawn one pixel at a time to compare with."""

from types import SimpleNamespace

import numpy as np


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def one_window(g_x=5.0, g_y=6.0, sigma_sq=0.0, delta=2.0):
    return SimpleNamespace(g_x=g_x, g_y=g_y, sigma_sq=sigma_sq, delta=delta)


def some_windows(*shape, seed=1):
    rng = np.random.default_rng(seed)
    return SimpleNamespace(
        g_x=rng.uniform(1, 8, shape),
        g_y=rng.uniform(1, 8, shape),
        sigma_sq=rng.uniform(0.1, 2, shape),
        delta=rng.uniform(0.5, 2, shape),
    )


def enlarged(image, scale):
    """A panel as it must look, one pixel at a time."""
    height, width, channels = image.shape
    result = np.zeros((height * scale, width * scale, 3), np.uint8)
    for y in range(height * scale):
        for x in range(width * scale):
            for c in range(3):
                value = float(image[y // scale, x // scale, min(c, channels - 1)])
                result[y, x, c] = round(value * 255)
    return result


def coloured(picture, colour):
    return (np.asarray(picture) == colour).all(-1)
