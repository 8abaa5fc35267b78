import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from draw_jax.drawing.figures import look, reconstructions, rectangles, strips
from tests.drawing.arrays import coloured, enlarged, pictures, some_windows


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
        values[:] = 1000.0  # all of them outside ...
    windows.delta[:] = 1.0
    windows.g_x[1, 1], windows.g_y[1, 1] = 8.0, 4.0  # ... but one, which crosses the right edge
    windows.delta[1, 1], windows.sigma_sq[1, 1] = 2.0, 1.0
    plain = np.asarray(strips.film_strip(frames, scale=5))
    drawn = np.asarray(strips.film_strip(frames, windows, 3, scale=5))
    panel = rectangles.draw_window(
        np.zeros((40, 40, 3), np.uint8), rectangles.window_at(windows, 1, 1), 3, 5
    )
    # Beneath the strip stands the legend, which is wider.
    top, left = plain.shape[0] - 42, 2 + 42
    key, drawn = drawn[plain.shape[0] :], drawn[: plain.shape[0], : plain.shape[1]]
    assert coloured(key, look.WRITE).any() and not coloured(key, look.READ).any()
    np.testing.assert_array_equal(drawn[top : top + 40, left : left + 40], panel)
    assert coloured(panel, look.WRITE).any()
    changed = (plain != drawn).any(-1)
    changed[top : top + 40, left : left + 40] = False
    assert not changed.any()


@pytest.mark.parametrize("colour", [look.WRITE, look.READ])
def test_a_colour_picture_is_as_it_was_but_for_the_rectangle(colour):
    frames = pictures(2, 1, 8, 8, 3)
    # Each of one pixel around pixels 2 to 6 across, and 3 to 5 and then 2 to 4 down: 5 picture
    # pixels each, the middle of pixel a beginning at 5 a - 3.
    windows = SimpleNamespace(
        g_x=np.array([[4.0], [4.0]]),
        g_y=np.array([[4.0], [3.0]]),
        sigma_sq=np.zeros((2, 1)),
        delta=np.array([[2.0], [2.0]]),
    )
    windows.g_y[0], windows.delta[0] = 4.0, 1.0
    strip = np.asarray(strips.film_strip(frames, windows, 3, colour, scale=5))
    for t, (left, top, right, bottom) in enumerate([(12, 12, 22, 22), (7, 2, 27, 22)]):
        panel = strip[look.LINE + 2 : look.LINE + 42, 2 + 42 * t : 42 + 42 * t]
        expected = enlarged(frames[t, 0], 5)
        for y, x in np.ndindex(40, 40):
            across, down = left <= x <= right, top <= y <= bottom
            if (across and y in (top, bottom)) or (down and x in (left, right)):
                expected[y, x] = colour
        np.testing.assert_array_equal(panel, expected)


def test_the_colours_are_those_of_the_docs():
    assert (look.WRITE, look.READ, look.ACCENT) == ((228, 32, 36), (64, 208, 96), (0, 114, 178))


@pytest.mark.parametrize("time_steps", [1, 2, 7, 10, 11, 32, 64])
def test_chosen_steps_are_few_and_even_with_both_ends(time_steps):
    steps = strips.evenly_spaced(time_steps)
    assert steps[0] == 1 and steps[-1] == time_steps
    assert len(steps) == min(time_steps, 10) == len(set(steps))
    gaps = np.diff(steps)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


# Reconstructions


def reconstruct(count=2, steps=4, shown=None, **kwargs):
    kl_nats = 3 * pictures(steps, count)
    arguments = {
        "images": pictures(count, 8, 8, 1),
        "frames": pictures(steps, count, 8, 8, 1, seed=1),
        "kl_nats": kl_nats,
        "steps": shown,
        "scale": 5,
    }
    return reconstructions.reconstruction(**(arguments | kwargs))


def block_of(kinds):
    """Returns the size of a block of four 40 x 40 panels a row: 240 wide, for its text."""
    return 240 + 14, look.LINE + 42 * kinds + 2 + 48 + look.LINE + 14


def test_a_reconstruction_shows_reads_in_green_and_writes_in_red():
    windows = some_windows(4, 2)
    plain = np.asarray(reconstruct())
    width, height = block_of(2)
    # Two images side by side, and a legend of one line.
    assert plain.shape[:2] == (height + look.LINE, 60 + 2 * width)
    read = np.asarray(reconstruct(read_windows=windows, read_size=3))
    written = np.asarray(reconstruct(write_windows=windows, write_size=3))
    assert not coloured(plain, look.READ).any() and not coloured(plain, look.WRITE).any()
    green, red = coloured(read, look.READ), coloured(written, look.WRITE)
    # The legend tells one colour from the other.
    assert green[height:].any() and red[height:].any()
    assert not coloured(read, look.WRITE).any() and not coloured(written, look.READ).any()
    # Each image's block: reads in the input's row, writes in the canvas' row beneath.
    green, red = green[:height], red[:height]
    for b in range(2):
        across = slice(60 + b * width, 60 + (b + 1) * width)
        inputs, canvases = np.s_[22:62, across], np.s_[64:104, across]
        assert green[inputs].any() and red[canvases].any()
        green[inputs], red[canvases] = False, False
    assert not green.any() and not red.any()


def test_a_reconstruction_has_a_row_for_each_thing_given():
    rows = reconstruct().height
    errors = 2 * pictures(4, 2, 8, 8, 1) - 1
    glimpses = 3 * pictures(4, 2, 3, 3, 1) - 1
    legend = look.LINE  # which explains the shades of errors in a line more
    assert reconstruct(errors=errors).height == rows + 42 + legend
    assert reconstruct(errors=errors, glimpses=glimpses).height == rows + 2 * 42 + legend


def test_bars_are_as_tall_as_the_kl_on_one_scale_for_all_images():
    kl_nats = np.array([[4.0, 2.0], [2.0, 1.0], [0.0, 0.0], [1.0, 2.0]])
    picture = np.asarray(reconstruct(kl_nats=kl_nats, steps=4))
    width, height = block_of(2)
    bars = np.s_[height - 14 - look.LINE - 48 : height - 14 - look.LINE - 1]
    ink = coloured(picture, look.INK)[bars]
    for b in range(2):
        panels = 4 * 42 - 2  # between the outer paddings
        left = 60 + b * width + 2
        tall = [ink[:, int(left + (t + 0.4) * panels / 4)].sum() for t in range(4)]
        # The tallest of all is 40; the base line covers a bar's lowest pixel.
        np.testing.assert_allclose(tall, 10 * kl_nats[:, b], atol=1)


def test_bars_of_the_steps_shown_are_dark_and_the_others_light():
    picture = np.asarray(reconstruct(count=1, kl_nats=np.ones((4, 1)), steps=4, shown=[2, 4]))
    top = look.LINE + 42 * 2 + 2
    bars = picture[top + 20, 60:]  # midway up
    edges = np.linspace(2, 84, 5)
    middles = [bars[int((low + high) / 2) - 1] for low, high in itertools.pairwise(edges)]
    expected = [look.SHADE, look.INK, look.SHADE, look.INK]
    np.testing.assert_array_equal(middles, expected)


def default_reconstruction(count, time_steps, size, channels=1, glimpse=2):
    errors = 2 * pictures(time_steps, count, *size, channels) - 1
    windows = SimpleNamespace(
        **{name: np.ones((time_steps, count)) for name in ("g_x", "g_y", "sigma_sq", "delta")}
    )
    return reconstructions.reconstruction(
        pictures(count, *size, channels),
        pictures(time_steps, count, *size, channels),
        np.ones((time_steps, count)),
        errors=errors,
        glimpses=pictures(time_steps, count, glimpse, glimpse, channels),
        read_windows=windows,
        read_size=glimpse,
        write_windows=windows,
        write_size=5,
    )


@pytest.mark.parametrize(
    ("size", "channels", "count"),
    [((28, 28), 1, count) for count in range(1, 9)]
    + [((32, 32), 3, 8), ((54, 54), 3, 8), ((5, 7), 1, 8), ((100, 60), 3, 4)],
)
def test_reconstructions_fit_a_screen(size, channels, count):
    picture = default_reconstruction(count, 64, size, channels)
    assert picture.width <= 1600 and picture.height <= 1000


@pytest.mark.parametrize(
    ("count", "time_steps", "size", "channels"),
    [(8, 32, (32, 32), 3), (8, 1, (5, 7), 1), (3, 5, (100, 60), 3), (16, 64, (28, 28), 1)],
)
def test_no_reconstruction_is_wider_than_a_screen(count, time_steps, size, channels):
    assert default_reconstruction(count, time_steps, size, channels).width <= 1600


@pytest.mark.parametrize("count", [8, 7])
def test_a_reconstruction_shows_every_image_whole(count):
    # White images and canvases, black errors: all pixels of all blocks are there.
    picture = np.asarray(
        reconstructions.reconstruction(
            np.ones((count, 28, 28, 1)), np.ones((64, count, 28, 28, 1)), np.zeros((64, count))
        )
    )
    white = coloured(picture, (255, 255, 255)).sum()
    shown = {(n, s): count * 2 * n * (28 * s) ** 2 for n in range(5, 11) for s in (2, 3, 4)}
    assert white in shown.values()


def test_no_text_beneath_the_bars_is_cut_off():
    # The widest numbers: a mark in the last column of the block would be one cut off.
    picture = np.asarray(reconstruct(count=1, kl_nats=np.full((4, 1), 1999.9), steps=4))
    height = block_of(2)[1]
    text = picture[height - 14 - look.LINE : height - 14, 60:]
    dark = (text < look.SHADE[0]).any((0, 2))
    assert dark.any() and not dark[236:].any()


@pytest.mark.parametrize("draw", ["strip", "reconstruction"])
def test_a_strip_too_large_is_refused_before_memory_is_asked_for(monkeypatch, draw):
    monkeypatch.setattr(look, "panels", lambda *_: pytest.fail("memory was asked for"))
    frames = pictures(4, 2, 8, 8, 1)
    with pytest.raises(ValueError, match="at most 100 million pixels, got .* smaller scale"):
        if draw == "strip":
            strips.film_strip(frames, scale=1000)
        else:
            reconstruct(scale=1000)
