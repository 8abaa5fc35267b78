"""Runs on several devices and in several processes."""

import socket

import jax
import pytest

from draw_jax.runs import checkpoint
from draw_jax.training import loop
from tests.helpers import NO_ATTENTION
from tests.training.whole_runs import finish, rows, small, start, steps

pytestmark = [
    pytest.mark.usefixtures("compiled_once"),
    # Of the reads that Orbax gives up when one of them finds damage.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
    ),
]


EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Returns the rows of a run without attention, in one process on one device."""
    run = tmp_path_factory.mktemp("single")
    assert loop.train(small(**NO_ATTENTION), run) == loop.FINISHED
    return rows(run)


def assert_close_rows(ours, theirs):
    assert [(row["step"], row["split"]) for row in ours] == [
        (row["step"], row["split"]) for row in theirs
    ]
    for row, other in zip(ours, theirs, strict=True):
        for name in ("nll", "elbo_loss"):
            # Sums over the batch are made in another order; 24 updates carry that on.
            assert row[name] == pytest.approx(other[name], rel=1e-4), (row["step"], name)


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


def test_a_batch_that_the_devices_do_not_divide(tmp_path):
    returncode, _, errors = finish(
        start(tmp_path, {"train.batch_size": 30}, XLA_FLAGS=EIGHT_DEVICES)
    )
    assert returncode == 2 and errors.count("\n") == 1
    assert "config.train.batch_size: 8 devices do not divide 30; take 24 or 32" in errors
    assert not list(tmp_path.iterdir())


def test_two_processes_train_as_one(single, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [
        start(
            tmp_path,
            NO_ATTENTION | {"train.num_steps": 8},
            "--distributed",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(process),
        )
        for process in range(2)
    ]
    (first, told, errors), (second, silent, _) = [finish(process) for process in both]
    assert (first, second) == (0, 0), errors
    assert "2 x cpu" in told and "finished at step 8" in told
    assert "step" not in silent  # one of them writes and prints
    assert_close_rows(rows(tmp_path), single[:9])
    assert steps(tmp_path)[-1] == 8 and checkpoint.load(tmp_path)[2]["params"]
