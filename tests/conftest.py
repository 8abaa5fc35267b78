import jax
import numpy as np
import pytest
from hypothesis import settings

from draw_jax.model import Draw


# The first example of every shape compiles, so that no deadline would hold.
settings.register_profile("draw_jax", deadline=None)
settings.load_profile("draw_jax")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def tiny():
    """Returns make(**fields) -> (a tiny Draw, variables that are random in every leaf)."""

    def make(seed=0, noise=0.2, **fields):
        defaults = {
            "image_shape": (7, 5, 1),
            "time_steps": 3,
            "enc_size": 6,
            "dec_size": 5,
            "latent_size": 4,
            "read_size": 2,
            "write_size": 3,
        }
        model = Draw(**(defaults | fields))
        x = np.zeros((1, *model.image_shape), np.float32)
        eps = np.zeros((1, 1, model.latent_size), np.float32)
        variables = jax.jit(model.init)(jax.random.key(seed), x, eps)
        leaves, tree = jax.tree.flatten(variables)
        rng = np.random.default_rng(seed)
        leaves = [x + np.float32(noise) * rng.standard_normal(x.shape, np.float32) for x in leaves]
        return model, jax.tree.unflatten(tree, leaves)

    return make
