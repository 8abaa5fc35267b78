import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from draw_jax.drawing.figures import animations, look, rectangles, strips
from draw_jax.drawing.figures.look import PADDING
from tests.drawing.arrays import coloured, enlarged, pictures, some_windows


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_reads_back_with_its_frames(tmp_path, kind, channels):
    frames, windows = pictures(7, 4, 8, 8, channels), some_windows(7, 4)
    path = animations.animation(
        frames, tmp_path / f"drawn.{kind}", windows, 3, scale=5, seconds=1.4, hold_seconds=1.5
    )
    durations = []
    with Image.open(path) as picture:
        assert picture.n_frames == 8 and picture.info["loop"] == 0
        # Beneath the sheet stand t with its bar, and the legend, which is wider.
        assert picture.size[1] >= 2 * 42 + 2 + 2 * look.LINE and picture.size[0] >= 2 * 42 + 2
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
                    # 168 greys for 256, and 84 beneath a border
                    np.testing.assert_allclose(there.astype(int), panel, atol=1)
        picture.seek(7)  # the last picture once more, with nothing on it
        picture.load()
        assert picture.info["duration"] == 1500
        shown = np.asarray(picture.convert("RGB"))[:86, :86]
        assert not coloured(shown, look.WRITE).any()
        if kind == "webp":
            np.testing.assert_array_equal(shown[2:42, 2:42], enlarged(frames[6, 0], 5))
    assert len(set(durations)) == 1 and 150 <= durations[0] <= 200


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_colour_animation_shows_its_frames_but_for_the_rectangles(tmp_path, kind):
    # 75 colours, which have room among a GIF's 256; the rectangle changes with t.
    blocks = np.stack(np.meshgrid(*[[0.0, 0.25, 0.5, 0.75, 1.0]] * 2, [0.2, 0.6, 0.8]), -1)
    frames = np.random.default_rng(0).permutation(np.tile(blocks.reshape(-1, 3), (8, 1)))
    frames = frames.reshape(4, 1, 15, 10, 3).astype(np.float32)
    windows = some_windows(4, 1)
    windows.sigma_sq[:] = 0.0  # a line alone, nothing half transparent
    path = animations.animation(frames, tmp_path / f"a.{kind}", windows, 3, scale=6)
    with Image.open(path) as picture:
        for t in range(4):
            picture.seek(t)
            shown = np.asarray(picture.convert("RGB"))[2:92, 2:62]
            expected = enlarged(frames[t, 0], 6)
            mark = coloured(shown, look.WRITE)
            line = coloured(
                rectangles.draw_window(expected, rectangles.window_at(windows, t, 0), 3, 6),
                look.WRITE,
            )
            np.testing.assert_array_equal(mark, line)
            assert 10 < mark.sum() < mark.size / 4
            np.testing.assert_array_equal(shown[~mark], expected[~mark])


def test_a_gif_of_more_colours_than_it_has_is_near_to_each(tmp_path):
    y, x = np.mgrid[:32, :32] / np.float32(31)
    frames = np.stack([x, y, (x + y) / 2], -1)[None, None].repeat(3, 0)
    frames[1] = 1 - frames[1]
    path = animations.animation(frames, tmp_path / "a.gif", scale=1)
    with Image.open(path) as picture:
        for t in range(3):
            picture.seek(t)
            shown = np.asarray(picture.convert("RGB"))[2:34, 2:34]
            wrong = np.abs(shown.astype(int) - np.rint(255 * frames[t, 0]))
            assert wrong.mean() < 8 and wrong.max() < 40


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("time_steps", [1, 2, 64])
def test_still_frames_are_all_kept_and_tell_t(tmp_path, kind, time_steps):
    frames = np.zeros((time_steps, 1, 8, 8, 1), np.float32)
    path = animations.animation(frames, tmp_path / f"still.{kind}", scale=1)
    bars, texts = [], set()
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == time_steps
        for t in range(time_steps):
            picture.seek(t)
            line = np.asarray(picture.convert("RGB"))[-look.LINE :]
            left = PADDING + math.ceil(look.font().getlength(f"t = {time_steps} / {time_steps}"))
            texts.add(line[:, :left].tobytes())
            bars.append(coloured(line[:, left:], look.INK).sum())
            track = coloured(line[:, left:], look.INK) | coloured(line[:, left:], look.SHADE)
            assert track.sum() >= 4 * time_steps
    assert len(texts) == time_steps
    assert (np.diff(bars) > 0).all() and bars[-1] == track.sum()


@pytest.mark.parametrize(("count", "columns", "rows"), [(8, 4, 2), (7, 7, 1), (9, 3, 3)])
def test_no_place_of_an_animation_is_empty(tmp_path, count, columns, rows):
    path = animations.animation(
        np.ones((2, count, 8, 8, 1), np.float32), tmp_path / "a.webp", scale=20
    )
    with Image.open(path) as picture:
        assert picture.size == (columns * 162 + 2, rows * 162 + 2 + look.LINE)
        white = coloured(picture.convert("RGB"), (255, 255, 255))
    assert white.sum() == count * 160 * 160


@pytest.mark.parametrize("colour", [look.WRITE, look.READ])
def test_a_gif_shows_every_grey_beneath_a_border(tmp_path, colour):
    # Sixteen by sixteen pixels hold each of the 256 greys once; the border lies on many of them.
    frames = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16, 1) / 255
    windows = SimpleNamespace(
        g_x=np.array([[8.0]]),
        g_y=np.array([[8.0]]),
        sigma_sq=np.array([[100.0]]),
        delta=np.array([[8.0]]),
    )
    path = animations.animation(frames, tmp_path / "a.gif", windows, 2, colour, scale=8)
    panel = rectangles.draw_window(
        enlarged(frames[0, 0], 8), rectangles.window_at(windows, 0, 0), 2, 8, colour
    )
    beneath = (panel != panel[..., :1]).any(-1) & ~coloured(panel, colour)
    assert beneath.sum() > 1000 and coloured(panel, colour).sum() > 100
    with Image.open(path) as picture:
        shown = np.asarray(picture.convert("RGB"))[2:130, 2:130]
    np.testing.assert_allclose(shown.astype(int), panel, atol=1)
    np.testing.assert_array_equal(coloured(shown, colour), coloured(panel, colour))


@pytest.mark.parametrize(
    ("shape", "scale", "message"),
    [
        ((64, 8, 28, 28, 1), 100, "an animation of 64 frames of at most 400 million pixels"),
        ((1, 1, 28, 28, 1), 1000, "a picture of at most 100 million pixels"),
        ((2, 1, 5, 2000, 1), 10, "webp of at most 16,383 pixels a side, got 20,002; draw fewer"),
    ],
)
def test_an_animation_too_large_is_refused_before_any_frame(
    tmp_path, monkeypatch, shape, scale, message
):
    monkeypatch.setattr(strips, "strip", lambda *_: pytest.fail("memory was asked for"))
    with pytest.raises(ValueError, match=message):
        animations.animation(np.zeros(shape, np.float32), tmp_path / "a.webp", scale=scale)
    assert not list(tmp_path.iterdir())
