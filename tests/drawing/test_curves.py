import math

import numpy as np
import pytest

from draw_jax.drawing.figures import curves
from tests.drawing.arrays import enlarged, pictures

ROWS = [
    {"step": step, "split": split, "elbo_loss": 90 + 500 / step, "nll": 70.0, "kl": 20 / step}
    for step in range(10, 400, 10)
    for split in ("train", "validation")
]


def draw_report(path, **kwargs):
    grids = [(step, pictures(20, 8, 8, 1)) for step in range(0, 700, 100)]
    return curves.report(ROWS, grids, path, **kwargs)


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
}


def panels(figure):
    """Returns the title of every panel -> what it shows."""
    return {axes.get_title(): axes for axes in figure.axes}


METRICS = {
    "elbo_loss": "negative ELBO, nats",
    "nll": "reconstruction (nll), nats",
    "kl": "KL, nats",
    "bits_per_dim": "bits per dimension",
    "error": "classification error",
    "cross_entropy": "cross-entropy, nats",
}


@pytest.mark.parametrize(
    "names", [["error"], ["error", "cross_entropy"], ["elbo_loss", "nll", "kl"], list(METRICS)]
)
def test_a_report_has_a_panel_for_every_metric_and_no_other(names):
    values = dict(zip(METRICS, np.arange(6), strict=True))
    rows = [
        {"step": step, "split": split, "grad_norm": 1.0}
        | {name: values[name] + step + (split == "train") / 2 for name in names}
        for step in (10, 20, 30)
        for split in ("train", "validation")
    ]
    shown = panels(curves.report_figure(rows, []))
    assert list(shown) == [METRICS[name] for name in names]
    for name in names:
        train, validation = shown[METRICS[name]].get_lines()
        assert (train.get_label(), validation.get_label()) == ("train", "validation")
        for line, more in ((train, 0.5), (validation, 0)):
            np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30])
            expected = values[name] + np.array([10, 20, 30]) + more
            np.testing.assert_array_equal(line.get_ydata(), expected)
        # Training is thin, validation is marked.
        assert train.get_linewidth() < validation.get_linewidth()
        assert not train.get_marker() and validation.get_marker() == "o"


def test_of_many_training_batches_a_report_shows_the_means():
    rng = np.random.default_rng(0)
    values = rng.normal(100, 20, 170)
    values[[3, 169]] = math.nan, math.inf
    rows = [{"step": 5 * k, "split": "train", "nll": v} for k, v in enumerate(values)]
    rows += [{"step": 5 * k, "split": "validation", "nll": 100.0} for k in (50, 100, 150)]
    raw, mean, validation = panels(curves.report_figure(rows, []))[METRICS["nll"]].get_lines()
    assert [line.get_label() for line in (raw, mean, validation)] == [
        *("train, single batches", "their running mean", "validation")
    ]
    assert raw.get_alpha() < 0.5
    assert len(raw.get_xdata()) == 170 and len(mean.get_xdata()) == 40
    finite = [
        (5 * k, v) for k, v in enumerate(values) if math.isfinite(v)
    ]  # 168: groups of 5 and 4
    sizes = [5] * 8 + [4] * 32
    for k, size in enumerate(sizes):
        group = finite[sum(sizes[:k]) : sum(sizes[: k + 1])]
        assert len(group) == size
        assert mean.get_xdata()[k] == pytest.approx(sum(x for x, _ in group) / size)
        assert mean.get_ydata()[k] == pytest.approx(sum(y for _, y in group) / size)


def test_a_report_shows_the_kl_of_each_time_step():
    rows = ROWS[:4]
    title = "KL of each time step, latest validation"
    assert title not in panels(curves.report_figure(rows, []))
    bars = panels(curves.report_figure(rows, [], np.array([3.0, 1.0, 2.0])))[title].patches
    assert [bar.get_height() for bar in bars] == [3, 1, 2]


CONFUSION = np.array([[0.4, 0.0, 0.1], [0.0001, 0.1999, 0.0], [0.0, 0.0, 0.3]])
MATRIX = "answers to the images of each label, %, latest validation"
PER_GLIMPSE = "error after each glimpse, latest validation"


def test_a_classifiers_report_shows_each_glimpse_and_what_is_confused():
    rows = [{"step": 1, "split": "validation", "error": 0.1, "cross_entropy": 0.3}]
    per_step = np.array([0.9, 0.5, 0.1])
    figure = curves.report_figure(rows, [], error_per_step=per_step, confusion=CONFUSION)
    shown = panels(figure)
    assert list(shown) == [METRICS["error"], METRICS["cross_entropy"], PER_GLIMPSE, MATRIX]
    assert [bar.get_height() for bar in shown[PER_GLIMPSE].patches] == [0.9, 0.5, 0.1]
    assert [text.get_text() for text in shown[PER_GLIMPSE].texts] == ["0.900", "0.500", "0.100"]
    matrix = shown[MATRIX]
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ("answer", "label")
    percent = [[80, 0, 20], [0.05, 99.95, 0], [0, 0, 100]]
    np.testing.assert_allclose(matrix.images[0].get_array(), percent)
    # (answer, label): what stands in the cell
    cells = {tuple(map(int, text.get_position())): text.get_text() for text in matrix.texts}
    assert cells == {(0, 0): "80", (2, 0): "20", (0, 1): "0.1", (1, 1): "100", (2, 2): "100"}
    colours = {text.get_text(): text.get_color() for text in matrix.texts}
    assert colours["80"] == "white" and colours["20"] != "white"


def test_a_report_of_one_glimpse_or_an_unseen_class_has_no_gaps(tmp_path):
    rows = [{"step": 1, "split": "validation", "error": 0.1}]
    rare = np.array([[0.99999, 0.00001, 0], [0, 0, 0], [0, 0, 0]])
    figure = curves.report_figure(rows, [], error_per_step=np.array([0.1]), confusion=rare)
    shown = panels(figure)
    assert list(shown) == [METRICS["error"], MATRIX]
    figure.draw_without_rendering()
    middle = shown[MATRIX].get_window_extent().get_points()[:, 0].mean()
    assert abs(middle / figure.bbox.width - 0.5) < 0.05
    assert [text.get_text() for text in shown[MATRIX].texts] == ["100", "<.1"]
    many = panels(curves.report_figure(rows, [], confusion=np.eye(100) / 100))[MATRIX]
    assert not many.texts and len(many.get_xticks()) == 20


def test_no_validation_of_a_few_is_cut_off():
    rows = [{"step": step, "split": "train", "error": 0.5} for step in range(1, 301)]
    rows += [{"step": k, "split": "validation", "error": 1 / k} for k in (1, 100, 200, 300)]
    low, high = panels(curves.report_figure(rows, []))[METRICS["error"]].get_ylim()
    assert low < 1 / 300 and high > 1


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"kl_nats": np.zeros((2, 2))}, r"expected kl_nats \[T\], got \[2, 2\]"),
        ({"error_per_step": np.zeros(0)}, r"expected error_per_step \[T\], got \[0\]"),
        ({"confusion": np.zeros((2, 3))}, r"expected confusion \[classes, classes\], got \[2, 3\]"),
    ],
)
def test_a_report_refuses_arrays_of_other_shapes(arrays, told):
    with pytest.raises(ValueError, match=told):
        curves.report_figure([{"step": 1, "split": "train", "error": 0.1}], [], **arrays)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 2), (4, 4), (5, 5), (12, 5)])
@pytest.mark.parametrize("images", [1, 7, 20, 100])
def test_a_report_shows_samples_over_time_without_empty_places(count, shown, images):
    given = [(100 * n, pictures(images, 8, 8, 1, seed=n)) for n in range(count)]
    figure = curves.report_figure(ROWS[:4], given)
    places = [axes for axes in figure.axes if "samples" in axes.get_title()]
    assert len(places) == shown and len(figure.axes) == 3 + shown
    assert all(len(axes.images) == 1 for axes in places)
    titles = [axes.get_title() for axes in places]
    assert titles[0] == "samples at update 0"
    assert titles[-1] == f"samples at update {100 * (count - 1):,}"
    # The last grid: the first images of the last step, from the top left.
    picture, scale = places[-1].images[0].get_array(), 14
    corner = np.s_[2 : 2 + 8 * scale, 2 : 2 + 8 * scale]
    np.testing.assert_array_equal(picture[corner], enlarged(given[-1][1][0], scale))
    if images == 100:
        columns = {1: 16, 2: 8, 4: 4, 5: 4}[shown]
        assert picture.shape[:2] == (4 * 114 + 2, columns * 114 + 2)


def test_curves_of_few_points_are_shown_whole_with_their_references(monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(curves, "save", lambda figure, path: kept.append(figure))
    glimpses = {"ours": ([4, 8], [0.05, 0.034])}
    curves.curves(glimpses, tmp_path / "a.png", "glimpses", references={"paper": 0.0336})
    long = {"ours": (range(100), [500.0] + 99 * [90.0]), "other": (range(100), 100 * [80.0])}
    curves.curves(long, tmp_path / "a.png")
    (few,), (many,) = (figure.axes for figure in kept)
    assert few.get_ylim()[0] < 0.0336 and few.get_ylim()[1] > 0.05
    assert all(tick == round(tick) for tick in few.get_xticks())
    assert many.get_ylim()[1] < 100  # without the fall from the start


@pytest.mark.parametrize("whole", [True, False])
def test_a_steep_beginning_is_cut_off_unless_all_is_wanted(tmp_path, monkeypatch, whole):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path: drawn.append(figure) or path)
    y = [1000.0] * 2 + [10.0 - 0.01 * k for k in range(98)]
    curves.curves({"a": (range(100), y)}, tmp_path / "a.png", whole=whole)
    assert (drawn[0].axes[0].get_ylim()[1] > 1000) == whole


def test_a_logarithmic_axis_has_plain_numbers(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path: drawn.append(figure) or path)
    curves.curves({"a": ([1, 2, 4], [51.0, 11.0, 4.0])}, tmp_path / "a.png", whole=True, log=True)
    axes = drawn[0].axes[0]
    low, high = axes.get_ylim()
    shown = [
        label.get_text()
        for label, at in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        if low <= at <= high
    ]
    assert axes.get_yscale() == "log" and shown == ["5", "10", "20", "50"]
