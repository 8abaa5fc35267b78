import math
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from draw_jax.drawing.figures import animations, curves, filters, grids, look, rectangles, strips


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


# Grids


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (5, 3, 2), (6, 3, 2), (7, 3, 3)])
def test_every_panel_of_a_grid_is_the_enlarged_image(channels, count, columns, rows):
    images = pictures(count, 4, 6, channels)
    sheet = np.asarray(grids.grid(images, columns=3 if count > 1 else None, scale=3, padding=2))
    assert sheet.shape == (rows * 14 + 2, columns * 20 + 2, 3)
    covered = np.zeros(sheet.shape[:2], bool)
    for n in range(count):
        i, j = divmod(n, columns)
        panel = np.s_[2 + 14 * i : 14 + 14 * i, 2 + 20 * j : 20 + 20 * j]
        np.testing.assert_array_equal(sheet[panel], enlarged(images[n], 3))
        covered[panel] = True
    assert coloured(sheet, look.BACKGROUND)[~covered].all() and (~covered).any()


@pytest.mark.parametrize(("size", "scale"), [(8, 14), (28, 4), (54, 2), (100, 1), (500, 1)])
def test_small_images_are_enlarged_until_they_are_readable(size, scale):
    assert grids.grid(pictures(1, size, size, 1), padding=0).size == (size * scale,) * 2


def test_a_grid_is_square_unless_told_otherwise():
    assert grids.grid(pictures(9, 2, 2, 1), scale=1, padding=0).size == (6, 6)
    assert grids.grid(pictures(9, 2, 2, 1), columns=9, scale=1, padding=0).size == (18, 2)


def test_nearest_column_is_apart_and_framed():
    samples, neighbours = pictures(6, 5, 5, 1), pictures(2, 5, 5, 1, seed=1)
    sheet = np.asarray(grids.with_nearest(samples, neighbours, columns=3, scale=4))
    # frame 3, then three panels of 20 with padding 2; gap 24 // 6 = 4; frame 3, one panel, frame 3
    assert sheet.shape == (3 + 46 + 3, 3 + 68 + 4 + 24 + 3, 3)
    for row in range(2):
        top = 3 + 2 + 22 * row
        for column in range(3):
            left = 3 + 2 + 22 * column
            panel = sheet[top : top + 20, left : left + 20]
            np.testing.assert_array_equal(panel, enlarged(samples[3 * row + column], 4))
        left = sheet.shape[1] - 3 - 2 - 20
        panel = sheet[top : top + 20, left : left + 20]
        np.testing.assert_array_equal(panel, enlarged(neighbours[row], 4))
    frame = coloured(sheet, look.ACCENT)
    assert frame.any(0).nonzero()[0][0] == 3 + 68 + 4 - 3
    assert frame[:, -1].all() and frame[0, -24:].all() and not frame[10, :70].any()


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


@pytest.mark.parametrize("sigma", [0.0, 0.2, 1.0, 2.0, 3.0])
def test_border_is_as_wide_as_sigma_says(sigma):
    scale = 4
    panel = np.zeros((40 * scale, 40 * scale, 3), np.uint8)
    window = one_window(g_x=20.5, g_y=20.5, sigma_sq=sigma**2, delta=10.0)
    drawn = coloured(rectangles.draw_window(panel, window, 3, scale), look.WRITE)
    width = max(1, round(0.75 * sigma * scale))
    middle = drawn[80].nonzero()[0]
    assert len(middle) == 2 * width
    for border, edge in ((middle[:width], 10.5), (middle[width:], 30.5)):
        assert border[-1] - border[0] == width - 1
        # Centred on the edge to half a picture pixel.
        assert abs((border[0] + border[-1] + 1) / 2 - (edge - 0.5) * scale) <= 0.5


def test_a_very_blurred_border_leaves_the_picture_visible():
    panel = np.zeros((80, 80, 3), np.uint8)
    window = one_window(g_x=10.5, g_y=10.5, sigma_sq=1e6, delta=5.0)
    drawn = coloured(rectangles.draw_window(panel, window, 3, 4), look.WRITE)
    assert drawn[40].sum() == 2 * 10


@pytest.mark.parametrize(
    "centre", [(-50.0, 5.0), (5.0, 500.0), (1e30, 5.0), (5.0, -1e30), (-20.0, -20.0)]
)
def test_a_window_outside_leaves_the_panel_alone(centre):
    panel = enlarged(pictures(10, 10, 1), 3)
    window = one_window(g_x=centre[0], g_y=centre[1], sigma_sq=4.0)
    np.testing.assert_array_equal(rectangles.draw_window(panel, window, 3, 3), panel)


def test_a_window_larger_than_the_image_leaves_the_panel_alone():
    panel = enlarged(pictures(10, 10, 1), 3)
    drawn = rectangles.draw_window(panel, one_window(5.5, 5.5, 1.0, 100.0), 3, 3)
    np.testing.assert_array_equal(drawn, panel)


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
    changed = (drawn != panel).any(-1)
    assert coloured(drawn, look.READ)[changed].all()


@pytest.mark.parametrize("field", ["g_x", "g_y", "sigma_sq", "delta"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_window_that_is_not_finite_is_an_error(field, value):
    with pytest.raises(ValueError, match=f"{field} {value}"):
        rectangles.draw_window(np.zeros((9, 9, 3), np.uint8), one_window(**{field: value}), 3, 1)


# Film strips


def test_a_film_strip_has_a_row_per_sample_and_a_column_per_step():
    frames = pictures(6, 2, 4, 5, 1)
    strip = np.asarray(strips.film_strip(frames, steps=[1, 4, 6], scale=8))
    header = strip.shape[0] - (2 * 34 + 2)
    assert strip.shape[1] == 3 * 42 + 2 and header > 0
    for b in range(2):
        for column, t in enumerate([1, 4, 6]):
            top, left = header + 2 + 34 * b, 2 + 42 * column
            panel = strip[top : top + 32, left : left + 40]
            np.testing.assert_array_equal(panel, enlarged(frames[t - 1, b], 8))
    assert not coloured(strip[:header], look.BACKGROUND).all()  # the steps' numbers


def test_a_window_of_a_film_strip_stays_in_its_panel():
    frames = np.zeros((3, 2, 8, 8, 1), np.float32)
    windows = some_windows(3, 2)
    for values in vars(windows).values():
        values[:] = 100.0  # all of them outside ...
    windows.g_x[1, 1], windows.g_y[1, 1] = 8.0, 4.0  # ... but one, which crosses the right edge
    windows.delta[1, 1], windows.sigma_sq[1, 1] = 2.0, 1.0
    plain = np.asarray(strips.film_strip(frames, scale=5))
    drawn = np.asarray(strips.film_strip(frames, windows, 3, scale=5))
    panel = rectangles.draw_window(
        np.zeros((40, 40, 3), np.uint8), rectangles.window_at(windows, 1, 1), 3, 5
    )
    top, left = plain.shape[0] - 42, 2 + 42
    np.testing.assert_array_equal(drawn[top : top + 40, left : left + 40], panel)
    assert coloured(panel, look.WRITE).any()
    changed = (plain != drawn).any(-1)
    changed[top : top + 40, left : left + 40] = False
    assert not changed.any()


@pytest.mark.parametrize("time_steps", [1, 2, 7, 10, 11, 32, 64])
def test_chosen_steps_are_few_and_even_with_both_ends(time_steps):
    steps = strips.evenly_spaced(time_steps)
    assert steps[0] == 1 and steps[-1] == time_steps
    assert len(steps) == min(time_steps, 10) == len(set(steps))
    gaps = np.diff(steps)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def reconstruct(count=2, steps=4, **kwargs):
    kl_nats = 3 * pictures(steps, count)
    arguments = {
        "images": pictures(count, 8, 8, 1),
        "frames": pictures(steps, count, 8, 8, 1, seed=1),
        "kl_nats": kl_nats,
        "scale": 5,
    }
    return strips.reconstruction(**(arguments | kwargs))


def test_a_reconstruction_shows_reads_in_green_and_writes_in_red():
    windows = some_windows(4, 2)
    plain = np.asarray(reconstruct())
    read = np.asarray(reconstruct(read_windows=windows, read_size=3))
    written = np.asarray(reconstruct(write_windows=windows, write_size=3))
    assert plain.shape == read.shape == written.shape
    green, red = coloured(read, look.READ), coloured(written, look.WRITE)
    assert green.any() and not coloured(plain, look.READ).any()
    red &= ~coloured(plain, look.WRITE)  # the bars of the shown steps are red too
    assert red.any()
    # Each image's block: reads in the input's row, writes in the canvas' row beneath.
    block = (plain.shape[0] - 20) // 2
    for b in range(2):
        top = 20 + b * block
        inputs, canvases = np.s_[top + 2 : top + 42], np.s_[top + 44 : top + 84]
        assert green[inputs].any() and red[canvases].any()
        green[inputs], red[canvases] = False, False
    assert not green.any() and not red.any()


def test_a_reconstruction_has_a_row_for_each_thing_given():
    rows = reconstruct().height
    errors = 2 * pictures(4, 2, 8, 8, 1) - 1
    glimpses = 3 * pictures(4, 2, 3, 3, 1) - 1
    assert reconstruct(errors=errors).height == rows + 2 * 42
    assert reconstruct(errors=errors, glimpses=glimpses).height == rows + 4 * 42


def test_bars_are_as_tall_as_the_kl():
    kl_nats = np.array([[4.0], [2.0], [0.0], [1.0]])
    picture = np.asarray(reconstruct(count=1, kl_nats=kl_nats, steps=4))
    red = coloured(picture, look.WRITE)
    left, width = 64 + 2, (picture.shape[1] - 64 - 4) / 4
    tall = [red[:, int(left + (t + 0.4) * width)].sum() for t in range(4)]
    # The tallest is 48; the base line covers a bar's lowest pixel.
    np.testing.assert_allclose(tall, [48, 24, 0, 12], atol=1)


# Animations


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_reads_back_with_its_frames(tmp_path, kind, channels):
    frames, windows = pictures(7, 4, 8, 8, channels), some_windows(7, 4)
    path = animations.animation(
        frames, tmp_path / f"drawn.{kind}", windows, 3, scale=5, seconds=1.4, hold_seconds=1.5
    )
    durations = []
    with Image.open(path) as picture:
        assert picture.n_frames == 7 and picture.info["loop"] == 0
        assert picture.size == (2 * 42 + 2, 2 * 42 + 2 + 4)
        for t in range(7):
            picture.seek(t)
            picture.load()
            durations.append(picture.info["duration"])
            shown = np.asarray(picture.convert("RGB"))
            for b in range(4):
                panel = rectangles.draw_window(
                    enlarged(frames[t, b], 5), rectangles.window_at(windows, t, b), 3, 5
                )
                top, left = 2 + 42 * (b // 2), 2 + 42 * (b % 2)
                there = shown[top : top + 40, left : left + 40]
                assert coloured(there, look.WRITE)[coloured(panel, look.WRITE)].all()
                if kind == "webp":
                    np.testing.assert_array_equal(there, panel)
                elif channels == 1:
                    # 252 greys for 256
                    np.testing.assert_allclose(there.astype(int), panel, atol=1)
    assert durations == [200] * 6 + [1500]


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("time_steps", [1, 2, 64])
def test_still_frames_are_all_kept(tmp_path, kind, time_steps):
    frames = np.zeros((time_steps, 1, 8, 8, 1), np.float32)
    path = animations.animation(frames, tmp_path / f"still.{kind}", scale=1)
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == time_steps
        assert picture.size[0] == max(12, time_steps)


# Plots


ROWS = [
    {"step": step, "split": split, "elbo_loss": 90 + 500 / step, "nll": 70.0, "kl": 20 / step}
    for step in range(10, 400, 10)
    for split in ("train", "validation")
]


def draw_report(path, **kwargs):
    grids = [(step, pictures(20, 8, 8, 1)) for step in range(0, 700, 100)]
    return curves.report(ROWS, grids, path, **kwargs)


def draw_filters(path):
    windows = SimpleNamespace(**{k: v[0] for k, v in vars(some_windows(1, 2)).items()})
    image, patches = pictures(9, 12, 3), 2 * pictures(2, 4, 4, 3)
    return filters.filter_figure(image, windows, patches, path, pictures(2, 9, 12, 3))


PLOTS = {
    "report": draw_report,
    "report with bars": lambda path: draw_report(path, kl_nats=np.arange(5.0), title="a run"),
    "report, no samples": lambda path: curves.report(ROWS, [], path),
    "report, one row": lambda path: curves.report(ROWS[:1], [], path),
    "report, classifier": lambda path: curves.report(
        [{"step": 1, "split": "train", "error": 0.5}, {"step": 2, "split": "train"}], [], path
    ),
    "report, diverged": lambda path: curves.report(
        [{"step": s, "split": "train", "nll": math.nan} for s in (1, 2)], [], path
    ),
    "curves": lambda path: curves.curves(
        {"a": ([1, 2, 3], [3.0, math.nan, 1.0])}, path, references={"paper": 2.0}, title="t"
    ),
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
