"""Where the time of an update goes, by operation."""

import time

import jax
import jax.numpy as jnp
import pytest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ynn_fusion.18", "products"),
        ("dot.3", "products"),
        ("wrapped_broadcast.8", "clearing"),
        ("bitcast_dynamic-update-slice_fusion.14", "storing"),
        ("copy_bitcast_fusion.4", "moving"),
        ("multiply_tanh_fusion", "tanh and exp"),
        ("multiply_multiply_fusion.6", "other elementwise"),
        ("while.79", ""),
    ],
)
def test_the_name_of_an_operation_tells_its_sort(name, expected, modules):
    assert modules.operations.sort(name) == expected


def test_every_execution_is_found_with_its_time(modules):
    x = jnp.ones((300, 300))
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 5, lambda _, x: x @ x / 300, x))
    jax.block_until_ready(loop(x))
    began = time.perf_counter()
    found = list(modules.operations.profiled(lambda: loop(x), 3))
    whole = 1e3 * (time.perf_counter() - began)
    products = [o for o in found if modules.operations.sort(o.name) == "products"]
    assert len(products) == 15
    assert 0 < sum(o.milliseconds for o in products) < whole
