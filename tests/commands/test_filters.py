import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from draw_jax.drawing import filters
from draw_jax.model import attention
from tests.helpers import assert_one_error, program


def some_image(height=30, width=40, channels=3):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (height, width, channels)).astype(np.float32)


@pytest.fixture
def photograph(tmp_path):
    y, x = np.mgrid[:60, :80]
    picture = np.stack([3 * x, 4 * y, 255 - 3 * x], -1).astype(np.uint8)
    path = tmp_path / "photograph.PNG"
    Image.fromarray(picture).save(path)
    return path


def test_the_read_of_a_known_window_is_the_pixels_under_it():
    image = some_image(9, 9)
    # Stride 2 about pixel 5: the filters lie on pixels 3, 5, 7; half a pixel of sigma weighs a
    # pixel and its two neighbours 1 : exp(-2) : exp(-2), the next ones exp(-8) = 0.0003.
    window = filters.windows([2.0], [0.0], image)
    (glimpse,) = attention.read(image[None], window, 3)
    weights = np.exp(-2 * np.arange(-2, 3) ** 2)
    weights /= weights.sum()
    patches = np.lib.stride_tricks.sliding_window_view(image, (5, 5), (0, 1))[::2, ::2]
    expected = np.einsum("ijcab,a,b->ijc", patches, weights, weights)
    np.testing.assert_allclose(glimpse, expected, atol=1e-4)  # the filters' tails end at 2 here


def test_windows_lie_at_the_centre_with_the_widths_asked_for():
    windows = filters.windows([1.0, 4.0], [0.1, 3.0], some_image(30, 40))
    np.testing.assert_array_equal(windows.g_x, [20.5, 20.5])
    np.testing.assert_array_equal(windows.g_y, [15.5, 15.5])
    np.testing.assert_array_equal(windows.delta, [1, 4])
    np.testing.assert_array_equal(windows.sigma_sq, [0.25, 9])
    np.testing.assert_array_equal(windows.gamma, [1, 1])


@pytest.mark.parametrize("stride", [0.5, 1.0, 2.0])
def test_an_even_picture_is_written_back_as_it_was_inside_the_window(stride):
    image = np.full((40, 50, 3), (0.2, 0.5, 0.9), np.float32)
    window = filters.windows([stride], [0.7 * stride], image)
    glimpse = attention.read(image[None], window, 12)
    (back,) = filters.written_back(np.asarray(glimpse), window, image)
    assert back.shape == image.shape
    half = int(3.5 * stride) or 1  # two strides away from the window's border, and more
    inside = np.s_[20 - half : 20 + half, 25 - half : 25 + half]
    # Filters 0.7 strides wide ripple by 0.01 %; where sigma is 0.35 pixels, pixels do by 2 %.
    np.testing.assert_allclose(back[inside], image[inside], rtol=0.05)
    assert back[:3].max() < 1e-3  # and nothing far from it


def test_two_filters_are_outer_products_at_the_windows_corners():
    image = some_image(60, 70)
    window = filters.windows([4.0], [2.0], image)
    pair = filters.two_filters(window, 5, image)
    assert pair.shape == (1, 2, 60, 70, 1)
    np.testing.assert_allclose(pair.max(axis=(2, 3, 4)), 1)
    f_x, f_y = attention.filterbanks(window, 5, 60, 70)
    for k, (first, row) in enumerate(zip((pair[0, 0], pair[0, 1]), (0, 4), strict=True)):
        outer = np.outer(f_y[0, row], f_x[0, row])
        np.testing.assert_allclose(first[..., 0], outer / outer.max(), atol=1e-6)
        y, x = (first[..., 0].sum(axis) @ np.arange(1, n + 1) for axis, n in ((1, 60), (0, 70)))
        sign = 2 * k - 1
        np.testing.assert_allclose(
            [y / first.sum(), x / first.sum()], [30.5 + 8 * sign, 35.5 + 8 * sign], atol=0.01
        )


def test_the_written_back_glimpse_resembles_the_picture_where_it_was_read():
    y, x = np.mgrid[:60, :80]
    image = ((np.sin(x / 6) + np.cos(y / 5) + 2) / 4)[..., None].astype(np.float32)
    stride = filters.widest_stride(image, 12)
    window = filters.windows([stride / 2], [0.3 * stride], image)
    glimpse = np.asarray(attention.read(jnp.asarray(image)[None], window, 12))
    (back,) = filters.written_back(glimpse, window, image)
    inside = np.s_[20:40, 30:50]
    assert np.corrcoef(back[inside].ravel(), image[inside].ravel())[0, 1] > 0.98
    assert abs(back[inside].mean() - image[inside].mean()) < 0.02


def test_pictures_are_made_smaller_and_keep_their_shape(photograph):
    colour = filters.load_picture(photograph, 40)
    assert colour.shape == (30, 40, 3) and colour.dtype == np.float32
    grey = filters.load_picture(photograph, 1000, colour=False)
    assert grey.shape == (60, 80, 1)  # none is made larger
    assert 0 <= colour.min() < 0.1 and 0.8 < colour.max() <= 1


def test_the_default_picture_ships_with_scikit_learn():
    image = filters.load_picture(None)
    assert image.shape == (67, 100, 3) and image.std() > 0.1
    assert filters.load_picture(None, 50, colour=False).shape == (33, 50, 1)


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 60, 3)])
def test_three_figures_appear_and_show_something(tmp_path, shape):
    paths = filters.draw(some_image(*shape), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["filter_grid.png", "precision.png", "zoom.png"]
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert min(pixels.shape[:2]) >= 100 and pixels.std() > 20
        border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert all((edge == 255).all() for edge in border)  # nothing is cut off


def test_values_out_of_range_are_named(tmp_path):
    image = some_image(20, 30)
    for options, message in (
        ({"glimpse_size": 1}, "--glimpse_size: expected 2 to 20, .* got 1"),
        ({"glimpse_size": 21}, "--glimpse_size: expected 2 to 20, .* got 21"),
        ({"grid_size": 1}, "--grid_size: expected 2 to 20"),
    ):
        with pytest.raises(ValueError, match=message):
            filters.draw(image, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="--size: expected at least 2"):
        filters.load_picture(None, 1)
    assert not (tmp_path / "out").exists()


def test_what_is_no_picture_is_one_line(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    for name, cause in (("text.png", "no PNG, JPEG or WebP"), ("no.png", "No such"), ("", "Is a")):
        with pytest.raises(filters.NoPicture, match=cause) as caught:
            filters.load_picture(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_the_command_draws_and_prints_the_files(tmp_path, photograph):
    result = program(
        "draw_jax.filters", photograph, f"--out={tmp_path}", "--glimpse_size=5", "--size=40"
    )
    names = [str(tmp_path / name) for name in ("filter_grid.png", "precision.png", "zoom.png")]
    assert (result.returncode, result.stderr, result.stdout.split()) == (0, "", names)
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)


def test_an_error_is_one_line_and_an_exit_code(tmp_path):
    result = program("draw_jax.filters", "nowhere.png", f"--out={tmp_path / 'out'}")
    assert_one_error(result, 1, "cannot read nowhere.png: No such file or directory")
    assert result.stdout == "" and not (tmp_path / "out").exists()
