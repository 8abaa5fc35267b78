"""Runs on several devices of one process."""

import jax
import pytest

import tests
from draw_jax.runs import checkpoint
from draw_jax.training import loop
from tests.helpers import NO_ATTENTION, places
from tests.training.whole_runs import assert_close_rows, finish, rows, small, start, timeless

pytestmark = [
    pytest.mark.usefixtures("compiled_once"),
    # Of the reads that Orbax gives up when one of them finds damage.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
    ),
]


EIGHT_DEVICES = f"{tests.OUR_FLAGS} --xla_force_host_platform_device_count=8"


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Returns the rows of a run without attention, in one process on one device."""
    run = tmp_path_factory.mktemp("single")
    assert loop.train(small(**NO_ATTENTION), run) == loop.FINISHED
    return rows(run)


@pytest.mark.slow
def test_eight_devices_continue_what_one_began_and_back(single, tmp_path):
    assert jax.device_count() == 1
    fields = NO_ATTENTION | {"train.num_steps": 8}
    assert loop.train(small(**fields), tmp_path) == loop.FINISHED
    fields["train.num_steps"] = 16
    returncode, output, errors = finish(start(tmp_path, fields, XLA_FLAGS=EIGHT_DEVICES))
    assert (returncode, errors) == (0, "") and "8 x cpu; continuing at step 8" in output
    assert checkpoint.load(tmp_path)[2]["params"]
    fields["train.num_steps"] = 24
    assert loop.train(small(**fields), tmp_path) == loop.FINISHED
    assert_close_rows(rows(tmp_path), single)


@pytest.mark.slow
def test_a_batch_that_the_devices_do_not_divide(tmp_path):
    returncode, _, errors = finish(
        start(tmp_path, {"train.batch_size": 30}, XLA_FLAGS=EIGHT_DEVICES)
    )
    assert returncode == 2 and errors.count("\n") == 1
    assert "config.train.batch_size: 8 devices do not divide 30; take 24 or 32" in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_goes_on_with_the_devices_that_it_has_begun_with(tmp_path):
    fields = NO_ATTENTION | {"train.cpu_devices": 2}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for run, more in ((whole, {}), (parts, {"train.num_steps": 8})):
        returncode, output, errors = finish(start(run, fields | more))
        assert (returncode, errors) == (0, "") and "2 x cpu; starting" in output
    returncode, output, errors = finish(start(parts, NO_ATTENTION | {"train.cpu_devices": 0}))
    assert (returncode, errors) == (0, "") and "2 x cpu; continuing at step 8" in output
    assert [timeless(row) for row in rows(parts)] == [timeless(row) for row in rows(whole)]


# What several devices or processes must agree on with one: the loss of each of 200 updates.
LONG = NO_ATTENTION | {
    "train.num_steps": 200,
    "train.log_every": 1,
    "train.eval_every": 200,
    "train.checkpoint_every": 100,
}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, compiled_once):
    """Returns the rows of 200 updates on one device."""
    run = tmp_path_factory.mktemp("one")
    assert loop.train(small(**LONG), run) == loop.FINISHED
    return rows(run)


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory, compiled_once):
    """Returns the rows of 200 updates on two devices."""
    return on_devices(2, tmp_path_factory.mktemp("two"))


def on_devices(count, run):
    flags = f"{tests.OUR_FLAGS} --xla_force_host_platform_device_count={count}"
    returncode, output, errors = finish(start(run, LONG, XLA_FLAGS=flags))
    assert (returncode, errors) == (0, "") and f"{count} x cpu" in output, errors
    return rows(run)


def in_processes(count, run):
    job = [start(run, LONG, "--distributed", **place) for place in places(count)]
    for returncode, _, errors in [finish(process) for process in job]:
        assert returncode == 0, errors
    return rows(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "count"), [(on_devices, 8), (in_processes, 2), (in_processes, 4)]
)
def test_losses_of_200_updates_are_those_of_one_device(
    begin, count, one_device, two_devices, tmp_path
):
    ours = begin(count, tmp_path)
    assert [row["step"] for row in ours] == [row["step"] for row in one_device]
    assert len(ours) == 201
    for found in (ours, two_devices):
        for row, other in zip(found, one_device, strict=True):
            for name in ("nll", "kl", "elbo_loss"):
                close = pytest.approx(other[name], rel=1e-5, abs=1e-6)
                assert row[name] == close, (row["step"], name)
    if (begin, count) == (in_processes, 2):  # bit for bit
        assert [timeless(row) for row in ours] == [timeless(row) for row in two_devices]
