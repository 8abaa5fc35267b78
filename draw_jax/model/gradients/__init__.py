"""The functions of DRAW whose gradients are written by hand, each as a whole.

Automatic differentiation would give the same numbers, but keep more arrays between the passes or
multiply in slower orders. Tests compare every gradient with the automatic one and with finite
differences. Each function but `unroll` has three parts: `name` is what to call, `_name_fwd` gives
the result and what to save for the backward pass, `_name_bwd` the gradients.

Derivatives are in reverse mode: `jax.grad`, `jax.vjp`, `jax.jacrev`. Both passes are plain
functions of arrays, so the gradient itself has derivatives in either mode: `jax.hessian` and
`jax.jvp` of `jax.grad` work. `jax.jvp` and `jax.jacfwd` of the functions themselves do not.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

from draw_jax.model.gradients.layers import clip_gradient as clip_gradient
from draw_jax.model.gradients.layers import error_image as error_image
from draw_jax.model.gradients.layers import gate_activations as gate_activations
from draw_jax.model.gradients.layers import lstm_step as lstm_step
from draw_jax.model.gradients.layers import product as product
from draw_jax.model.gradients.unroll import unroll as unroll
from draw_jax.model.gradients.windows import filter_image as filter_image
from draw_jax.model.gradients.windows import filters as filters
from draw_jax.model.gradients.windows import spread_patch as spread_patch
