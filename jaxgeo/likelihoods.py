"""Laws of data, in the parameters that a decoder gives: densities, moments, samples, Fisher.

Parameters are arrays of the shape of the data, whose entries are independent, or tuples of such
arrays. They have no bounds: logits and logarithms, never probabilities. A law of one's own needs
the methods of `Likelihood`.
"""

import math
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, i0e, i1e, logsumexp, polygamma
from jaxtyping import Array, Float

from jaxgeo._linalg import cholesky
from jaxgeo._typing import Scalar

LOG_2PI = 1.8378770664093453


LARGEST_LOG = 8.0
"""Logarithms of deviations and concentrations that networks give stay within this, smoothly."""


def bounded(x: Array) -> Array:
    """x where it is small, never beyond ±`LARGEST_LOG`: what is exponentiated cannot overflow.

    >>> bounded(jnp.array([0.1, 100.0])).round(3).tolist()
    [0.1, 8.0]
    """
    return LARGEST_LOG * jnp.tanh(x / LARGEST_LOG)


@runtime_checkable
class Likelihood(Protocol):
    """A law of data x whose entries are independent given its parameters.

    - `per_entry`: how many numbers a network must give for each entry of x.
    - `parameters(raw)`: those numbers, `(*shape, per_entry)`, as parameters.
    - `log_prob(parameters, x)`: log p(x), summed over the entries, normalised.
    - `mean(parameters)`, `deviation(parameters)`: of every entry.
    - `sample(parameters, key=key)`: one draw.
    - `fisher_root(parameters, tangent)`: an array linear in the tangent, whose sum of squares is
      the Fisher information of x along it.
    """

    @property
    def per_entry(self) -> int: ...

    def parameters(self, raw: Array) -> Any: ...

    def log_prob(self, parameters: Any, x: Array) -> Scalar: ...

    def mean(self, parameters: Any) -> Array: ...

    def deviation(self, parameters: Any) -> Array: ...

    def sample(self, parameters: Any, *, key: Array) -> Array: ...

    def fisher_root(self, parameters: Any, tangent: Any) -> Array: ...


class _OneArray(eqx.Module):
    """Laws with one parameter an entry."""

    @property
    def per_entry(self) -> int:
        return 1

    def parameters(self, raw: Array) -> Array:
        return raw[..., 0]


class _TwoArrays(eqx.Module):
    """Laws with two parameters an entry."""

    @property
    def per_entry(self) -> int:
        return 2

    def parameters(self, raw: Array) -> tuple[Array, Array]:
        return raw[..., 0], bounded(raw[..., 1])


@final
class Gaussian(_TwoArrays):
    r"""$x \sim N(\mu, \sigma^2)$; parameters (μ, log σ).

    Fisher information: $d\mu^2/\sigma^2 + 2\,(d\log\sigma)^2$.
    """

    def log_prob(self, parameters: tuple[Array, Array], x: Array) -> Scalar:
        mean, log_deviation = parameters
        z = (x - mean) * jnp.exp(-log_deviation)
        return -jnp.sum(z**2 / 2 + log_deviation + LOG_2PI / 2)

    def mean(self, parameters: tuple[Array, Array]) -> Array:
        return parameters[0]

    def deviation(self, parameters: tuple[Array, Array]) -> Array:
        return jnp.exp(parameters[1])

    def sample(self, parameters: tuple[Array, Array], *, key: Array) -> Array:
        mean, log_deviation = parameters
        return mean + jnp.exp(log_deviation) * jax.random.normal(key, mean.shape, mean.dtype)

    def fisher_root(
        self, parameters: tuple[Array, Array], tangent: tuple[Array, Array]
    ) -> Float[Array, "2 *s"]:
        d_mean, d_log_deviation = tangent
        return jnp.stack([d_mean * jnp.exp(-parameters[1]), 2**0.5 * d_log_deviation])


@final
class FixedGaussian(_OneArray):
    r"""$x \sim N(\mu, \sigma^2)$ with one known σ; parameter μ.

    Fisher information: $d\mu^2/\sigma^2$, the pullback metric in units of σ.
    """

    sigma: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"`sigma` must be positive, got {self.sigma}.")

    def log_prob(self, parameters: Array, x: Array) -> Scalar:
        z = (x - parameters) / self.sigma
        return -jnp.sum(z**2 / 2 + math.log(self.sigma) + LOG_2PI / 2)

    def mean(self, parameters: Array) -> Array:
        return parameters

    def deviation(self, parameters: Array) -> Array:
        return jnp.full_like(parameters, self.sigma)

    def sample(self, parameters: Array, *, key: Array) -> Array:
        noise = jax.random.normal(key, parameters.shape, parameters.dtype)
        return parameters + self.sigma * noise

    def fisher_root(self, parameters: Array, tangent: Array) -> Array:
        return tangent / self.sigma


@final
class Binomial(_OneArray):
    r"""x of n trials, $p(x) = \binom nx p^x (1-p)^{n-x}$; parameter logit p.

    Of counts with a known ceiling, as grey levels are; x may lie between whole numbers. Fisher
    information: $n\,p(1-p)\,(d\operatorname{logit} p)^2$.
    """

    trials: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"`trials` must be at least 1, got {self.trials}.")

    def log_prob(self, parameters: Array, x: Array) -> Scalar:
        n, x = self.trials, x.astype(parameters.dtype)
        ways = gammaln(n + 1.0) - gammaln(x + 1) - gammaln(n - x + 1)
        return jnp.sum(ways + x * parameters - n * jax.nn.softplus(parameters))

    def mean(self, parameters: Array) -> Array:
        return self.trials * jax.nn.sigmoid(parameters)

    def deviation(self, parameters: Array) -> Array:
        # the product of two logistic functions; their logarithms do not cancel
        return self.trials**0.5 * jnp.exp(
            (jax.nn.log_sigmoid(parameters) + jax.nn.log_sigmoid(-parameters)) / 2
        )

    def sample(self, parameters: Array, *, key: Array) -> Array:
        draws = jax.random.uniform(key, (self.trials, *parameters.shape), parameters.dtype)
        below = draws < jax.nn.sigmoid(parameters)[None]
        return jnp.sum(below, axis=0).astype(parameters.dtype)

    def fisher_root(self, parameters: Array, tangent: Array) -> Array:
        return self.deviation(parameters) * tangent


def Bernoulli() -> Binomial:
    r"""x of 0 and 1, $p(x) = p^x (1-p)^{1-x}$; parameter logit p: `Binomial(1)`.

    Fisher information: $p(1-p)\,(d\operatorname{logit} p)^2 = dp^2 / p(1-p)$.
    """
    return Binomial(1)


@final
class Categorical(eqx.Module):
    r"""x one of k classes, whole numbers; parameters: logits, `(*shape, k)`.

    Logits that differ by a constant are one law. `mean` and `deviation` are those of the
    indicators of the classes, `(*shape, k)`. Fisher information:
    $\sum_c p_c\,(d\ell_c - \sum_b p_b\,d\ell_b)^2$.
    """

    classes: int = eqx.field(static=True)

    @property
    def per_entry(self) -> int:
        return self.classes

    def parameters(self, raw: Array) -> Array:
        return raw

    def log_prob(self, parameters: Array, x: Array) -> Scalar:
        rows = jax.nn.log_softmax(parameters, axis=-1)
        chosen = jnp.take_along_axis(rows, x.astype(jnp.int32)[..., None], axis=-1)
        return jnp.sum(chosen)

    def mean(self, parameters: Array) -> Array:
        return jax.nn.softmax(parameters, axis=-1)

    def deviation(self, parameters: Array) -> Array:
        # of all other classes: 1 − p would cancel
        log_p = jax.nn.log_softmax(parameters, axis=-1)
        return jnp.exp((log_p + _log_rest(log_p)) / 2)

    def sample(self, parameters: Array, *, key: Array) -> Array:
        return jax.random.categorical(key, parameters, axis=-1)

    def fisher_root(self, parameters: Array, tangent: Array) -> Array:
        p = self.mean(parameters)
        centred = tangent - jnp.sum(p * tangent, axis=-1, keepdims=True)
        return jnp.exp(jax.nn.log_softmax(parameters, axis=-1) / 2) * centred


def _log_rest(log_p: Array) -> Array:
    """log(1 − p) of every class, by the sum of the others."""
    own = jnp.eye(log_p.shape[-1], dtype=bool)
    others = jnp.vectorize(
        lambda row: jnp.where(own, -jnp.inf, row[None, :]), signature="(k)->(k,k)"
    )
    return logsumexp(others(log_p), axis=-1)


@final
class Poisson(_OneArray):
    r"""Counts, $p(x) = \lambda^x e^{-\lambda}/x!$; parameter log λ.

    Fisher information: $\lambda\,(d\log\lambda)^2$.
    """

    def log_prob(self, parameters: Array, x: Array) -> Scalar:
        x = x.astype(parameters.dtype)
        return jnp.sum(x * parameters - jnp.exp(parameters) - gammaln(x + 1))

    def mean(self, parameters: Array) -> Array:
        return jnp.exp(parameters)

    def deviation(self, parameters: Array) -> Array:
        return jnp.exp(parameters / 2)

    def sample(self, parameters: Array, *, key: Array) -> Array:
        return jax.random.poisson(key, jnp.exp(parameters)).astype(parameters.dtype)

    def fisher_root(self, parameters: Array, tangent: Array) -> Array:
        return jnp.exp(parameters / 2) * tangent


@final
class Exponential(_OneArray):
    r"""Waiting times, $p(x) = \lambda e^{-\lambda x}$; parameter log λ.

    Fisher information: $(d\log\lambda)^2$.
    """

    def log_prob(self, parameters: Array, x: Array) -> Scalar:
        return jnp.sum(parameters - jnp.exp(parameters) * x)

    def mean(self, parameters: Array) -> Array:
        return jnp.exp(-parameters)

    def deviation(self, parameters: Array) -> Array:
        return jnp.exp(-parameters)

    def sample(self, parameters: Array, *, key: Array) -> Array:
        draws = jax.random.exponential(key, parameters.shape, parameters.dtype)
        return draws * jnp.exp(-parameters)

    def fisher_root(self, parameters: Array, tangent: Array) -> Array:
        return tangent


@final
class VonMises(_TwoArrays):
    r"""Angles, $p(x) = e^{\kappa\cos(x-\mu)} / 2\pi I_0(\kappa)$; parameters (μ, log κ).

    `deviation` is the circular one, $\sqrt{-2\log A(\kappa)}$ with $A = I_1/I_0$. Fisher
    information: $\kappa A\,d\mu^2 + \kappa^2 A'\,(d\log\kappa)^2$.
    """

    def log_prob(self, parameters: tuple[Array, Array], x: Array) -> Scalar:
        direction, log_concentration = parameters
        kappa = jnp.exp(log_concentration)
        # κ(cos − 1) loses nothing where κ is large
        exponent = -2 * kappa * jnp.sin((x - direction) / 2) ** 2
        return jnp.sum(exponent - LOG_2PI - jnp.log(i0e(kappa)))

    def mean(self, parameters: tuple[Array, Array]) -> Array:
        return parameters[0]

    def deviation(self, parameters: tuple[Array, Array]) -> Array:
        kappa = jnp.exp(parameters[1])
        near = jnp.minimum(kappa, 1e3)
        far = jnp.maximum(kappa, 1e3)
        series = 1 / far + 1 / (2 * far**2)
        square = jnp.where(kappa < 1e3, -2 * jnp.log(i1e(near) / i0e(near)), series)
        return jnp.sqrt(square)

    def sample(self, parameters: tuple[Array, Array], *, key: Array) -> Array:
        direction, log_concentration = parameters
        angle = _von_mises(key, jnp.exp(log_concentration))
        return jnp.mod(direction + angle + jnp.pi, 2 * jnp.pi) - jnp.pi

    def fisher_root(
        self, parameters: tuple[Array, Array], tangent: tuple[Array, Array]
    ) -> Float[Array, "2 *s"]:
        kappa = jnp.exp(parameters[1])
        ratio = i1e(kappa) / i0e(kappa)
        roots = jnp.sqrt(kappa * ratio), kappa * jnp.sqrt(_ratio_slope(kappa))
        return jnp.stack([roots[0] * tangent[0], roots[1] * tangent[1]])


def _ratio_slope(kappa: Array) -> Array:
    """A' = 1 − A/κ − A², by its asymptotic series where that would cancel."""
    far = 200.0 if kappa.dtype == jnp.float64 else 30.0
    near = jnp.minimum(kappa, far)
    ratio = i1e(near) / i0e(near)
    direct = 1 - ratio / near - ratio**2
    inverse = 1 / jnp.maximum(kappa, far)
    coefficients = (0.0, 0.0, 1 / 2, 1 / 4, 3 / 8, 25 / 32, 65 / 32)
    series = jnp.polyval(jnp.asarray(coefficients, kappa.dtype)[::-1], inverse)
    return jnp.where(kappa < far, direct, series)


def _von_mises(key: Array, kappa: Array) -> Array:
    """Angles about 0, by rejection from a wrapped Cauchy law (Best & Fisher 1979)."""
    root = jnp.sqrt(1 + 4 * kappa**2)
    excess = (1 + 1 / (root + 2 * kappa)) / (2 * kappa)  # of their r over 1

    def draw(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, angle, open_ = state
        key, own = jax.random.split(key)
        u = jax.random.uniform(own, (3, *kappa.shape), kappa.dtype, minval=1e-7)
        half = jnp.pi * u[0] / 2
        gap = 2 * excess * jnp.sin(half) ** 2 / (excess + 2 * jnp.cos(half) ** 2)  # 1 − cos
        c = kappa * (excess + gap)
        accepted = (c * (2 - c) > u[1]) | (jnp.log(c / u[1]) + 1 >= c) | ~jnp.isfinite(c)
        new = jnp.sign(u[2] - 0.5) * 2 * jnp.arcsin(jnp.sqrt(jnp.minimum(gap / 2, 1)))
        return key, jnp.where(open_ & accepted, new, angle), open_ & ~accepted

    start = key, jnp.zeros_like(kappa), jnp.ones(kappa.shape, bool)
    return jax.lax.while_loop(lambda state: jnp.any(state[2]), draw, start)[1]


@final
class Dirichlet(_OneArray):
    r"""Compositions: x of k shares that sum to 1, `(*shape, k)`; parameters log α, the same.

    Of beta laws with k = 2. Fisher information in α: $\operatorname{diag}\psi_1(\alpha_c) -
    \psi_1(\sum_b\alpha_b)$.
    """

    def parameters(self, raw: Array) -> Array:
        return bounded(raw[..., 0])

    def log_prob(self, parameters: Array, x: Array) -> Scalar:
        alpha = jnp.exp(parameters)
        total = gammaln(jnp.sum(alpha, axis=-1)) - jnp.sum(gammaln(alpha), axis=-1)
        return jnp.sum(total + jnp.sum((alpha - 1) * jnp.log(x), axis=-1))

    def mean(self, parameters: Array) -> Array:
        return jax.nn.softmax(parameters, axis=-1)

    def deviation(self, parameters: Array) -> Array:
        log_mean = jax.nn.log_softmax(parameters, axis=-1)
        total = jnp.sum(jnp.exp(parameters), axis=-1, keepdims=True)
        return jnp.exp((log_mean + _log_rest(log_mean)) / 2) / jnp.sqrt(total + 1)

    def sample(self, parameters: Array, *, key: Array) -> Array:
        return jax.random.dirichlet(key, jnp.exp(parameters), dtype=parameters.dtype)

    def fisher_root(self, parameters: Array, tangent: Array) -> Array:
        alpha = jnp.exp(parameters)
        total = polygamma(1, jnp.sum(alpha, axis=-1))[..., None, None]
        own = jnp.vectorize(jnp.diag, signature="(k)->(k,k)")(polygamma(1, alpha))
        information = own - total
        moved = alpha * tangent
        return jnp.einsum("...ij,...i->...j", cholesky(information), moved)
