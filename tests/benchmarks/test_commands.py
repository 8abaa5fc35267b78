"""Benchmarks that compile for long, as a user runs them."""

import os

import pytest

from configs import smoke
from tests.benchmarks.commands import PLAIN, TINY, check_measured, check_table, run_measurements
from tests.helpers import SMALL_CLASSIFIER

pytestmark = pytest.mark.slow

MANY_CORES = len(os.sched_getaffinity(0)) > 1
RUNS = {
    "batches": (
        *("benchmarks.batches", *TINY, *PLAIN, "--batches=4,8", "--rules=same,root"),
        *("--images=32", "--workdir=WORKDIR"),
    ),
    "breakdown": ("benchmarks.breakdown", *TINY, "--images=50"),
    "collectives": (
        "benchmarks.collectives",
        *TINY,
        *PLAIN,
        "--devices=2",
        "--gpus=2,4",
        "--step_ms=10",
    ),
    "data": (
        *("benchmarks.data", "--config=configs/cluttered_mnist.py", "--repeats=3"),
        *(f"--config.{name}={value}" for name, value in SMALL_CLASSIFIER.items()),
    ),
    **(
        {"cores": ("benchmarks.cores", *TINY, *PLAIN, "--updates_a_turn=1", "--cores=2")}
        if MANY_CORES
        else {}
    ),
    "operations": ("benchmarks.operations", *TINY, *PLAIN),
    "sample": ("benchmarks.sample", *TINY, "--batches=1,3"),
    "scaling": (
        *("benchmarks.scaling", *TINY, *PLAIN, "--time_steps=4,2"),
        *("--batches=", "--image_sizes="),
    ),
    "settings": (
        *("benchmarks.settings", *TINY, "--batches=4"),
        "--settings=default,bfloat16,while_graphs",
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    commands = {
        name: [word.replace("WORKDIR", str(folder / "runs")) for word in command]
        for name, command in RUNS.items()
    }
    return run_measurements(commands, folder)


@pytest.mark.parametrize("name", RUNS)
def test_a_command_prints_a_table_and_writes_positive_figures(name, runs):
    check_measured(runs[name])
    check_table(runs[name])


def test_breakdown_has_every_piece_and_percentages_of_the_step(runs):
    figures = runs["breakdown"].figures
    passes = {name: set(kinds) for name, kinds in figures["pieces"].items()}
    forward, gradient, both = {"forward"}, {"gradient"}, {"forward", "gradient"}
    assert passes == {
        **dict.fromkeys(("update", "products", "weight gradients"), gradient),
        **dict.fromkeys(("loss", "read", "write", "filterbanks", "gates"), both),
        **dict.fromkeys(("optimiser", "noise", "data", "logging"), forward),
    }
    for kinds in figures["pieces"].values():
        for spread in kinds.values():
            assert spread["low"] <= spread["median"] <= spread["high"]
    median = {name: figures["pieces"][name]["forward"]["median"] for name in ("data", "logging")}
    step = figures["pieces"]["update"]["gradient"]["median"]
    assert figures["step_ms"] == step
    assert figures["data_percent"] == pytest.approx(100 * median["data"] / step)
    every = smoke.get_config().train.log_every
    assert figures["logging_percent"] == pytest.approx(100 * median["logging"] / step / every)
    assert "do not add up" in runs["breakdown"].stdout


def test_batches_tells_the_validation_loss_of_every_run(runs):
    rows = runs["batches"].figures["rows"]
    assert [(row["batch"], row["updates"], len(row["losses"])) for row in rows] == [
        *((4, 8, 1), (8, 4, 1), (8, 4, 1))
    ]
    for row in rows:
        assert f"| {row['losses'][0]:.2f} |" in runs["batches"].stdout


def test_the_gradient_of_every_weight_goes_from_device_to_device(runs):
    (row,) = runs["collectives"].figures["rows"]
    assert row["weights_bytes"] <= row["bytes"] < 1.5 * row["weights_bytes"]
    assert set(runs["collectives"].figures["estimate"]) == {"2", "4"}


def test_data_is_measured_beside_an_update(runs):
    figures = runs["data"].figures
    median = {name: figures[name]["median"] for name in ("batch", "to the device", "update")}
    parts = median["batch"] + median["to the device"]
    assert figures["data_percent"] == pytest.approx(100 * parts / median["update"])


@pytest.mark.skipif(not MANY_CORES, reason="this process may use one core only")
def test_cores_are_compared_as_devices_and_as_processes(runs):
    rows = runs["cores"].figures["rows"]
    assert [row["devices"] for row in rows] == [1, 2, 2, 2, 2]
    assert [row["batch"] for row in rows] == [4, 4, 8, 4, 8]
    assert rows[0]["ratio"] == 1


def test_sample_measures_the_batches_asked_for(runs):
    rows = runs["sample"].figures["rows"]
    assert [row["batch"] for row in rows] == [1, 3]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1e3 * row["batch"] / row["batch_ms"])
        assert row["batch_ms_low"] <= row["batch_ms"] <= row["batch_ms_high"]


def test_scaling_has_a_table_for_every_axis_asked_for(runs):
    figures = runs["scaling"].figures
    assert set(figures) == {"time_steps", "devices", "devices_a_batch_each", "device"}
    for axis, sizes, units in (
        ("time_steps", [2, 4], [2, 4]),
        ("devices", [1, 2], [1, 1 / 2]),
        ("devices_a_batch_each", [1, 2], [1, 2]),
    ):
        rows = figures[axis]["rows"]
        assert [row["size"] for row in rows] == sizes
        for row, unit in zip(rows, units, strict=True):
            assert row["cost"] == pytest.approx(row["step_ms"] / unit)


def test_settings_report_what_ran_what_failed_and_what_could_not(runs):
    run = runs["settings"]
    assert run.figures["backend"] == "cpu"
    assert [(row["setting"], row["dtype"]) for row in run.figures["rows"]] == [
        *(("default", "float32"), ("bfloat16", "bfloat16"))
    ]
    assert all(row["batch"] == 4 and "error" not in row for row in run.figures["rows"])
    assert "left out: while_graphs, for GPUs only" in run.stdout
    assert len([line for line in run.stdout.splitlines() if line.startswith("|")]) == 4
