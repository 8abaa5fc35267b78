"""The pictures that a run directory holds: of validations, and the report."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from draw_jax.data.interface import ArraySplit
from draw_jax.drawing import glimpses, report
from draw_jax.drawing.figures import curves
from draw_jax.drawing.figures import glimpses as figures
from draw_jax.model import build
from draw_jax.model.classifier import GlimpseClassifier

SHAPE = (10, 12, 1)


@pytest.fixture(scope="module")
def classifier():
    model = GlimpseClassifier(SHAPE, 3, lstm_size=6, read_size=3, classes=5)
    return model, build.initial_variables(model, jax.random.key(1))


def test_a_validation_shows_the_first_images_the_same_each_time(classifier, tmp_path):
    model, variables = classifier
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, *SHAPE), np.uint8)
    split = ArraySplit(images, np.arange(6, dtype=np.int32) % 5, binary=False)
    drawn = [
        report.validation_picture(
            tmp_path, model, variables, jax.random.key(0), step, split, "none"
        )
        for step in (10, 20)
    ]
    assert [name for name, _ in drawn] == ["glimpses", "glimpses"]
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])
    x = images[:4].astype(np.float32) / 255
    seen = glimpses.seen(model, variables, x, np.arange(4), jax.random.key(0))
    np.testing.assert_array_equal(drawn[0][1], np.asarray(figures.sheet(seen)))
    with Image.open(tmp_path / "samples" / "step_0000020.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), drawn[1][1])
    assert not list((tmp_path / "samples").glob("*.npy"))  # no samples for the report
    assert report.what_to_look_at(tmp_path, model, 20).startswith("what it looks at: ")
    # Of a step without a picture, and so of a model that has none.
    assert report.what_to_look_at(tmp_path, model, 30) == f"at a glance: {tmp_path / 'report.png'}"
    nothing = SimpleNamespace(image_shape=SHAPE)
    assert report.validation_picture(tmp_path, nothing, {}, None, 30, split, "none") is None


def test_the_report_of_a_run_has_its_latest_confusion(tmp_path):
    rows = [
        {
            "step": step,
            "split": "validation",
            "error": 0.5,
            "error_per_step": [0.9, error],
            "confusion": [[0.5, 0.0], [0.5 * error, 0.5 - 0.5 * error]],
        }
        for step, error in ((10, 0.7), (20, 0.2))
    ]
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "report", lambda *given, **more: kept.append(more))
        report.write(tmp_path, rows, ("error",))
    np.testing.assert_allclose(kept[0]["error_per_step"], [0.9, 0.2])
    np.testing.assert_allclose(kept[0]["confusion"], [[0.5, 0], [0.1, 0.4]])
    assert kept[0]["kl_nats"] is None
    report.write(tmp_path, rows, ("error",))
    assert (tmp_path / "report.png").is_file()


@pytest.mark.parametrize("damage", ["cut", "empty", "another array", "no array", "flipped"])
def test_damaged_samples_are_left_out_of_the_report_with_a_warning(tmp_path, damage):
    samples = tmp_path / "samples"
    samples.mkdir()
    for step in (1, 2):
        np.save(samples / f"step_{step:07d}.npy", np.full((4, 3, 3, 1), step, np.uint8))
    file = samples / "step_0000002.npy"
    if damage == "another array":
        np.save(file, np.zeros(3))
    elif damage == "flipped":  # "{" becomes "z": no Python literal
        file.write_bytes(file.read_bytes().replace(b"{", b"z"))
    else:
        file.write_bytes({"cut": file.read_bytes()[:-5], "empty": b""}.get(damage, b"\x93NUMPY?"))
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "report", lambda rows, sheets, *given, **more: kept.append(sheets))
        with pytest.warns(UserWarning, match=r"step_0000002.npy is damaged: report.png leaves"):
            report.write(tmp_path, validated(1, 2), ("error",))
    assert [step for step, _ in kept[0]] == [1]


def validated(*steps):
    return [{"step": step, "split": "validation", "error": 0.5} for step in steps]


def test_samples_of_undone_updates_are_left_out_of_the_report(tmp_path, monkeypatch):
    samples, kept = tmp_path / "samples", []
    samples.mkdir()
    for step in (10, 20, 30, 40):
        np.save(samples / f"step_{step:07d}.npy", np.full((4, 3, 3, 1), step, np.uint8))
    monkeypatch.setattr(curves, "report", lambda rows, sheets, *given, **more: kept.append(sheets))
    rows = [*validated(10), {"step": 10, "split": "rollback"}, *validated(20)]
    report.write(tmp_path, [*rows, {"step": 30, "split": "train", "error": 0.5}], ("error",))
    assert [step for step, _ in kept[0]] == [10, 20]


def test_only_the_samples_that_are_shown_are_read_and_steps_are_numbers(tmp_path, monkeypatch):
    samples = tmp_path / "samples"
    samples.mkdir()
    steps = [*range(9_999_991, 10_000_012)]
    for step in steps:
        np.save(samples / f"step_{step:07d}.npy", np.full((4, 3, 3, 1), 255, np.uint8))
    (samples / f"step_{steps[10]:07d}.npy").write_bytes(b"")
    load, loaded, kept = np.load, [], []
    monkeypatch.setattr(report.np, "load", lambda path: loaded.append(path) or load(path))
    monkeypatch.setattr(curves, "report", lambda rows, sheets, *given, **more: kept.append(sheets))
    with pytest.warns(UserWarning, match="is damaged"):
        report.write(tmp_path, validated(*steps), ("error",))
    shown = [step for step, _ in kept[0]]
    assert shown == [steps[k] for k in (0, 5, 11, 15, 20)] and len(loaded) <= 10
    assert all(sheet.max() == 1 for _, sheet in kept[0])
