"""How batches are cut over devices."""

import jax
import numpy as np
import pytest

from draw_jax.system import devices


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
