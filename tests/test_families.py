"""Fisher metrics in closed form, against expectations of the score and published distances."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy import stats

from jaxgeo.geometry import geodesic_acceleration, scalar_curvature
from jaxgeo.metrics import HessianMetric, ReparametrizedMetric
from jaxgeo.systems import families
from jaxgeo.systems.families import symmetric_matrix, vech

EXACT = 1e-12
METRIC = 1e-10  # promised
SINGLE = 1e-5  # a hundred roundings of float32
NEIGHBOUR = 1e-5  # step at which a distance shows the metric, to relative order of the step
CURVATURE = 1e-9  # second derivatives of metrics of size up to 10
PUBLISHED = 2e-6  # as many digits as were published

FULL = [0.3, -1.0, 2.0, 0.5, 1.0]  # mean, then the lower triangle [[2, ·], [0.5, 1]]
SMALL, LARGE = 0.05, 50.0  # the shapes for which the accuracy is promised

# every family with two points that a geodesic joins
POINTS = (
    (families.normal, [0.3, 0.7], [-1.0, 2.0]),
    (families.diagonal_normal, [0.3, -1.0, 0.7, 2.0], [0.5, 1.0, 1.5, 1.0]),
    (families.centered_normal, [2.0, 0.5, 1.0], [1.0, -0.2, 3.0]),
    (families.multivariate_normal, FULL, [1.0, 0.0, 1.0, -0.2, 3.0]),
    (families.gamma, [1.7, 0.6], [3.0, 2.0]),
    (families.beta, [0.8, 2.5], [2.0, 1.0]),
    (families.dirichlet, [0.8, 1.5, 2.5], [1.0, 1.0, 4.0]),
    (families.poisson, [0.5, 3.0], [2.0, 1.0]),
    (families.exponential, [0.5, 3.0], [2.0, 1.0]),
    (families.geometric, [0.2, 0.6], [0.3, 0.4]),
    (families.binomial(4), [0.2, 0.6], [0.3, 0.4]),
    (families.categorical, [0.3, -1.0, 2.0], [1.0, 0.5, -0.5]),
    (families.categorical_in_probabilities, [0.2, 0.1, 0.4], [0.3, 0.3, 0.3]),
    (families.multinomial(3), [0.2, 0.5], [0.4, 0.1]),
    (families.von_mises, [0.4, 2.0], [1.0, 3.0]),
)
REPEATED = (families.normal, families.beta, families.categorical_in_probabilities)
DISTINCT = [case for case in POINTS if case[0] not in REPEATED]  # without the same code twice
WITH_DISTANCE = [case for case in POINTS if case[0].distance is not None]


def name(value: object) -> str | None:
    return value.name if isinstance(value, families.Family) else None


# Compiled once for all tests


@functools.cache
def metric_of(family):
    return jax.jit(family.metric)


@functools.cache
def scores_of(family):
    return jax.jit(jax.vmap(jax.grad(family.log_prob, argnums=1), in_axes=(0, None)))


@functools.cache
def distance_of(family):
    return jax.jit(jax.value_and_grad(family.distance))


@functools.cache
def curvature_of(family):
    return jax.jit(functools.partial(scalar_curvature, family.metric))


@functools.cache
def derivatives_of(family):
    """The metric and its first three derivatives along a direction."""

    def at(z, direction):
        def along(t):
            return family.metric(z + t * direction)

        derivatives = [along]
        for _ in range(3):
            derivatives.append(_derivative(derivatives[-1]))
        return [f(0.0) for f in derivatives]

    return jax.jit(at)


def _derivative(f):
    return lambda t: jax.jvp(f, (t,), (1.0,))[1]


# The metric is the mean of the squared score: sums and rules as (observations, weights of p dx)


def counts(limit, d=1):
    """All tuples of d integers below `limit`."""
    return np.array(list(itertools.product(range(limit), repeat=d)), float)


def hermite(mean, covariance):
    """Gauss's rule for a normal density, exact for the score squared: a polynomial of degree 4."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    d = len(mean)
    grid = np.array(list(itertools.product(nodes, repeat=d)))
    x = mean + grid @ np.linalg.cholesky(covariance).T
    return x, np.prod(list(itertools.product(weights, repeat=d)), axis=1)


def trapezia(lower, upper, n, d=1):
    """Equal steps, exponentially accurate for what decays, or is periodic."""
    line = np.linspace(lower, upper, n, endpoint=False)
    return np.array(list(itertools.product(line, repeat=d)))


def log_gamma_rule(shape, mean):
    """In log x, where the density of x decays on both sides."""
    t = trapezia(-700, 8, 20000)[:, 0] + np.log(mean)
    x = np.exp(t)
    return x, x * stats.gamma(shape, scale=mean / shape).pdf(x)


def logit_rule(a, b):
    """In the log-odds of x; b must not be small, for 1 − x has no digits to give."""
    t = trapezia(-700, 36, 20000)[:, 0]
    x = scipy.special.expit(t)
    return x, x * (1 - x) * stats.beta(a, b).pdf(x)


def softmax_rule(alpha):
    t = trapezia(-40, 40, 220, d=2)
    x = scipy.special.softmax(np.pad(t, ((0, 0), (0, 1))), axis=1)
    return x, np.exp(np.log(x) @ alpha)  # dx = x₁x₂x₃ dt


def laguerre(rate):
    """Gauss's rule for an exponential density, as exact."""
    nodes, weights = np.polynomial.laguerre.laggauss(4)
    return nodes / rate, weights


def circle_rule(direction, kappa):
    x = trapezia(-np.pi, np.pi, 1024)[:, 0] + 0.1
    return x, stats.vonmises(kappa, loc=direction).pdf(x)


SCORES = {
    "normal": (families.normal, [0.3, 0.7], lambda: hermite([0.3], [[0.49]])),
    "diagonal_normal": (
        families.diagonal_normal,
        [0.3, -1.0, 0.7, 2.0],
        lambda: hermite([0.3, -1.0], np.diag([0.49, 4.0])),
    ),
    "centered_normal": (
        families.centered_normal,
        [2.0, 0.5, 1.0, -0.3, 0.2, 0.8],
        lambda: hermite([0.0] * 3, [[2, 0.5, -0.3], [0.5, 1, 0.2], [-0.3, 0.2, 0.8]]),
    ),
    "multivariate_normal": (
        families.multivariate_normal,
        FULL,
        lambda: hermite([0.3, -1.0], [[2, 0.5], [0.5, 1]]),
    ),
    "gamma": (families.gamma, [1.7, 0.6], lambda: log_gamma_rule(1.7, 0.6)),
    "gamma, small": (families.gamma, [SMALL, 2.0], lambda: log_gamma_rule(SMALL, 2.0)),
    "gamma, large": (families.gamma, [LARGE, 2.0], lambda: log_gamma_rule(LARGE, 2.0)),
    "beta": (families.beta, [2.5, 3.0], lambda: logit_rule(2.5, 3.0)),
    "beta, apart": (families.beta, [SMALL, 2.0], lambda: logit_rule(SMALL, 2.0)),
    "dirichlet": (families.dirichlet, [0.9, 1.5, 2.5], lambda: softmax_rule([0.9, 1.5, 2.5])),
    "poisson": (
        families.poisson,
        [0.5, 3.0],
        lambda: (counts(40, 2), stats.poisson([0.5, 3.0]).pmf(counts(40, 2)).prod(1)),
    ),
    "exponential": (families.exponential, [2.0], lambda: laguerre(2.0)),
    "geometric": (
        families.geometric,
        [0.2],
        lambda: (counts(300) + 1, stats.geom(0.2).pmf(counts(300)[:, 0] + 1)),
    ),
    "binomial": (
        families.binomial(4),
        [0.2, 0.6],
        lambda: (counts(5, 2), stats.binom(4, [0.2, 0.6]).pmf(counts(5, 2)).prod(1)),
    ),
    "categorical": (
        families.categorical,
        [0.3, -1.0],
        lambda: (np.arange(3), scipy.special.softmax([0.3, -1.0, 0.0])),
    ),
    "categorical_in_probabilities": (
        families.categorical_in_probabilities,
        [0.2, 0.5],
        lambda: (np.arange(3), np.array([0.2, 0.5, 0.3])),
    ),
    "multinomial": (
        families.multinomial(3),
        [0.2, 0.5],
        lambda: (counts(4, 3), stats.multinomial(3, [0.2, 0.5, 0.3]).pmf(counts(4, 3))),
    ),
    **{
        f"von_mises, {kappa:g}": (
            families.von_mises,
            [0.4, kappa],
            functools.partial(circle_rule, 0.4, kappa),
        )
        for kappa in (1e-3, 2.0, 24.9, 25.1, 1e3)
    },
}


@pytest.mark.parametrize("case", SCORES)
def test_metric_is_the_mean_of_the_squared_score(case):
    family, z, rule = SCORES[case]
    x, weights = rule()
    z, weights = jnp.asarray(z), np.asarray(weights) / np.sum(weights)
    x[weights == 0] = x[np.argmax(weights)]  # any that is possible
    scores = np.asarray(scores_of(family)(jnp.asarray(x), z))
    expected = scores.T @ (scores * weights[:, None])
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(metric_of(family)(z) / scale, expected / scale, atol=METRIC)


COVARIANCE = [[2, 0.5], [0.5, 1]]  # that of FULL


@pytest.mark.parametrize(
    ("family", "z", "x", "expected"),
    [
        (families.normal, [0.3, 0.7], 1.0, stats.norm(0.3, 0.7).logpdf),
        (families.diagonal_normal, [0, 1, 2, 3], [1.0, -1], stats.norm([0, 1], [2, 3]).logpdf),
        (
            families.centered_normal,
            FULL[2:],
            [1.0, -2],
            stats.multivariate_normal([0, 0], COVARIANCE).logpdf,
        ),
        (
            families.multivariate_normal,
            FULL,
            [1.0, -2],
            stats.multivariate_normal(FULL[:2], COVARIANCE).logpdf,
        ),
        (families.gamma, [1.7, 0.6], 0.4, stats.gamma(1.7, scale=0.6 / 1.7).logpdf),
        (families.beta, [0.8, 2.5], 0.3, stats.beta(0.8, 2.5).logpdf),
        (families.dirichlet, [0.8, 2, 1], [0.3, 0.1, 0.6], stats.dirichlet([0.8, 2, 1]).logpdf),
        (families.poisson, [2.5, 1], [3, 0], stats.poisson([2.5, 1]).logpmf),
        (families.exponential, [2.5, 1], [3.0, 2], stats.expon(scale=[0.4, 1]).logpdf),
        (families.geometric, [0.3, 0.6], [3, 1], stats.geom([0.3, 0.6]).logpmf),
        (families.binomial(7), [0.3, 0.6], [3, 7], stats.binom(7, [0.3, 0.6]).logpmf),
        (
            families.multinomial(7),
            [0.2, 0.5],
            [3, 4, 0],
            stats.multinomial(7, [0.2, 0.5, 0.3]).logpmf,
        ),
        (families.categorical_in_probabilities, [0.2, 0.5], 2, lambda x: np.log(0.3)),
        (families.categorical, np.log([0.2 / 0.3, 0.5 / 0.3]), 1, lambda x: np.log(0.5)),
        (families.von_mises, [0.4, 2.0], 1.0, stats.vonmises(2.0, loc=0.4).logpdf),
    ],
    ids=name,
)
def test_log_prob_is_scipys(family, z, x, expected):
    value = jax.jit(family.log_prob)(jnp.asarray(x), jnp.asarray(z, float))
    np.testing.assert_allclose(value, np.sum(expected(x)), rtol=EXACT)


@pytest.mark.parametrize("shape", [SMALL, 1.0, 7.0, LARGE])
def test_gamma_and_dirichlet_metrics_are_accurate_over_all_shapes(shape):
    trigamma = functools.partial(scipy.special.polygamma, 1)
    g = metric_of(families.gamma)(jnp.array([shape, 3.0]))
    np.testing.assert_allclose(jnp.diag(g), [trigamma(shape) - 1 / shape, shape / 9], rtol=METRIC)
    alpha = np.array([shape, SMALL, LARGE])
    expected = np.diag(trigamma(alpha)) - trigamma(alpha.sum())
    g = metric_of(families.dirichlet)(jnp.asarray(alpha))
    np.testing.assert_allclose(g, expected, rtol=METRIC)


def test_gamma_metric_keeps_its_digits_at_shapes_so_large_that_trigamma_is_one_over_them():
    g = metric_of(families.gamma)(jnp.array([1e8, 1.0]))
    np.testing.assert_allclose(g[0, 0], 0.5e-16 + 1e-24 / 6, rtol=EXACT)


def test_von_mises_series_join_smoothly():
    direction = jnp.array([0.0, 1.0])
    sides = (np.nextafter(families.CONCENTRATED, 0), families.CONCENTRATED)
    below, above = (
        derivatives_of(families.von_mises)(jnp.array([0.0, kappa]), direction) for kappa in sides
    )
    for left, right, tolerance in zip(below, above, (1e-14, 1e-13, 1e-8, 1e-6), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance)


# Charts and potentials


@pytest.mark.parametrize(("family", "z", "other"), DISTINCT, ids=name)
def test_potential_in_natural_coordinates_makes_the_metric(family, z, other):
    hessian = ReparametrizedMetric(HessianMetric(family.log_partition), family.natural)
    z = jnp.asarray(z)
    np.testing.assert_allclose(jax.jit(hessian)(z), metric_of(family)(z), rtol=METRIC, atol=METRIC)


def test_normal_charts_agree():
    def means_and_variances(z):
        mean, sigma = jnp.split(z, 2)
        return jnp.concatenate([mean, vech(jnp.diag(sigma**2))])

    pulled = ReparametrizedMetric(families.multivariate_normal.metric, means_and_variances)
    for family, z in (
        (families.normal, [0.3, 0.7]),
        (families.diagonal_normal, [0.3, -1, 0.7, 2]),
    ):
        z = jnp.array(z)
        np.testing.assert_allclose(jax.jit(pulled)(z), metric_of(family)(z), atol=EXACT)


def test_categories_agree_in_both_charts():
    categorical, in_probabilities = families.categorical, families.categorical_in_probabilities
    theta = jnp.array([[0.3, -1.0, 2.0], [1.0, 0.5, -0.5]])
    p = jnp.asarray(scipy.special.softmax(np.pad(theta, ((0, 0), (0, 1))), axis=1)[:, :-1])
    pulled = jax.jit(ReparametrizedMetric(categorical.metric, in_probabilities.natural))
    expected = metric_of(in_probabilities)(p[0])
    np.testing.assert_allclose(pulled(p[0]), expected, rtol=EXACT)
    distance, _ = distance_of(categorical)(*theta)
    np.testing.assert_allclose(distance_of(in_probabilities)(*p)[0], distance, rtol=EXACT)
    np.testing.assert_allclose(distance_of(families.multinomial(9))(*p)[0], 3 * distance)


def test_two_categories_are_successes_and_failures():
    p = jnp.array([[0.1], [0.99]])
    distances = [
        distance_of(kind(10))(*p)[0] for kind in (families.binomial, families.multinomial)
    ]
    np.testing.assert_allclose(*distances, rtol=EXACT)
    metrics = [metric_of(kind(10))(p[0]) for kind in (families.binomial, families.multinomial)]
    np.testing.assert_allclose(*metrics, rtol=EXACT)


def test_centered_normals_do_not_care_for_the_basis():
    basis = jnp.array([[1.0, 0.3], [-0.5, 2.0]])

    @jax.jit
    def change(z):
        return vech(basis @ symmetric_matrix(z) @ basis.T)

    family = families.centered_normal
    z0, z1 = jnp.array([2.0, 0.5, 1.0]), jnp.array([1.0, -0.2, 3.0])
    pulled = jax.jit(ReparametrizedMetric(family.metric, change))(z0)
    np.testing.assert_allclose(pulled, metric_of(family)(z0), atol=EXACT)
    moved, _ = distance_of(family)(change(z0), change(z1))
    np.testing.assert_allclose(moved, distance_of(family)(z0, z1)[0], rtol=EXACT)


def test_vech_and_back():
    z = jnp.arange(1.0, 7.0)
    matrix = jax.jit(symmetric_matrix)(z)
    np.testing.assert_array_equal(matrix, [[1, 2, 4], [2, 3, 5], [4, 5, 6]])
    np.testing.assert_array_equal(vech(matrix), z)


# Distances


@pytest.mark.parametrize(
    ("family", "a", "b", "squared"),
    [
        (families.normal, [0.0, 1.0], [1.0, 2.0], 1.189381**2),
        (families.binomial(10), [0.1], [0.99], 52.796859),
        (families.geometric, [0.2], [0.3], 0.218463),
        (families.poisson, [1.0], [4.0], 4.0),
        (families.exponential, [1.0], [np.e], 1.0),
        (families.multinomial(9), [0.25], [0.75], np.pi**2),
        (families.centered_normal, [1.0, 0, 1], [np.e, 0, np.e], 1.0),
        (families.diagonal_normal, [0.0, 5, 1, 1], [0, 5, np.e, np.e], 4.0),
    ],
    ids=name,
)
def test_published_distances(family, a, b, squared):
    distance, _ = distance_of(family)(jnp.array(a), jnp.array(b))
    np.testing.assert_allclose(distance**2, squared, rtol=PUBLISHED, atol=EXACT)


@pytest.mark.parametrize(("family", "z0", "z1"), WITH_DISTANCE, ids=name)
def test_distance_solves_the_eikonal_equation(family, z0, z1):
    """|∇d| = 1 everywhere, with d = 0 at one point, leaves no other distance."""
    z0, z1, distance = jnp.asarray(z0), jnp.asarray(z1), distance_of(family)
    there, slope = distance(z0, z1)
    g = np.asarray(metric_of(family)(z0))
    np.testing.assert_allclose(slope @ np.linalg.solve(g, slope), 1, rtol=METRIC)
    assert there > 0
    np.testing.assert_allclose(distance(z1, z0)[0], there, rtol=EXACT)
    nothing, slope = distance(z0, z0)
    np.testing.assert_allclose(nothing, 0, atol=EXACT)
    assert np.all(np.isfinite(slope))
    step = NEIGHBOUR * np.asarray(z1 - z0)
    expected = np.sqrt(step @ g @ step)
    np.testing.assert_allclose(distance(z0, z0 + step)[0], expected, rtol=10 * NEIGHBOUR)


def test_distance_moves_one_marginal_at_a_time():
    a, b = jnp.array([0.0, 1.0, 1.0, 2.0]), jnp.array([0.0, 3.0, 1.0, 2.0])
    _, slope = distance_of(families.diagonal_normal)(a, b)
    _, alone = distance_of(families.normal)(a[1::2], b[1::2])
    np.testing.assert_allclose(slope, [0, alone[0], 0, alone[1]], rtol=EXACT)


# Curvature


@pytest.mark.parametrize("shape", [0.3, 1.0, 7.0])
def test_curvature_of_gamma(shape):
    first, second = scipy.special.polygamma([1, 2], shape)
    expected = (first + shape * second) / (2 * (shape * first - 1) ** 2)
    z = jnp.array([shape, 2.0])
    np.testing.assert_allclose(curvature_of(families.gamma)(z), expected, rtol=CURVATURE)


def test_curvature_of_normals_and_covariances():
    curvature = curvature_of(families.normal)(jnp.array([0.3, 0.7]))
    np.testing.assert_allclose(curvature, 2 * -0.5, rtol=CURVATURE)
    curvature = curvature_of(families.centered_normal)(jnp.array([2.0, 0.5, 1.0]))
    np.testing.assert_allclose(curvature, 2 * -1, rtol=CURVATURE)  # a line times a plane


def test_beta_is_negatively_curved_and_has_its_published_metric():
    g = metric_of(families.beta)(jnp.ones(2))
    np.testing.assert_allclose(g, [[1, -0.644934], [-0.644934, 1]], atol=PUBLISHED)
    for a, b in ((0.5, 3.0), (1.0, 1.0), (20.0, 7.0)):
        z = jnp.array([a, b])
        assert -0.5 < curvature_of(families.beta)(z) / 2 < 0
        bound = (1 + a + b) / (2 * a * b * (a + b) ** 2)
        assert np.linalg.det(metric_of(families.beta)(z)) > bound


def test_diagonal_of_dirichlet_is_totally_geodesic():
    metric, z, ones = families.dirichlet.metric, 1.5 * jnp.ones(3), jnp.ones(3)
    acceleration = jax.jit(functools.partial(geodesic_acceleration, metric))(z, ones)
    np.testing.assert_allclose(acceleration, acceleration[0] * ones, rtol=EXACT)


# Transformations and failures


@pytest.mark.parametrize(("family", "z", "other"), DISTINCT, ids=name)
def test_metrics_batch_and_keep_single_precision(family, z, other):
    both = jnp.asarray([z, other])
    loop = [metric_of(family)(point) for point in both]
    single = both.astype(jnp.float32)
    g = jax.jit(jax.vmap(family.metric))(single)
    assert g.dtype == jnp.float32
    np.testing.assert_allclose(g, loop, rtol=SINGLE, atol=SINGLE)
    theta = jax.eval_shape(family.natural, single[0])
    assert theta.dtype == jax.eval_shape(family.log_partition, theta).dtype == jnp.float32
    if family.distance is not None:
        assert jax.eval_shape(family.distance, *single).dtype == jnp.float32


@pytest.mark.parametrize(
    ("family", "x"),
    [
        (families.normal, 1.0),
        (families.centered_normal, [1.0, 2.0]),
        (families.gamma, 1.0),
        (families.poisson, [1, 2]),
        (families.binomial(4), [1, 2]),
        (families.multinomial(3), [1, 2, 0]),
        (families.categorical, 1),
        (families.von_mises, 1.0),
    ],
    ids=name,
)
def test_log_prob_keeps_single_precision(family, x):
    (z,) = (case[1] for case in POINTS if case[0] is family)
    x = jnp.asarray(x)
    x = x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
    z = jnp.asarray(z, jnp.float32)
    assert jax.eval_shape(family.log_prob, x, z).dtype == jnp.float32


@pytest.mark.parametrize("shape", [1e-2, 1e5])
def test_single_precision_is_usable_at_extreme_shapes(shape):
    for family, z in ((families.gamma, [shape, 1.0]), (families.von_mises, [1.0, shape])):
        z = jnp.array(z)
        g = metric_of(family)(z.astype(jnp.float32))
        np.testing.assert_allclose(g, metric_of(family)(z), rtol=SINGLE)


@pytest.mark.parametrize(
    ("family", "z"),
    [
        (families.multivariate_normal, FULL),
        (families.categorical, [0.3, -1.0, 2.0]),
        (families.gamma, [SMALL, 1.0]),
        (families.gamma, [LARGE, 1.0]),
        (families.dirichlet, [SMALL, LARGE, 1.0]),
        (families.von_mises, [0.0, 1e-3]),
        (families.von_mises, [0.0, 25.0]),
        (families.von_mises, [0.0, 1e3]),
    ],
    ids=name,
)
def test_third_derivatives_are_finite(family, z):
    *_, third = derivatives_of(family)(jnp.asarray(z), jnp.linspace(1, 2, len(z)))
    assert np.all(np.isfinite(third))
    assert np.any(third != 0)


@pytest.mark.parametrize(("family", "z", "other"), POINTS, ids=name)
def test_points_are_in_the_domain(family, z, other):
    domain = family.domain(len(z))
    assert domain.shape == (len(z), 2)
    assert domain.dtype == float
    assert np.all((domain[:, 0] < z) & (other < domain[:, 1]))


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (lambda: families.gamma.domain(3), "2 coordinates, got d = 3"),
        (lambda: families.diagonal_normal.domain(3), "d even, got d = 3"),
        (lambda: families.centered_normal.domain(4), "1, 3, 6, 10, … entries, got 4"),
        (lambda: families.multivariate_normal.domain(4), "2, 5, 9, 14, … entries, got 4"),
        (lambda: families.centered_normal.metric(jnp.ones(2)), "got 2"),
        (lambda: families.multivariate_normal.metric(jnp.ones(3)), "got 3"),
        (lambda: families.binomial(0), "positive integer, got 0"),
        (lambda: families.multinomial(-1), "positive integer, got -1"),
    ],
)
def test_what_no_family_has_is_refused(fail, message):
    with pytest.raises(ValueError, match=message):
        fail()


def test_a_number_of_draws_is_one_family():
    assert families.binomial(10) is families.binomial(10)
    assert families.multinomial(1) is not families.multinomial(2)
