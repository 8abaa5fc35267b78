"""DRAW, the deep recurrent attentive writer (Gregor et al. 2015), in JAX and Flax."""

from draw_jax.checkpoint import load

__all__ = ["load"]
