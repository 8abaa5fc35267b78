"""How batches are cut over devices."""

import jax
import numpy as np
import pytest

from draw_jax.system import devices
from tests.helpers import program


def test_a_batch_size_that_devices_do_not_divide_names_the_nearest(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    devices.check_divides(16)
    for size, told in ((20, "take 16 or 24, or 5 of the devices"), (3, "take 8, or 3 of the")):
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


EIGHT = """
import jax, numpy as np
from draw_jax.drawing import glimpses, sampling
from draw_jax.model import build
from draw_jax.system import devices
from tests.helpers import classifier_config, small_config

assert jax.local_device_count() == 8
cut = devices.spread(np.arange(48.0).reshape(3, 16), axis=1)
assert [shard.data.shape for shard in cut.addressable_shards] == [(3, 2)] * 8
key = jax.random.key(0)
model = build.build(small_config())
variables = jax.device_get(build.initial_variables(model, key))
images = np.random.default_rng(0).random((5, *model.image_shape), np.float32)
looking = build.build(classifier_config())
weights = jax.device_get(build.initial_variables(looking, key))
scenes = np.random.default_rng(0).random((5, *looking.image_shape), np.float32)

def results():
    sampling._generate.clear_cache(), sampling._infer.clear_cache(), glimpses._look.clear_cache()
    return (
        sampling.generate(model, variables, key, 5),
        sampling.reconstruct(model, variables, images, key),
        glimpses.look(looking, weights, scenes, key),
    )

eight = results()
devices.spread = lambda array, axis=0: array
for a, b in zip(*map(jax.tree.leaves, (eight, results())), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
print("the same")
"""


@pytest.mark.slow
def test_what_eight_devices_draw_and_see_is_what_one_does():
    done = program("-c", EIGHT, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr


def test_one_device_gets_an_array_as_it_is():
    array = np.arange(3)
    assert jax.local_device_count() == 1 and devices.spread(array) is array


@pytest.mark.parametrize(
    ("cores", "batch_size", "count"),
    [(1, 100, 1), (2, 100, 2), (3, 100, 2), (16, 100, 10), (64, 512, 64), (8, 7, 1), (4, 30, 3)],
)
def test_cores_are_shared_by_a_batch_in_equal_parts_of_some_size(
    cores, batch_size, count, monkeypatch
):
    monkeypatch.setattr(devices, "cores", lambda: cores)
    assert devices.for_cores(batch_size) == count


SHARED = """
import os, jax
from draw_jax.system import devices

devices.share_cores(3)
print(jax.device_count(), os.environ.get("XLA_FLAGS", ""))
devices.share_cores(5)  # too late
print(jax.device_count())
"""


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 3),
        ({"JAX_NUM_CPU_DEVICES": "2"}, 2),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4),
        ({"XLA_FLAGS": "--xla_cpu_collective_call_terminate_timeout_seconds=50"}, 3),
    ],
)
def test_a_cpu_becomes_as_many_devices_unless_the_environment_says_how_many(environment, count):
    done = program("-c", SHARED, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first.split()[0] == last == str(count)
    given = environment.get("XLA_FLAGS", "")
    assert first.split(" ", 1)[1].startswith(given)
    if count == 3:  # a device may wait for another as long as it takes
        times = [flag for flag in first.split() if "terminate_timeout" in flag]
        assert times == [given or "--xla_cpu_collective_call_terminate_timeout_seconds=100000000"]
