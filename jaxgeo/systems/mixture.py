r"""Gaussian mixtures and their diffusion, exact: score, denoiser, flow and phase boundaries.

A mixture stays one when noise is added, so that everything a diffusion model must learn is known
in closed form, in any dimension.
"""

from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxgeo._linalg import HIGHEST, cholesky, logdet_spd, solve_lower, solve_spd
from jaxgeo._typing import Point, Scalar
from jaxgeo.diffusion.schedules import VariancePreserving


class _Terms(NamedTuple):
    """What each component says of a point."""

    log_weights: Float[Array, " k"]  # log wₖ N(x; mₖ, Cₖ)
    pulls: Float[Array, "k d"]  # Cₖ⁻¹ (x − mₖ)


@final
class GaussianMixture(eqx.Module):
    r"""The law $p(x) = \sum_k w_k\, N(x; m_k, C_k)$.

    - `means`: `(k, d)`.
    - `covariances`: `(k, d, d)`, positive definite; or a deviation, one for all or `(k,)`.
    - `weights`: `(k,)`, positive, made to add up to 1; equal if not given.

    **Fails:** `ValueError` on shapes, deviations and weights that are not positive.

    **Example:**

    >>> two = GaussianMixture(jnp.array([[-1.0], [1.0]]), 0.5)
    >>> round(two.log_density(jnp.array([1.0])).item(), 4)
    -0.9186
    """

    means: Float[Array, "k d"]
    covariances: Float[Array, "k d d"]
    weights: Float[Array, " k"]

    def __init__(
        self, means: ArrayLike, covariances: ArrayLike, weights: ArrayLike | None = None
    ) -> None:
        self.means = jnp.asarray(means)
        if self.means.ndim != 2 or not jnp.issubdtype(self.means.dtype, jnp.floating):
            raise ValueError(
                f"`means` must be floats of shape (k, d), got shape {self.means.shape} and dtype "
                f"{self.means.dtype}."
            )
        k, d = self.means.shape
        spread = jnp.asarray(covariances, self.means.dtype)
        if spread.shape in ((), (k,)):
            _refuse_unless_positive(spread, "a deviation")
            spread = jnp.broadcast_to(spread, (k,))[:, None, None] ** 2 * jnp.eye(d)[None]
        if spread.shape != (k, d, d):
            raise ValueError(
                f"`covariances` must have shape {(k, d, d)}, {(k,)} or (), got {spread.shape}."
            )
        self.covariances = spread.astype(self.means.dtype)
        shares = jnp.ones(k) if weights is None else jnp.asarray(weights)
        if shares.shape != (k,):
            raise ValueError(f"`weights` must have shape {(k,)}, got {shares.shape}.")
        _refuse_unless_positive(shares, "a weight")
        self.weights = (shares / jnp.sum(shares)).astype(self.means.dtype)

    def _terms(self, x: Point) -> _Terms:
        def one(weight: Scalar, mean: Point, covariance: Array) -> tuple[Array, Array]:
            factor = cholesky(covariance)
            white = solve_lower(factor, x - mean)
            size = jnp.sum(jnp.log(jnp.diagonal(factor))) + x.size / 2 * jnp.log(2 * jnp.pi)
            pull = solve_spd(covariance, x - mean)
            return jnp.log(weight) - jnp.sum(white**2) / 2 - size, pull

        return _Terms(*jax.vmap(one)(self.weights, self.means, self.covariances))

    def log_density(self, x: Point) -> Scalar:
        """log p(x)."""
        return jax.nn.logsumexp(self._terms(x).log_weights)

    def responsibilities(self, x: Point) -> Float[Array, " k"]:
        """The share that each component has in the density at x."""
        return jax.nn.softmax(self._terms(x).log_weights)

    def component(self, x: Point) -> Int[Array, ""]:
        """The number of the component with the largest share: the phase of x."""
        return jnp.argmax(self._terms(x).log_weights)

    def score(self, x: Point) -> Point:
        """∇ log p(x)."""
        terms = self._terms(x)
        shares = jax.nn.softmax(terms.log_weights)
        return -jnp.dot(shares, terms.pulls, precision=HIGHEST)

    def sample(self, key: Array, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        key_component, key_noise = jax.random.split(key)
        k, d = self.means.shape
        chosen = jax.random.choice(key_component, k, (n,), p=self.weights)
        factors = cholesky(self.covariances)[chosen]
        noise = jax.random.normal(key_noise, (n, d), self.means.dtype)
        return self.means[chosen] + jnp.einsum("nij,nj->ni", factors, noise, precision=HIGHEST)

    def noised(self, alpha: ArrayLike, sigma: ArrayLike) -> "GaussianMixture":
        """The law of αx + σε, a mixture too."""
        alpha, sigma = (jnp.asarray(a, self.means.dtype) for a in (alpha, sigma))
        noise = sigma**2 * jnp.eye(self.means.shape[1], dtype=self.means.dtype)
        covariances = alpha**2 * self.covariances + noise[None]
        return eqx.tree_at(
            lambda m: (m.means, m.covariances), self, (alpha * self.means, covariances)
        )

    def log_partition(self, theta: Float[Array, " d_plus_1"]) -> Scalar:
        r"""The log-partition function of the denoising posteriors $p(x_0|x_t)$, over all (x_t, t).

        $$ \psi(\theta) = \log\int \exp\bigl(\langle\theta_{1:d}, x\rangle + \theta_{d+1}
           \lVert x\rVert^2\bigr)\, p(x)\, dx, \qquad
           \theta = \bigl(\tfrac{\alpha}{\sigma^2} x_t, -\tfrac{\alpha^2}{2\sigma^2}\bigr) $$

        Its Hessian is the Fisher metric of spacetime in natural coordinates; `SpacetimeMetric`
        has it for any denoiser, in the coordinates (x_t, t).

        **Reference:** Karczewski et al. (2025), arXiv 2505.17517.
        """
        linear, square = theta[:-1], theta[-1]

        def one(weight: Scalar, mean: Point, covariance: Array) -> Scalar:
            bent = jnp.eye(mean.size, dtype=mean.dtype) - 2 * square * covariance
            pull = linear + 2 * square * mean
            spread = jnp.dot(covariance, solve_spd(bent, pull), precision=HIGHEST)
            at_mean = jnp.dot(linear, mean) + square * jnp.dot(mean, mean)
            return jnp.log(weight) + at_mean + jnp.dot(pull, spread) / 2 - logdet_spd(bent) / 2

        return jax.nn.logsumexp(jax.vmap(one)(self.weights, self.means, self.covariances))


@final
class MixtureDenoiser(eqx.Module):
    r"""The exact denoiser $D(x, t) = E[x_0 | x_t = x]$ of a mixture: what samplers take.

    $$ D = \sum_k r_k(x)\, \bigl(m_k + \alpha C_k C_k(t)^{-1}(x - \alpha m_k)\bigr), \qquad
       C_k(t) = \alpha^2 C_k + \sigma^2 I $$

    with r the responsibilities of the noised mixture.

    **Example:**

    >>> denoiser = MixtureDenoiser(GaussianMixture(jnp.array([[-1.0], [1.0]]), 0.1))
    >>> denoiser(jnp.array([0.0]), 0.5).item()
    0.0
    """

    mixture: GaussianMixture
    schedule: VariancePreserving = VariancePreserving()

    def __call__(self, x: Point, t: ArrayLike) -> Point:
        """The mean of the data behind x at time t."""
        alpha = self.schedule.alpha(jnp.asarray(t, x.dtype))
        terms = self.at(t)._terms(x)
        spread = jnp.einsum("kij,kj->ki", self.mixture.covariances, terms.pulls, precision=HIGHEST)
        shares = jax.nn.softmax(terms.log_weights)
        return jnp.dot(shares, self.mixture.means + alpha * spread, precision=HIGHEST)

    def at(self, t: ArrayLike) -> GaussianMixture:
        """The law of x_t."""
        t = jnp.asarray(t, self.mixture.means.dtype)
        return self.mixture.noised(self.schedule.alpha(t), self.schedule.sigma(t))

    def lyapunov_exponents(self, x: Point, t: ArrayLike) -> Float[Array, " d"]:
        r"""The rates at which neighbours of x part in the reverse flow at time t, rising.

        $$ \lambda_i = \tfrac12 \beta(t)\,\bigl(1 + \mathrm{eig}_i\, \nabla^2 \log p_t(x)\bigr) $$

        per unit of time. Positive ones are of a boundary: points on either side of it go to
        different components.
        """
        hessian = jax.jacfwd(self.at(t).score)(x)
        rate = self.schedule.rate(jnp.asarray(t, x.dtype))
        return rate / 2 * (1 + jnp.linalg.eigvalsh((hessian + hessian.T) / 2))


def saddle_exponent(
    deviation: ArrayLike, t: ArrayLike, schedule: VariancePreserving, *, separation: float = 1.0
) -> Scalar:
    r"""The Lyapunov exponent midway between two equal components at ±m, along m.

    $$ \lambda(t) = \tfrac12\beta\left(1 + \frac{\alpha^2\lvert m\rvert^2 - s^2}{s^4}\right),
       \qquad s^2 = \alpha^2\sigma^2 + 1 - \alpha^2 $$

    and as t → 0 with |m| = 1 the paper's $\tfrac12\beta(1 + (1 - \sigma^2)/\sigma^4)$.

    **Arguments:** `deviation`, σ of each component; `t`; `schedule`; `separation`, |m|.

    **Returns:** λ(t), per unit of time: `MixtureDenoiser.lyapunov_exponents` has it for any
    mixture and place.

    **Example:**

    >>> round(saddle_exponent(0.5, 0.0, VariancePreserving(1.0, 1.0)).item(), 4)
    6.5

    **Reference:** Lobashev et al. (2025), Proposition 4.1.
    """
    kept = jnp.exp(-schedule.integral(t))
    width = kept * jnp.asarray(deviation) ** 2 - jnp.expm1(-schedule.integral(t))
    return schedule.rate(t) / 2 * (1 + (kept * separation**2 - width) / width**2)


def _refuse_unless_positive(values: Array, name: str) -> None:
    if not isinstance(values, jax.core.Tracer) and not np.all(np.asarray(values) > 0):
        raise ValueError(f"{name} must be positive, got {np.asarray(values)}.")
