import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image

from draw_jax.drawing.figures import filters
from tests.drawing.arrays import one_window, pictures, some_windows


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


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_written_and_leave_pyplot_alone(tmp_path, name):
    had_pyplot, size_before = "matplotlib.pyplot" in sys.modules, matplotlib.rcParams["font.size"]
    path = PLOTS[name](tmp_path / "plot.png")
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert matplotlib.rcParams["font.size"] == size_before
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 200 and pixels.std() > 5
    # Nothing is cut off: the outermost pixels are paper.
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: filters.filter_grid(pictures(9, 9, 1), np.ones(1), np.ones(1), 1.0, "a.png"),
            "N >= 2",
        ),
        (
            lambda: filters.filter_grid(pictures(9, 9, 1), np.ones(2), np.ones(2), 0.0, "a.png"),
            "sigma_sq",
        ),
        (
            lambda: filters.filter_figure(
                pictures(9, 9, 1), one_window(g_x=np.ones(3)), pictures(2, 4, 4, 1), "a.png"
            ),
            "windows [K]",
        ),
    ],
)
def test_bad_input_is_named(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())
