"""DRAW, the deep recurrent attentive writer (Gregor et al. 2015), in JAX and Flax.

`load` gives a trained model, `train` makes one; `attention`, `losses` and `checkpoint` are the
modules of these names. Each is imported at its first use, so that `import draw_jax` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draw_jax.model import attention, losses
    from draw_jax.runs import checkpoint
    from draw_jax.runs.checkpoint import load
    from draw_jax.training.loop import train

__version__ = "0.2.0"
__all__ = ["__version__", "attention", "checkpoint", "load", "losses", "train"]

_HOME = {
    "attention": "draw_jax.attention",
    "losses": "draw_jax.losses",
    "checkpoint": "draw_jax.checkpoint",
    "load": "draw_jax.runs.checkpoint:load",
    "train": "draw_jax.training.loop:train",
}


def __getattr__(name: str) -> Any:
    """Returns one of `__all__`, imported now."""
    if name not in _HOME:
        raise AttributeError(f"module 'draw_jax' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
