"""Gaussian mixtures and their diffusion: closed forms against scipy and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from jaxgeo.diffusion import Heun, VariancePreserving, score, velocity
from jaxgeo.systems.mixture import GaussianMixture, MixtureDenoiser, saddle_exponent

EXACT = 1e-11
MEANS = jnp.array([[-1.0, 0.3], [1.0, -0.2], [0.2, 1.5]])
COVARIANCES = jnp.array(
    [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.4]], [[0.3, -0.1], [-0.1, 0.2]]]
)
WEIGHTS = jnp.array([1.0, 2.0, 1.0])
MIXTURE = GaussianMixture(MEANS, COVARIANCES, WEIGHTS)
ROUND = GaussianMixture(MEANS, jnp.array([0.3, 0.5, 0.4]), WEIGHTS)
SCHEDULE = VariancePreserving()
CONSTANT = VariancePreserving(3.0, 3.0)
X = jnp.array([0.4, 0.6])


def covariances_of(mixture):
    if mixture.axes is None:
        return [np.diag(np.asarray(v)) for v in mixture.variances]
    return [
        np.asarray(a) @ np.diag(np.asarray(v)) @ np.asarray(a).T
        for a, v in zip(mixture.axes, mixture.variances, strict=True)
    ]


def densities(mixture, x):
    """Of each component with its weight, by scipy: `(k, n)`."""
    rows = zip(mixture.weights, mixture.means, covariances_of(mixture), strict=True)
    return np.array([w * multivariate_normal(np.asarray(m), c).pdf(x) for w, m, c in rows])


def plane(half=9.0, n=361):
    """Nodes and the area of each: the trapezoidal rule, exact for what is so smooth."""
    axis = np.linspace(-half, half, n)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2), (
        axis[1] - axis[0]
    ) ** 2


@pytest.mark.parametrize("mixture", [MIXTURE, ROUND], ids=["full", "round"])
def test_density_shares_and_score(mixture):
    x = np.random.default_rng(0).normal(size=(5, 2)) * 2
    parts = densities(mixture, x)
    np.testing.assert_allclose(jax.vmap(mixture.log_density)(x), np.log(parts.sum(0)), rtol=EXACT)
    shares = jax.vmap(mixture.responsibilities)(x)
    np.testing.assert_allclose(shares, (parts / parts.sum(0)).T, rtol=1e-9, atol=EXACT)
    np.testing.assert_array_equal(jax.vmap(mixture.component)(x), parts.argmax(0))
    slopes = jax.vmap(jax.grad(mixture.log_density))(x)
    np.testing.assert_allclose(jax.vmap(mixture.score)(x), slopes, rtol=1e-9)


def test_covariances_survive_their_axes():
    np.testing.assert_allclose(covariances_of(MIXTURE), COVARIANCES, atol=1e-14)


@pytest.mark.parametrize("mixture", [MIXTURE, ROUND], ids=["full", "round"])
def test_moments_of_the_sample(mixture):
    n = 40_000
    draws = np.asarray(mixture.sample(jax.random.key(3), n))
    w, m = np.asarray(mixture.weights), np.asarray(mixture.means)
    mean = w @ m
    second = sum(
        a * (c + np.outer(b, b)) for a, b, c in zip(w, m, covariances_of(mixture), strict=True)
    )
    covariance = second - np.outer(mean, mean)
    five = 5 / np.sqrt(n)  # standard errors
    assert np.all(np.abs(draws.mean(0) - mean) < five * np.sqrt(np.diag(covariance)))
    products = (draws - mean)[:, :, None] * (draws - mean)[:, None, :]
    assert np.all(np.abs(products.mean(0) - covariance) < five * products.std(0))


def test_noised_law_is_the_convolution():
    alpha, sigma = 0.7, 0.6
    nodes, area = plane()
    kernel = multivariate_normal(np.zeros(2), sigma**2 * np.eye(2)).pdf(
        np.asarray(X) - alpha * nodes
    )
    expected = np.sum(densities(MIXTURE, nodes).sum(0) * kernel) * area
    found = MIXTURE.noised(alpha, sigma).log_density(X)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-10)


@pytest.mark.parametrize("mixture", [MIXTURE, ROUND], ids=["full", "round"])
@pytest.mark.parametrize("t", [0.2, 0.6])
def test_denoiser_and_log_partition_against_quadrature(mixture, t):
    alpha, sigma = SCHEDULE.alpha(t).item(), SCHEDULE.sigma(t).item()
    nodes, area = plane()
    prior = densities(mixture, nodes).sum(0)
    theta = jnp.append(alpha / sigma**2 * X, -(alpha**2) / (2 * sigma**2))
    squares = np.sum(nodes**2, axis=1)
    weights = prior * np.exp(nodes @ np.asarray(theta[:2]) + theta[2].item() * squares)
    total = weights.sum()
    np.testing.assert_allclose(mixture.log_partition(theta), np.log(total * area), rtol=1e-9)
    mean, square = weights @ nodes / total, weights @ squares / total
    denoiser = MixtureDenoiser(mixture, SCHEDULE)
    np.testing.assert_allclose(denoiser(X, t), mean, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(mixture.log_partition)(theta), [*mean, square], rtol=1e-9)
    assert jnp.linalg.eigvalsh(jax.hessian(mixture.log_partition)(theta))[0] > 0
    expected = denoiser.at(t).score(X)  # Tweedie
    np.testing.assert_allclose(score(denoiser, SCHEDULE, X, t), expected, rtol=1e-9)


@pytest.mark.parametrize("mixture", [MIXTURE, ROUND], ids=["full", "round"])
def test_divergence_of_the_denoiser(mixture):
    denoiser = MixtureDenoiser(mixture, SCHEDULE)
    for t in (0.05, 0.4):
        expected = jnp.trace(jax.jacfwd(lambda x, t=t: denoiser(x, t))(X))
        np.testing.assert_allclose(denoiser.divergence(X, t), expected, rtol=1e-10)


def test_denoiser_at_no_noise_is_the_identity():
    np.testing.assert_allclose(MixtureDenoiser(MIXTURE)(X, 0.0), X, rtol=EXACT)


def test_refusals():
    for deviation in (0.0, -1.0, jnp.array([0.3, 0.0, 1.0])):
        with pytest.raises(ValueError, match="a deviation must be positive, got"):
            GaussianMixture(MEANS, deviation)
    with pytest.raises(ValueError, match="a covariance's eigenvalue must be positive"):
        GaussianMixture(MEANS[:1], jnp.array([[[1.0, 2.0], [2.0, 1.0]]]))
    with pytest.raises(ValueError, match=r"`covariances` must have shape \(3, 2, 2\), \(3,\) or"):
        GaussianMixture(MEANS, jnp.ones(2))
    with pytest.raises(
        ValueError, match=r"`means` must be floats of shape \(k, d\), got shape \(3,"
    ):
        GaussianMixture(jnp.ones(3), 1.0)
    with pytest.raises(ValueError, match="dtype int"):
        GaussianMixture(jnp.ones((3, 1), int), 1.0)
    with pytest.raises(ValueError, match=r"`weights` must have shape \(3,\), got \(2,\)"):
        GaussianMixture(MEANS, 1.0, jnp.ones(2))
    with pytest.raises(ValueError, match="a weight must be positive, got"):
        GaussianMixture(MEANS, 1.0, jnp.array([1.0, 0.0, 1.0]))


def test_single_precision_stays():
    mixture = GaussianMixture(MEANS.astype(jnp.float32), COVARIANCES, WEIGHTS)
    x = X.astype(jnp.float32)
    theta = jnp.array([1.0, 2.0, -3.0], jnp.float32)

    @jax.jit
    def everything(mixture, x):
        denoiser = MixtureDenoiser(mixture)
        return (
            mixture.log_density(x),
            mixture.score(x),
            mixture.sample(jax.random.key(0), 2),
            denoiser(x, 0.3),
            mixture.log_partition(theta),
            denoiser.lyapunov_exponents(x, 0.3),
        )

    out = everything(mixture, x)
    assert all(value.dtype == jnp.float32 for value in out)
    np.testing.assert_allclose(out[3], MixtureDenoiser(MIXTURE)(X, 0.3), rtol=1e-5)


# Proposition 4.1 of Lobashev et al. (2025), measured on the sampler


@pytest.mark.parametrize("deviation", [0.05, 0.1, 0.2, 0.35, 0.5])
@pytest.mark.parametrize("schedule", [CONSTANT, SCHEDULE], ids=["constant", "linear"])
def test_proposition_4_1(deviation, schedule):
    denoiser = MixtureDenoiser(GaussianMixture(jnp.array([[-1.0], [1.0]]), deviation), schedule)
    saddle = jnp.zeros(1)

    @jax.jit
    def stretched(h, t):
        times = t + h * jnp.linspace(1.0, -1.0, 17)
        flow = Heun(denoiser, schedule, times)
        apart = jnp.array([1e-7])
        separation = (flow(apart) - flow(-apart))[0] / 2e-7
        return jnp.log(jnp.stack([separation, jax.jvp(flow, (saddle,), (jnp.ones(1),))[1][0]]))

    for t in (0.01, 0.1, 0.5):
        expected = saddle_exponent(deviation, t, schedule)
        h = 1e-4
        np.testing.assert_allclose(stretched(h, t) / (2 * h), expected, rtol=0.01)
        np.testing.assert_allclose(denoiser.lyapunov_exponents(saddle, t), [expected], rtol=1e-9)
    assert saddle_exponent(deviation, 0.01, schedule) > 0
    # over a long interval: the stretches add up
    ends = 0.5, 0.01
    # in even steps: at the saddle itself nothing moves, so an adaptive solver sees no error
    flow = Heun(denoiser, schedule, schedule.times(4000, first=ends[0], last=ends[1]))
    total = jax.jit(lambda z: jnp.log(jax.jvp(flow, (z,), (jnp.ones(1),))[1][0]))(saddle)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    u = np.log(ends[1]) + (nodes + 1) / 2 * np.log(ends[0] / ends[1])
    t = np.exp(u)
    rates = np.asarray(saddle_exponent(deviation, jnp.asarray(t), schedule))
    integral = np.sum(weights * rates * t) / 2 * np.log(ends[0] / ends[1])
    np.testing.assert_allclose(total, integral, rtol=2e-3)


def test_the_papers_limit_at_no_noise():
    for sigma in (0.05, 0.3):
        found = saddle_exponent(sigma, 0.0, VariancePreserving(2.0, 2.0))
        np.testing.assert_allclose(found, 1 + (1 - sigma**2) / sigma**4, rtol=1e-12)


@pytest.mark.parametrize("schedule", [CONSTANT, SCHEDULE], ids=["constant", "linear"])
def test_proposition_4_1_off_the_axes_in_three_dimensions(schedule):
    m, deviation, t, h = jnp.array([0.6, -0.7, 0.5]), 0.3, 0.1, 1e-4
    denoiser = MixtureDenoiser(GaussianMixture(jnp.stack([m, -m]), deviation), schedule)
    size = jnp.linalg.norm(m)
    rates = denoiser.lyapunov_exponents(jnp.zeros(3), t)
    unstable = saddle_exponent(deviation, t, schedule, separation=size)
    kept = jnp.exp(-schedule.integral(t))
    across = schedule.rate(t) / 2 * (1 - 1 / (kept * deviation**2 + 1 - kept))
    np.testing.assert_allclose(rates, [across, across, unstable], rtol=1e-9)
    flow = Heun(denoiser, schedule, t + h * jnp.linspace(1.0, -1.0, 9))
    stretches = jnp.linalg.svd(jax.jacfwd(flow)(jnp.zeros(3)), compute_uv=False)
    np.testing.assert_allclose(jnp.log(stretches[::-1]) / (2 * h), rates, rtol=0.01)
    apart = 1e-7 * m / size
    grown = jnp.linalg.norm(flow(apart) - flow(-apart)) / 2e-7
    np.testing.assert_allclose(jnp.log(grown) / (2 * h), unstable, rtol=0.01)


def test_velocity_is_the_flow_of_the_law():
    """∂p/∂t + ∇·(p v) = 0, in one dimension by differences in time."""
    denoiser = MixtureDenoiser(GaussianMixture(jnp.array([[-1.0], [1.0]]), 0.3), SCHEDULE)
    x, t, h = jnp.array([0.3]), 0.3, 1e-5

    def density(x, t):
        return jnp.exp(denoiser.at(t).log_density(x))

    rate = (density(x, t + h) - density(x, t - h)) / (2 * h)
    flux = jax.jacfwd(lambda x: density(x, t) * velocity(denoiser, SCHEDULE, x, t))(x)[0, 0]
    np.testing.assert_allclose(rate, -flux, rtol=1e-6)


def test_derivatives_and_batches():
    x = jax.random.normal(jax.random.key(0), (4, 2))
    denoiser = MixtureDenoiser(MIXTURE)
    batch = jax.jit(jax.vmap(lambda x: denoiser(x, 0.3)))(x)
    np.testing.assert_allclose(batch, [denoiser(row, 0.3) for row in x], rtol=1e-12)
    h = 1e-5
    slope = jax.jvp(lambda t: denoiser(X, t), (0.3,), (1.0,))[1]
    np.testing.assert_allclose(
        slope, (denoiser(X, 0.3 + h) - denoiser(X, 0.3 - h)) / (2 * h), rtol=1e-7
    )
