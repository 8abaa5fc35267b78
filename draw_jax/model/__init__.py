"""DRAW as a Flax module, its attention and its losses; `Draw` is `draw_jax.model.draw.Draw`."""

from draw_jax.model.draw import Draw

__all__ = ["Draw"]
