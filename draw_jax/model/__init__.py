"""DRAW as a Flax module, its attention and its losses.

`Draw` and the classifier of section 4.1, `GlimpseClassifier`, are also to be had from here.
"""

from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.model.draw import Draw

__all__ = ["Draw", "GlimpseClassifier"]
