"""What tells a process that it is one of several, and how batches are cut."""

import jax
import numpy as np
import pytest

from draw_jax.system import devices

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("", "", ""), r"no cluster .* \$JAX_COORDINATOR_ADDRESS, \$JAX_NUM_PROCESSES, .* are not"),
        (("h:1", "2", ""), r"and \$JAX_PROCESS_ID is not set"),
        (("h:1", "2", "abc"), r"expected a whole number in \$JAX_PROCESS_ID, got 'abc'"),
        (("h:1", "-2", "0"), r"expected a whole number in \$JAX_NUM_PROCESSES, got '-2'"),
        (("h:1", "2", "2"), r"\$JAX_PROCESS_ID is 2, of 2 processes"),
    ],
)
def test_variables_that_name_no_process_are_told(monkeypatch, values, told):
    def no_cluster(**numbers):
        assert None in numbers.values()  # with all of them it would wait for the others
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", no_cluster)
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^--distributed: .*{told}"):
        devices.join_processes()


def test_the_variables_are_handed_on_as_numbers(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **numbers: calls.append(numbers))
    for name, value in zip(VARIABLES, ("h:1", "4", "3"), strict=True):
        monkeypatch.setenv(name, value)
    devices.join_processes()
    assert calls == [{"num_processes": 4, "process_id": 3}]


def test_a_batch_size_that_devices_do_not_divide_names_the_nearest(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    devices.check_divides(16)
    for size, told in ((20, "take 16 or 24"), (3, "take 8$")):
        with pytest.raises(ValueError, match=f"8 devices do not divide {size}; {told}"):
            devices.check_divides(size)


@pytest.mark.parametrize(("count", "batch", "multiple"), [(10, 4, 1), (10, 4, 4), (3, 200, 2)])
def test_batches_count_every_index_once_and_have_one_size(count, batch, multiple):
    parts = list(devices.batches(count, batch, multiple))
    assert len({len(indices) for indices, _ in parts}) == 1
    assert len(parts[0][0]) % multiple == 0
    counted = np.concatenate([indices[:counts] for indices, counts in parts])
    np.testing.assert_array_equal(counted, np.arange(count))


def test_memory_is_that_of_this_machine():
    assert 2**26 < devices.memory_bytes() < 2**48
