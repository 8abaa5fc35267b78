"""The two terms of DRAW's loss, per example and in nats (eqs 9-12)."""

import jax
import jax.numpy as jnp
import optax

LEVELS = 256  # values of an 8-bit image, 0, 1/255, ..., 1
# At the least scale a level is 86 scales wide: a mean in its middle costs less than 1e-18 nats. At
# the greatest it is 2e-7 of one: nearly all probability is in the two tails.
LEAST_LOG_SCALE, GREATEST_LOG_SCALE = -10.0, 10.0


def bernoulli_nll(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns L_x = -log D(x | c_T) of a Bernoulli with mean sigma(logits), eq. 9.

    Args:
        logits: the last canvas c_T, [..., H, W, C], any reals; finite results up to +-1e9 and more.
        targets: x, [..., H, W, C], in [0, 1]. Values between 0 and 1 are taken as probabilities;
            the loss then has the targets' entropy as its floor and measures no compression.

    Returns:
        [...] nats, summed over pixels and channels.

    Raises:
        ValueError: if the shapes differ or have fewer than three axes.
    """
    if logits.shape != targets.shape or logits.ndim < 3:
        raise ValueError(
            f"expected logits and targets of one shape [..., H, W, C], "
            f"got {logits.shape} and {targets.shape}"
        )
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=(-3, -2, -1))


def discretized_logistic_nll(
    mean: jax.Array, log_scale: jax.Array, targets: jax.Array
) -> jax.Array:
    """Returns L_x = -log D(x | c_T) of 8-bit images, each value a logistic rounded to a level.

    With F(v) = sigma((v - mean) / scale) the distribution function, the level x has the probability
    F(x + 1/510) - F(x - 1/510) of what is rounded to it; black has the whole lower tail, white the
    whole upper one, so that the 256 levels sum to 1. Salimans et al. 2017, arXiv 1701.05517, eq. 2,
    with one component.

    Args:
        mean: of the logistic, [..., H, W, C], any reals; finite results up to +-1e9 and more.
        log_scale: its log scale, [..., H, W, C], any reals, clipped to [LEAST_LOG_SCALE,
            GREATEST_LOG_SCALE]; beyond, the gradient is that at the bound, which leads back.
        targets: x, [..., H, W, C], levels k / 255; other values in [0, 1] are taken as the nearest.

    Returns:
        [...] nats, summed over pixels and channels, >= 0. Divided by H W C ln 2 they are bits per
        dimension, which any code for the images can be compared with.

    Raises:
        ValueError: if the shapes differ or have fewer than three axes.
    """
    if not mean.shape == log_scale.shape == targets.shape or mean.ndim < 3:
        raise ValueError(
            "expected mean, log_scale and targets of one shape [..., H, W, C], "
            f"got {mean.shape}, {log_scale.shape} and {targets.shape}"
        )
    log_scale = hold(log_scale, LEAST_LOG_SCALE, GREATEST_LOG_SCALE)
    level = jnp.round((LEVELS - 1) * targets)
    inverse = jnp.exp(-log_scale)
    # The upper edge of a level is the lower one of the next, bit for bit.
    upper = ((level + 0.5) / (LEVELS - 1) - mean) * inverse
    lower = ((level - 0.5) / (LEVELS - 1) - mean) * inverse
    # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)): no two near numbers are subtracted.
    below = jax.nn.softplus(-upper)  # -log F of the upper edge
    above = jax.nn.softplus(lower)  # -log(1 - F) of the lower edge
    within = -jnp.log(-jnp.expm1(-inverse / (LEVELS - 1)))
    nll = jnp.where(
        level <= 0, below, jnp.where(level >= LEVELS - 1, above, below + above + within)
    )
    return nll.sum(axis=(-3, -2, -1))


def hold(x: jax.Array, least: float, greatest: float) -> jax.Array:
    """Returns x clipped to [least, greatest], with the gradient of x itself.

    So the gradient at a bound leads back what lies beyond it; plain clipping has none there.
    """
    return jax.lax.stop_gradient(jnp.clip(x, least, greatest)) + (x - jax.lax.stop_gradient(x))


def gaussian_kl(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Returns KL(N(mean, std^2) to N(0, I)) of one time step, eqs 10 and 11.

    Summed over the time steps it is eq. 11: the paper's -T/2 there is per latent dimension.

    Args:
        mean: [..., Z], eq. 1.
        log_std: [..., Z], eq. 2 before its exponential.

    Returns:
        [...] nats, summed over the latent dimensions, >= 0.

    Raises:
        ValueError: if the shapes differ.
    """
    if mean.shape != log_std.shape:
        raise ValueError(f"expected one shape [..., Z], got {mean.shape} and {log_std.shape}")
    terms = jnp.square(mean) + jnp.exp(2 * log_std) - 2 * log_std - 1
    return 0.5 * terms.sum(axis=-1)


def importance_log_weight(
    nll: jax.Array, mean: jax.Array, log_std: jax.Array, eps: jax.Array
) -> jax.Array:
    """Returns log p(x | z) p(z) / q(z | x) at z = mean + exp(log_std) eps.

    The mean of its exponential over samples of z estimates p(x); its own mean is the negative of
    eq. 12. Burda et al. 2016, arXiv 1509.00519, eq. 8.

    Args:
        nll: -log p(x | z), [...] nats.
        mean: posterior means of all time steps, [T, ..., Z].
        log_std: their log standard deviations, [T, ..., Z].
        eps: the standard normal noise, [T, ..., Z].

    Returns:
        [...] nats.
    """
    z = mean + jnp.exp(log_std) * eps
    log_ratio = 0.5 * (jnp.square(eps) - jnp.square(z)) + log_std
    return log_ratio.sum(axis=(0, -1)) - nll
