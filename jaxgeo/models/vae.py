"""Variational autoencoders, and the evidence that every latent-variable model here shares."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from jaxgeo._typing import Point, Scalar
from jaxgeo.likelihoods import Gaussian, Likelihood
from jaxgeo.metrics import FisherPullbackMetric, PullbackMetric, expected_pullback_metric
from jaxgeo.models.networks import Decoder, Encoder

BATCH = 256
"""Weights of one sample that are drawn side by side."""


@runtime_checkable
class LatentModel(Protocol):
    """A model of samples x by latent points z: one draw of an unbiased estimate of p(x)."""

    def log_weight(self, x: Array, *, key: Array) -> Scalar: ...


class VAE(nnx.Module):
    r"""A variational autoencoder: $z \sim N(0, I)$, $x \sim p(x|z)$, and $q(z|x)$ Gaussian.

    Any two make one, nnx modules or functions: an `encoder` from a sample to mean and log
    deviation of q, both `(d,)`, and a `decoder` from a point `(d,)` to the parameters of the
    `likelihood`.
    `dense_vae` and `convolutional_vae` make them of networks.

    Every method takes one sample or one point: batch with `jax.vmap`.
    """

    def __init__(self, encoder: Any, decoder: Any, likelihood: Likelihood, latent_dim: int):
        self.encoder, self.decoder = encoder, decoder
        self.likelihood, self.latent_dim = likelihood, latent_dim

    def encode(self, x: Array) -> tuple[Point, Point]:
        """Mean and log deviation of q(z|x)."""
        return self.encoder(x)

    def decode(self, z: Point) -> Array:
        """The mean of p(x|z)."""
        return self.likelihood.mean(self.decoder(z))

    def log_joint(self, x: Array, z: Point) -> Scalar:
        """log p(x, z)."""
        return self.likelihood.log_prob(self.decoder(z), x) + log_standard_normal(z)

    def log_weight(self, x: Array, *, key: Array) -> Scalar:
        """log p(x, z) − log q(z|x) at one draw of z: its mean is the ELBO."""
        mean, log_deviation = self.encode(x)
        z, noise = draw(mean, log_deviation, key)
        log_posterior = log_standard_normal(noise) - jnp.sum(log_deviation)
        return self.log_joint(x, z) - log_posterior

    def pullback_metric(self) -> PullbackMetric:
        """The expected pullback of the Euclidean metric: see `expected_pullback_metric`."""
        return expected_pullback_metric(self.decoder, self.likelihood)

    def fisher_metric(self) -> FisherPullbackMetric:
        """The Fisher information of one decoded sample: see `FisherPullbackMetric`."""
        return FisherPullbackMetric(self.decoder, self.likelihood)


def dense_vae(
    shape: Sequence[int],
    latent_dim: int,
    *,
    key: Array,
    likelihood: Likelihood | None = None,
    widths: Sequence[int] = (256, 256),
    center: float = 0.0,
    spread: float = 1.0,
    dtype: Any = None,
) -> VAE:
    """A VAE of perceptrons.

    **Arguments:** `shape`, of a sample; `latent_dim`, d; `likelihood`, `Gaussian()` if not given;
    `widths`, of the hidden layers, in reverse for the decoder; `center` and `spread`, by which
    samples are standardised for the encoder; `dtype`, float32 if not given.
    """
    rngs, law = nnx.Rngs(key), likelihood or Gaussian()
    options: dict[str, Any] = {"rngs": rngs, "dtype": dtype}
    encoder = Encoder(shape, latent_dim, widths=widths, center=center, spread=spread, **options)
    decoder = Decoder(shape, latent_dim, law, widths=tuple(reversed(widths)), **options)
    return VAE(encoder, decoder, law, latent_dim)


def convolutional_vae(
    shape: Sequence[int],
    latent_dim: int,
    *,
    key: Array,
    likelihood: Likelihood | None = None,
    channels: Sequence[int] = (32, 64),
    widths: Sequence[int] = (256,),
    center: float = 0.0,
    spread: float = 1.0,
    dtype: Any = None,
) -> VAE:
    """A VAE of convolutions of stride 2 (and transposed ones), with dense layers between.

    **Arguments:** as `dense_vae`; `shape`, of an image, `(height, width[, channels])`;
    `channels`, of the convolutions, in reverse for the decoder.
    """
    rngs, law = nnx.Rngs(key), likelihood or Gaussian()
    options: dict[str, Any] = {"rngs": rngs, "dtype": dtype}
    encoder = Encoder(
        shape, latent_dim, widths=widths, channels=channels, center=center, spread=spread,
        **options,
    )  # fmt: skip
    decoder = Decoder(
        shape, latent_dim, law, widths=tuple(reversed(widths)),
        channels=tuple(reversed(channels)), **options,
    )  # fmt: skip
    return VAE(encoder, decoder, law, latent_dim)


def log_standard_normal(z: Array) -> Scalar:
    """log N(z; 0, I)."""
    return Gaussian().log_prob((jnp.zeros_like(z), jnp.zeros_like(z)), z)


def draw(mean: Point, log_deviation: Point, key: Array) -> tuple[Point, Point]:
    """One draw of N(mean, exp(log_deviation)²), and the white noise that made it."""
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return mean + jnp.exp(log_deviation) * noise, noise


def kl_divergence(mean: Point, log_deviation: Point) -> Scalar:
    r"""The Kullback-Leibler divergence of $N(\mu, \sigma^2)$ from $N(0, I)$, summed over axes.

    >>> kl_divergence(jnp.array([2.0]), jnp.array([0.0])).item()
    2.0
    """
    return jnp.sum(jnp.exp(2 * log_deviation) + mean**2 - 1 - 2 * log_deviation) / 2


def elbo(model: LatentModel, x: Array, *, key: Array, n_samples: int = 1) -> Scalar:
    r"""The evidence lower bound of one sample, $\mathbb{E}[\log w] \le \log p(x)$.

    **Arguments:** `model`, any with a `log_weight`: `VAE`, `HVAE`, `RHVAE`; `x`, one sample;
    `key`; `n_samples`, of the mean.

    **Returns:** a number in nats, unbiased; −∞ if a flow could not be followed, whose draw has
    no weight: shorten its step. **Cost:** `n_samples` weights.
    """
    return jnp.mean(_log_weights(model, x, key, n_samples))


def log_evidence(model: LatentModel, x: Array, *, key: Array, n_samples: int = 1000) -> Scalar:
    r"""The importance-weighted estimate of log p(x), $\log \tfrac1n \sum_k w_k$.

    A lower bound in expectation, that rises with n to log p(x). Draws whose flow could not be
    followed count with no weight, so it remains one.

    **Arguments, cost:** as `elbo`. **Returns:** a number in nats.

    **Reference:** Burda, Grosse & Salakhutdinov (2016), eq. 8.
    """
    return logsumexp(_log_weights(model, x, key, n_samples)) - jnp.log(n_samples)


def _log_weights(
    model: LatentModel, x: Array, key: Array, n_samples: int
) -> Float[Array, " n_samples"]:
    keys = jax.random.split(key, n_samples)
    return jax.lax.map(lambda k: model.log_weight(x, key=k), keys, batch_size=BATCH)
