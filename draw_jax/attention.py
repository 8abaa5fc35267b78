"""`draw_jax.attention` is `draw_jax.model.attention`, by a shorter name."""

import sys

from draw_jax.model import attention
from draw_jax.model.attention import *

sys.modules[__name__] = attention
