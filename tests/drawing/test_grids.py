import numpy as np
import pytest

from draw_jax.drawing.figures import grids, look
from tests.drawing.arrays import coloured, enlarged, pictures


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


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (7, 7, 1), (8, 4, 2), (10, 5, 2), (64, 8, 8)],
)
def test_a_grid_has_no_empty_cell_and_is_nearly_square(count, columns, rows):
    size = grids.grid(pictures(count, 2, 2, 1), scale=1, padding=0).size
    assert size == (2 * columns, 2 * rows)


def test_columns_are_those_asked_for():
    assert grids.grid(pictures(9, 2, 2, 1), columns=9, scale=1, padding=0).size == (18, 2)


@pytest.mark.parametrize("count", range(1, 200))
def test_no_layout_in_reach_has_fewer_empty_cells(count):
    columns = grids.even_columns(count)
    reach = [c for c in range(1, count + 1) if count <= c**2 <= 16 * count]
    assert columns in reach
    assert -count % columns == min(-count % c for c in reach)


@pytest.mark.parametrize("channels", [1, 3])
def test_nearest_column_is_apart_and_framed(channels):
    samples, neighbours = pictures(6, 5, 5, channels), pictures(2, 5, 5, channels, seed=1)
    sheet = np.asarray(grids.with_nearest(samples, neighbours, columns=3, scale=4))
    # frame 3, then three panels of 20 with padding 2; gap 24 // 6 = 4; frame 3, one panel, frame 3
    # and beneath a line of text, which is wider; the sheet stands at its right end.
    assert sheet.shape[0] == 3 + 46 + 3 + look.LINE and sheet.shape[1] > 102
    name, sheet = sheet[52:], sheet[:52, -102:]
    assert coloured(name, look.INK).any() and coloured(name, look.ACCENT).any()
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
    assert (
        frame[:, -1].all()
        and frame[-1, -24:].all()
        and frame[0, -24:].all()
        and not frame[10, :70].any()
    )


def test_a_sheet_too_large_is_refused_before_memory_is_asked_for(monkeypatch):
    monkeypatch.setattr(grids, "panels", lambda *_: pytest.fail("memory was asked for"))
    images = pictures(8, 28, 28, 1)
    message = r"100 million pixels, got 112,008 x 56,004; draw fewer rows or columns.*scale"
    with pytest.raises(ValueError, match=message):
        grids.grid(images, scale=1000)
    with pytest.raises(ValueError, match="at most 100 million pixels"):
        grids.with_nearest(images, images[:2], 4, scale=1000)
    with pytest.raises(ValueError, match="at most 100 million pixels"):
        grids.grid(images, scale=1, padding=10**6)


def test_the_largest_sheet_allowed_is_drawn_and_no_larger():
    look.check_size(10_000, 10_000)
    look.check_size(10_000, 1_000, frames=40)
    with pytest.raises(ValueError, match="got 10,000 x 10,001;"):
        look.check_size(10_000, 10_001)
    with pytest.raises(ValueError, match="41 frames of at most 400 .* 10,000 x 1,000 x 41;"):
        look.check_size(10_000, 1_000, frames=41)
    with pytest.raises(ValueError, match="got 114,000,000 x 114,000,000"):  # no overflow
        look.check_sheet(10**6, 10**6, 28, 28, None)
