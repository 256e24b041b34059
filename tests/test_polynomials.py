"""Potentials that are polynomials of the parameters, against closed forms."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize, nnls
from scipy.special import polygamma

from jaxgeo.metrics import HessianMetric
from jaxgeo.reconstruction import (
    Identity,
    PolynomialPotential,
    Schedule,
    convexity,
    fit_log_partition,
    interval,
)
from jaxgeo.reconstruction import expansion as e
from jaxgeo.reconstruction.charts import Jets
from jaxgeo.reconstruction.polynomials import log_normalizer, template
from jaxgeo.reconstruction.stages import Expansion, lowest_as_good
from jaxgeo.report import metric_errors
from jaxgeo.systems import families

DOMAIN = np.array([[-1.0, 1.0], [0.5, 2.0]])
DRAWS = 64
BRIEF = 3 * (Schedule(500, 2e-2, 256),)


def normal_samples(n, seed=0):
    """Parameters (mean, variance), the sums of x and x² of sets of draws, and their metrics."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(*DOMAIN.T, (n, 2))
    x = rng.normal(t[:, :1], np.sqrt(t[:, 1:]), (n, DRAWS))
    metric = DRAWS * np.stack([1 / t[:, 1], 0 * t[:, 1], 0 * t[:, 1], 0.5 / t[:, 1] ** 2], 1)
    return t, np.stack([x.sum(1), (x**2).sum(1)], 1), metric.reshape(-1, 2, 2)


def exact_normal_potential(eta):
    return DRAWS * (-(eta[0] ** 2) / (4 * eta[1]) - jnp.log(-2 * eta[1]) / 2)


def chart(t):
    return jnp.stack([t[0], -0.5]) / t[1]


def equations(t, metric, order, dtype=jnp.float64):
    jets = Jets.of(chart, jnp.asarray(t, dtype))
    return e.Equations(template(jets, chart, DOMAIN, metric, order, dtype), jets, metric)


@pytest.fixture(scope="module")
def exact_normal():
    """Of exact means: a polynomial of degree 6 of the normal family's log-partition."""
    t, _, metric = normal_samples(2000)
    means = DRAWS * np.stack([t[:, 0], t[:, 1] + t[:, 0] ** 2], axis=1)
    system = equations(t, metric, 6)
    return system.potential.with_coefficients(system.by_means(means))


def test_metric_of_exact_means(exact_normal):
    t, _, metric = normal_samples(100, seed=1)
    found = jax.jit(jax.vmap(exact_normal.metric))(jnp.asarray(t))
    assert metric_errors(np.asarray(found), metric).max() < 2e-3


def test_potential_in_natural_coordinates(exact_normal):
    """Up to a constant, and with its derivatives."""
    exact = exact_normal_potential
    t, _, _ = normal_samples(20, seed=2)
    eta = jax.vmap(chart)(jnp.asarray(t))
    np.testing.assert_allclose(jax.jit(jax.vmap(exact_normal.preimage))(eta), t, atol=1e-8)
    offset = jax.jit(jax.vmap(exact_normal))(eta) - jax.vmap(exact)(eta)
    assert np.ptp(offset) < 1e-3
    found, truth = (jax.jit(jax.vmap(HessianMetric(f)))(eta) for f in (exact_normal, exact))
    assert metric_errors(np.asarray(found), np.asarray(truth)).max() < 2e-3
    assert np.isnan(exact_normal(jnp.array([0.0, 0.5])))  # no variance is negative


def test_log_normalizer_is_the_potential_of_the_chart(exact_normal):
    t = jnp.array([0.3, 1.1])
    found = log_normalizer(exact_normal, chart, t)
    np.testing.assert_allclose(found, exact_normal(chart(t)), rtol=1e-8)
    np.testing.assert_allclose(log_normalizer(jnp.sum, chart, t), jnp.sum(chart(t)))


def test_members_spread_as_far_as_the_error():
    """The error of log √det g over many fits, in standard deviations of the members."""
    points = jnp.asarray(normal_samples(50, seed=3)[0])

    @eqx.filter_jit
    def logdets(coefficients, potential):
        found = potential.with_coefficients(coefficients)
        return jnp.linalg.slogdet(jax.vmap(found.metric)(points))[1] / 2

    exact = np.log(DRAWS) - np.log(2 * np.asarray(points)[:, 1] ** 3) / 2
    ratios = []
    for seed in range(4):
        t, f, metric = normal_samples(3000, seed=10 + seed)
        system = equations(t, metric, 3)
        no_doubts = np.zeros((*t.shape, 64))
        coefficients, members = system.by_scatter(f, no_doubts)
        spread = np.std([logdets(jnp.asarray(m), system.potential) for m in members], axis=0)
        ratios.append((logdets(jnp.asarray(coefficients), system.potential) - exact) / spread)
    assert 0.7 < np.sqrt(np.mean(np.square(ratios))) < 1.4


def test_score_matching_finds_the_statistic_among_features():
    """Two mixtures of x and x², and two columns of noise that are to get no weight."""
    t, f, metric = normal_samples(4000)
    wrong = np.array([[0.5, 0.1], [-0.2, 1.0]])
    noise = np.random.default_rng(1).normal(size=f.shape)
    features = np.concatenate([(f - f.mean(axis=0)) @ wrong, noise], axis=1)
    found, deviations = equations(t, metric, 4).score_matching(features)
    exact = np.concatenate([np.linalg.inv(wrong), np.zeros((2, 2))])
    error = np.sqrt((1 - 1 / len(deviations)) * np.sum(deviations**2, axis=0))
    assert np.abs((found - exact) / error).max() < 4
    assert (error[:2] < 0.1 * np.abs(exact[:2]).max()).all()


def test_score_matching_does_not_know_the_coordinates():
    """Natural coordinates turned and stretched, the statistic is turned and stretched back."""
    t, f, metric = normal_samples(3000)
    features = f - f.mean(axis=0)
    turn = np.array([[3.0, 1.0], [-2.0, 0.5]])
    first = equations(t, metric, 4)
    jets = Jets.of(lambda t: turn @ chart(t), jnp.asarray(t))
    second = e.Equations(first.potential, jets, metric)
    found, turned = (system.score_matching(features)[0] for system in (first, second))
    np.testing.assert_allclose(turned, found @ np.linalg.inv(turn), rtol=1e-6)


def test_a_mean_that_is_a_gradient_mixes_the_statistic_less():
    """Dirichlet of 3. With slopes and scatter alone, the mean left free, the error is 0.018."""
    domain, errors = np.array([[0.5, 4.0]] * 3), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        t = rng.uniform(*domain.T, (4000, 3))
        gamma = rng.gamma(t[:, None, :], size=(4000, DRAWS, 3))
        f = np.log(gamma / gamma.sum(axis=2, keepdims=True)).sum(axis=1)
        metric = (
            polygamma(1, t)[:, :, None] * np.eye(3) - polygamma(1, t.sum(axis=1))[:, None, None]
        )
        jets = Jets.of(lambda t: t, jnp.asarray(t))
        potential = template(jets, lambda t: t, domain, DRAWS * metric, 4, jnp.float64)
        found, _ = e.Equations(potential, jets, DRAWS * metric).score_matching(f - f.mean(axis=0))
        errors.append(found - np.eye(3))
    assert np.sqrt(np.mean(np.square(errors))) < 0.015


def test_the_evidence_keeps_small_what_the_samples_do_not_ask_for(monkeypatch):
    """A degree higher than the family needs, of few samples: a smaller error. What has degree 0
    is free."""
    nodes, _, exact = normal_samples(200, seed=1)
    t, f, metric = normal_samples(1500, seed=5)
    system = equations(t, metric, 6)

    def error():
        coefficients, _ = system.by_scatter(f, np.zeros((*t.shape, 1)))
        found = jax.jit(jax.vmap(system.potential.with_coefficients(coefficients).metric))
        return np.median(metric_errors(np.asarray(found(jnp.asarray(nodes))), exact))

    ridges, evident = [], e.Equations.evident_ridge

    def seen(*arguments):
        ridges.append(np.diagonal(evident(*arguments)))
        return np.diag(ridges[-1])

    monkeypatch.setattr(e.Equations, "evident_ridge", seen)
    kept_small = error()
    np.testing.assert_array_equal(ridges[0] > 0, system.potential.degrees() > 0)
    monkeypatch.setattr(e.Equations, "evident_ridge", lambda self, matrix, moments: 0 * matrix)
    assert kept_small < 0.7 * error()


def test_doubts_move_the_potential_as_their_values_would(monkeypatch):
    """With one ridge for all values: the evidence of each has its own."""
    monkeypatch.setattr(e.Equations, "evident_ridge", lambda self, matrix, moments: 0 * matrix)
    t, f, metric = normal_samples(2000)
    system = equations(t, metric, 3)
    doubt = 1e-4 * f @ np.random.default_rng(0).normal(size=(2, 2))
    some, none = (np.stack([d], axis=2) for d in (doubt, 0 * doubt))
    coefficients, members = system.by_scatter(f, some)
    _, still = system.by_scatter(f, none)
    changed, _ = system.by_scatter(f + doubt, none)
    size = np.abs(changed - coefficients).max()
    np.testing.assert_allclose((members - still)[0], changed - coefficients, atol=2e-3 * size)


@pytest.fixture(scope="module")
def expansion():
    """Of samples of the normal family, whose statistic is mixed and beside noise."""
    t, f, _ = normal_samples(4000)
    noise = np.random.default_rng(1).normal(size=f.shape)
    features = np.concatenate([(f - f.mean(axis=0)) @ np.array([[1, 2], [3, 4]]), noise], axis=1)
    return Expansion(exact_normal_potential, chart, jnp.asarray(t), features, DOMAIN), f, t


def test_held_out_samples_choose_the_order(expansion):
    """As low as samples, or exact means, admit; no more than a coefficient for 48 samples."""
    expansion, f, t = expansion
    means = DRAWS * np.stack([t[:, 0], t[:, 1] + t[:, 0] ** 2], axis=1)
    training, held_out = np.split(np.random.default_rng(0).permutation(4000), [3500])
    for values, order in ((f, 2), (means, 6)):
        found, losses = expansion.choose(values, training, held_out)
        seen = losses["orders"]["held_out"]
        assert found == order
        assert len(seen) == 5  # order 6 has 69 coefficients, order 7 has 91
        assert order == 6 or seen[losses["orders"]["kept"]] > min(seen)


def test_expansion_finds_statistic_and_metric(expansion):
    expansion, f, _ = expansion
    potential, readout, ensemble = expansion.fit(np.zeros((4, 2)), 3, np.arange(4000))
    found = expansion.features @ np.asarray(readout)
    slope = np.linalg.lstsq(f - f.mean(axis=0), found, rcond=None)[0]
    np.testing.assert_allclose(slope / np.outer(1 / f.std(0), f.std(0)), np.eye(2), atol=0.1)
    nodes, _, exact = normal_samples(100, seed=1)
    found = jax.jit(jax.vmap(potential.metric))(jnp.asarray(nodes))
    errors = metric_errors(np.asarray(found), exact)
    assert np.median(errors) < 0.1
    assert ensemble.coefficients.shape == (64, *potential.coefficients.shape)


def test_samples_far_from_their_means_lose():
    t, f, metric = normal_samples(1000)
    system = equations(t, metric, 3)
    losses = system.losses(system.by_means(f), f)
    assert abs(losses.mean() - 2) < 0.2  # χ² of two components
    f[7] += 1000
    assert system.losses(system.by_means(f), f)[7] > 100


def test_nearest_is_the_minimum_of_a_quadratic_program():
    rng = np.random.default_rng(0)
    planes, heights = rng.normal(size=(6, 10)), rng.normal(size=6)
    above = {"type": "ineq", "fun": lambda x: planes @ x - heights}
    expected = minimize(lambda x: x @ x, np.zeros(10), constraints=above, tol=1e-12).x
    np.testing.assert_allclose(convexity.nearest(planes, heights), expected, atol=1e-6)
    np.testing.assert_array_equal(convexity.nearest(planes, -np.ones(6)), np.zeros(10))


def test_planes_without_a_common_side_are_refused():
    with pytest.raises(np.linalg.LinAlgError, match="no potential is convex"):
        convexity.nearest(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([1.0, 1.0]))


def test_planes_that_are_not_met_in_time_are_told(exact_normal, monkeypatch):
    t, _, metric = normal_samples(50)
    system = equations(t, metric, 6)
    everything = e.Solved(np.eye(len(exact_normal.coefficients)))
    monkeypatch.setattr(e, "ROUNDS", 1)
    with pytest.raises(np.linalg.LinAlgError, match="not convex at 50 samples after 1 rounds"):
        system.convex(-np.asarray(exact_normal.coefficients), everything)
    monkeypatch.setattr(convexity, "nnls", functools.partial(nnls, maxiter=1))
    with pytest.raises(np.linalg.LinAlgError, match="not found: Maximum number of iterations"):
        convexity.nearest(np.eye(3), np.ones(3))


def test_a_polynomial_that_is_not_convex_somewhere_is_moved_as_little_as_need_be(exact_normal):
    t, _, metric = normal_samples(300)
    system = equations(t, metric, 6)
    everything = e.Solved(sum(np.einsum("nim,nik->mk", g, g) for _, _, g in system.chunks(False)))
    good = np.asarray(exact_normal.coefficients)
    np.testing.assert_array_equal(system.convex(good, everything), good)

    @jax.jit
    def metrics_of(coefficients):
        return jax.vmap(system.potential.with_coefficients(coefficients).metric)(jnp.asarray(t))

    def lowest(coefficients):
        metrics = metrics_of(coefficients)
        return np.linalg.eigvalsh(system.frames @ metrics @ system.frames.transpose(0, 2, 1))[:, 0]

    bad = good + 25 * everything.color(np.random.default_rng(0).normal(size=(len(good), 1)))[:, 0]
    found = system.convex(bad, everything)
    assert lowest(bad).min() < -0.1
    assert e.LEAST <= lowest(found).min() < 3 * e.LEAST

    # a point is the nearest of a convex set if all others lie beyond the plane through it
    white = everything.color(np.eye(len(good)))
    root = np.linalg.inv(white)
    near = found + 0.1 * (good - found)
    others = near + 0.1 * np.random.default_rng(1).normal(size=(60, len(good))) @ white.T
    convex = [c for c in (good, *others) if lowest(c).min() > 2 * e.LEAST]
    assert len(convex) > 10
    away = root @ (bad - found)
    for other in convex:
        beyond = root @ (other - found)
        assert away @ beyond < 1e-2 * np.linalg.norm(away) * np.linalg.norm(beyond)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda t: jnp.stack([t[0], t[0]]), r"no inverse at t = \[0"),
        (lambda t: t[:1], "1 natural coordinates of 2 parameters"),
    ],
)
def test_charts_without_inverse_are_refused(bad, message):
    with pytest.raises(np.linalg.LinAlgError, match=message):
        Jets.of(bad, jnp.array([[0.5, 1.0], [0.25, 1.5]]))


def test_affine_charts_are_told_from_bent_ones():
    t = jnp.asarray(normal_samples(50)[0])
    assert Jets.of(chart, t).bent()
    assert not Jets.of(lambda t: 3 * t[::-1] + 1, t).bent()


def test_fit_of_three_parameters():
    """Sums of the logarithms of Dirichlet draws: metric and 90 % intervals against the closed
    form, and the posterior's potential against the polynomial's."""
    rng = np.random.default_rng(0)
    t = rng.uniform(1, 5, (4096, 3))
    draws = rng.gamma(t[:, None, :], size=(4096, DRAWS, 3))
    f = np.log(draws / draws.sum(axis=2, keepdims=True)).sum(axis=1).astype(np.float32)
    fit = fit_log_partition(
        f, t.astype(np.float32), key=jax.random.key(0), domain=3 * [[1.0, 5.0]],
        summary=Identity(), schedules=BRIEF, progress=False,
    )  # fmt: skip
    assert isinstance(fit.log_partition, PolynomialPotential)
    assert fit.refusal is None
    nodes = jnp.asarray(rng.uniform(1, 5, (200, 3)), jnp.float32)
    found = np.asarray(jax.jit(jax.vmap(fit.metric))(nodes), np.float64)
    exact = DRAWS * np.asarray(jax.vmap(families.dirichlet.metric)(nodes), np.float64)
    assert np.median(metric_errors(found, exact)) < 0.15
    lower, upper = interval(fit, lambda _, metric: jax.vmap(metric)(nodes))
    inside = (np.asarray(lower) <= exact) & (exact <= np.asarray(upper))
    assert 0.7 < inside.mean() < 1
    x = jnp.asarray(f[0])
    weights = jax.jit(jax.vmap(lambda t: fit.posterior.log_weight(x, t)))(nodes)
    by_eta = jax.jit(jax.vmap(fit.log_partition))(nodes)
    expected = nodes @ fit.posterior.statistic(x) - by_eta
    np.testing.assert_allclose(weights - weights[0], expected - expected[0], atol=0.02)


def test_the_lowest_order_within_a_standard_error():
    wobble = np.tile([1.0, -1.0], 500)  # standard error of the mean: 0.03
    noise = np.random.default_rng(0).normal(size=1000)
    losses = [noise + 0.04 + wobble, noise + 0.02 + wobble, noise, noise + 0.5]
    assert lowest_as_good(losses) == 1
    assert lowest_as_good(losses[2:]) == 0
