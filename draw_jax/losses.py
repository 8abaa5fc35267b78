"""`draw_jax.losses` is `draw_jax.model.losses`, by a shorter name."""

import sys

from draw_jax.model import losses
from draw_jax.model.losses import *

sys.modules[__name__] = losses
