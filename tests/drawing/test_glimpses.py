"""What a classifier looks at and answers, drawn."""

import math

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image, ImageDraw
from scipy import special

from draw_jax.drawing import glimpses, kinds, own_picture
from draw_jax.drawing.figures import glimpses as figures
from draw_jax.drawing.figures import look, rectangles
from draw_jax.drawing.figures.look import LINE, PADDING
from draw_jax.model import build
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.model.variants import ram
from draw_jax.model.variants.convnet import ConvNet
from draw_jax.model.variants.ram import Ram
from tests import reference
from tests.drawing.arrays import coloured, enlarged, pictures, some_windows

T, B, CLASSES, N = 3, 4, 10, 3
SHAPE = (10, 12, 1)
PANEL = (90, 108)  # of these images at scale 9


initial = jax.jit(build.initial_variables, static_argnums=0)  # compiles far less than eagerly


@pytest.fixture(scope="module")
def classifier():
    model = GlimpseClassifier(SHAPE, T, lstm_size=6, read_size=N, classes=5, scales=2)
    variables = initial(model, jax.random.key(1))
    rng = np.random.default_rng(0)
    return model, jax.tree.map(
        lambda a: a + 0.3 * rng.standard_normal(a.shape, np.float32), variables
    )


def make_seen(scales=1, channels=1, **changes):
    rng = np.random.default_rng(3)
    seen = figures.Seen(
        images=pictures(B, 10, 12, channels),
        glimpses=pictures(scales, T, B, N, N, channels, seed=2),
        logits=2 * rng.standard_normal((T, B, CLASSES)),
        windows=some_windows(T, B),
        labels=np.array([3, 9, 0, 3]),
    )
    return seen._replace(**changes)


def blocks(picture, rows):
    """Returns where each image's panels begin: the top left corners of its first row."""
    shown = np.asarray(picture)
    height = 2 * LINE + rows * (PANEL[0] + PADDING) + figures._CLASSES + 2 * PADDING + look.GAP
    width = T * (PANEL[1] + PADDING) + PADDING + look.GAP
    columns = shown.shape[1] // width
    gutter = shown.shape[1] - columns * width
    return [
        (2 * LINE + PADDING + b // columns * height, gutter + PADDING + b % columns * width)
        for b in range(B)
    ]


def panel_at(picture, top, left):
    return np.asarray(picture)[top : top + PANEL[0], left : left + PANEL[1]]


@pytest.mark.parametrize(("scales", "channels"), [(1, 1), (3, 3)])
def test_a_sheet_has_windows_glimpses_and_bars_where_they_belong(scales, channels):
    seen = make_seen(scales, channels)
    picture = figures.sheet(seen, scale=9)
    below, right = PANEL[0] + PADDING, PANEL[1] + PADDING
    for b, (top, left) in enumerate(blocks(picture, 1 + scales)):
        for t in range(T):
            expected = rectangles.draw_window(
                enlarged(seen.images[b], 9),
                rectangles.window_at(seen.windows, t, b),
                N,
                9,
                look.READ,
            )
            np.testing.assert_array_equal(panel_at(picture, top, left + t * right), expected)
            for k in range(scales):
                row = top + (1 + k) * below
                patch = panel_at(picture, row, left + t * right)
                glimpse = enlarged(seen.glimpses[k, t, b], 30)  # 3 x 30 pixels: as large as fits
                np.testing.assert_array_equal(patch[:, 9:99], glimpse)
                assert coloured(patch[:, :9], look.BACKGROUND).all()
            bars = np.asarray(picture)[
                top + (1 + scales) * below + PADDING :,
                left + t * right : left + t * right + PANEL[1],
            ][: figures._CLASSES]
            assert_bars(bars, seen.logits[t, b], seen.labels[b])


def assert_bars(bars, logits, label):
    """Asserts that bars are the softmax, the answer's dark, the label's underlined."""
    assert bars.shape == (figures._CLASSES, PANEL[1], 3)
    weights = [math.exp(value) for value in logits]
    edges = np.linspace(0, PANEL[1], CLASSES + 1)
    for k in range(CLASSES):
        middle = int((edges[k] + edges[k + 1]) / 2)
        column = bars[: figures.BARS, middle]
        fill = look.INK if k == int(np.argmax(logits)) else look.SHADE
        pixels = coloured(column, fill).sum()
        assert pixels == round(figures.BARS * weights[k] / sum(weights))
        assert coloured(column, (255, 255, 255)).sum() == figures.BARS - pixels
        assert (
            bars[figures.BARS : -3, int(edges[k]) : int(edges[k + 1])] < 128
        ).any()  # its number
        assert coloured(bars[-1, middle], look.ACCENT) == (k == label)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_nothing_is_cut_off_where_words_are_wider_than_panels(labels, steps):
    seen = make_seen()
    seen = figures.Seen(
        seen.images[:1],
        seen.glimpses[:, :steps, :1],
        seen.logits[:steps, :1],
        some_windows(steps, 1),
        seen.labels[:1] if labels else None,
    )
    shown = np.asarray(figures.sheet(seen, scale=1))
    edge = np.concatenate([shown[0], shown[-1], shown[:, 0], shown[:, -1]])
    assert coloured(edge, look.BACKGROUND).all()
    after = special.softmax(seen.logits, axis=-1)[-1, 0]
    title = np.asarray(figures._line(figures._title(after, seen.labels, 0, last=True)))
    assert title.shape[1] > steps * (12 + PADDING)
    inked, here = (~coloured(part, look.BACKGROUND).all(axis=0) for part in (title, shown[:LINE]))
    left = np.flatnonzero(here)[0] - np.flatnonzero(inked)[0]
    np.testing.assert_array_equal(shown[:LINE, left : left + title.shape[1]], title)


def test_titles_tell_label_answer_and_verdict():
    probabilities = np.array([0.125, 0.625, 0.25])
    told = [
        figures._title(probabilities, labels, 0, last)
        for labels, last in (([1], True), ([2], True), ([2], False), (None, True))
    ]
    assert told == [
        "label 1, answer 1 (0.62): right",
        "label 2, answer 1 (0.62): wrong",
        "label 2, answer 1 (0.62)",
        "answer 1 (0.62)",
    ]
    right, wrong = (
        np.asarray(figures.sheet(make_seen(labels=np.array(labels)), scale=9))
        for labels in ([3, 9, 0, 3], [4, 9, 0, 3])
    )
    assert (right != wrong).any(axis=-1).any(axis=1)[:LINE].any()  # in the first title


@pytest.mark.parametrize(
    ("count", "time_steps", "size"),
    [(3, 8, (1000, 1000)), (3, 4, (1600, 450)), (1, 8, (1000, 400)), (8, 8, (1760, 1350))],
)
def test_a_few_large_images_fit_a_screen(count, time_steps, size):
    rng = np.random.default_rng(0)
    seen = figures.Seen(
        pictures(count, 100, 100, 1),
        pictures(1, time_steps, count, 12, 12, 1),
        rng.standard_normal((time_steps, count, 10)),
        some_windows(time_steps, count),
        np.zeros(count, np.int32),
    )
    picture = figures.sheet(seen)
    assert picture.width <= size[0] and picture.height <= size[1]
    assert picture.width >= time_steps * 100


def test_many_classes_have_bars_without_numbers():
    logits = np.zeros((T, B, 200))
    bars = figures._classes(special.softmax(logits, axis=-1)[0, 0], 150, 108)
    assert not (bars[figures.BARS : -3] < 128).any()
    assert coloured(bars[-1], look.ACCENT).any()


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_a_picture_per_glimpse(tmp_path, kind, channels):
    seen = make_seen(channels=channels)
    path = figures.animation(seen, tmp_path / f"a.{kind}", scale=9)
    with Image.open(path) as animation:
        assert animation.n_frames == T and animation.info["loop"] == 0
        for t in range(T):
            animation.seek(t)
            shown = np.asarray(animation.convert("RGB"))
            assert coloured(shown, look.ACCENT).sum() > 4 * 3 * 10  # the labels
            assert coloured(shown, look.READ).any()
            top, left = look.GAP + 2 * LINE, look.GAP
            expected = rectangles.draw_window(
                enlarged(seen.images[0], 9),
                rectangles.window_at(seen.windows, t, 0),
                N,
                9,
                look.READ,
            )
            there = shown[top : top + PANEL[0], left : left + PANEL[1]].astype(int)
            if kind == "webp":
                np.testing.assert_array_equal(there, expected)
            elif channels == 1:
                np.testing.assert_allclose(there, expected, atol=1)  # fewer greys
            bars = shown[top + PANEL[0] + PADDING :][: figures.BARS, left : left + 2 * PANEL[1]]
            probability = special.softmax(seen.logits, axis=-1)[t, 0].max()
            dark = coloured(bars, look.INK).any(axis=1).sum()
            assert dark == round(figures.BARS * probability)


@pytest.mark.parametrize(
    ("scales", "blurred", "told", "names"),
    [
        (1, True, ["read window", "thick border"], ["image", "glimpse"]),
        (1, False, ["read window"], ["image", "glimpse"]),
        (
            2,
            True,
            ["window of the narrowest patch", "thick border"],
            ["image", "narrowest patch", "2 × as wide"],
        ),
        (
            3,
            False,
            ["window of the narrowest patch"],
            ["image", "narrowest patch", "2 × as wide", "4 × as wide"],
        ),
    ],
)
def test_every_panel_and_border_is_explained(monkeypatch, scales, blurred, told, names):
    written = []
    monkeypatch.setattr(look, "write_text", lambda picture, xy, text, anchor: written.append(text))
    seen = make_seen(scales, blurred=blurred)
    for draw in (lambda: figures.sheet(seen, scale=9), lambda: next(figures._frames(seen, 9))):
        written.clear()
        draw()
        assert set(names) <= set(written)
        rectangle = [text for text in written if "window" in text or "border" in text]
        assert len(rectangle) == len(told)
        assert all(text.startswith(start) for text, start in zip(rectangle, told, strict=True))
    written.clear()
    next(figures._frames(seen, 1))
    assert not set(names) & set(written)  # wider than panels of 12 pixels


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": np.zeros((B, 10, 12, 2))}, "C 1 or 3"),
        ({"logits": np.zeros((T, B + 1, CLASSES))}, r"expected logits \[T, B = 4, classes\]"),
        ({"logits": np.full((T, B, CLASSES), np.nan)}, "expected finite logits"),
        ({"glimpses": pictures(1, T, B + 1, N, N, 1)}, r"expected glimpses \[S, T = 3, B = 4"),
        ({"glimpses": pictures(1, T, B, 11, 11, 1)}, "no larger than the images, got N = 11"),
        ({"finer": pictures(T, B, 11, 11, 1)}, "no larger than the images, got N = 11"),
        ({"labels": np.array([1, 2, 3])}, r"expected labels \[B = 4\] from 0 to 9"),
        ({"labels": np.array([1, 2, 3, 10])}, r"from 0 to 9, got \[1, 2, 3, 10\]"),
        ({"windows": some_windows(T, B + 1)}, r"expected windows \[T, B\] = \[3, 4\]"),
    ],
)
@pytest.mark.parametrize("draw", [figures.sheet, lambda seen: figures.animation(seen, "a.gif")])
def test_what_does_not_fit_is_refused(draw, changes, told):
    with pytest.raises(ValueError, match=told):
        draw(make_seen(**changes))


def test_what_is_shown_is_what_the_model_saw(classifier):
    model, variables = classifier
    images = pictures(5, *SHAPE)
    seen = glimpses.seen(model, variables, images, np.arange(5), jax.random.key(0))
    direct = jax.jit(lambda x: model.apply(variables, x, trace=True))(images)
    np.testing.assert_allclose(seen.logits, direct.logits, atol=1e-5)
    np.testing.assert_allclose(seen.windows.g_x, direct.windows.g_x, atol=1e-4)
    assert seen.glimpses.shape == (2, T, 5, N, N, 1) and seen.blurred
    for k, t, b in ((0, 0, 1), (1, 2, 4)):
        window = seen.windows
        one = {name: float(getattr(window, name)[t, b]) for name in window._fields}
        wide = one | {
            "delta": 2**k * one["delta"],
            "sigma_sq": 4**k * one["sigma_sq"],
            "gamma": 1.0,
        }
        expected = reference.read(images[b], reference.Window(**wide), N)
        np.testing.assert_allclose(seen.glimpses[k, t, b], expected, atol=1e-5)


def data_of(images, labels):
    asked = []

    def data(split, count):
        asked.append((split, count))
        return kinds.Data(images[:count], labels[:count])

    return data, asked


def test_the_kind_saves_what_it_shows_of_as_few_images_as_are_asked_for(classifier, tmp_path):
    model, variables = classifier
    images, labels = pictures(9, *SHAPE), np.arange(9) % 5
    data, asked = data_of(images, labels)
    job = kinds.Job(model, variables, jax.random.key(2), tmp_path, data, list, rows=2, scale=4)
    paths = kinds.of_model(model)["glimpses"](job)
    assert [path.name for path in paths] == [f"glimpses.{s}" for s in ("png", "npz", "gif", "webp")]
    assert asked == [("test", 2)]
    with np.load(tmp_path / "glimpses.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], images[:2])
        np.testing.assert_array_equal(arrays["labels"], labels[:2])
        windows = [arrays[f"read_{name}"] for name in reference.Window._fields]
        stored = figures.Seen(
            arrays["images"],
            arrays["glimpses"],
            arrays["logits"],
            reference.Window(*windows),
            arrays["labels"],
        )
        again = np.asarray(figures.sheet(stored, scale=4))
    with Image.open(tmp_path / "glimpses.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), again)


def test_a_digit_of_ones_own_is_as_large_as_those_of_the_clutter(tmp_path):
    image = Image.new("L", (300, 200), 255)
    ImageDraw.Draw(image).line((100, 20, 160, 20, 110, 180), fill=0, width=16)
    image.save(tmp_path / "seven.png")
    box = own_picture.box(ConfigDict({"name": "cluttered_mnist", "size": 100}))
    digit = own_picture.load(tmp_path / "seven.png", (100, 100, 1), box, False)[0, :, :, 0]
    rows = np.flatnonzero(digit.max(axis=1))
    assert rows[-1] - rows[0] + 1 == 20 and 30 < rows[0] < 50
    assert len(np.unique(digit)) > 2  # grey
    assert own_picture.box(ConfigDict({"name": "image_folder"})) is None


@pytest.mark.slow
def test_ram_shows_the_patches_that_its_retina_saw():
    model = Ram((10, 12, 1), T, 5, read_size=4, scales=2, core_size=6, location_std=0.5)
    variables = initial(model, jax.random.key(1))
    # Large enough weights to send it to places of its own.
    variables = jax.tree.map(lambda a: 8 * a, variables)
    images, key = pictures(B, 10, 12, 1), jax.random.key(5)
    seen = glimpses.seen(model, variables, images, None, key)
    noise = ram.first_location_noise(model, jax.random.split(key, B))
    episode = jax.jit(lambda x: model.apply(variables, x, noise))(images)
    np.testing.assert_allclose(seen.logits, episode.logits, rtol=1e-5, atol=1e-5)
    assert seen.glimpses.shape == (2, T, B, 4, 4, 1)
    places = np.clip(np.asarray(episode.locations), -1, 1)
    assert len({tuple(place) for place in places.reshape(-1, 2)}) > T
    for t in range(T):
        for b in range(B):
            expected = reference.retina(images[b], places[t, b], 4, 2)
            np.testing.assert_allclose(seen.glimpses[:, t, b], expected, atol=1e-6)
    assert not seen.blurred  # its patches have whole pixels and no sigma
    assert kinds.of_model(model) == kinds.of_model(GlimpseClassifier(SHAPE, T, 6, N, 5))


def test_a_convolutional_net_draws_nothing():
    assert kinds.of_model(ConvNet((10, 12, 1), 5)) == {}
