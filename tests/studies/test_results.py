"""The follow-up study's tables, against sums written out."""

import math

import numpy as np
import pytest
from PIL import Image

from draw_jax import configs
from draw_jax.drawing.figures import estimates
from draw_jax.studies import kernels, results, rows
from draw_jax.studies.rows import ROWS


def runs(*losses):
    bound = {"importance_weighted_nll": 7.0, "minutes": 12.3}
    return [{"elbo_loss": loss} | bound | three(loss) for loss in losses]


def three(loss):
    """Returns both readings of measure 7: mean, standard deviation and maximum."""
    factors = {"": 1, "_std": 0.25, "_max": 2}
    names = {"nearest_nll": 1, "nearest_rounded_nll": 6}
    return {f"{n}{end}": a * b * loss for n, a in names.items() for end, b in factors.items()}


MEASURED = {"study": runs(100.0, 102.0, 101.5), "study_t1": runs(120.0, 118.0), "study_t2": []}


def by_hand(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def test_the_mean_over_seeds_and_its_standard_error():
    values = [100.0, 102.0, 101.5]
    estimate = results.over_seeds(values)
    assert estimate == pytest.approx(by_hand(values))
    assert estimate.text(2) == "101.17 +- 0.60" and estimate.text(0, sign=True) == "+101 +- 1"
    alone = results.over_seeds([1370.0])
    assert alone.mean == 1370 and math.isnan(alone.error) and alone.text(0) == "1,370"


def test_the_worth_is_the_difference_of_means_of_independent_runs():
    row = next(row for row in ROWS if row.config == "study_t1")
    (ours, e1), (base, e2) = by_hand([120.0, 118.0]), by_hand([100.0, 102.0, 101.5])
    assert results.worth(MEASURED, row) == pytest.approx((ours - base, math.sqrt(e1**2 + e2**2)))
    assert [row.config for row in results.compared(MEASURED, ROWS)] == ["study_t1"]
    assert results.compared({"study_t1": runs(1.0)}, ROWS) == []


def test_the_table_has_the_rows_that_were_run_beside_the_report():
    lines = results.table(MEASURED, ROWS, 3, 10_000).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| DRAW | 101.17 +- 0.60 | 7.00 +- 0.00 | 101 / 25 / 202 |")
    assert "| 607 / 152 / 1214 | 643" in lines[2]
    assert lines[2].endswith("| 643 / 264 / 1370 | 12 | 3 | 1.5 |")
    assert lines[3].endswith("| 653 / 290 / 1724 | 12 | 2 of 3 | 0.8 |")
    cost = results.worth_table(MEASURED, ROWS).splitlines()[2:]
    assert cost == ["| T = 1 | DRAW | +17.83 +- 1.17 |"]


@pytest.mark.parametrize(
    ("updates", "draw", "model_1"),
    [
        (10_000, "643 / 264 / 1370", "656 / 267 / 1429 (50,000 updates)"),
        (50_000, "820 / 327 / 1989", "656 / 267 / 1429"),
        (7, "643 / 264 / 1370 (10,000 updates)", "656 / 267 / 1429 (50,000 updates)"),
    ],
)
def test_the_reports_numbers_are_of_as_many_updates_or_say_of_how_many(updates, draw, model_1):
    measured = {"study": runs(1.0), "study_model_1": runs(1.0), "study_read_only": runs(1.0)}
    lines = results.table(measured, ROWS, 1, updates).splitlines()[2:]
    assert [line.split(" | ")[5] for line in lines] == [draw, "-", model_1]


def test_the_spread_is_the_farthest_from_the_median():
    assert results.spread([100.0, 90.0, 104.0]) == "10.0"
    assert results.spread([3.0]) == "-"


def test_what_the_classifier_of_model_2_gets_wrong():
    errors = [{"error": 0.012}, {"error": 0.014}]
    told = results.classified({"study": runs(1.0), "study_model_2": errors}, ROWS)
    assert told == "The classifier of Model II misclassifies 1.30 +- 0.10 % of the digits."
    assert results.classified(MEASURED, ROWS) == ""


def test_every_row_has_its_configuration_and_its_base_stands_above_it():
    assert len(set(rows.NAMES)) == len(ROWS)
    for k, row in enumerate(ROWS):
        assert row.config in configs.names()
        assert not row.base or row.base in rows.NAMES[:k]
    assert [row.config for row in rows.named(["study_t1", "study"])] == ["study", "study_t1"]
    assert rows.named([]) == list(ROWS)
    with pytest.raises(ValueError, match="--rows: expected of study, .*; got 'studdy'"):
        rows.named(["study", "studdy"])


def test_the_block_of_a_page_alone_is_replaced():
    (begin, end), (first, last) = results.marks(10), results.marks(100)
    page = f"a\n{begin}\nold\n{end}\nb\n{first}\n{last}\n"
    assert results.with_block(page, "new\n", 10) == page.replace("old", "new")
    for wrong in ("", begin, f"{end}\n{begin}", page + page):
        with pytest.raises(
            ValueError, match="--page: expected a page with one <!-- follow_up, 10 "
        ):
            results.with_block(wrong, "new", 10)


def test_the_page_of_the_documentation_has_its_blocks():
    page = (configs.FOLDER.parent / "docs" / "study.md").read_text()
    for updates in (10_000, 50_000):
        assert "\nnew text\n" in results.with_block(page, "new text", updates)


def test_the_chart_and_the_curve_are_pictures(tmp_path):
    assert results.chart({"study": runs(1.0)}, ROWS, tmp_path / "none.png") is None
    several = MEASURED | {"study_t5": runs(99.0)}  # a single seed: no bar
    path = results.chart(several, ROWS, tmp_path / "worth.png")
    curve = estimates.over_steps(
        *(np.array([0.2, 0.4]), np.array([0.01, 0.02]), (0.1, 0.01), tmp_path / "steps.png"),
        y_label="share",
        names=("shared", "chance"),
    )
    for file in (path, curve):
        with Image.open(file) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_estimates_of_another_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"of one length, got \[2\] and \[3\]"):
        estimates.over_steps(np.ones(2), np.ones(3), (0, 0), tmp_path / "x.png", "y", ("a", "b"))
    with pytest.raises(ValueError, match="a name for each of 2 values, got 1"):
        estimates.beneath(["a"], np.ones(2), np.ones(2), tmp_path / "x.png", "x")


# --- kernels


def test_the_kernels_of_every_layer_are_found_in_order():
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(s).astype("f") for s in ((3, 3, 1, 2), (3, 3, 2, 4)))
    layers = {"layer_2": {"kernel": second, "bias": np.zeros(4)}, "layer_1": {"kernel": first}}
    params = {"cell": {"encoder": {"gates": {"kernel": np.ones((2, 3))}}}, "convolutions": layers}
    found = kernels.of_layers({"params": params})
    assert [*found] == ["layer 1", "layer 2"]
    assert found["layer 1"] is first and found["layer 2"] is second
    assert kernels.of_layers({"params": {"cell": params["cell"]}}) == {}
    with pytest.raises(ValueError, match="expected a model with convolutions"):
        kernels.picture({})


def test_the_kernels_of_two_nets_have_names_of_their_own_and_layer_10_is_the_tenth():
    layers = {f"layer_{n}": {"kernel": np.full((1, 1, 1, 1), n, np.float32)} for n in range(1, 11)}
    found = kernels.of_layers({"params": {"b": layers, "a": {"layer_1": layers["layer_3"]}}})
    assert [*found] == ["a, layer 1", *(f"b, layer {n}" for n in range(1, 11))]
    assert [int(kernel.item()) for kernel in found.values()] == [3, *range(1, 11)]


def test_white_is_the_largest_weight_and_columns_are_filters():
    kernel = np.zeros((5, 5, 2, 3), np.float32)
    kernel[0, 1, 1, 2] = 2.0  # row 0, column 1 of the third filter's second input
    kernel[4, 4, 0, 0] = -2.0
    pixels = np.asarray(kernels.picture({"layer 1": kernel}).convert("L")).astype(int)
    scale, title, pad = 8, 20, 2
    panel = 5 * scale + pad

    def at(row, column, y, x):
        top, left = title + pad + row * panel, pad + column * panel
        return pixels[top + y * scale + scale // 2, left + x * scale + scale // 2]

    assert at(1, 2, 0, 1) == 255 and at(0, 0, 4, 4) == 0
    assert at(0, 0, 0, 0) == at(1, 1, 2, 2) == 128
