"""What JAX_ENABLE_X64=1 changes; every test runs in a Python of its own that has it switched on.

float32 parameters compute as without it. float64 parameters compute in float64.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

# A few updates as training makes them, on random images: the last metrics, and all types.
TRAIN = """
import json, jax, numpy as np
from draw_jax.configs import smoke
from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.training import step
config = smoke.get_config()
config.train.batch_size = 8
model, keys = build.build(config), build.keys(config.seed)
state = step.initial_state(model, keys.init, config.train)
update = jax.jit(step.make_update(build.task(model), config, keys.train))
images = np.random.default_rng(0).integers(0, 256, (8, *model.image_shape), np.uint8)
for k in range(3):
    state, metrics = update(state, k, Batch(images, None))
sums = [float(np.abs(x).sum()) for x in jax.tree.leaves(state)]
types = sorted({{str(x.dtype) for x in jax.tree.leaves(state.params)}})
terms = [float(metrics[name]) for name in ("nll", "kl", "elbo_loss", "grad_norm", "param_norm")]
print(json.dumps([types, terms, sums]))
"""

# Loss and gradient of float64 parameters, x and eps against the loops, along random directions.
REFERENCE = """
import jax, jax.numpy as jnp, numpy as np
from draw_jax.model.draw import Draw
from tests import reference
rng = np.random.default_rng(0)
model = Draw(image_shape=(5, 4, 1), time_steps=2, enc_size=4, dec_size=3, latent_size=2,
             read_size={read_size}, write_size={write_size}, dtype={dtype!r})
x = rng.random((2, 5, 4, 1))
eps = rng.standard_normal((2, 2, 2))
shapes = jax.eval_shape(model.init, jax.random.key(0), x, eps)
flat, tree = jax.tree.flatten(shapes)
flat = [0.4 * rng.standard_normal(leaf.shape) for leaf in flat]

def loss(flat):
    output = model.apply(jax.tree.unflatten(tree, flat), x, eps)
    assert output.nll.dtype == output.kl.dtype == jnp.float64
    return output.nll.mean() + output.kl.sum(0).mean()

def loop(flat):
    total = 0.0
    for b in range(2):
        variables = jax.tree.unflatten(tree, flat)
        nll, steps = reference.unroll(variables, x[b], eps[:, b], {read_size}, {write_size})
        total += nll + sum(step.kl for step in steps)
    return total / 2

value, gradient = jax.jit(jax.value_and_grad(loss))(flat)
assert all(g.dtype == jnp.float64 for g in gradient)
np.testing.assert_allclose(value, loop(flat), rtol=1e-12)
for seed in range(3):
    rng = np.random.default_rng(seed)
    along = [rng.standard_normal(leaf.shape) for leaf in flat]
    def at(h):
        return loop([a + h * d for a, d in zip(flat, along)])
    # Central differences of the fourth order: right to 1e-10 or so.
    h = 1e-3
    expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    ours = sum((np.asarray(g) * d).sum() for g, d in zip(gradient, along))
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)
"""

# float32 parameters with float64 x and eps, which is what jax.random.normal then draws.
MIXED = """
import jax, jax.numpy as jnp, numpy as np
from draw_jax.model.draw import Draw
rng = np.random.default_rng(0)
model = Draw(image_shape=(5, 4, 1), time_steps=2, enc_size=4, dec_size=3, latent_size=2,
             read_size=2, write_size=3)
x, eps = rng.random((2, 5, 4, 1)), rng.standard_normal((2, 2, 2))
variables = model.init(jax.random.key(0), x, eps)
assert {{leaf.dtype for leaf in jax.tree.leaves(variables)}} == {{jnp.dtype("float32")}}
def loss(variables, x, eps):
    output = model.apply(variables, x, eps)
    return output.nll.mean() + output.kl.sum(0).mean()
wide, narrow = (
    jax.value_and_grad(loss, argnums=(0, 1, 2))(variables, *(a.astype(t) for a in (x, eps)))
    for t in ("float64", "float32")
)
types = [{{str(leaf.dtype) for leaf in jax.tree.leaves(g)}} for g in wide[1]]
assert types == [{{"float32"}}, {{"float64"}}, {{"float64"}}]
for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
"""


def python(code, x64=True, **fields):
    """Runs Python code in a process of its own and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.format(**fields)],
        cwd=ROOT,
        env=os.environ | {"JAX_ENABLE_X64": str(int(x64)), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_training_gives_the_same_numbers_with_x64_as_without():
    types, *numbers = json.loads(python(TRAIN, x64=True))
    expected_types, *expected = json.loads(python(TRAIN, x64=False))
    assert types == expected_types == ["float32"]
    for a, b in zip(numbers, expected, strict=True):
        assert len(a) == len(b) > 4
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    ("read_size", "write_size", "dtype"),
    [
        (2, 3, "float32"),
        pytest.param(0, 0, "float32", marks=pytest.mark.slow),
        pytest.param(3, 0, "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_float64_parameters_give_the_loss_and_gradient_of_the_loops(read_size, write_size, dtype):
    python(REFERENCE, read_size=read_size, write_size=write_size, dtype=dtype)


@pytest.mark.slow
def test_float32_parameters_take_float64_images_and_noise():
    python(MIXED)
