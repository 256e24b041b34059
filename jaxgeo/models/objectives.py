"""What the training of a latent-variable model minimises: functions of (model, batch, key)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

from jaxgeo._typing import Point, Scalar
from jaxgeo.models.diffusion import EARLIEST, DiffusionModel
from jaxgeo.models.hvae import HVAE, RHVAE
from jaxgeo.models.networks import Perceptron
from jaxgeo.models.vae import VAE, draw, kl_divergence


class Evidence(NamedTuple):
    r"""Minus the evidence lower bound, $-\mathbb{E}\log p(x|z) + \beta\,\mathrm{KL}$ of q(z|x).

    - `beta`: β, of a `VAE` alone: 1 is the bound, more asks for independent coordinates (β-VAE,
      Higgins et al. 2017).
    """

    beta: float = 1.0


class MaximumMeanDiscrepancy(NamedTuple):
    r"""$-\mathbb{E}\log p(x|z) + (1-\alpha)\,\mathrm{KL} + (\lambda+\alpha-1)\,
    \mathrm{MMD}(q(z)\,\|\,p(z))$, which leaves the latent points of one sample more room.

    - `alpha`, `weight`: α and λ; α = 1 is the MMD-VAE.
    - `bandwidth`: ρ, of the kernel $e^{-r^2/\rho^2 d}$.

    Zhao, Song & Ermon (2019), *InfoVAE*, eq. 6.
    """

    alpha: float = 1.0
    weight: float = 1.0
    bandwidth: float = 1.0


class MutualInformation(NamedTuple):
    r"""$-\mathbb{E}\log p(x|z) + \beta\,\mathrm{KL} - \alpha\,I(x; z)$, with I bounded from below
    by a critic T that is trained beside: $\mathbb{E}[T(x,z)] - \mathbb{E}[e^{T(x,z')-1}]$, z'
    another sample's.

    - `alpha`, `beta`: α and β. - `width`: of the critic's two hidden layers.

    Rezaabad & Vishwanath (2020), *Learning representations by maximizing mutual information in
    variational autoencoders* (InfoMax-VAE), eqs. 6 and 9.
    """

    alpha: float = 1.0
    beta: float = 1.0
    width: int = 128


class Reconstruction(NamedTuple):
    r"""$-\log p(x\,|\,\mu_\phi(x))$: a plain autoencoder, whose latent points are the means.

    With `FixedGaussian(sigma)` it is the mean squared error, but for a constant. What the
    encoder says of deviations is not trained.
    """


class Denoising(NamedTuple):
    r"""$\mathbb{E}\,\lVert D(x_t, t) - x_0\rVert^2 / \mathbb{E}\,\lVert c\,\rVert^2$ of a
    `DiffusionModel`, with c its `error_scale`: 1 at all times before training.

    Times are drawn by $\log\sigma/\alpha \sim N$, cut off at the ends of the schedule, one in
    each of as many equally likely intervals as a batch has samples.

    - `center`, `deviation`: of that normal law.

    Karras et al. (2022), eq. 8 and table 1; Kingma et al. (2021), *Variational diffusion models*,
    for the strata.
    """

    center: float = 0.5
    deviation: float = 1.5


Objective = Evidence | Reconstruction | MaximumMeanDiscrepancy | MutualInformation | Denoising


class Criticised(nnx.Module):
    """A VAE and the critic of its mutual information, trained together."""

    def __init__(self, vae: VAE, samples: Array, width: int, *, key: Array):
        self.vae = vae
        self.center = nnx.Variable(jnp.mean(samples))
        self.spread = nnx.Variable(jnp.std(samples))
        sizes = (samples[0].size + vae.latent_dim, width, width, 1)
        self.critic = Perceptron(sizes, rngs=nnx.Rngs(key))

    def score(self, x: Array, z: Point) -> Scalar:
        """T(x, z)."""
        y = (x.ravel() - self.center[...]) / self.spread[...]
        return self.critic(jnp.concatenate([y.astype(z.dtype), z]))[0]


def negative_log_weight(model: HVAE | RHVAE, x: Array, constants: None, key: Array) -> Scalar:
    """Mean of −log w over a batch, minus the bound of a Hamiltonian VAE; over the draws whose flow
    could be followed, NaN if they are fewer than nine in ten."""
    keys = jax.random.split(key, len(x))
    log_w = jax.vmap(lambda x, k: model.log_weight(x, key=k))(x, keys)
    count = jnp.sum(jnp.isfinite(log_w))
    mean = jnp.sum(jnp.where(jnp.isfinite(log_w), log_w, 0)) / jnp.maximum(count, 1)
    return jnp.where(count < 0.9 * len(x), jnp.nan, -mean)


class _Terms(NamedTuple):
    """The parts of a VAE's objective, for every sample of a batch."""

    z: Float[Array, "n d"]
    log_likelihood: Float[Array, " n"]
    divergence: Float[Array, " n"]


def _terms(vae: VAE, x: Array, key: Array) -> _Terms:
    def one(x: Array, key: Array) -> _Terms:
        mean, log_deviation = vae.encode(x)
        z, _ = draw(mean, log_deviation, key)
        fits = vae.likelihood.log_prob(vae.decoder(z), x)
        return _Terms(z, fits, kl_divergence(mean, log_deviation))

    return jax.vmap(one)(x, jax.random.split(key, len(x)))


def negative_elbo(vae: VAE, x: Array, objective: Evidence, key: Array) -> Scalar:
    """`Evidence`, over a batch."""
    terms = _terms(vae, x, key)
    return jnp.mean(objective.beta * terms.divergence - terms.log_likelihood)


def reconstruction_loss(vae: VAE, x: Array, objective: Reconstruction, key: Array) -> Scalar:
    """`Reconstruction`, over a batch."""

    def one(x: Array) -> Scalar:
        return vae.likelihood.log_prob(vae.decoder(vae.encode(x)[0]), x)

    return -jnp.mean(jax.vmap(one)(x))


def discrepancy_loss(vae: VAE, x: Array, objective: MaximumMeanDiscrepancy, key: Array) -> Scalar:
    """`MaximumMeanDiscrepancy`, over a batch."""
    key, key_prior = jax.random.split(key)
    terms = _terms(vae, x, key)
    prior = jax.random.normal(key_prior, terms.z.shape, terms.z.dtype)
    between = mean_discrepancy(terms.z, prior, objective.bandwidth)
    alpha, weight = objective.alpha, objective.weight
    mean = jnp.mean((1 - alpha) * terms.divergence - terms.log_likelihood)
    return mean + (weight + alpha - 1) * between


def mean_discrepancy(
    a: Float[Array, "n d"], b: Float[Array, "m d"], bandwidth: float | Array
) -> Scalar:
    r"""The squared maximum mean discrepancy of two samples, unbiased.

    $$ \mathbb{E}\,k(a, a') + \mathbb{E}\,k(b, b') - 2\,\mathbb{E}\,k(a, b), \qquad
       k(a, b) = e^{-|a-b|^2/\rho^2 d} $$

    **Arguments:** `a`, `(n, d)`; `b`, `(m, d)`; `bandwidth`, ρ.

    **Returns:** a number, that may be negative. **Cost:** O((n + m)² d).

    **Example:**

    >>> a = jnp.array([[0.0], [0.0]])
    >>> mean_discrepancy(a, a + 100, 1.0).item()
    2.0

    **Reference:** Gretton et al. (2012), *A kernel two-sample test*, eq. 3.
    """

    def kernel(x: Array, y: Array) -> Array:
        squares = jnp.sum((x[:, None] - y[None]) ** 2, axis=-1)
        return jnp.exp(-squares / (bandwidth**2 * x.shape[1]))

    def within(x: Array) -> Scalar:
        n = len(x)
        return (jnp.sum(kernel(x, x)) - n) / (n * (n - 1))

    return within(a) + within(b) - 2 * jnp.mean(kernel(a, b))


def information_loss(
    model: Criticised, x: Array, objective: MutualInformation, key: Array
) -> Scalar:
    """`MutualInformation`, over a batch."""
    terms = _terms(model.vae, x, key)
    joint = jax.vmap(model.score)(x, terms.z)
    apart = jax.vmap(model.score)(x, jnp.roll(terms.z, 1, axis=0))
    information = jnp.mean(joint) - jnp.mean(jnp.exp(apart - 1))
    mean = jnp.mean(objective.beta * terms.divergence - terms.log_likelihood)
    return mean - objective.alpha * information


def denoising_times(
    model: DiffusionModel, n: int, objective: Denoising, key: Array
) -> Float[Array, " n"]:
    """`n` times as `Denoising` draws them, rising."""
    schedule, dtype = model.schedule, model.center[...].dtype
    ends = [jnp.log(schedule.noise_ratio(jnp.asarray(t, dtype))) for t in (EARLIEST, 1.0)]
    low, high = (ndtr((end - objective.center) / objective.deviation) for end in ends)
    u = (jnp.arange(n) + jax.random.uniform(key, (n,), dtype)) / n
    normal = ndtri((low + (high - low) * u).astype(dtype))
    level = jnp.clip(objective.center + objective.deviation * normal, *ends)
    return jax.vmap(schedule.time)(jnp.exp(level))


def denoising_loss(model: DiffusionModel, x: Array, objective: Denoising, key: Array) -> Scalar:
    """`Denoising`, over a batch."""
    key_time, key_noise = jax.random.split(key)
    times = denoising_times(model, len(x), objective, key_time)

    def one(x: Array, t: Scalar, key: Array) -> Scalar:
        data = model.standardise(x)
        noise = jax.random.normal(key, data.shape, data.dtype)
        noised = model.schedule.alpha(t) * data + model.schedule.sigma(t) * noise
        errors = model(noised, t) - data
        return jnp.sum(errors**2) / jnp.sum(model.error_scale(t) ** 2)

    return jnp.mean(jax.vmap(one)(x, times, jax.random.split(key_noise, len(x))))
