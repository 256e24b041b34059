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

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Point, Scalar
from jaxgeo.diffusion.schedules import VariancePreserving


class _Terms(NamedTuple):
    """What each component says of a point."""

    log_weights: Float[Array, " k"]  # log wₖ N(x; mₖ, Cₖ)
    pulls: Float[Array, "k d"]  # Cₖ⁻¹ (x − mₖ)


@final
class GaussianMixture(eqx.Module):
    r"""The law $p(x) = \sum_k w_k\, N(x; m_k, C_k)$.

    **Arguments:**

    - `means`: $m_k$, `(k, d)`.
    - `covariances`: $C_k$, `(k, d, d)`, positive definite; or a deviation, one for all or `(k,)`.
    - `weights`: $w_k$, `(k,)`, positive, made to add up to 1; equal if not given.

    What is kept of a covariance are its principal `axes`, in columns, or none where all are
    isotropic, and the `variances` along them: noise adds to these alone.

    **Fails:** `ValueError` on shapes, and on deviations, covariances and weights that are not
    positive.

    **Cost:** of the density and the score at a point, O(k d²), or O(k d) without axes.

    **Example:**

    >>> two = GaussianMixture(jnp.array([[-1.0], [1.0]]), 0.5)
    >>> round(two.log_density(jnp.array([1.0])).item(), 4)
    -0.9186
    """

    means: Float[Array, "k d"]
    variances: Float[Array, "k d"]
    axes: Float[Array, "k d d"] | None
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
        if spread.shape == (k, d, d):
            self.variances, self.axes = jnp.linalg.eigh(spread)
            _refuse_unless_positive(self.variances, "a covariance's eigenvalue")
        elif spread.shape in ((), (k,)):
            _refuse_unless_positive(spread, "a deviation")
            self.variances = jnp.zeros((k, d), spread.dtype) + spread.reshape(-1, 1) ** 2
            self.axes = None
        else:
            raise ValueError(
                f"`covariances` must have shape {(k, d, d)}, {(k,)} or (), got {spread.shape}."
            )
        shares = jnp.ones(k) if weights is None else jnp.asarray(weights)
        if shares.shape != (k,):
            raise ValueError(f"`weights` must have shape {(k,)}, got {shares.shape}.")
        _refuse_unless_positive(shares, "a weight")
        self.weights = (shares / jnp.sum(shares)).astype(self.means.dtype)

    def _into_axes(self, v: Float[Array, "k d"]) -> Float[Array, "k d"]:
        if self.axes is None:
            return v
        return jnp.einsum("kji,kj->ki", self.axes, v, precision=HIGHEST)

    def _out_of_axes(self, v: Float[Array, "k d"]) -> Float[Array, "k d"]:
        if self.axes is None:
            return v
        return jnp.einsum("kij,kj->ki", self.axes, v, precision=HIGHEST)

    def _terms(self, x: Point) -> _Terms:
        away = self._into_axes(x[None, :] - self.means)
        pulls = away / self.variances
        sizes = jnp.sum(away * pulls + jnp.log(2 * jnp.pi * self.variances), axis=1)
        return _Terms(jnp.log(self.weights) - sizes / 2, self._out_of_axes(pulls))

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
        noise = jax.random.normal(key_noise, (n, d), self.means.dtype)
        noise = jnp.sqrt(self.variances)[chosen] * noise
        if self.axes is not None:
            noise = jnp.einsum("nij,nj->ni", self.axes[chosen], noise, precision=HIGHEST)
        return self.means[chosen] + noise

    def noised(self, alpha: ArrayLike, sigma: ArrayLike) -> "GaussianMixture":
        """The law of αx + σε, a mixture too."""
        alpha, sigma = (jnp.asarray(a, self.means.dtype) for a in (alpha, sigma))
        noisy = alpha * self.means, alpha**2 * self.variances + sigma**2
        return eqx.tree_at(lambda m: (m.means, m.variances), self, noisy)

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
        bent = 1 - 2 * square * self.variances
        pulls = self._into_axes(linear[None, :] + 2 * square * self.means)
        at_means = jnp.dot(self.means, linear, precision=HIGHEST)
        at_means += square * jnp.sum(self.means**2, axis=1)
        curved = jnp.sum(self.variances * pulls**2 / bent - jnp.log(bent), axis=1) / 2
        return jax.nn.logsumexp(jnp.log(self.weights) + at_means + curved)


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
        shares, means, _ = self._parts(x, t)
        return jnp.dot(shares, means, precision=HIGHEST)

    def divergence(self, x: Point, t: ArrayLike) -> Scalar:
        """The trace of the derivative in x, by a sum over components: what `SpacetimeMetric`
        takes instead of d derivatives."""
        shares, means, pulls = self._parts(x, t)
        alpha, own = self.schedule.alpha(jnp.asarray(t, x.dtype)), self.mixture
        each = alpha * jnp.sum(own.variances / self.at(t).variances, axis=1)
        apart = pulls - jnp.dot(shares, pulls, precision=HIGHEST)[None, :]
        return jnp.dot(shares, each - jnp.sum(apart * means, axis=1), precision=HIGHEST)

    def _parts(
        self, x: Point, t: ArrayLike
    ) -> tuple[Float[Array, " k"], Float[Array, "k d"], Float[Array, "k d"]]:
        """Of each component: its share, the mean of its data behind x, its pull."""
        alpha = self.schedule.alpha(jnp.asarray(t, x.dtype))
        terms, own = self.at(t)._terms(x), self.mixture
        # Cₖ Cₖ(t)⁻¹ (x − αmₖ), in the axes that both share
        spread = own._out_of_axes(own.variances * own._into_axes(terms.pulls))
        return jax.nn.softmax(terms.log_weights), own.means + alpha * spread, terms.pulls

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
    deviation: ArrayLike,
    t: ArrayLike,
    schedule: VariancePreserving,
    *,
    separation: ArrayLike = 1.0,
) -> Float[Array, "*s"]:
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
