"""Families of distributions whose Fisher metric is known in closed form: `gamma.metric(z)`."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag, solve_triangular
from jax.scipy.special import gammaln, i0e
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, cholesky, logdet_spd, safe_sqrt, solve_spd
from jaxgeo._typing import Chart, Metric, Point, Potential, Scalar, Vector

HALF_LOG_2PI = math.log(2 * math.pi) / 2


@dataclasses.dataclass(frozen=True)
class Family:
    r"""A family of distributions p(x; z), with its Fisher metric in closed form.

    $$ g_{ij}(z) = \mathrm{E}\,[\partial_i \log p(x; z)\; \partial_j \log p(x; z)] $$

    The answer to measure a reconstruction against, or the likelihood of a decoder. Every family
    here is exponential: `HessianMetric(log_partition)` is the same geometry in the natural
    coordinates θ, ready for the dual connections.

    **Arguments:**

    - `name`: for tables and test names.
    - `metric`: point `(d,)` to `(d, d)`, the Fisher information of ONE observation.
    - `log_prob`: `log_prob(x, z)`, the log density or mass of one observation x, differentiable
      in z; not −∞ but a meaningless number where x is outside the support.
    - `domain`: d to the `(d, 2)` bounds of the chart; d may be left out where it is fixed. The
      box around the chart where that is not a box: probabilities, covariances.
    - `natural`: z to the natural parameters θ, `(d,)` to `(d,)`.
    - `log_partition`: ψ(θ) in log p = θ·T(x) − ψ(θ) + log h(x).
    - `distance`: the geodesic distance of two points, its derivative 0 (not NaN) where they
      coincide; `None` where no closed form is known.

    **Fails:** `ValueError` from `domain` for a d that the family cannot have, and for a point that
    does not come apart into the family's parameters; NaN or infinity outside the domain.

    **Cost:** a few elementary functions; a Cholesky for the covariance families.

    **Example:**

    >>> round(gamma.metric(jnp.array([1.0, 2.0]))[0, 0].item(), 4)
    0.6449

    **Reference:** Miyamoto et al. (2024), *On closed-form expressions for the Fisher–Rao
    distance*; Amari & Nagaoka (2000), section 2.2.
    """

    name: str
    metric: Metric
    log_prob: Callable[[Array, Point], Scalar]
    domain: Callable[..., np.ndarray]
    natural: Chart
    log_partition: Potential
    distance: Callable[[Point, Point], Scalar] | None = None


def _fixed(*bounds: tuple[float, float]) -> Callable[..., np.ndarray]:
    """The domain of a family with as many coordinates as bounds."""

    def domain(d: int = len(bounds)) -> np.ndarray:
        if d != len(bounds):
            raise ValueError(f"this family has {len(bounds)} coordinates, got d = {d}.")
        return np.array(bounds, float)

    return domain


def _each(lower: float, upper: float) -> Callable[..., np.ndarray]:
    """The domain of a family of any dimension: the same bounds for every coordinate."""
    return lambda d: np.array([(lower, upper)] * d, float)


def _natural_already(z: Point) -> Point:
    return z


def _norm(v: Vector) -> Scalar:
    return safe_sqrt(jnp.sum(v**2))


def _log_factorial(x: Array, z: Point) -> Array:
    return gammaln(jnp.asarray(x, z.dtype) + 1)  # counts are integers, which have no precision


# Independent normal numbers


def normal_metric(z: Point) -> Float[Array, "d d"]:
    """Fisher information of normal numbers in (μ₁ … μₙ, σ₁ … σₙ): diag(1/σ², 2/σ²)."""
    _, sigma = jnp.split(z, 2)
    return jnp.diag(jnp.concatenate([1 / sigma**2, 2 / sigma**2]))


def normal_distance(z0: Point, z1: Point) -> Scalar:
    """√(Σ dᵢ²) of the hyperbolic dᵢ = 2√2 arsinh √[(Δμ² + 2Δσ²)/(8 σ0 σ1)].

    >>> round(normal_distance(jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0])).item(), 6)
    1.189381
    """
    shift, widening = jnp.split((z1 - z0) ** 2, 2)
    (_, sigma0), (_, sigma1) = jnp.split(z0, 2), jnp.split(z1, 2)
    ratio = (shift + 2 * widening) / (8 * sigma0 * sigma1)
    return math.sqrt(8) * _norm(jnp.arcsinh(safe_sqrt(ratio)))


def _normal_log_prob(x: Array, z: Point) -> Scalar:
    mean, sigma = jnp.split(z, 2)
    return -jnp.sum(((x - mean) / sigma) ** 2 / 2 + jnp.log(sigma) + HALF_LOG_2PI)


def _normal_natural(z: Point) -> Point:
    mean, sigma = jnp.split(z, 2)
    return jnp.concatenate([mean / sigma**2, -1 / (2 * sigma**2)])


def _normal_log_partition(theta: Point) -> Scalar:
    linear, quadratic = jnp.split(theta, 2)
    return -jnp.sum(linear**2 / (4 * quadratic) + jnp.log(-2 * quadratic) / 2)


def _diagonal_normal_domain(d: int) -> np.ndarray:
    if d % 2:
        raise ValueError(f"as many means as deviations make d even, got d = {d}.")
    return np.array([(-np.inf, np.inf)] * (d // 2) + [(0, np.inf)] * (d // 2))


normal = Family(
    "normal",
    metric=normal_metric,
    log_prob=_normal_log_prob,
    domain=_fixed((-np.inf, np.inf), (0, np.inf)),
    natural=_normal_natural,
    log_partition=_normal_log_partition,
    distance=normal_distance,
)
"""N(μ, σ²) in (μ, σ), of one number x. Hyperbolic: K = −1/2. Natural: (μ/σ², −1/(2σ²))."""

diagonal_normal = dataclasses.replace(
    normal, name="diagonal_normal", domain=_diagonal_normal_domain
)
"""n independent normal numbers x `(n,)` in (μ₁ … μₙ, σ₁ … σₙ): a product of hyperbolic planes."""


# Normal distributions with any covariance Σ, given by its lower triangle


def vech(matrix: Float[Array, "n n"]) -> Float[Array, " d"]:
    """The lower triangle, row by row: (Σ₁₁, Σ₂₁, Σ₂₂, Σ₃₁, …)."""
    return matrix[np.tril_indices(matrix.shape[0])]


def symmetric_matrix(entries: Float[Array, " d"]) -> Float[Array, "n n"]:
    """The symmetric matrix of a lower triangle: the inverse of `vech`."""
    n = _order(entries.size)
    rows, columns = np.tril_indices(n)
    matrix = jnp.zeros((n, n), entries.dtype).at[rows, columns].set(entries)
    return matrix.at[columns, rows].set(entries)


def _order(d: int) -> int:
    """n such that d = n(n + 1)/2."""
    n = (math.isqrt(8 * d + 1) - 1) // 2
    if d == 0 or n * (n + 1) != 2 * d:
        raise ValueError(f"a lower triangle has 1, 3, 6, 10, … entries, got {d}.")
    return n


def _means(d: int) -> int:
    """n such that d = n + n(n + 1)/2."""
    n = (math.isqrt(8 * d + 9) - 3) // 2
    if d == 0 or n * (n + 3) != 2 * d:
        raise ValueError(f"mean and lower triangle have 2, 5, 9, 14, … entries, got {d}.")
    return n


def _multiplicities(n: int) -> np.ndarray:
    """How often each entry of the lower triangle occurs in the matrix: 1 or 2."""
    rows, columns = np.tril_indices(n)
    return np.where(rows == columns, 1, 2)


def _precision(covariance: Float[Array, "n n"]) -> Float[Array, "n n"]:
    inverse = solve_spd(covariance, jnp.eye(len(covariance), dtype=covariance.dtype))
    return (inverse + inverse.T) / 2


def _centered_normal_metric(z: Point) -> Float[Array, "d d"]:
    """½ tr(Σ⁻¹ ∂ₐΣ Σ⁻¹ ∂ᵦΣ)."""
    precision = _precision(symmetric_matrix(z))
    rows, columns = np.tril_indices(len(precision))
    straight = precision[rows][:, rows] * precision[columns][:, columns]
    crossed = precision[rows][:, columns] * precision[columns][:, rows]
    times = _multiplicities(len(precision))
    return (straight + crossed) * np.outer(times, times) / 4


def _centered_normal_distance(z0: Point, z1: Point) -> Scalar:
    """√(½ Σ log² λ), λ the eigenvalues of Σ0⁻¹ Σ1."""
    factor = cholesky(symmetric_matrix(z0))
    half = solve_triangular(factor, symmetric_matrix(z1), lower=True)
    whitened = solve_triangular(factor, half.T, lower=True)
    return _norm(jnp.log(jnp.linalg.eigvalsh(whitened))) / math.sqrt(2)


def _centered_normal_log_prob(x: Array, z: Point) -> Scalar:
    covariance = symmetric_matrix(z)
    mahalanobis = jnp.dot(x, solve_spd(covariance, x), precision=HIGHEST)
    return -mahalanobis / 2 - logdet_spd(covariance) / 2 - len(covariance) * HALF_LOG_2PI


def _centered_normal_domain(d: int) -> np.ndarray:
    return np.array([(0 if m == 1 else -np.inf, np.inf) for m in _multiplicities(_order(d))])


def _centered_normal_natural(z: Point) -> Point:
    precision = _precision(symmetric_matrix(z))
    return -vech(precision) * _multiplicities(len(precision)) / 2


def _natural_to_precision(theta: Point) -> Float[Array, "n n"]:
    return symmetric_matrix(-2 * theta / _multiplicities(_order(theta.size)))


def _multivariate_normal_metric(z: Point) -> Float[Array, "d d"]:
    n = _means(z.size)
    return block_diag(_precision(symmetric_matrix(z[n:])), _centered_normal_metric(z[n:]))


def _multivariate_normal_log_prob(x: Array, z: Point) -> Scalar:
    n = _means(z.size)
    return _centered_normal_log_prob(x - z[:n], z[n:])


def _multivariate_normal_domain(d: int) -> np.ndarray:
    n = _means(d)
    means = np.array([(-np.inf, np.inf)] * n)
    return np.concatenate([means, _centered_normal_domain(d - n)])


def _multivariate_normal_natural(z: Point) -> Point:
    n = _means(z.size)
    linear = solve_spd(symmetric_matrix(z[n:]), z[:n])
    return jnp.concatenate([linear, _centered_normal_natural(z[n:])])


def _multivariate_normal_log_partition(theta: Point) -> Scalar:
    n = _means(theta.size)
    precision, linear = _natural_to_precision(theta[n:]), theta[:n]
    mahalanobis = jnp.dot(linear, solve_spd(precision, linear), precision=HIGHEST)
    return (mahalanobis - logdet_spd(precision)) / 2


centered_normal = Family(
    "centered_normal",
    metric=_centered_normal_metric,
    log_prob=_centered_normal_log_prob,
    domain=_centered_normal_domain,
    natural=_centered_normal_natural,
    log_partition=lambda theta: -logdet_spd(_natural_to_precision(theta)) / 2,
    distance=_centered_normal_distance,
)
"""N(0, Σ), or any other fixed mean, in vech Σ; x `(n,)` is the deviation from that mean. The
affine-invariant geometry of positive definite matrices, −1 ≤ K ≤ 0. Natural: −½Σ⁻¹, its
off-diagonal entries doubled."""

multivariate_normal = Family(
    "multivariate_normal",
    metric=_multivariate_normal_metric,
    log_prob=_multivariate_normal_log_prob,
    domain=_multivariate_normal_domain,
    natural=_multivariate_normal_natural,
    log_partition=_multivariate_normal_log_partition,
)
"""N(μ, Σ) of x `(n,)` in (μ, vech Σ). Natural: (Σ⁻¹μ, −½Σ⁻¹), off-diagonal entries doubled."""


# Gamma, beta and Dirichlet distributions


BERNOULLI = (7 / 6, -691 / 2730, 5 / 66, -1 / 30, 1 / 42, -1 / 30, 1 / 6)
"""B₁₄, B₁₂, … B₂."""


def _trigamma_excess(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """f(x) = ψ₁(x) − 1/x to 1e-15, where the difference itself loses all digits at large x.

    Ten steps of f(x) = f(x + 1) + 1/(x²(x + 1)), whose terms are positive, then Stirling's series.
    """
    steps = jnp.add.outer(x, jnp.arange(10))
    inverse = 1 / (x + 10)
    series = jnp.zeros_like(x)
    for number in BERNOULLI:
        series = series * inverse**2 + number
    tail = inverse**2 * (0.5 + series * inverse)
    return jnp.sum(1 / (steps**2 * (steps + 1)), axis=-1) + tail


def _gamma_metric(z: Float[Array, "2"]) -> Float[Array, "2 2"]:
    shape, mean = z
    return jnp.diag(jnp.stack([_trigamma_excess(shape), shape / mean**2]))


def _gamma_log_prob(x: Array, z: Float[Array, "2"]) -> Scalar:
    shape, mean = z
    rate = shape / mean
    return shape * jnp.log(rate) - gammaln(shape) + (shape - 1) * jnp.log(x) - rate * x


def _dirichlet_metric(z: Point) -> Float[Array, "d d"]:
    alpha = jnp.append(z, jnp.sum(z))
    trigamma = 1 / alpha + _trigamma_excess(alpha)
    return jnp.diag(trigamma[:-1]) - trigamma[-1]


def _dirichlet_log_partition(z: Point) -> Scalar:
    return jnp.sum(gammaln(z)) - gammaln(jnp.sum(z))


def _beta_log_prob(x: Array, z: Float[Array, "2"]) -> Scalar:
    a, b = z
    return (a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x) - _dirichlet_log_partition(z)


gamma = Family(
    "gamma",
    metric=_gamma_metric,
    log_prob=_gamma_log_prob,
    domain=_fixed((0, np.inf), (0, np.inf)),
    natural=lambda z: jnp.stack([z[0], -z[0] / z[1]]),
    log_partition=lambda theta: gammaln(theta[0]) - theta[0] * jnp.log(-theta[1]),
)
"""Gamma distribution of x > 0 in (shape κ, mean γ), which are orthogonal: diag(ψ₁(κ) − 1/κ, κ/γ²).
The rate is κ/γ. Scalar curvature (ψ₁ + κψ₂)/(2(κψ₁ − 1)²). Natural: (κ, −κ/γ)."""

beta = Family(
    "beta",
    metric=_dirichlet_metric,
    log_prob=_beta_log_prob,
    domain=_fixed((0, np.inf), (0, np.inf)),
    natural=_natural_already,
    log_partition=_dirichlet_log_partition,
)
"""Beta distribution of 0 < x < 1 in its shapes (a, b), which are natural: Dirichlet's with d = 2.
Of negative curvature (Le Brigant, Preston & Puechmorel, 2021)."""

dirichlet = Family(
    "dirichlet",
    metric=_dirichlet_metric,
    log_prob=lambda x, z: jnp.sum((z - 1) * jnp.log(x)) - _dirichlet_log_partition(z),
    domain=_each(0, np.inf),
    natural=_natural_already,
    log_partition=_dirichlet_log_partition,
)
"""Dirichlet distribution of d probabilities x in its concentrations α, which are natural:
diag ψ₁(α) − ψ₁(Σα)."""


# Independent draws of one parameter each: flat, straight in the arc length


def poisson_metric(z: Point) -> Float[Array, "d d"]:
    """Fisher information of independent Poisson counts of rates z: diag(1/z). Flat."""
    return jnp.diag(1 / z)


def poisson_distance(z0: Point, z1: Point) -> Scalar:
    """2|√z1 − √z0|."""
    return 2 * _norm(jnp.sqrt(z1) - jnp.sqrt(z0))


poisson = Family(
    "poisson",
    metric=poisson_metric,
    log_prob=lambda x, z: jnp.sum(x * jnp.log(z) - z - _log_factorial(x, z)),
    domain=_each(0, np.inf),
    natural=jnp.log,
    log_partition=lambda theta: jnp.sum(jnp.exp(theta)),
    distance=poisson_distance,
)
"""Independent Poisson counts x `(d,)` in their rates. Natural: the logarithms of the rates."""

exponential = Family(
    "exponential",
    metric=lambda z: jnp.diag(1 / z**2),
    log_prob=lambda x, z: jnp.sum(jnp.log(z) - z * x),
    domain=_each(0, np.inf),
    natural=jnp.negative,
    log_partition=lambda theta: -jnp.sum(jnp.log(-theta)),
    distance=lambda z0, z1: _norm(jnp.log(z1 / z0)),
)
"""Independent exponential waiting times x `(d,)` in their rates. Natural: minus the rates."""


def _geometric_arc_length(z: Point) -> Point:
    return 2 * jnp.arctanh(jnp.sqrt(1 - z))


geometric = Family(
    "geometric",
    metric=lambda z: jnp.diag(1 / (z**2 * (1 - z))),
    log_prob=lambda x, z: jnp.sum((x - 1) * jnp.log1p(-z) + jnp.log(z)),
    domain=_each(0, 1),
    natural=lambda z: jnp.log1p(-z),
    log_partition=lambda theta: jnp.sum(theta - jnp.log(-jnp.expm1(theta))),
    distance=lambda z0, z1: _norm(_geometric_arc_length(z1) - _geometric_arc_length(z0)),
)
"""Independent numbers of trials x `(d,)` = 1, 2, … up to the first success, in the probabilities
of success p. Natural: log(1 − p)."""


@functools.cache
def binomial(n: int) -> Family:
    """Independent numbers of successes x `(d,)` in n trials each, in the probabilities p.

    Distance 2√n |arcsin √p − arcsin √q|; natural parameters log p/(1 − p). The same n gives the
    same object, so that nothing compiled for it compiles twice.

    >>> round(binomial(10).distance(jnp.array([0.1]), jnp.array([0.99])).item() ** 2, 4)
    52.7969
    """
    _check_draws(n)

    def log_prob(x: Array, z: Point) -> Scalar:
        ways = math.lgamma(n + 1) - _log_factorial(x, z) - _log_factorial(n - x, z)
        return jnp.sum(ways + x * jnp.log(z) + (n - x) * jnp.log1p(-z))

    return Family(
        "binomial",
        metric=lambda z: n * jnp.diag(1 / (z * (1 - z))),
        log_prob=log_prob,
        domain=_each(0, 1),
        natural=lambda z: jnp.log(z) - jnp.log1p(-z),
        log_partition=lambda theta: n * jnp.sum(jax.nn.softplus(theta)),
        distance=lambda z0, z1: 2 * math.sqrt(n) * _norm(_angle(z1) - _angle(z0)),
    )


def _angle(z: Point) -> Point:
    """arcsin √z, with derivatives at either end of (0, 1) as good as in the middle."""
    return jnp.arctan2(jnp.sqrt(z), jnp.sqrt(1 - z))


def _check_draws(n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"the number of draws n must be a positive integer, got {n!r}.")


# Categories: spheres


def log_sum_exp(theta: Point) -> Scalar:
    """log(1 + Σ exp θᵢ): the log-partition function of d + 1 categories, the last its reference.

    Its gradient holds the probabilities of the first d categories; its Hessian is
    diag(p) − ppᵀ, the Fisher information.
    """
    logits = _logits(theta)
    top = jnp.max(logits)
    return jnp.log(jnp.sum(jnp.exp(logits - top))) + top


def _logits(theta: Point) -> Float[Array, " d_plus_1"]:
    return jnp.append(theta, jnp.zeros((), theta.dtype))


def categorical_probabilities(theta: Point) -> Float[Array, " d_plus_1"]:
    """All d + 1 probabilities."""
    return jnp.exp(_logits(theta) - log_sum_exp(theta))


def categorical_metric(theta: Point) -> Float[Array, "d d"]:
    """diag(p) − ppᵀ, in natural coordinates: a sphere of radius 2."""
    p = categorical_probabilities(theta)[:-1]
    return jnp.diag(p) - jnp.outer(p, p)


def categorical_distance(theta0: Point, theta1: Point) -> Scalar:
    """2 arccos Σ√(pq), by the half-chord."""
    return _spherical_distance(
        categorical_probabilities(theta0), categorical_probabilities(theta1)
    )


def _spherical_distance(p: Float[Array, " k"], q: Float[Array, " k"]) -> Scalar:
    x, y = jnp.sqrt(p), jnp.sqrt(q)
    return 4 * jnp.arctan2(_norm(x - y), _norm(x + y))


def _all_probabilities(z: Point) -> Float[Array, " d_plus_1"]:
    return jnp.append(z, 1 - jnp.sum(z))


def _log_odds(z: Point) -> Point:
    return jnp.log(z) - jnp.log(1 - jnp.sum(z))


categorical = Family(
    "categorical",
    metric=categorical_metric,
    log_prob=lambda x, z: _logits(z)[x] - log_sum_exp(z),
    domain=_each(-np.inf, np.inf),
    natural=_natural_already,
    log_partition=log_sum_exp,
    distance=categorical_distance,
)
"""One of d + 1 categories, x = 0 … d, in the log-odds θ against the last, which are natural."""


@functools.cache
def multinomial(n: int) -> Family:
    """The counts x `(d + 1,)` of n draws, in the first d of the d + 1 probabilities.

    n (diag(1/p) + 1/p_last), a sphere of radius 2√n; natural parameters log p/p_last. For log-odds
    see `categorical`: n times its metric.

    >>> multinomial(4).metric(jnp.array([0.5]))[0, 0].item()
    16.0
    """
    _check_draws(n)

    def log_prob(x: Array, z: Point) -> Scalar:
        terms = x * jnp.log(_all_probabilities(z)) - _log_factorial(x, z)
        return jnp.sum(terms) + math.lgamma(n + 1)

    return Family(
        "multinomial",
        metric=lambda z: n * (jnp.diag(1 / z) + 1 / (1 - jnp.sum(z))),
        log_prob=log_prob,
        domain=_each(0, 1),
        natural=_log_odds,
        log_partition=lambda theta: n * log_sum_exp(theta),
        distance=lambda z0, z1: (
            math.sqrt(n) * _spherical_distance(_all_probabilities(z0), _all_probabilities(z1))
        ),
    )


categorical_in_probabilities = dataclasses.replace(
    multinomial(1),
    name="categorical_in_probabilities",
    log_prob=lambda x, z: jnp.log(_all_probabilities(z))[x],
)
"""One of d + 1 categories, x = 0 … d, in the first d probabilities."""


# Directions


CONCENTRATED = 25
"""The concentration from which von Mises' moments are summed in powers of 1/κ."""


def _square_series(terms: int) -> np.ndarray:
    """cₖ of I₀(κ)² = Σ cₖ (κ/CONCENTRATED)²ᵏ."""
    half = CONCENTRATED / 2
    return np.array(
        [math.comb(2 * k, k) * half ** (2 * k) / math.factorial(k) ** 2 for k in range(terms)]
    )


def _resultant_series(terms: int) -> np.ndarray:
    """aₙ of A(κ) = I₁(κ)/I₀(κ) ~ Σ aₙκ⁻ⁿ, n = 0, 1, …, from A' = 1 − A/κ − A²."""
    a = [1.0]
    for n in range(1, terms):
        a.append(((n - 2) * a[-1] - sum(a[i] * a[n - i] for i in range(1, n))) / 2)
    return np.array(a)


_SQUARE, _RESULTANT = _square_series(80), _resultant_series(30)


def _von_mises_moments(kappa: Scalar) -> tuple[Scalar, Scalar]:
    """A = I₁(κ)/I₀(κ), the mean of cos(x − μ), and its variance A': 1e-15 in float64.

    A' = 1 − A/κ − A² loses all digits to A' ≈ 1/(2κ²). But A' and A/κ are the means of
    1/(2(k + 1)²) and (2k + 1)/(2(k + 1)²) over the terms of I₀², with nothing to cancel.
    """
    diffuse = kappa < CONCENTRATED
    near = jnp.where(diffuse, kappa, CONCENTRATED)  # each series is given what it can bear
    far = jnp.where(diffuse, CONCENTRATED, kappa)
    k, n = np.arange(_SQUARE.size), np.arange(_RESULTANT.size)
    terms = jnp.asarray(_SQUARE, kappa.dtype) * (near / CONCENTRATED) ** (2 * k)
    shares = terms / jnp.sum(terms) / (2 * (k + 1) ** 2)
    orders = jnp.asarray(_RESULTANT, kappa.dtype) * (1 / far) ** n
    return (
        jnp.where(diffuse, near * jnp.sum((2 * k + 1) * shares), jnp.sum(orders)),
        jnp.where(diffuse, jnp.sum(shares), jnp.sum(-n * orders) / far),
    )


def _von_mises_metric(z: Float[Array, "2"]) -> Float[Array, "2 2"]:
    _, kappa = z
    mean, variance = _von_mises_moments(kappa)
    return jnp.diag(jnp.stack([kappa * mean, variance]))


def _von_mises_log_prob(x: Array, z: Float[Array, "2"]) -> Scalar:
    direction, kappa = z
    return -2 * kappa * jnp.sin((x - direction) / 2) ** 2 - jnp.log(i0e(kappa)) - 2 * HALF_LOG_2PI


def _von_mises_log_partition(theta: Float[Array, "2"]) -> Scalar:
    kappa = _norm(theta)
    return kappa + jnp.log(i0e(kappa))


von_mises = Family(
    "von_mises",
    metric=_von_mises_metric,
    log_prob=_von_mises_log_prob,
    domain=_fixed((-np.inf, np.inf), (0, np.inf)),
    natural=lambda z: z[1] * jnp.stack([jnp.cos(z[0]), jnp.sin(z[0])]),
    log_partition=_von_mises_log_partition,
)
"""Angle x in (mean direction μ, concentration κ): diag(κA, A'), A = I₁(κ)/I₀(κ). Polar coordinates
of the natural ones, κ(cos μ, sin μ)."""
