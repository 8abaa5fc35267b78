"""The two terms of DRAW's loss, per example and in nats (eqs 9-12)."""

import jax
import jax.numpy as jnp
import optax


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
