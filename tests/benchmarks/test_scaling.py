"""Larger batches, and a core against several: what is run and what its times come to."""

import pytest

from draw_jax.training import config as settings
from tests.benchmarks.conftest import imported
from tests.helpers import small_config


@pytest.fixture(scope="module")
def scaling():
    with imported("batches", "cores") as found:
        yield found


def test_a_learning_rate_follows_its_batch_as_the_rule_says(scaling):
    config = small_config(**{"train.batch_size": 100, "train.learning_rate": 0.004})
    rules = ["same", "root", "linear"]
    rows = scaling.batches.rows(config, (100, 1600), rules, 8_000)
    assert [(row.batch, row.rule, row.updates) for row in rows] == [
        (100, "same", 80),
        (1600, "same", 5),
        (1600, "root", 5),
        (1600, "linear", 5),
    ]
    assert [row.rate for row in rows] == pytest.approx([0.004, 0.004, 0.016, 0.064])


def test_what_counts_in_updates_is_equal_in_images(scaling):
    fields = {"batch_size": 100, "warmup_steps": 40, "average_decay": 0.99, "num_steps": 7}
    config = small_config(**{f"train.{name}": value for name, value in fields.items()})
    (row,) = scaling.batches.rows(config, (400,), ["root"], 48_000)
    train = scaling.batches.configured(config, row, 3).train
    assert (train.batch_size, train.num_steps, train.decay_steps) == (400, 120, 120)
    assert (train.warmup_steps, train.eval_every) == (10, 120)
    assert train.average_decay == pytest.approx(0.99**4)
    assert config.train.batch_size == 100
    settings.check(scaling.batches.configured(config, row, 3))
    (short,) = scaling.batches.rows(config, (400,), ["root"], 4_000)
    assert scaling.batches.configured(config, short, 3).train.warmup_steps == 5


def test_a_batch_larger_than_all_images_is_refused(scaling):
    with pytest.raises(ValueError, match="--images"):
        scaling.batches.rows(small_config(), (32,), ["same"], 31)


def test_every_core_has_one_device(scaling):
    alone, devices, processes = scaling.cores.layouts([2, 5])
    assert [layout.devices for layout in (alone, devices, processes)] == [1, 2, 2]
    assert [part["cores"] for part in alone.parts] == [[2]]
    assert [(part["cores"], part["devices"]) for part in devices.parts] == [([2, 5], 2)]
    assert [part["cores"] for part in processes.parts] == [[2], [5]]
    assert [part["process"] for part in processes.parts] == [0, 1]
    assert len({part["address"] for part in processes.parts}) == 1


def test_ratios_are_of_images_a_second_in_the_same_round(scaling):
    """In the second round all takes twice as long."""
    times = {
        ("one", "own"): [100.0, 200.0, 100.0],
        ("two", "shared"): [80.0, 160.0, 80.0],
        ("two", "own"): [125.0, 250.0, 125.0],
    }
    rows = scaling.cores.rows(times, {"one": 1, "two": 2}, batch=50)
    assert [(row.layout, row.batch) for row in rows] == [("one", 50), ("two", 50), ("two", 100)]
    assert [row.ratio.median for row in rows] == pytest.approx([1.0, 1.25, 1.6])
    assert [row.ratio.low for row in rows] == pytest.approx([1.0, 1.25, 1.6])
    assert [row.images_per_second for row in rows] == pytest.approx([500.0, 625.0, 800.0])
