"""Random windows, and gradients of given weights: what the tests of attention share."""

import jax
import numpy as np

from draw_jax.model.attention import Window

# (N, height, width): even and odd N, wide and tall images, N larger than an axis.
SHAPES = [(2, 7, 11), (3, 11, 7), (4, 6, 6), (5, 4, 9)]
# With leading axes and channels, paired to compile less: every value of each occurs.
CASES = [
    (*SHAPES[0], (), 1),
    (*SHAPES[1], (3,), 3),
    (*SHAPES[2], (2, 2), 1),
    (*SHAPES[3], (2, 2), 3),
    (*SHAPES[3], (), 3),
]
PLACES = ["inside", "partly outside", "outside"]


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def make_windows(rng, glimpse_size, height, width, place, shape=()):
    """Returns random windows [*shape], at least as wide as sigma = 0.5 px, in the named place."""
    delta = rng.uniform(0.4, 2.0, shape)
    half = (glimpse_size - 1) / 2 * delta
    centres = []
    for pixels in (width, height):
        side = rng.choice([-1, 1], shape)  # left or right of the image's middle
        middle = (pixels + 1) / 2
        if place == "inside":
            distance = rng.uniform(0, 0.4, shape) * pixels
        elif place == "partly outside":
            distance = pixels / 2 + rng.uniform(-0.5, 0.5, shape) * half
        else:  # every centre at least half a pixel beyond the edge
            distance = pixels / 2 + half + rng.uniform(0.5, 4, shape)
        centres.append(middle + side * distance)
    sigma_sq, gamma = rng.uniform(0.5, 2.0, shape) ** 2, rng.uniform(0.3, 3, shape)
    return Window(*(np.asarray(v, np.float32) for v in (*centres, sigma_sq, delta, gamma)))


def pull_back(function, weights, *args):
    """Returns the gradients of (function(*args) * weights).sum() with respect to args."""

    def both(args, weights):
        out, vjp = jax.vjp(function, *args)
        assert out.shape == weights.shape
        return vjp(weights)

    return jax.jit(both)(args, weights)


def finite_differences(function, args, step=1e-5):
    """Returns the central differences of a float64 scalar function, one array per argument."""
    gradients = []
    for k, arg in enumerate(args):
        gradient = np.zeros(np.shape(arg))
        for index in np.ndindex(np.shape(arg)):
            values = []
            for sign in (1, -1):
                moved = [np.array(a, np.float64) for a in args]
                moved[k][index] += sign * step
                values.append(function(*moved))
            gradient[index] = (values[0] - values[1]) / (2 * step)
        gradients.append(gradient)
    return gradients
