"""Splines, and the smoothing of moments with them, against a family whose answers are closed.

Two independent Poisson counts of mean N exp(η_i): ψ = N Σ exp(η_i), metric diag(N exp(η_i)),
cubic form |∇³ψ|² = Σ exp(-η_i) / N."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo.reconstruction.smoothing import (
    Rows,
    Smoother,
    _feature_moments,
    _statistic,
    convex_spline,
    cubic_form,
    smooth,
)
from jaxgeo.reconstruction.splines import TensorSplines, banded_solver

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
    np.testing.assert_allclose(
        cubic_form(Rows(splines, eta, metric(eta)), coefficients), exact, rtol=0.05
    )


def test_banded_solver_solves():
    matrix = Smoother(
        Rows(TensorSplines(BREAKS), points(500, 4), metric(points(500, 4))), 1.0
    ).matrix
    x = np.random.default_rng(5).normal(size=matrix.shape[0])
    rhs = matrix @ x
    np.testing.assert_allclose(
        matrix @ banded_solver(matrix)(rhs), rhs, atol=1e-4 * abs(rhs).max()
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
    stiff = Smoother(Rows(splines, eta, metric(eta)), 1e9)(counts)
    worse = np.linalg.eigvals(np.linalg.solve(metric(inside), hessians(splines, stiff, inside)))
    assert np.median(np.abs(np.log(np.abs(worse)))) > 2 * error


def test_the_statistic_is_told_from_features_that_only_correlate():
    """Features: the counts, mixed, and a noise; a readout wrong by a fifth is put right."""
    splines, eta = TensorSplines(BREAKS), points(8192, 9)
    rng = np.random.default_rng(10)
    counts = rng.poisson(N * np.exp(eta)).astype(float)
    noise = rng.normal(size=(len(eta), 1)) * 10
    features = np.concatenate([counts @ [[1.0, 0.3], [-0.2, 1.0]], noise], axis=1)
    features -= features.mean(axis=0)
    exact = np.concatenate([np.linalg.inv([[1.0, 0.3], [-0.2, 1.0]]), np.zeros((1, 2))])
    start = 1.2 * exact + [[0.0, 0.0], [0.0, 0.0], [0.5, -0.5]]
    rows = Rows(splines, eta, metric(eta))
    coefficients = Smoother(rows, 1e3)(features @ start)
    means, scatter = _feature_moments(splines, rows, features, 1e3)
    everywhere = np.ones(len(eta), bool)
    found = _statistic(rows, coefficients, means, scatter, everywhere, start, 1e-6 * np.eye(6))
    np.testing.assert_allclose(found[:2], exact[:2], atol=0.06)  # 3 √(2 / n)
    np.testing.assert_allclose(found[2], 0, atol=0.1)


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
    # where nothing has to bend, the barrier is not felt
    many = points(4000, 17)
    clean = Smoother(Rows(splines, many, metric(many)), 1e3)
    exact = N * np.exp(many)
    same = convex_spline(clean.matrix, clean.moments(exact), bowl, second, np.full(2, 0.5))
    free = clean(exact)
    np.testing.assert_allclose(
        hessians(splines, same, nodes), hessians(splines, free, nodes), atol=0.05 * N
    )


def test_all_steps_together_on_counts():
    """Potential, scale and mixture from a start that is wrong in each."""
    n = 6000
    eta = points(n, 14)
    counts = np.random.default_rng(15).poisson(N * np.exp(eta)).astype(float)
    features = (counts - counts.mean(axis=0)) / counts.std(axis=0)
    exact = np.diag(counts.std(axis=0))
    start = exact @ np.array([[1.08, 0.03], [-0.02, 0.95]])
    found = smooth(
        eta, features, start, 1e-6 * np.eye(4), 1.2 * metric(eta), np.arange(5000),
        np.arange(5000, n),
    )  # fmt: skip
    np.testing.assert_allclose(found.readout, exact, atol=0.03 * exact.max())
    inside = 0.9 * points(300, 16)
    ratio = np.linalg.solve(metric(inside), hessians(found.splines, found.coefficients, inside))
    assert np.median(np.abs(np.log(np.linalg.eigvals(ratio).real))) < 0.04
