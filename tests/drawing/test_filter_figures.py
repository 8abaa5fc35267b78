from types import SimpleNamespace

import numpy as np

from draw_jax.drawing.figures import filters
from tests.drawing.arrays import pictures, some_windows


def draw_filters(path):
    windows = SimpleNamespace(**{k: v[0] for k, v in vars(some_windows(1, 2)).items()})
    image, patches = pictures(9, 12, 3), 2 * pictures(2, 4, 4, 3)
    return filters.filter_figure(image, windows, patches, path, pictures(2, 9, 12, 3))


PLOTS = {
    "filter_grid": lambda path: filters.filter_grid(
        pictures(9, 12, 1), np.array([3.0, 6, 9]), np.array([2.0, 5, 8]), 0.5, path
    ),
    "filter_figure": draw_filters,
}
