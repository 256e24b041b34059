"""Splines, and the smoothing of moments with them, against a family whose answers are closed.

Two independent Poisson counts of mean N exp(η_i): ψ = N Σ exp(η_i), metric diag(N exp(η_i)),
cubic form |∇³ψ|² = Σ exp(-η_i) / N."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

from jaxgeo.reconstruction.convexity import convex_spline
from jaxgeo.reconstruction.jackknife import GROUPS, groups
from jaxgeo.reconstruction.profile import (
    Contest,
    curvature,
    evident_penalty,
    likeliest_readout,
    log_likelihood,
    most_evident_readout,
    spread_out,
    unshrunk,
)
from jaxgeo.reconstruction.smoothing import (
    STRENGTHS,
    Entries,
    Rows,
    Smoother,
    _least,
    _quarters,
    choose_strength,
    smooth,
)
from jaxgeo.reconstruction.splines import BandedCholesky, TensorSplines, hessian_potential

N = 500.0
BOX = np.array([[-1.0, 1.0], [-0.5, 0.5]])
BREAKS = [np.linspace(-1.01, 1.01, 9), np.linspace(-0.51, 0.51, 7)]


def points(n, seed):
    return np.random.default_rng(seed).uniform(*BOX.T, (n, 2))


def metric(eta):
    return N * np.exp(eta)[:, :, None] * np.eye(2)


def hessians(splines, coefficients, eta):
    first, mixed, last = (m @ coefficients for m in splines.derivatives(eta, 2))
    return np.stack([np.stack([first, mixed], -1), np.stack([mixed, last], -1)], -2)


@pytest.fixture(scope="module")
def interpolant():
    """The exact potential in the splines, by least squares on many points."""
    splines = TensorSplines(BREAKS)
    eta = points(4000, 0)
    design = splines.derivatives(eta, 0)[0].toarray()
    return splines, np.linalg.lstsq(design, N * np.exp(eta).sum(axis=1), rcond=None)[0]


def test_cells_hold_the_same_function_as_the_splines(interpolant):
    splines, coefficients = interpolant
    psi, eta = splines.potential(coefficients, jnp.float64), points(50, 1)
    np.testing.assert_allclose(
        jax.vmap(psi)(eta), splines.derivatives(eta, 0)[0] @ coefficients, rtol=1e-12
    )
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.hessian(psi)))(eta),
        hessians(splines, coefficients, eta),
        atol=1e-8 * N,
    )
    third = jax.vmap(jax.jacfwd(jax.hessian(psi)))(eta)
    for k, matrix in enumerate(splines.derivatives(eta, 3)):
        index = (0,) * (3 - k) + (1,) * k
        np.testing.assert_allclose(
            third[(slice(None), *index)], matrix @ coefficients, atol=1e-6 * N
        )


def test_a_potential_is_smooth_across_cells_and_goes_on_outside(interpolant):
    splines, coefficients = interpolant
    psi = splines.potential(coefficients, jnp.float64)
    edge = BREAKS[0][3]
    left, right = (jnp.array([edge + s * 1e-9, 0.1]) for s in (-1, 1))
    for derivative in (psi, jax.grad(psi), jax.hessian(psi), jax.jacfwd(jax.hessian(psi))):
        np.testing.assert_allclose(derivative(left), derivative(right), rtol=1e-4, atol=1e-4 * N)
    outside = jax.hessian(psi)(jnp.array([1.1, 0.55]))
    np.testing.assert_allclose(outside, N * np.diag(np.exp([1.1, 0.55])), rtol=0.05, atol=0.05 * N)


def test_float32_keeps_its_digits_in_the_hessian(interpolant):
    """Cells of their own size: no cancellation between coefficients as large as ψ."""
    splines, coefficients = interpolant
    large = coefficients + 1e4 * N
    psi, eta = splines.potential(large, jnp.float32), points(64, 2)
    found = jax.vmap(jax.hessian(psi))(jnp.asarray(eta, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, metric(eta), rtol=2e-3, atol=2e-3 * N)


def test_cubic_form_of_poisson_counts(interpolant):
    splines, coefficients = interpolant
    eta = points(100, 3)
    exact = np.exp(-eta).sum(axis=1) / N
    found = Rows(splines, eta, metric(eta)).cubic_form(coefficients)
    np.testing.assert_allclose(found, exact, rtol=0.05)


def test_banded_cholesky_solves_and_colors():
    matrix = Smoother(
        Rows(TensorSplines(BREAKS), points(500, 4), metric(points(500, 4))), 1.0
    ).matrix
    x = np.random.default_rng(5).normal(size=matrix.shape[0])
    rhs = matrix @ x
    np.testing.assert_allclose(
        matrix @ BandedCholesky(matrix).solve(rhs), rhs, atol=1e-4 * abs(rhs).max()
    )


def test_smoothed_counts_have_the_metric_of_their_law():
    """Counts alone, one a parameter: the slope of their mean is known far better than any one."""
    splines, eta = TensorSplines(BREAKS), points(4096, 6)
    counts = np.random.default_rng(7).poisson(N * np.exp(eta)).astype(float)
    coefficients = Smoother(Rows(splines, eta, metric(eta)), 1e3)(counts)
    inside = 0.9 * points(300, 8)
    ratio = np.linalg.eigvals(
        np.linalg.solve(metric(inside), hessians(splines, coefficients, inside))
    )
    error = np.median(np.abs(np.log(ratio.real)))
    assert error < 0.06  # 120 coefficients from 4,096 counts
    stiff = Smoother(Rows(splines, eta, metric(eta)), 1e11)(counts)
    worse = np.linalg.eigvals(np.linalg.solve(metric(inside), hessians(splines, stiff, inside)))
    assert np.median(np.abs(np.log(np.abs(worse)))) > 2 * error


def test_scatter_informs_the_metric_as_a_normal_law_does():
    """Its share of the normal equations: the Fisher information ½ tr(δ²) of a covariance 1 + δ,
    and right-hand sides that a statistic of just this scatter fulfils."""
    eta, rng = points(20_000, 6), np.random.default_rng(7)
    information = np.array([[4.0, 1.0], [1.0, 2.0]])
    values = eta @ information + rng.normal(size=eta.shape) @ np.linalg.cholesky(information).T
    splines = TensorSplines(BREAKS)
    smoother = Smoother(Rows(splines, eta, np.tile(information, (len(eta), 1, 1))), 1.0)
    bowl = smoother(eta @ information)
    matrix, moments = smoother.with_scatter(bowl, values)
    scatter, right = matrix - smoother.matrix, moments - smoother.moments(values)
    # the bowl's own Hessian is the metric, δ = 1: ½ tr(1) = 1 a sample
    np.testing.assert_allclose(bowl @ scatter @ bowl, len(eta), rtol=1e-6)
    np.testing.assert_allclose(bowl @ right, len(eta), rtol=4 / len(eta) ** 0.5)


def contest(n=3000):
    """Counts and a noise, whose potentials are exact: N exp(η₁), N exp(η₂), and none for noise."""
    rng, eta = np.random.default_rng(10), points(n, 9)
    counts = rng.poisson(N * np.exp(eta)).astype(float)
    features = np.concatenate([counts - N, 10 * rng.normal(size=(n, 1))], axis=1)
    potentials = np.zeros((n, 3, 2))
    potentials[:, [0, 1], [0, 1]] = N * np.exp(eta) - N * eta
    # what E[count | η] is no gradient of: its best gradient is good enough for a gradient test
    potentials[:, [0, 1], [1, 0]] = N * eta[:, ::-1]
    return Contest(features, eta, potentials.reshape(n, -1), *spread_out(eta, n // 3))


def test_likelihood_has_the_derivatives_that_it_says(monkeypatch):
    monkeypatch.setattr("jaxgeo.reconstruction.profile.THINNED", 1)
    game = contest(600)
    a = np.array([0.9, 0.05, -0.03, 1.1, 0.02, 0.04])
    (_, slope), information = log_likelihood(game, a), curvature(game, a)
    for k, step in enumerate(1e-5 * np.eye(6)):
        ahead, behind = (log_likelihood(game, a + s * step) for s in (1, -1))
        assert slope[k] == pytest.approx((ahead[0] - behind[0]) / 2e-5, rel=1e-6)
        second = -(ahead[1] - behind[1]) / 2e-5
        np.testing.assert_allclose(
            information[k], second, rtol=1e-5, atol=1e-5 * abs(second).max()
        )


def test_likelihood_is_that_of_the_candidates_it_names():
    """One by one, as the formula has it."""
    game = contest(200)
    game = game._replace(candidates=np.arange(50), cells=np.arange(200) % 50)
    a = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    total = 0.0
    for i in range(200):
        rivals = np.r_[i, [j for j in range(50) if j != i % 50]]
        logits = game.features[i] @ a.reshape(3, 2) @ game.eta[rivals].T
        logits = logits - game.potentials[rivals] @ a
        total += logits[0] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    assert log_likelihood(game, a)[0] == pytest.approx(total, rel=1e-12)


def test_the_likeliest_statistic_is_the_sufficient_one():
    """From a readout that is a fifth too large and listens to noise."""
    start = np.array([[1.2, 0.0], [0.0, 1.2], [0.5, -0.5]])
    found, information = likeliest_readout(contest(), start, np.zeros(6))
    exact = np.eye(3)[:, :2]
    np.testing.assert_allclose(found, exact, atol=0.08)  # 3 √(2 / 3000)
    deviation = np.sqrt(np.linalg.inv(information)[0, 0])
    assert 0.5 < deviation / np.sqrt(2 / 3000) < 2
    tied, _ = likeliest_readout(contest(), start, np.array([0, 0, 0, 0, 1e9, 1e9]))
    np.testing.assert_allclose(tied[2], 0, atol=1e-6)


def test_points_spread_out_stand_for_all():
    """One of each cell, cells of equal count; their sums err far less than those of a random
    choice of as many, whose standard error is that of independent draws."""
    eta, count = points(4096, 20), 256
    chosen, cells = spread_out(eta, count)
    np.testing.assert_array_equal(cells[chosen], np.arange(count))
    np.testing.assert_array_equal(np.bincount(cells), 4096 // count)
    smooth_ones = np.exp(eta @ np.random.default_rng(21).normal(size=(2, 20)))
    error = smooth_ones[chosen].mean(axis=0) - smooth_ones.mean(axis=0)
    random = smooth_ones.std(axis=0) / count**0.5
    assert np.sqrt(np.mean((error / random) ** 2)) < 0.25
    few, own = spread_out(eta[:10], 16)
    np.testing.assert_array_equal(few[own], np.arange(10))


def test_few_candidates_give_the_size_that_all_do():
    """Half a standard deviation (0.026) from it at most, for each sample takes the place of its
    own cell's candidate: beside it, near rivals would be too many."""
    game, exact = contest(), np.eye(3)[:, :2]
    all_compete = Contest(*game[:3], *spread_out(game.eta, len(game.eta)))
    expected, _ = likeliest_readout(all_compete, exact, np.zeros(6))
    for count in (128, 256, 512):
        few = Contest(*game[:3], *spread_out(game.eta, count))
        found, _ = likeliest_readout(few, exact, np.zeros(6))
        np.testing.assert_allclose(found[:2], expected[:2], atol=0.013)


def test_what_a_ridge_has_taken_from_all_is_given_back():
    """The likeliest readout shrunk and mixed: R is its inverse."""
    game = contest()
    likeliest, _ = likeliest_readout(game, np.eye(3)[:, :2], np.zeros(6))
    mixed = np.array([[0.97, 0.01], [-0.02, 0.95]])
    np.testing.assert_allclose(unshrunk(game, likeliest @ mixed) @ mixed, np.eye(2), atol=2e-3)


def test_a_likeliest_statistic_is_not_shrunk_by_its_ridge():
    """However strong a ridge of the same entries all over, the statistic keeps its size."""
    game = contest()
    counts = game.features[:, :2]
    rows = Rows(TensorSplines(BREAKS), game.eta, metric(game.eta))
    entries = Entries(rows, Smoother(rows, 1e3), counts, np.arange(len(counts)), 512)

    def found(ridge):
        return entries.likeliest(np.eye(2), np.full((2, 2), ridge))[0]

    np.testing.assert_allclose(found(1e7), found(0.0), atol=1e-4)


def test_doubts_are_those_of_the_likelihood_and_of_the_deviations(monkeypatch):
    game = contest()
    counts = game.features[:, :2]
    rows = Rows(TensorSplines(BREAKS), game.eta, metric(game.eta))
    entries = Entries(rows, Smoother(rows, 1e3), counts, np.arange(len(counts)), 512)
    found, information = likeliest_readout(entries.contest, np.eye(2), np.zeros(4))
    known = np.sqrt(np.diagonal(np.linalg.inv(information)))

    def spread(deviations):
        monkeypatch.setattr(Entries, "deviations", lambda *_: deviations)
        draws = entries.doubts(found, information)
        return np.linalg.lstsq(entries.coefficients, draws, rcond=None)[0].std(axis=1)

    np.testing.assert_allclose(spread(np.zeros((GROUPS, 4))), known, rtol=0.3)  # 3 √(1 / 128)
    shifts = known * np.random.default_rng(23).normal(size=(GROUPS, 4))
    more = (GROUPS - 1) * np.var(shifts, axis=0)
    np.testing.assert_allclose(spread(shifts), np.sqrt(known**2 + more), rtol=0.3)


def test_deviations_are_those_of_samples_left_out():
    """Found again with splines that have not seen a group."""
    game = contest()
    counts, rough = game.features[:, :2], metric(game.eta)
    splines, n = TensorSplines(BREAKS), len(game.eta)

    def entries_of(kept):
        rows = Rows(splines, game.eta[kept], rough[kept])
        return Entries(rows, Smoother(rows, 1e3), counts[kept], np.arange(len(kept)), 512)

    every = entries_of(np.arange(n))
    found, information = likeliest_readout(every.contest, np.eye(2), np.zeros(4))
    deviations, exact = every.deviations(found, information), []
    for group in groups(n):
        kept = np.setdiff1d(np.arange(n), group)
        potentials = splines.derivatives(game.eta, 0)[0] @ entries_of(kept).coefficients
        without = every.contest._replace(potentials=potentials)
        a = found.ravel()
        for _ in range(4):
            a = a + np.linalg.solve(information, log_likelihood(without, a)[1])
        exact.append(a - found.ravel())
    error = deviations - exact
    error, spread = (np.linalg.norm(m - np.mean(m, axis=0)) for m in (error, exact))
    assert error < 0.2 * spread


def test_passes_take_back_what_the_charge_flattens(monkeypatch):
    """Of exact moments one pass loses a share λ of a mode, `PASSES` of them λ to that power; so
    also where the scatter, exact too, has its say."""
    eta = np.repeat(points(1024, 22), 4, axis=0)
    mean = N * np.exp(eta)
    scatter = np.sqrt(2 * mean) * np.tile([[1, 0], [-1, 0], [0, 1], [0, -1]], (1024, 1))
    rows = Rows(TensorSplines(BREAKS), eta, metric(eta))
    smoother = Smoother(rows, 3e4, None)
    once = spsolve(smoother.matrix.tocsc(), smoother.moments(mean))

    def lost(coefficients):
        found = np.stack([m @ coefficients for m in rows.gradient], axis=1)
        return np.linalg.norm(found - mean) / np.linalg.norm(mean - mean.mean(axis=0))

    start = smoother(mean)
    assert lost(once) > 4 * lost(start)

    def last():
        matrix, moments = smoother.with_scatter(start, mean + scatter)
        return lost(BandedCholesky(matrix).solve(moments))

    four = last()
    monkeypatch.setattr("jaxgeo.reconstruction.smoothing.PASSES", 1)
    assert last() > 4 * four


def test_the_least_loss_is_found_between_the_strengths_tried():
    x = np.log(STRENGTHS)
    for least in (np.log(2e3), np.log(5e4)):
        assert _least(list(1 + (x - least) ** 2)) == pytest.approx(np.exp(least))
    assert _least(list(x)) == STRENGTHS[0]
    assert _least(list(-x)) == STRENGTHS[-1]


def test_the_evidence_finds_the_spread_of_what_is_estimated():
    """Entries of spread 1 and 0.1, in two halves, each measured with an error of 0.05."""
    rng = np.random.default_rng(0)
    groups = np.repeat([1, 0], 400)
    spread = np.array([0.1, 1.0])[groups]
    measured = rng.normal(0, spread) + rng.normal(0, 0.05, spread.shape)
    penalty = np.full(spread.shape, 7.0)
    for _ in range(30):
        precision = 0.05**-2 + penalty
        found = measured * 0.05**-2 / precision
        penalty = evident_penalty(penalty, found, np.diag(precision), groups)
    np.testing.assert_allclose(penalty**-0.5, spread, rtol=0.15)


def test_a_ridge_that_is_too_strong_gives_way_to_the_evidence():
    start, exact, ridge = np.zeros((3, 2)), np.eye(3)[:, :2], np.full((3, 2), 1500.0)
    shrunk, _ = likeliest_readout(contest(), start, ridge.ravel())
    assert np.all(np.diagonal(shrunk) < 0.8)
    found, penalty, _ = most_evident_readout(contest(), start, ridge)
    np.testing.assert_allclose(found, exact, atol=0.08)
    assert np.all(penalty < 15)


def test_a_likelihood_short_of_its_maximum_is_refused():
    with pytest.raises(np.linalg.LinAlgError, match="not at its maximum"):
        likeliest_readout(contest(600), 3 * np.ones((3, 2)), np.zeros(6), max_iterations=1)


def test_a_spline_is_made_convex_and_no_more():
    """ψ of a sharp valley from noisy moments: not convex by itself, convex under the barrier."""
    splines, eta = TensorSplines(BREAKS), points(300, 11)
    g = 50 * np.broadcast_to(np.eye(2), (300, 2, 2))
    noisy = 50 * eta + 30 * np.random.default_rng(12).normal(size=eta.shape)
    smoother = Smoother(Rows(splines, eta, g), 1e-3)
    plain = smoother(noisy)
    nodes = points(500, 13)
    assert np.linalg.eigvalsh(hessians(splines, plain, nodes)).min() < 0
    design = splines.derivatives(points(4000, 0), 0)[0].toarray()
    bowl = np.linalg.lstsq(design, 25 * (points(4000, 0) ** 2).sum(axis=1), rcond=None)[0]
    second = splines.derivatives(nodes, 2)
    convex = convex_spline(smoother.matrix, smoother.moments(noisy), bowl, second, np.full(2, 0.5))
    assert np.linalg.eigvalsh(hessians(splines, convex, nodes)).min() > 0.5
    with pytest.raises(np.linalg.LinAlgError, match="no minimum of the spline in 1 iter"):
        convex_spline(smoother.matrix, smoother.moments(noisy), bowl, second, np.full(2, 0.5), 1)
    # where nothing has to bend, the barrier is not felt
    many = points(4000, 17)
    clean = Smoother(Rows(splines, many, metric(many)), 1e3)
    exact = N * np.exp(many)
    same = convex_spline(clean.matrix, clean.moments(exact), bowl, second, np.full(2, 0.5))
    free = clean(exact)
    np.testing.assert_allclose(
        hessians(splines, same, nodes), hessians(splines, free, nodes), atol=0.05 * N
    )


def test_convexity_is_asked_for_at_samples_and_one_cell_around_them():
    splines, eta = TensorSplines(BREAKS), points(3000, 18)
    sides = np.array([BREAKS[0][1] - BREAKS[0][0], BREAKS[1][1] - BREAKS[1][0]])
    assert len(_quarters(splines, eta)) == 4 * 8 * 6
    lower = eta[eta @ [1.0, 2.0] < -0.5]
    nodes = _quarters(splines, lower)
    distances = np.abs(nodes[:, None] - lower[None]) / sides
    assert np.all(distances.max(axis=2).min(axis=1) < 1.75)  # a quarter into the next cell
    assert np.all(distances.max(axis=2).min(axis=0) < 0.5)
    assert len(nodes) < 4 * 8 * 6 / 1.5


def counted(n):
    """Parameters, standardised counts, the exact readout of these, and a rough metric."""
    eta = points(n, 14)
    counts = np.random.default_rng(15).poisson(N * np.exp(eta)).astype(float)
    features = (counts - counts.mean(axis=0)) / counts.std(axis=0)
    return eta, features, np.diag(counts.std(axis=0)), 1.2 * metric(eta)


def test_all_steps_together_on_counts():
    """Potential, scale and mixture from a start that is wrong in each."""
    n = 6000
    eta, features, exact, rough = counted(n)
    start = exact @ np.array([[1.03, 0.03], [-0.02, 0.97]])
    strength, losses = choose_strength(
        eta, features @ start, rough, np.arange(5000), np.arange(5000, n)
    )
    assert np.isfinite(losses).all()
    assert strength > 1e3  # no crease here
    pairs = start.ravel(), np.eye(4)
    found = smooth(eta, features, start, 1e-6 * np.ones((2, 2)), pairs, rough, strength)
    np.testing.assert_allclose(found.readout, exact, atol=0.03 * exact.max())
    inside = 0.9 * points(300, 16)
    ratio = np.linalg.solve(metric(inside), hessians(found.splines, found.coefficients, inside))
    assert np.median(np.abs(np.log(np.linalg.eigvals(ratio).real))) < 0.04
    # members say how well the size of each component is known
    for k, gradient in enumerate(found.splines.derivatives(inside, 1)):
        slope = N * np.exp(inside[:, k])
        slope -= slope.mean()
        sizes = slope @ (gradient @ found.members.T) / (slope @ slope)
        assert sizes.std() == pytest.approx(np.sqrt(2 / n), rel=0.35)  # 4 √(1 / 128)


def test_pairs_have_half_a_say_in_the_size():
    """Of pairs that ask for a statistic a fifth too large the square root is left; of ones that
    ask for the opposite, nothing."""
    eta, features, exact, rough = counted(3000)
    ridge = 1e-6 * np.ones((2, 2))
    pairs = 1.2 * exact.ravel(), np.eye(4)
    found = smooth(eta, features, exact, ridge, pairs, rough, 1e4)
    size = np.sum(found.readout * exact) / np.sum(exact**2)
    assert size == pytest.approx(1.2**0.5, abs=3 * (2 / 6000) ** 0.5)
    with pytest.raises(np.linalg.LinAlgError, match="pairs contradict the likelihood: size -"):
        smooth(eta, features, exact, ridge, (-exact.ravel(), np.eye(4)), rough, 1e4)


def test_the_potential_of_a_hessian_metric_is_found_again():
    def potential(t):
        return 3 * jnp.sum(t * jnp.log(t)) + jnp.exp(t[0] + t[1] / 2)

    domain = np.array([[0.1, 1.0], [0.5, 2.0]])
    found, unexplained = hessian_potential(jax.hessian(potential), domain)
    points = jnp.asarray(np.random.default_rng(0).uniform(*domain.T, (200, 2)))
    ours, exact = (
        np.asarray(jax.vmap(jax.hessian(lambda t, f=f: f(t)))(points)) for f in (found, potential)
    )
    np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-3 * np.abs(exact).max())
    assert unexplained < 1e-6


def test_a_metric_that_is_no_hessian_is_said_to_be_none():
    # polar coordinates of the plane: ∂g₂₂/∂r = 2r, while ∂g₁₂/∂θ = 0
    polar = lambda t: jnp.diag(jnp.array([1.0, t[0] ** 2]))  # noqa: E731
    _, unexplained = hessian_potential(polar, np.array([[1.0, 3.0], [0.0, 1.0]]))
    assert 0.01 < unexplained < 0.5


def test_what_no_potential_explains_is_orthogonal_to_every_hessian_where_traces_weigh():
    def metric(t):
        return jnp.diag(jnp.stack([1.0 + 5 * t[1] ** 2, jnp.exp(3 * t[0])]))

    found, _ = hessian_potential(metric, 2 * [[0.0, 1.0]])
    axis = np.linspace(0, 1, 4 * 24 + 1)[1::2]
    points = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    rest = jax.vmap(lambda t: jax.hessian(lambda t: found(t))(t) - metric(t))(points)
    weight = 1 / jax.vmap(lambda t: jnp.trace(metric(t)))(points)
    for other in (lambda t: t[0] ** 2 * t[1], lambda t: t[1] ** 3, lambda t: t[0] * t[1]):
        product = jnp.sum(rest * jax.vmap(jax.hessian(other))(points), axis=(1, 2))
        assert abs(jnp.mean(weight * product)) < 1e-5 * jnp.mean(weight * jnp.abs(product))


def test_hessian_potential_refuses_other_dimensions_and_indefinite_metrics():
    with pytest.raises(ValueError, match=r"got \(3, 2\)"):
        hessian_potential(lambda t: jnp.eye(3), 3 * [[0.0, 1.0]])
    with pytest.raises(
        ValueError, match=r"positive definite, got \[\[1.0, 0.0\], \[0.0, -1.0\]\]"
    ):
        hessian_potential(lambda t: jnp.diag(jnp.array([1.0, -1.0])), np.array(2 * [[0.0, 1.0]]))
