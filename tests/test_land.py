"""Locally adaptive normal distributions: normalisers, likelihoods, samples, failures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import space_form

from jaxgeo import RESULTS, Relaxation
from jaxgeo.distributions import (
    fit_land,
    land_log_density,
    locally_adaptive_normal,
    sample_land,
)

LIGHT = Relaxation(12, n_starts=1)  # quick to compile; straight geodesics it has exactly
SKEW = np.array([[1.4, 0.5], [0.0, 0.6]])
FLAT, SPHERE, HYPERBOLIC = space_form(0.0, SKEW), space_form(1.0), space_form(-1.0)
BROKEN = space_form(0.0, sign=-1.0)
SIGMA = np.array([[0.20, 0.06], [0.06, 0.09]])
ORIGIN = np.zeros(2)


def law(metric, mean, covariance):
    return locally_adaptive_normal(metric, mean, covariance, throw=False)


def radial_normaliser(spread, covariance, last):
    """∫∫ exp(−½ r² ω·Σ⁻¹ω) spread(r) dr dω about the origin of a space form."""
    x, w = np.polynomial.legendre.leggauss(200)
    r, weights = last * (x + 1) / 2, last * w / 2
    turns = 2 * np.pi * np.arange(400) / 400
    omega = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    rate = np.einsum("ai,ij,aj->a", omega, np.linalg.inv(covariance), omega)
    integrand = np.exp(-(r[None] ** 2) * rate[:, None] / 2) * (spread(r) * weights)[None]
    return integrand.sum() * 2 * np.pi / 400


def test_normalisers_are_those_of_plain_quadrature():
    flat = law(FLAT, np.array([1.0, 2.0]), SIGMA)
    exact = np.log(2 * np.pi) + np.linalg.slogdet(SIGMA)[1] / 2 + np.linalg.slogdet(SKEW)[1]
    np.testing.assert_allclose(flat.log_normaliser, exact, atol=1e-9)
    cases = [(SPHERE, np.sin, np.pi), (HYPERBOLIC, np.sinh, 8.0)]
    for metric, spread, last in cases:
        found = law(metric, ORIGIN, SIGMA)
        assert found.result == RESULTS.successful
        exact = radial_normaliser(spread, SIGMA, last)
        np.testing.assert_allclose(np.exp(found.log_normaliser), exact, rtol=1e-6)
        # without D exp it would be off by much more
        assert abs(radial_normaliser(lambda r: r, SIGMA, last) / exact - 1) > 0.01
    wide = law(SPHERE, ORIGIN, 0.64 * np.eye(2))  # past the conjugate points, at 3.9 deviations
    exact = radial_normaliser(np.sin, 0.64 * np.eye(2), np.pi)
    np.testing.assert_allclose(np.exp(wide.log_normaliser), exact, rtol=1e-4)


def test_the_normaliser_knows_no_chart():
    # an isotropic law is the same at every point of a space form
    at_origin = law(HYPERBOLIC, ORIGIN, 0.16 * np.eye(2))
    mean = jnp.array([0.7, -0.4])
    moved = law(HYPERBOLIC, mean, 0.16 * jnp.linalg.inv(HYPERBOLIC(mean)))
    np.testing.assert_allclose(moved.log_normaliser, at_origin.log_normaliser, atol=1e-7)


def test_three_dimensions():
    def sphere(z):
        return jnp.eye(3) / (1 + jnp.dot(z, z) / 4) ** 2

    found = locally_adaptive_normal(sphere, np.zeros(3), 0.64 * np.eye(3), n_angles=8)
    r = np.linspace(0, np.pi, 4001)
    exact = 4 * np.pi * np.trapezoid(np.exp(-(r**2) / 1.28) * np.sin(r) ** 2, r)
    np.testing.assert_allclose(np.exp(found.log_normaliser), exact, rtol=1e-4)


def mean_of_power(metric, variance, power):
    """Of the distance from the mean, under the isotropic law."""
    r = np.linspace(0, np.pi if metric is SPHERE else 8, 8001)
    density = np.exp(-(r**2) / (2 * variance)) * (np.sin if metric is SPHERE else np.sinh)(r)
    return np.trapezoid(r**power * density, r) / np.trapezoid(density, r)


@pytest.mark.parametrize("metric", [SPHERE, HYPERBOLIC], ids=["sphere", "hyperbolic"])
def test_samples_follow_the_density(metric):
    variance = 0.5
    points = sample_land(metric, law(metric, ORIGIN, variance * np.eye(2)), 600, key=KEY)
    r = np.asarray(jax.vmap(metric.distance, (None, 0))(jnp.zeros(2), points))
    for power in (1, 2):
        exact = mean_of_power(metric, variance, power)
        error = np.std(r**power) / np.sqrt(r.size)
        assert abs(np.mean(r**power) - exact) < 4 * error
    # and the curvature shows
    assert abs(exact - 2 * variance) > 3 * error


KEY = jax.random.key(1)
POINTS = np.random.default_rng(0).normal(size=(12, 2)) @ np.array([[0.5, 0.2], [0.0, 0.3]])


def fit(metric, points, start):
    how = {"n_radii": 16, "n_angles": 16, "rtol": 1e-3, "max_iterations": 25}
    return fit_land(metric, points, start=start, solver=LIGHT, throw=False, **how)


def test_a_flat_fit_is_the_sample_mean_and_covariance():
    found = fit(FLAT, POINTS, POINTS.mean(0) + np.array([0.2, -0.1]))
    assert found.result == RESULTS.successful
    assert found.residual < 1e-5
    covariance = np.cov(POINTS.T, bias=True)
    np.testing.assert_allclose(found.land.mean, POINTS.mean(0), atol=1e-4)
    np.testing.assert_allclose(found.land.covariance, covariance, atol=1e-4)
    # |v|² averages to d, whatever the points
    log_c = np.log(2 * np.pi) + np.linalg.slogdet(SKEW @ covariance @ SKEW.T)[1] / 2
    np.testing.assert_allclose(found.log_likelihood, -len(POINTS) * (1 + log_c), atol=1e-4)


@pytest.mark.parametrize("metric", [SPHERE, HYPERBOLIC], ids=["sphere", "hyperbolic"])
def test_a_curved_fit_has_the_moments_of_the_points(metric):
    # an exponential family in Σ⁻¹: at the maximum, the law's mean of v vᵀ is that of the points
    ring = np.stack([np.cos(np.pi * np.arange(12) / 6), np.sin(np.pi * np.arange(12) / 6)], 1)
    found = fit(metric, 0.8 * ring, np.array([0.1, 0.2]))
    assert found.result == RESULTS.successful
    np.testing.assert_allclose(found.land.mean, np.zeros(2), atol=1e-3)
    variance = float(found.land.covariance[0, 0])
    np.testing.assert_allclose(found.land.covariance, variance * np.eye(2), atol=1e-3)
    square = float(metric.distance(jnp.zeros(2), jnp.asarray(0.8 * ring[0]))) ** 2
    mean = mean_of_power(metric, variance, 2)
    np.testing.assert_allclose(mean, square, rtol=0.01)
    # of the flat law it would be
    assert abs(2 * variance / square - 1) > 0.03


def test_failures_are_named():
    assert law(BROKEN, ORIGIN, SIGMA).result == RESULTS.metric_not_positive_definite
    assert law(FLAT, ORIGIN, -SIGMA).result == RESULTS.metric_not_positive_definite
    assert fit(BROKEN, POINTS, ORIGIN).result == RESULTS.metric_not_positive_definite
    # a point at infinity, to which no logarithm leads
    beyond = np.concatenate([POINTS[:-1], [[2.0, 0.0]]])
    assert fit(HYPERBOLIC, beyond, ORIGIN).result == RESULTS.nonfinite
    land = law(HYPERBOLIC, ORIGIN, SIGMA)
    how = {"solver": LIGHT, "throw": False}
    assert jnp.isnan(land_log_density(HYPERBOLIC, land, beyond[-1], **how))
    inside = land_log_density(HYPERBOLIC, land, np.array([1.0, 0.0]), **how)
    r = HYPERBOLIC.distance(jnp.zeros(2), jnp.array([1.0, 0.0]))
    exact = -(r**2) * np.linalg.inv(SIGMA)[0, 0] / 2 - land.log_normaliser
    np.testing.assert_allclose(inside, exact, rtol=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: law(FLAT, ORIGIN, np.eye(3)), r"`covariance` must have shape \(2, 2\)"),
        (lambda: law(FLAT, ORIGIN, np.triu(np.ones((2, 2)))), "must be symmetric"),
        (lambda: law(FLAT, np.zeros(4), np.eye(4)), "1 to 3 coordinates, got 4"),
        (lambda: fit_land(FLAT, np.eye(2)), r"more than their dimension, got shape \(2, 2\)"),
        (lambda: locally_adaptive_normal(FLAT, ORIGIN, SIGMA, n_radii=3), "at least 4, got 3"),
        (lambda: sample_land(FLAT, law(FLAT, ORIGIN, SIGMA), 0, key=KEY), "least 1, got 0"),
    ],
)
def test_bad_arguments_are_quoted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
