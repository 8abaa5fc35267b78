import os

import jax
import numpy as np
import pytest
from hypothesis import settings

import tests
from draw_jax.model.draw import Draw
from tests.helpers import TINY

# A silent broadcast between arrays of different rank is a mistake, here as in the package.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiling takes most of the time of these small models: XLA's optimisations are left out, but where
# CI asks for the code that users run.
jax.config.update("jax_disable_most_optimizations", not tests.OPTIMIZED)
# Nor does any test read which line of Python an operation of a compiled program came from.
jax.config.update("jax_traceback_in_locations_limit", 0)

# The first example of every shape compiles, so that no deadline would hold.
settings.register_profile("draw_jax", deadline=None)
settings.load_profile("draw_jax")


# Files that take longest, begun first, so that no worker is left alone with one at the end.
_LONGEST = (
    "test_devices",
    "test_resume",
    "test_scripts",
    "test_processes",
    "test_divergence",
    "test_damage",
    "test_model",
)


def pytest_collection_modifyitems(items):
    """Puts the longest files first; the order within a file stays."""
    rank = {name: k for k, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def one_device():
    """Begins JAX, so that no program called in this process makes more devices of its cores."""
    assert jax.device_count() == 1, "take one: unset XLA_FLAGS, or set CUDA_VISIBLE_DEVICES=0"
    with pytest.MonkeyPatch.context() as patch:  # programs that a test starts are as users run them
        if tests.GIVEN_FLAGS is None:
            patch.delenv("XLA_FLAGS", raising=False)
        else:
            patch.setenv("XLA_FLAGS", tests.GIVEN_FLAGS)
        yield


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory):
    """Keeps decoded images and compiled programs of these tests to themselves, for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "caches"))
        for name in [name for name in os.environ if name.startswith("JAX_") and "CACHE" in name]:
            patch.delenv(name)
        patch.setattr(os, "fsync", lambda descriptor: None)  # no power cut is to be survived here
        yield


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def tiny():
    """Returns make(**fields) -> (a tiny Draw, variables): random in every leaf, or as initialised.

    Random leaves have no zeros that would hide a term: kernels N(0, 1 / fan_in), the rest N(0, noise^2).
    """

    def make(initialised=False, noise=0.3, **fields):
        model = Draw(**(TINY | fields))
        x = np.zeros((1, *model.image_shape), np.float32)
        eps = np.zeros((1, 1, model.latent_size), np.float32)
        if initialised:
            return model, jax.jit(model.init)(jax.random.key(0), x, eps)
        rng = np.random.default_rng(0)

        def draw(path, leaf):
            scale = leaf.shape[0] ** -0.5 if path[-1].key == "kernel" else noise
            return (scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

        shapes = jax.eval_shape(model.init, jax.random.key(0), x, eps)
        return model, jax.tree.map_with_path(draw, shapes)

    return make
