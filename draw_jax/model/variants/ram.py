"""RAM, the baseline of Table 1 (Gregor et al. 2015) with hard attention; and its task.

The recurrent attention model of Mnih et al. 2014, arXiv 1406.6247, as it classifies cluttered
digits. Where it looks is drawn at random, so no gradient tells where to look better: REINFORCE
estimates one. Noise is an argument: the model draws none.
"""

import math
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from draw_jax.model import classifier
from draw_jax.model.attention import Window
from draw_jax.model.gradients.layers import WHOLE_FLOAT32
from draw_jax.model.layers import Linear, check_fields, check_images
from draw_jax.model.task import Task, Terms, Variables
from draw_jax.model.variants import retina

_FLOAT32 = jnp.float32


class Episode(NamedTuple):
    """What a model did with B images in T glimpses; places are (x, y), see model/variants/retina."""

    logits: jax.Array  # of the classes, after each glimpse [T, B, classes]; the last decide
    locations: jax.Array  # that were drawn [T, B, 2]; a glimpse is at the nearest on the image
    means: jax.Array  # that they were drawn about [T, B, 2]; (0, 0) for the first
    baselines: jax.Array  # the reward expected before each glimpse [T, B]; 0 before the first
    windows: Window | None  # with trace=True: the finest patches, arrays [T, B]


class State(NamedTuple):
    """What one glimpse hands to the next; B images."""

    h: jax.Array  # [B, core_size]
    mean: jax.Array  # of the next location [B, 2]
    baseline: jax.Array  # the reward expected now [B]


class Ram(nn.Module):
    """A recurrent net that sees patches about drawn places and names the class after the last.

    `ram.apply(variables, x, noise)` plays one episode an image; `init` through it. L(a) + L(b) of
    the paper is one product with [a, b] here.

    Note: the paper says that the first location is random and the others are Gaussian about a
    linear mean. Ours: the first is uniform over the image, a location outside it
    is moved to its edge, h_0 is 0, and the location net learns more slowly than the others: its
    gradient is mostly noise, of which Adam makes full steps.
    """

    image_shape: tuple[int, int, int]  # (H, W, C)
    time_steps: int  # T that the configuration trains with; calls take theirs from the noise
    classes: int
    read_size: int = 12  # height and width of every patch, pixels of the finest
    scales: int = 4  # patches of a glimpse, each twice as wide as the one before
    retina_size: int = 128  # units of h_g, which see the patches
    location_size: int = 128  # units of h_l, which know the place
    feature_size: int = 256  # units of g_t, the glimpse
    core_size: int = 256  # units of h_t
    location_std: float = 0.2  # of the drawn locations about their mean; 1 = half the image
    location_rate: float = 0.1  # learning rate of the location net, as a fraction of the others'
    monte_carlo_samples: int = 1  # episodes of each image in an update
    reinforce_weight: float = 0.01  # of the location net's term in the loss
    baseline_weight: float = 0.01  # of the baseline's term in the loss
    dtype: str = "float32"  # of the products' operands; float32 or bfloat16
    unroll: int = 1  # time steps in one pass of the compiled loop: speed only

    def __post_init__(self) -> None:
        """Checks the fields; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        _check_fields(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the nets of the glimpse, the core and what is linear in its output."""
        self.patches = Linear(self.retina_size, self.dtype)
        self.place = Linear(self.location_size, self.dtype)
        self.glimpse = Linear(self.feature_size, self.dtype)
        self.core = Linear(self.core_size, self.dtype)
        self.classification = Linear(self.classes, "float32")
        self.location = Linear(2, WHOLE_FLOAT32)  # in pixels, in the end
        self.baseline = Linear(1, "float32")

    def __call__(self, x: jax.Array, noise: jax.Array, trace: bool = False) -> Episode:
        """Returns one episode of each image.

        Args:
            x: images [B, H, W, C], in [0, 1].
            noise: standard normal [T, B, 2]; its first axis sets T. The first is made uniform.
                Zeros look at the centre first, and then at the means.
            trace: static; whether to return the windows, too.

        Raises:
            ValueError: if a shape does not fit the model.
        """
        check_images(x, self.image_shape)
        if noise.ndim != 3 or len(noise) < 1 or noise.shape[1:] != (len(x), 2):
            raise ValueError(
                f"expected noise [T, B, 2] of shape (T >= 1, {len(x)}, 2), got {noise.shape}"
            )
        first = jax.lax.erf(noise[:1] / math.sqrt(2))  # uniform in [-1, 1]
        offsets = jnp.concatenate([first, self.location_std * noise[1:]])

        def step(module: Ram, state: State, levels: list[jax.Array], offset: jax.Array) -> Any:
            location = jax.lax.stop_gradient(state.mean + offset)
            after, logits = module.step(state.h, levels, location)
            return after, (logits, location, state.mean, state.baseline)

        unroll = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=(nn.broadcast, 0),
            unroll=self.unroll,
        )
        zeros = (jnp.zeros((len(x), *size), _FLOAT32) for size in ((self.core_size,), (2,), ()))
        levels = retina.averages(x, self.scales)
        _, (logits, locations, means, baselines) = unroll(self, State(*zeros), levels, offsets)
        height, width, _ = self.image_shape
        windows = retina.window(_onto_image(locations), self.read_size, height, width)
        return Episode(logits, locations, means, baselines, windows if trace else None)

    def step(
        self, h_tm1: jax.Array, levels: list[jax.Array], location: jax.Array
    ) -> tuple[State, jax.Array]:
        """Returns the state after one glimpse, and the logits [B, classes].

        Args:
            h_tm1: [B, core_size].
            levels: of the images, from `retina.averages`.
            location: (x, y) [B, 2], drawn.
        """
        location = _onto_image(location)
        seen = retina.patches(levels, location, self.read_size).reshape(len(location), -1)
        h_g, h_l = jax.nn.relu(self.patches(seen)), jax.nn.relu(self.place(location))
        g = jax.nn.relu(self.glimpse(jnp.concatenate([h_g, h_l], axis=-1)))
        h = jax.nn.relu(self.core(jnp.concatenate([g, h_tm1], axis=-1)))
        # Only the cross-entropy trains what makes h.
        known = jax.lax.stop_gradient(h)
        # Adam's steps do not depend on a gradient's scale, so the output is scaled.
        mean = self.location_rate * self.location(known)
        state = State(h, mean, self.baseline(known)[..., 0])
        return state, self.classification(h)


def _onto_image(location: jax.Array) -> jax.Array:
    """Returns the nearest location of the image."""
    return location.clip(-1.0, 1.0)


def _check_fields(model: Ram) -> None:
    """Raises ValueError naming the first invalid field."""
    sizes = ("retina_size", "location_size", "feature_size", "core_size")
    counts = ("time_steps", "read_size", "scales", "monte_carlo_samples", "unroll")
    weights = ("location_std", "location_rate", "reinforce_weight", "baseline_weight")
    check_fields(model, {"classes": 2} | dict.fromkeys((*sizes, *counts), 1), positive=weights)
    height, width, _ = model.image_shape
    if model.read_size > min(height, width):
        raise ValueError(
            f"expected read_size <= {min(height, width)}, the image's shorter side, "
            f"got {model.read_size}"
        )
    # A patch twice as wide as the image sees all of it from everywhere: no more is to be seen.
    if model.scales > 1 and model.read_size * 2 ** (model.scales - 1) > 2 * max(height, width):
        raise ValueError(
            f"expected scales whose widest patch has a side <= {2 * max(height, width)}, twice the "
            f"image's, got {model.scales}: patches of up to "
            f"{model.read_size * 2 ** (model.scales - 1)}"
        )


# --- the task


def task(model: Ram) -> Task:
    """Returns the task of RAM: cross-entropy, REINFORCE for where to look, and its baseline.

    An update plays `monte_carlo_samples` episodes of each image. Evaluation plays one: it draws the
    first location, and then looks at the means.
    """

    def loss_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> Terms:
        def play(noise: jax.Array) -> Terms:
            return terms(model, cast(Episode, model.apply(variables, x, noise)), labels)

        shape = (model.monte_carlo_samples, model.time_steps, len(x), 2)
        played = jax.vmap(play)(jax.random.normal(key, shape, _FLOAT32))
        return {name: term.mean(axis=0) for name, term in played.items()}

    def evaluation_terms(
        variables: Variables, x: jax.Array, labels: jax.Array | None, keys: jax.Array
    ) -> tuple[Terms, Terms]:
        noise = first_location_noise(model, keys)
        episode = cast(Episode, model.apply(variables, x, noise))
        return terms(model, episode, labels), classifier.diagnostics(episode.logits, labels)

    height, width, channels = model.image_shape
    seen = sum((height + 2**k) * (width + 2**k) * channels for k in range(model.scales))
    glimpse = model.scales * model.read_size**2 * channels
    units = model.retina_size + model.location_size + model.feature_size + model.core_size
    kept = seen + model.monte_carlo_samples * model.time_steps * (glimpse + 2 * units)
    whole = classifier.of_classes(model, model.classes, loss_terms, evaluation_terms, kept)
    totals = (("loss", ("cross_entropy", "reinforce", "baseline")),)
    return whole._replace(totals=totals)


def first_location_noise(model: Ram, keys: jax.Array) -> jax.Array:
    """Returns noise [T, B, 2] that draws only each first location, from its key, [B]."""
    first = jax.vmap(lambda key: jax.random.normal(key, (2,), _FLOAT32))(keys)
    return jnp.zeros((model.time_steps, len(keys), 2), _FLOAT32).at[0].set(first)


def terms(model: Ram, episode: Episode, labels: jax.Array | None) -> Terms:
    """Returns the terms of an episode, [B]; training minimises the sum of all but `error`.

    - `cross_entropy` of the last logits, nats, and `error`, 0 or 1: of the core and the glimpse.
    - `reinforce`: only its gradient has a meaning. It is the estimate
      -(reward - baseline) grad log N(location; mean, std^2) of the gradient of the mean reward, 1
      for a right answer after the last glimpse and otherwise 0, w.r.t. the location net only.
    - `baseline`: the squared error of the expected reward, summed over the locations chosen.

    The last two are multiplied by their weights. These are ours: no weight of theirs trains another
    net, but clipping bounds the gradient of all three together.

    Args:
        model: of the episode.
        episode: of B images.
        labels: integers [B], in [0, classes).
    """
    found = classifier.terms(episode.logits, labels)
    error = (1.0 - found["error"])[None] - episode.baselines[1:]  # the first is nobody's choice
    deviations = (episode.locations - episode.means)[1:] / model.location_std
    log_density = -0.5 * jnp.square(deviations).sum(axis=-1)  # and a constant
    surrogate = -(jax.lax.stop_gradient(error) * log_density).sum(axis=0)
    return {
        "cross_entropy": found["cross_entropy"],
        "error": found["error"],
        "reinforce": model.reinforce_weight * surrogate,
        "baseline": model.baseline_weight * jnp.square(error).sum(axis=0),
    }
