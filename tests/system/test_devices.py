"""How batches are cut over devices."""

import jax
import numpy as np
import pytest

from draw_jax.system import devices
from tests.helpers import program


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
