"""`draw_jax.checkpoint` is `draw_jax.runs.checkpoint`, by a shorter name."""

import sys

from draw_jax.runs import checkpoint
from draw_jax.runs.checkpoint import *

sys.modules[__name__] = checkpoint
