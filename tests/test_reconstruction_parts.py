"""Potentials, summaries and the pairwise statistic, each against what is known without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxgeo.metrics import HessianMetric
from jaxgeo.reconstruction import (
    ConvexPotential,
    Dense,
    Exchangeable,
    Identity,
    LearnedChart,
    MeanPotential,
    PeriodicConvolution,
)
from jaxgeo.reconstruction.objectives import posterior_cross_entropy
from jaxgeo.reconstruction.samples import Pool, spread_evenly
from jaxgeo.reconstruction.statistic import (
    RIDGES,
    LinearStatistic,
    Pairs,
    calibrate,
    choose_ridge,
    fit_matrix,
    pairs_at_all_scales,
    pairwise_loss,
    whiten,
)
from jaxgeo.reconstruction.summaries import summary_for
from jaxgeo.training import Schedule, _optimizer, minimize


@pytest.fixture(scope="module")
def potential():
    points = jax.random.normal(jax.random.key(0), (100, 3))
    return ConvexPotential(points, scale=50.0, width=16, rngs=nnx.Rngs(1))


def test_potential_is_convex_far_and_near(potential):
    points = 10.0 ** jnp.linspace(-3, 2, 64)[:, None] * jax.random.normal(
        jax.random.key(2), (64, 3)
    )
    hessians = jax.vmap(jax.hessian(lambda x: potential(x)))(points)
    assert jnp.all(jnp.linalg.eigvalsh(hessians) > 0)


def test_potential_derivative_matches_finite_differences(potential):
    x, v, step = jnp.array([0.3, -0.2, 0.5]), jnp.array([1.0, 2.0, -1.0]), 1e-5
    numerical = (potential(x + step * v) - potential(x - step * v)) / (2 * step)
    np.testing.assert_allclose(jax.grad(lambda y: potential(y))(x) @ v, numerical, rtol=1e-7)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_own_hessian_is_that_of_derivatives(d):
    points = 3.0 + 2.0 * jax.random.normal(jax.random.key(5), (100, d))
    potential = ConvexPotential(points, scale=7.0, width=16, depth=3, rngs=nnx.Rngs(6))
    both = MeanPotential.of([potential, potential])
    derivatives = jax.vmap(jax.hessian(lambda x: potential(x)))(points)
    for network in (potential, both):
        own = jax.vmap(HessianMetric(network))(points)
        np.testing.assert_allclose(own, derivatives, rtol=1e-11, atol=1e-13)


def test_own_hessian_is_positive_definite_in_float32():
    points = jax.random.normal(jax.random.key(7), (100, 2), jnp.float32)
    potential = ConvexPotential(points, rngs=nnx.Rngs(8))
    potential.quadratic[...] = jnp.float32(-30.0)
    far = 30 * points
    own = np.asarray(jax.vmap(HessianMetric(potential))(far), np.float64)
    exact = ConvexPotential(points.astype(jnp.float64), rngs=nnx.Rngs(8))
    exact.quadratic[...] = jnp.float64(-30.0)
    nnx.update(exact, jax.tree.map(lambda x: x.astype(jnp.float64), nnx.state(potential)))
    truth = jax.vmap(jax.hessian(lambda x: exact(x)))(far.astype(jnp.float64))
    np.testing.assert_allclose(own, truth, rtol=2e-3, atol=1e-12)
    assert np.all(np.linalg.eigvalsh(own) >= -1e-7 * np.abs(own).max(axis=(1, 2))[:, None])


def test_mean_of_potentials_and_of_their_metrics(potential):
    points = jax.random.normal(jax.random.key(3), (100, 3))
    other = ConvexPotential(points, scale=3.0, width=16, rngs=nnx.Rngs(4))
    both = MeanPotential.of([potential, other])
    eta = jnp.array([0.3, -0.7, 0.1])
    for f in (lambda p: p(eta), lambda p: jax.hessian(lambda e: p(e))(eta)):
        np.testing.assert_allclose(f(both), (f(potential) + f(other)) / 2, rtol=1e-12)
    with pytest.raises(ValueError, match="at least one network, got none"):
        MeanPotential.of([])


def test_potential_keeps_float32():
    points = jax.random.normal(jax.random.key(0), (10, 2), jnp.float32)
    small = ConvexPotential(points, width=4, rngs=nnx.Rngs(0))
    assert small(points[0]).dtype == jnp.float32


def test_chart_starts_as_the_identity_on_the_scaled_domain():
    chart = LearnedChart(jnp.array([[1.0, 5.0], [-2.0, 2.0]]), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(chart(jnp.array([5.0, -1.0])), [1.0, -0.5], atol=1e-15)


@pytest.mark.parametrize("shape", [(12,), (6, 8), (4, 6, 4)])
def test_periodic_convolution_is_translation_invariant(shape):
    summary = PeriodicConvolution(len(shape), features=7, dtype=jnp.float64, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), shape)
    moved = jnp.roll(x, (1, 2, 3)[: len(shape)], range(len(shape)))
    np.testing.assert_allclose(summary(moved), summary(x), rtol=1e-12)
    assert not np.allclose(summary(x[::-1] ** 2), summary(x))


def test_periodic_convolution_equals_its_definition():
    summary = PeriodicConvolution(1, features=3, dtype=jnp.float64, rngs=nnx.Rngs(0))
    x = np.array([1.0, -2.0, 0.5, 3.0])
    w, b = summary.weight[...][:, 0, :], summary.bias[...]
    by_hand = [sum(np.roll(x, 1 - r)[i] * w[r] for r in range(3)) + b for i in range(4)]
    np.testing.assert_allclose(
        summary(jnp.asarray(x)), np.maximum(by_hand, 0).mean(axis=0), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("shape", "kind", "length"),
    [
        ((300,), Dense, 129),
        ((300, 5), Dense, 133),
        ((300, 8, 8), PeriodicConvolution, 128),
        ((300, 8, 8, 3), PeriodicConvolution, 128),
        ((300, 6, 6, 6), PeriodicConvolution, 128),
    ],
)
def test_default_summaries(shape, kind, length):
    samples = np.random.default_rng(0).normal(size=shape)
    summary = summary_for(samples, dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert isinstance(summary, kind)
    assert summary(jnp.asarray(samples[0])).shape == (length,)


def test_no_default_summary_for_odd_shapes():
    with pytest.raises(
        ValueError, match=r"no default summary for samples of shape \(2, 2, 2, 2, 2\)"
    ):
        summary_for(np.zeros((4, 2, 2, 2, 2, 2)), dtype=jnp.float32, rngs=nnx.Rngs(0))


def test_identity_flattens():
    assert Identity(jnp.float32)(jnp.arange(6).reshape(2, 3)).tolist() == [0, 1, 2, 3, 4, 5]


def test_an_exchangeable_summary_knows_no_order():
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    summary = Exchangeable(rows, features=8, rngs=nnx.Rngs(0))
    found = summary(jnp.asarray(rows))
    assert found.shape == (20,)
    u = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    i, j = np.triu_indices(3)
    np.testing.assert_allclose(found[6:12], (u.T @ u / 12)[i, j], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, summary(jnp.asarray(rows[::-1])), rtol=1e-5, atol=1e-6)
    each = np.mean([summary(jnp.asarray(row[None])) for row in rows], axis=0)
    np.testing.assert_allclose(found, each, rtol=1e-5, atol=1e-6)


def test_an_exchangeable_summary_widens_the_edge_of_a_column():
    rows = np.exp(3 * np.random.default_rng(0).normal(size=(20_000, 1))).astype(np.float32)
    summary = Exchangeable(rows, features=1, rngs=nnx.Rngs(0))
    score = np.array([summary(jnp.asarray(row[None]))[1] for row in rows[:200]])
    np.testing.assert_allclose(score, np.log(rows[:200, 0]) / 3, atol=0.1)


def test_whitening_gives_unit_covariance_and_drops_dead_directions():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + 3
    features = np.c_[features, features[:, 0] * 2]
    white = whiten(features)
    z = (features - white.mean) @ white.matrix
    assert z.shape == (500, 4)
    np.testing.assert_allclose(z.T @ z / 500, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.sum(1 / white.penalty), 1, rtol=1e-9)


def gaussian_location(n, seed=0):
    """x ~ N(Σθ, Σ): natural parameter θ, sufficient statistic x itself, metric Σ."""
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-2, 2, (n, 2))
    x = theta @ covariance + rng.normal(size=(n, 2)) @ np.linalg.cholesky(covariance).T
    return theta, x, covariance


def test_pairs_recover_the_sufficient_statistic_and_its_scale():
    """The pairwise likelihood finds f(x) = x of the Gaussian location family: A = 1.

    The mean over eight independent data sets is within four of its standard errors."""
    matrices = []
    for seed in range(8):
        theta, x, _ = gaussian_location(1000, seed)
        near = pairs_at_all_scales(theta)[:5000]
        pairs = Pairs.between(jnp.asarray(x), jnp.asarray(theta), near)
        matrix, decrement = fit_matrix(pairs, jnp.zeros((2, 2)), jnp.zeros(2))
        assert decrement < 1e-10
        matrices.append(matrix)
    error = np.std(matrices, axis=0, ddof=1) / 8**0.5
    assert np.all(error < 0.1)
    assert np.all(np.abs(np.mean(matrices, axis=0) - np.eye(2)) < 4 * error)
    gradient = jax.grad(lambda a: pairwise_loss(pairs.margins(a)))(matrix)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_what_the_pairs_leave_open_is_told_with_the_ridge_and_without():
    theta, x, _ = gaussian_location(400, 5)
    features = np.c_[x, np.random.default_rng(6).normal(size=(400, 3))]
    pool, rows = Pool(features, theta, Identity(), None), np.arange(300)
    statistic = LinearStatistic.fit(pool, theta, rows, np.arange(300, 400), jnp.float64)
    pairs = statistic.pairs(pool, rows)

    def loss(readout):
        return len(pairs.features) * pairwise_loss(
            pairs.margins(readout * statistic.spread[None, :])
        )

    readout = jnp.asarray(statistic.readout())
    exact = jax.hessian(loss)(readout).reshape(readout.size, -1)
    gradient, curvature = statistic.likelihood_of_pairs(pool, rows)
    np.testing.assert_allclose(curvature, exact, rtol=1e-8, atol=1e-8 * np.abs(exact).max())
    root = statistic.uncertainty(curvature)
    whole = curvature + np.diag(statistic.prior_precision().ravel())
    np.testing.assert_allclose(root.T @ whole @ root, np.eye(readout.size), atol=1e-8)
    # the ridge: the loss of the pairs with it is stationary at the readout
    pull = jax.grad(loss)(readout) + statistic.prior_precision() * readout
    ridge = np.abs(statistic.prior_precision() * readout).max()
    np.testing.assert_allclose(pull, 0, atol=1e-3 * np.abs(statistic.prior_precision()).max())
    # of the pairs alone, about 0, to second order about the readout
    about_0 = exact @ readout.ravel() - jax.grad(loss)(readout).ravel()
    np.testing.assert_allclose(gradient, about_0, atol=1e-2 * ridge)
    assert statistic.reuse == 2 * len(pairs.features) / 300


def test_pairs_of_nearly_one_number_share_a_program_and_padding_says_nothing():
    theta, x, _ = gaussian_location(600, 0)
    near = pairs_at_all_scales(theta)
    some = [Pairs.between(jnp.asarray(x), jnp.asarray(theta), near[:n]) for n in (1000, 1010)]
    assert len({pairs.padded().features.shape for pairs in some}) == 1
    matrix, _ = fit_matrix(some[0], jnp.zeros((2, 2)), jnp.ones(2))
    # the objective of the plain pairs is stationary there
    gradient = jax.grad(lambda a: 1000 * pairwise_loss(some[0].margins(a)) + 0.5 * jnp.sum(a**2))(
        matrix
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_calibration_undoes_a_wrong_scale():
    theta, x, _ = gaussian_location(4000, seed=1)
    pairs = Pairs.between(jnp.asarray(x), jnp.asarray(theta), pairs_at_all_scales(theta, 4))
    honest = np.asarray(pairs.margins(jnp.eye(2)))
    np.testing.assert_allclose(calibrate(3 * honest) * 3, calibrate(honest), rtol=1e-8)
    assert abs(calibrate(honest) - 1) < 0.065


def test_calibration_refuses_separable_pairs():
    assert np.isnan(calibrate(np.array([1.0, 2.0, 3.0])))
    assert np.isnan(calibrate(np.array([1.0, np.nan, -3.0])))


def test_ridge_protects_against_features_of_noise():
    theta, x, _ = gaussian_location(400, seed=2)
    features = np.c_[x, np.random.default_rng(3).normal(size=(400, 60)) * 0.05]
    white = whiten(features)
    z, penalty = jnp.asarray((features - white.mean) @ white.matrix), jnp.asarray(white.penalty)
    training, held_out = (
        Pairs.between(z[rows], jnp.asarray(theta)[rows], pairs_at_all_scales(theta[rows]))
        for rows in (slice(0, 200), slice(200, 400))
    )
    ridge, losses = choose_ridge(training, held_out, penalty)
    bare, _ = fit_matrix(training, jnp.zeros((len(penalty), 2)), 1e-9 * penalty)
    assert min(losses) < 0.8 * pairwise_loss(held_out.margins(bare))
    assert ridge == max(RIDGES[: len(losses)], key=lambda r: -losses[RIDGES.index(r)])


def test_cross_entropy_of_the_exact_posterior_is_least_and_of_no_knowledge_is_log_m():
    theta, x, covariance = gaussian_location(500, seed=4)
    candidates = jnp.asarray(np.random.default_rng(5).uniform(-2, 2, (1000, 2)))
    sigma = jnp.asarray(covariance)

    def entropy(factor):
        return posterior_cross_entropy(
            lambda e: factor * 0.5 * e @ sigma @ e,
            lambda t: t,
            factor * jnp.asarray(x),
            jnp.asarray(theta),
            candidates,
        ).mean()

    np.testing.assert_allclose(entropy(0.0), np.log(1001), rtol=1e-12)
    assert entropy(1.0) < min(entropy(0.7), entropy(1.4))


def test_muon_takes_the_layers_of_a_scan_one_by_one():
    """Its first update of a matrix is nearly orthogonal: all singular values alike, where the
    gradient's differ a hundredfold."""
    optimizer = _optimizer(Schedule(10, 1.0, optimizer="muon"))
    u, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 8, 8)))
    layers = {"positive": jnp.asarray(u * np.geomspace(1, 100, 8))}
    update, _ = optimizer.update(layers, optimizer.init(layers), layers)
    sizes = np.linalg.svd(update["positive"], compute_uv=False)
    assert sizes.min() > 0.5 * sizes.max()
    for k in range(3):
        one = {"positive": layers["positive"][k]}
        alone, _ = optimizer.update(one, optimizer.init(one), one)
        np.testing.assert_allclose(update["positive"][k], alone["positive"], atol=0.02)


def test_parameters_are_spread_evenly():
    """Any 64 in a row, from a multiple of 64, one in each of 8×8 boxes and of 64 strips; uniform
    each, by the key alone."""
    domain = np.array([[-1.0, 3.0], [10.0, 12.0]])
    points = spread_evenly(jax.random.key(0), 1000, domain)
    assert points.shape == (1000, 2)
    unit = (points - domain[:, 0]) / np.ptp(domain, axis=1)
    assert (unit >= 0).all()
    assert (unit < 1).all()
    for first in range(0, 960, 64):
        column, row = (8 * unit[first : first + 64]).astype(int).T
        assert len(np.unique(8 * column + row)) == 64
        for strip in (64 * unit[first : first + 64]).astype(int).T:
            assert len(np.unique(strip)) == 64
    np.testing.assert_array_equal(points, spread_evenly(jax.random.key(0), 1000, domain))
    assert not np.any(points == spread_evenly(jax.random.key(1), 1000, domain))
    first = np.array([spread_evenly(jax.random.key(k), 1, domain)[0] for k in range(200)])
    middle, spread = domain.mean(axis=1), np.ptp(domain, axis=1) / 12**0.5
    np.testing.assert_allclose(first.mean(axis=0), middle, atol=4 * spread.max() / 200**0.5)


class Sum(nnx.Module):
    def __init__(self):
        self.value = nnx.Param(jnp.zeros(10))


def towards(model, rows, constants=None):
    return jnp.sum(model.value[...][rows] ** 2) - 2 * jnp.sum(model.value[...][rows])


def test_batches_in_order_see_every_row_once():
    """Rows 0 and 1, then 2 and 3, and so on: after five steps all ten have moved, which of ten
    drawn at random one in ten thousand times all do."""
    schedule = Schedule(5, 0.1, batch_size=2, every=5, optimizer="muon", in_order=True)
    rows = jnp.arange(10)
    model, _ = minimize(
        towards, Sum(), rows, rows, key=jax.random.key(0), schedule=schedule, label="",
        progress=False,
    )  # fmt: skip
    assert np.all(np.asarray(model.value[...]) > 0)
    shuffled, _ = minimize(
        towards, Sum(), rows, rows, key=jax.random.key(0),
        schedule=schedule._replace(in_order=False), label="", progress=False,
    )  # fmt: skip
    assert np.any(np.asarray(shuffled.value[...]) == 0)
