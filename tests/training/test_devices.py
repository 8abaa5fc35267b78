"""Runs on several devices of one process."""

import jax
import pytest

from draw_jax.runs import checkpoint
from draw_jax.training import loop
from tests.helpers import NO_ATTENTION
from tests.training.whole_runs import assert_close_rows, finish, rows, small, start

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
