"""Laws of data and the metrics of decoders: Monte-Carlo Fisher information, closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxgeo as jg
from jaxgeo.likelihoods import (
    Bernoulli,
    Binomial,
    Categorical,
    Dirichlet,
    Exponential,
    FixedGaussian,
    Gaussian,
    Poisson,
    VonMises,
)

LAWS = {
    "gaussian": Gaussian(),
    "fixed gaussian": FixedGaussian(0.3),
    "bernoulli": Bernoulli(),
    "binomial": Binomial(16),
    "categorical": Categorical(4),
    "poisson": Poisson(),
    "exponential": Exponential(),
    "von mises": VonMises(),
    "dirichlet": Dirichlet(),
}
ENTRIES = 5
Z = jnp.array([0.4, -0.7])
DRAWS = 40_000


def decoder(law):
    """A smooth map from the plane to the parameters of `ENTRIES` entries of a law."""
    rng = np.random.default_rng(3)
    k = law.per_entry
    first, second = rng.normal(size=(2, 8)), rng.normal(size=(8, ENTRIES * k)) / 3

    def decode(z):
        weights = jnp.asarray(first, z.dtype), jnp.asarray(second, z.dtype)
        return law.parameters((jnp.tanh(z @ weights[0]) @ weights[1]).reshape(ENTRIES, k))

    return decode


@functools.cache
def draws(name):
    """Samples at Z, and the scores ∂ log p / ∂z by autodiff of the density alone."""
    law = LAWS[name]
    decode = decoder(law)

    @jax.jit
    def one(key):
        x = law.sample(decode(Z), key=key)
        return x, jax.grad(lambda z: law.log_prob(decode(z), x))(Z)

    return jax.vmap(one)(jax.random.split(jax.random.key(0), DRAWS))


@pytest.mark.parametrize("name", LAWS)
def test_the_fisher_pullback_is_the_covariance_of_the_score(name):
    _, scores = draws(name)
    products = np.asarray(scores[:, :, None] * scores[:, None, :])
    error = products.std(axis=0) / DRAWS**0.5
    metric = jg.FisherPullbackMetric(decoder(LAWS[name]), LAWS[name])
    g = np.asarray(metric(Z))
    np.testing.assert_array_equal(g, g.T)
    assert np.all(np.abs(products.mean(axis=0) - g) < 4.5 * error)
    assert np.all(error < 0.06 * np.abs(np.diag(g)).max())
    assert np.all(np.abs(scores.mean(axis=0)) < 4.5 * scores.std(axis=0) / DRAWS**0.5)


@pytest.mark.parametrize("name", LAWS)
def test_moments_are_those_of_the_samples(name):
    law, (x, _) = LAWS[name], draws(name)
    parameters = decoder(law)(Z)
    x = np.asarray(x)
    if name == "categorical":
        x = np.eye(4)[x]
    if name == "von mises":  # on the circle
        resultant = np.mean(np.exp(1j * x), axis=0)
        np.testing.assert_allclose(np.angle(resultant), law.mean(parameters), atol=0.05)
        spread = np.sqrt(-2 * np.log(np.abs(resultant)))
        np.testing.assert_allclose(spread, law.deviation(parameters), rtol=0.03)
        assert np.all(np.abs(x) <= np.pi)
        return
    deviation = np.asarray(law.deviation(parameters))
    assert np.all(np.abs(x.mean(axis=0) - law.mean(parameters)) < 4.5 * deviation / DRAWS**0.5)
    np.testing.assert_allclose(x.std(axis=0), deviation, rtol=0.05)


def scipy_log_prob(name, parameters, x):
    p = jax.tree.map(np.asarray, parameters)
    stats = scipy.stats
    match name:
        case "gaussian":
            return stats.norm(p[0], np.exp(p[1])).logpdf(x).sum()
        case "fixed gaussian":
            return stats.norm(p, 0.3).logpdf(x).sum()
        case "bernoulli" | "binomial":
            return stats.binom(LAWS[name].trials, 1 / (1 + np.exp(-p))).logpmf(x).sum()
        case "categorical":
            return np.log(np.exp(p) / np.exp(p).sum(-1, keepdims=True))[range(len(x)), x].sum()
        case "poisson":
            return stats.poisson(np.exp(p)).logpmf(x).sum()
        case "exponential":
            return stats.expon(scale=np.exp(-p)).logpdf(x).sum()
        case "von mises":
            return stats.vonmises(np.exp(p[1]), loc=p[0]).logpdf(x).sum()
        case "dirichlet":
            return stats.dirichlet(np.exp(p)).logpdf(x)


@pytest.mark.parametrize("name", LAWS)
def test_densities_are_those_of_scipy(name):
    law, (x, _) = LAWS[name], draws(name)
    parameters = decoder(law)(Z)
    for sample in np.asarray(x[:3]):
        exact = scipy_log_prob(name, parameters, sample)
        np.testing.assert_allclose(law.log_prob(parameters, jnp.asarray(sample)), exact, rtol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_float32_stays_float32(name):
    law = LAWS[name]
    metric = jg.FisherPullbackMetric(decoder(law), law)
    z32 = Z.astype(jnp.float32)
    g = jax.jit(lambda z: metric(z))(z32)
    assert g.dtype == jnp.float32
    np.testing.assert_allclose(g, metric(Z), rtol=1e-3, atol=1e-4)


def test_extreme_parameters_keep_their_information():
    """Where naive formulas cancel: logits of ±40, concentrations of 1e-4 and 1e6."""
    eye = jnp.ones(1)
    for logit in (-40.0, 40.0):
        root = Bernoulli().fisher_root(jnp.array([logit]), eye)
        np.testing.assert_allclose(root**2, np.exp(-40.0), rtol=1e-10)
    for dtype, tol in ((jnp.float64, 1e-7), (jnp.float32, 3e-4)):
        kappas = np.array([1e-3, 0.5, 29.0, 31.0, 150.0, 250.0, 1e6])
        log_kappa = jnp.log(jnp.asarray(kappas, dtype))
        both = VonMises().fisher_root(
            (0 * log_kappa, log_kappa), (0 * log_kappa, 1 + 0 * log_kappa)
        )
        with jax.enable_x64(True):
            h = np.maximum(1e-4, 1e-4 * kappas)
            a = [scipy.special.i1e(k) / scipy.special.i0e(k) for k in (kappas + h, kappas - h)]
        slopes = (a[0] - a[1]) / (2 * h)
        slopes[-1] = 1 / (2 * kappas[-1] ** 2)  # where differences cancel too
        np.testing.assert_allclose(both[1] ** 2, kappas**2 * slopes, rtol=max(tol, 1e-4))


def test_extreme_laws_are_sampled_and_have_deviations():
    """Where rejection would never accept, 1 − p cancels, or whole numbers wrap round."""
    log_kappa = jnp.array([-25.0, -9.2, 3.0, 16.5, 25.0], jnp.float32)
    draws = jax.vmap(lambda k: VonMises().sample((0 * log_kappa, log_kappa), key=k))(
        jax.random.split(jax.random.key(0), 4000)
    )
    spread = np.sqrt(-2 * np.log(np.abs(np.mean(np.exp(1j * np.asarray(draws, float)), axis=0))))
    assert np.all(spread[:2] > 2)
    exact = VonMises().deviation((0 * log_kappa, log_kappa))
    np.testing.assert_allclose(exact[2:], np.exp(-log_kappa[2:] / 2), rtol=0.03)
    np.testing.assert_allclose(np.asarray(draws, float).std(axis=0)[2:], exact[2:], rtol=0.05)
    nothing = VonMises().sample((jnp.zeros(1), jnp.full(1, jnp.nan)), key=jax.random.key(0))
    assert jnp.all(jnp.isnan(nothing))
    sure = jnp.array([20.0, 0.0, 0.0], jnp.float32)
    for law in (Categorical(3), Dirichlet()):
        assert jnp.all(jnp.isfinite(law.deviation(sure)))
    np.testing.assert_allclose(Categorical(3).deviation(sure)[0] ** 2, 2 * np.exp(-20), rtol=1e-5)
    grey = jnp.array([0, 255], jnp.uint8)
    logits = jnp.zeros(2)
    np.testing.assert_allclose(
        Binomial(255).log_prob(logits, grey), 2 * 255 * np.log(0.5), rtol=1e-12
    )
    np.testing.assert_allclose(
        Poisson().log_prob(logits, grey), scipy.stats.poisson(1).logpmf([0, 255]).sum(), rtol=1e-12
    )


def test_expected_pullback_is_the_mean_of_random_metrics():
    law = Gaussian()
    decode = decoder(law)
    noise = jax.random.normal(jax.random.key(0), (20_000, ENTRIES))

    @jax.jit
    @jax.vmap
    def one(eps):
        return jg.PullbackMetric(lambda z: decode(z)[0] + jnp.exp(decode(z)[1]) * eps)(Z)

    drawn = np.asarray(one(noise))
    g = jg.expected_pullback_metric(decode, law)(Z)
    assert np.all(np.abs(drawn.mean(axis=0) - g) < 4.5 * drawn.std(axis=0) / len(drawn) ** 0.5)
    with pytest.raises(AssertionError):  # the mean's part alone is another metric
        np.testing.assert_allclose(jg.PullbackMetric(lambda z: decode(z)[0])(Z), g, rtol=0.02)


def test_the_degenerate_pullback_of_the_peer_s_docstring():
    """f = (x₁² + x₂, x₁x₂) at (1, 2): the pullback is singular, and says so."""
    metric = jg.PullbackMetric(lambda x: jnp.stack([x[0] ** 2 + x[1], x[0] * x[1]]))
    z = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(metric(z), [[8, 4], [4, 2]], rtol=1e-15)
    start = jg.geodesic_ivp(metric, z, jnp.array([0.1, 0.3]), throw=False)
    assert start.result == jg.RESULTS.metric_not_positive_definite
    bvp = jg.geodesic_bvp(metric, z, jnp.array([1.5, 2.0]), throw=False)
    assert bvp.result == jg.RESULTS.metric_not_positive_definite


def test_a_normal_family_is_its_own_fisher_pullback():
    metric = jg.FisherPullbackMetric(lambda z: (z[:1], jnp.log(z[1:])), Gaussian())
    z = jnp.array([0.3, 2.0])
    np.testing.assert_allclose(metric(z), jg.problems.normal_metric(z), rtol=1e-12)
    a, b = jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0])
    np.testing.assert_allclose(jg.distance(metric, a, b), 1.189381, atol=1e-6)


def test_bad_laws_are_refused():
    with pytest.raises(ValueError, match="`trials` must be at least 1, got 0"):
        Binomial(0)
    with pytest.raises(ValueError, match=r"`sigma` must be positive, got -0\.3"):
        FixedGaussian(-0.3)
