"""What all pictures share: rectangles, colours, legends, files and errors."""

import math
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from draw_jax.drawing.figures import animations, curves, filters, grids, look, rectangles, strips
from tests.drawing import test_curves, test_filter_figures
from tests.drawing.arrays import coloured, enlarged, one_window, pictures, some_windows
from tests.drawing.test_curves import ROWS, draw_report
from tests.drawing.test_filter_figures import draw_filters
from tests.drawing.test_strips import reconstruct

# Rectangles


def test_rectangle_spans_the_outermost_filter_centres():
    # Eq. 19 for N = 5, delta = 1.5 around 7: centres 4, 5.5, 7, 8.5, 10.
    window = one_window(g_x=7.0, g_y=3.0, delta=1.5)
    assert rectangles.rectangle(window, 5) == (4.0, 0.0, 10.0, 6.0)
    assert rectangles.rectangle(window, 2) == (6.25, 2.25, 7.75, 3.75)


def test_corners_of_a_thin_rectangle_are_on_the_pixel_centres():
    # 10 x 12 image, scale 5: pixel a's centre is at 5 a - 2.5, within picture pixel 5 a - 3.
    panel = np.zeros((50, 60, 3), np.uint8)
    drawn = rectangles.draw_window(panel, one_window(g_x=6.0, g_y=4.0, delta=2.0), 3, 5)
    rows, columns = coloured(drawn, look.WRITE).nonzero()
    assert (columns.min(), columns.max()) == (5 * 4 - 3, 5 * 8 - 3)
    assert (rows.min(), rows.max()) == (5 * 2 - 3, 5 * 6 - 3)
    # A border of one pixel all around and nothing else.
    assert len(rows) == 2 * 21 + 2 * 21 - 4
    assert not panel.any()


def beneath(panel, colour=look.WRITE):
    """Returns `panel` with every pixel mixed half and half with a colour."""
    mixed = np.zeros_like(panel)
    for y, x, c in np.ndindex(panel.shape):
        mixed[y, x, c] = round((int(panel[y, x, c]) + colour[c]) / 2)
    return mixed


@pytest.mark.parametrize("sigma", [0.0, 0.2, 1.0, 2.0, 3.0])
def test_border_is_as_wide_as_sigma_says(sigma):
    scale = 4
    panel = enlarged(pictures(40, 40, 1), scale)
    window = one_window(g_x=20.5, g_y=20.5, sigma_sq=sigma**2, delta=10.0)
    drawn = rectangles.draw_window(panel, window, 3, scale)
    changed = (drawn != panel).any(-1)
    width = max(1, round(0.75 * sigma * scale))
    middle = changed[80].nonzero()[0]
    assert len(middle) == 2 * width
    for border, edge in ((middle[:width], 10.5), (middle[width:], 30.5)):
        assert border[-1] - border[0] == width - 1
        # Centred on the edge to half a picture pixel.
        assert abs((border[0] + border[-1] + 1) / 2 - (edge - 0.5) * scale) <= 0.5
        # An opaque line of one pixel is the rectangle, and the rest lets the picture through.
        line = coloured(drawn, look.WRITE)[80, border[0] : border[-1] + 1].nonzero()[0] + border[0]
        assert len(line) == 1 and abs(line[0] + 0.5 - (edge - 0.5) * scale) <= 0.5
    rest = changed & ~coloured(drawn, look.WRITE)
    np.testing.assert_array_equal(drawn[rest], beneath(panel)[rest])
    assert rest.any() == (width > 1)


@pytest.mark.parametrize("size", [10, 112, 400])
def test_a_very_blurred_border_leaves_the_picture_visible(size):
    panel = np.zeros((size, size, 3), np.uint8)
    centre = (size + 1) / 2
    window = one_window(g_x=centre, g_y=centre, sigma_sq=1e6, delta=size / 4)
    drawn = rectangles.draw_window(panel, window, 3, 1)
    row = drawn[size // 2]
    assert (row != 0).any(-1).sum() == 2 * max(1, round(size / 8))
    assert coloured(row, look.WRITE).sum() == 2 * max(1, round(size / 150))


def lightness(colour):
    """Returns CIE L* of an sRGB colour, 0 (black) to 100 (white)."""
    linear = [((v / 255 + 0.055) / 1.055) ** 2.4 if v > 10 else v / 255 / 12.92 for v in colour]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16


def test_red_and_green_are_told_apart_by_lightness_alone():
    red, green = look.WRITE, look.READ
    assert red[0] > 200 and max(red[1:]) < 60  # the paper's colours at first sight
    assert green[1] > 200 and green[1] > 2 * max(green[0], green[2])
    assert lightness(green) - lightness(red) > 20
    # Each is seen on the black of a panel, its white, and the grey of an error image.
    for colour in (red, green):
        for ground in (0, 255, 128):
            apart = np.abs(np.array(colour, int) - ground).max()
            assert apart > 75


# Legends


def test_a_legend_explains_each_colour_and_takes_the_lines_it_needs():
    entries = rectangles.legend(look.READ, look.WRITE)
    assert [text for _, text in entries][:2] == ["read window", "write window"]
    assert "\N{GREEK SMALL LETTER SIGMA}" in entries[2][1]
    assert entries[3][1] == "dashed: larger than the image; none: off it"
    colours = (look.READ, look.WRITE, look.READ, look.READ)
    for (swatch, _), colour in zip(entries, colours, strict=True):
        assert coloured(swatch, colour).any() and swatch.shape[0] <= look.LINE
    wide, narrow = look.legend(entries, 900), look.legend(entries, 120)
    assert wide.size == (900, look.LINE)
    assert narrow.height == 3 * look.LINE and narrow.width > 120
    for picture in (wide, narrow):
        pixels = np.asarray(picture)
        assert coloured(pixels, look.READ).any() and coloured(pixels, look.WRITE).any()
        # Nothing is cut off: the outermost columns are background.
        assert coloured(pixels[:, [0, 1, -2, -1]], look.BACKGROUND).all()


@pytest.mark.parametrize(
    "centre", [(-50.0, 5.0), (5.0, 500.0), (1e30, 5.0), (5.0, -1e30), (-20.0, -20.0)]
)
def test_a_window_outside_leaves_the_panel_alone(centre):
    panel = enlarged(pictures(10, 10, 1), 3)
    window = one_window(g_x=centre[0], g_y=centre[1], sigma_sq=4.0)
    np.testing.assert_array_equal(rectangles.draw_window(panel, window, 3, 3), panel)


@pytest.mark.parametrize("sigma_sq", [1.0, 1e4])
def test_a_window_larger_than_the_image_is_a_dashed_line_at_its_edge(sigma_sq):
    panel = enlarged(pictures(10, 10, 1), 30)
    drawn = rectangles.draw_window(panel, one_window(5.5, 5.5, sigma_sq, 100.0), 3, 30)
    red = coloured(drawn, look.WRITE)
    assert not red[2:-2, 2:-2].any()  # a line of 2 pixels, and nothing within
    np.testing.assert_array_equal(drawn[~red], panel[~red])
    for side in (red[0], red[-1], red[:, 0], red[:, -1]):
        assert 0.4 < side.mean() < 0.6
    # Whatever reaches into the image is drawn as it is.
    inside = rectangles.draw_window(panel, one_window(5.5, 5.5, 1.0, 4.9), 3, 30)
    assert (
        coloured(inside, look.WRITE)[3:-3, 3:-3].any() and not coloured(inside, look.WRITE)[0].any()
    )


def test_a_window_partly_outside_shows_its_inner_sides():
    panel = np.zeros((30, 30, 3), np.uint8)
    # Left edge at -3 and top edge at -1, right edge at 5 and bottom edge at 7.
    window = one_window(g_x=1.0, g_y=3.0, delta=4.0)
    drawn = coloured(rectangles.draw_window(panel, window, 3, 3), look.WRITE)
    expected = np.zeros((30, 30), bool)
    expected[: 3 * 7 - 1, 3 * 5 - 2] = True
    expected[3 * 7 - 2, : 3 * 5 - 1] = True
    np.testing.assert_array_equal(drawn, expected)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.integers(2, 12),
    st.integers(1, 5),
)
def test_any_window_only_ever_adds_its_colour(g_x, g_y, sigma_sq, delta, glimpse_size, scale):
    panel = enlarged(pictures(7, 9, 3), scale)
    window = one_window(g_x, g_y, sigma_sq, delta)
    drawn = rectangles.draw_window(panel, window, glimpse_size, scale, look.READ)
    assert drawn.shape == panel.shape and drawn.dtype == np.uint8
    changed = (drawn != panel).any(-1) & ~coloured(drawn, look.READ)
    np.testing.assert_array_equal(drawn[changed], beneath(panel, look.READ)[changed])


@pytest.mark.parametrize("field", ["g_x", "g_y", "sigma_sq", "delta"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_window_that_is_not_finite_is_an_error(field, value):
    with pytest.raises(ValueError, match=f"{field} {value}"):
        rectangles.draw_window(np.zeros((9, 9, 3), np.uint8), one_window(**{field: value}), 3, 1)


# Plots

PLOTS = test_curves.PLOTS | test_filter_figures.PLOTS


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


# Files


def draw_animation(path):
    return animations.animation(pictures(5, 3, 8, 8, 3), path, some_windows(5, 3), 3, scale=2)


WRITERS = {
    "grid.png": lambda path: look.save(grids.grid(pictures(3, 8, 8, 3)), path),
    "a.gif": draw_animation,
    "a.webp": draw_animation,
    "report.png": draw_report,
    "filters.png": draw_filters,
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_input_gives_the_same_bytes(tmp_path, name):
    first = WRITERS[name](tmp_path / "one" / name)
    again = WRITERS[name](tmp_path / "two" / name)
    assert first == tmp_path / "one" / name
    assert first.read_bytes() == again.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot write .*file.* choose a folder"):
        WRITERS[name](tmp_path / "file" / name)


# Errors

A_GRID = "expected images [N, H, W, C] in [0, 1] with C 1 or 3"
FRAMES = pictures(3, 2, 8, 8, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grids.grid(pictures(3, 8, 8)), f"{A_GRID}, got shape [3, 8, 8]"),
        (lambda: grids.grid(pictures(3, 8, 8, 2)), f"{A_GRID}, got shape [3, 8, 8, 2]"),
        (lambda: grids.grid(pictures(0, 8, 8, 1)), f"{A_GRID}, got shape [0, 8, 8, 1]"),
        (lambda: grids.grid(np.full((1, 2, 2, 1), 1.5)), f"{A_GRID}, got values from 1.5 to 1.5"),
        (lambda: grids.grid(np.full((1, 2, 2, 1), -0.5)), f"{A_GRID}, got values from -0.5"),
        (lambda: grids.grid(np.full((1, 2, 2, 1), math.nan)), f"{A_GRID}, got values from nan"),
        (lambda: grids.grid(pictures(2, 8, 8, 1), columns=0), "expected columns >= 1"),
        (lambda: grids.grid(pictures(2, 8, 8, 1), padding=-1), "padding >= 0"),
        (lambda: grids.grid(pictures(2, 8, 8, 1), scale=0), "scale"),
        (lambda: grids.grid(pictures(2, 8, 8, 1), scale=1.5), "scale"),
        (
            lambda: grids.with_nearest(pictures(5, 8, 8, 1), pictures(2, 8, 8, 1), 3),
            "samples [R * columns, H, W, C]",
        ),
        (lambda: look.save(grids.grid(pictures(1, 2, 2, 1)), "a.bmp"), ".png"),
        (lambda: strips.film_strip(FRAMES[0]), "expected frames [T, N, H, W, C]"),
        (lambda: strips.film_strip(FRAMES, steps=[0, 1]), "steps in 1..3, got [0, 1]"),
        (lambda: strips.film_strip(FRAMES, steps=[4]), "steps in 1..3, got [4]"),
        (lambda: strips.film_strip(FRAMES, steps=[]), "steps in 1..3, got []"),
        (lambda: strips.film_strip(FRAMES, some_windows(3, 2)), "glimpse_size"),
        (lambda: strips.film_strip(FRAMES, some_windows(3, 2), 1), "glimpse_size"),
        (
            lambda: strips.film_strip(FRAMES, some_windows(2, 3), 3),
            "windows [T, B] = [3, 2], got g_x [2, 3]",
        ),
        (lambda: reconstruct(frames=pictures(4, 3, 8, 8, 1)), "images [B, H, W, C] and frames"),
        (lambda: reconstruct(kl_nats=-np.ones((4, 2))), "kl_nats"),
        (lambda: reconstruct(kl_nats=np.ones(4)), "kl_nats [T, B] = [4, 2]"),
        (lambda: reconstruct(errors=np.full((4, 2, 8, 8, 1), 2.0)), "errors"),
        (lambda: reconstruct(errors=pictures(3, 2, 8, 8, 1)), "errors [4, 2, 8, 8, 1]"),
        (lambda: reconstruct(glimpses=pictures(4, 1, 3, 3, 1)), "glimpses"),
        (lambda: reconstruct(glimpses=pictures(4, 2, 99, 99, 1)), "no larger"),
        (lambda: animations.animation(FRAMES, "a.mp4"), "ending in .gif or .webp, got a.mp4"),
        (lambda: animations.animation(FRAMES, "a.gif", seconds=0), "times above 0"),
        (lambda: animations.animation(FRAMES, "a.gif", columns=0), "columns"),
        (lambda: curves.report([], [], "a.png"), "rows with any of elbo_loss"),
        (lambda: curves.report(ROWS, [(1, pictures(8, 8, 1))], "a.png"), A_GRID),
        (lambda: curves.report(ROWS, [], "a.png", kl_nats=np.ones((2, 2))), "kl_nats [T]"),
        (lambda: curves.report(ROWS, [], "a.jpg"), ".png"),
        (lambda: curves.curves({}, "a.png"), "at least one series"),
        (lambda: curves.curves({"a": ([1, 2], [1])}, "a.png"), "one length for 'a'"),
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
