"""Brownian motion: exact moments, order of its bias, heat kernels, failures."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import space_form

from jaxgeo import RESULTS, Relaxation, Shooting, problems
from jaxgeo.distributions import brownian_log_density, brownian_motion

LIGHT = Shooting(Relaxation(8, n_starts=1))
PATHS, TIME, STEPS = 20_000, 0.5, 10
ERRORS = 4.0  # standard errors of a Monte Carlo mean
BOX = np.array([[-0.5, 0.5], [-0.5, 0.5]])
SKEW = np.array([[1.4, 0.5], [0.0, 0.6]])
FLAT, SPHERE, HYPERBOLIC = space_form(0.0, SKEW), space_form(1.0), space_form(-1.0)
BROKEN = space_form(0.0, sign=-1.0)


def polar_metric(z):
    """The plane in polar coordinates."""
    return jnp.diag(jnp.stack([jnp.ones_like(z[0]), z[0] ** 2]))


def paths(metric, z0, *, seed=0, domain=None, n=PATHS):
    keys = jax.random.split(jax.random.key(seed), n)

    def walk(key):
        how = {"n_steps": STEPS, "key": key, "domain": domain}
        return brownian_motion(metric, z0, time=TIME, throw=False, **how)

    return eqx.filter_jit(jax.vmap(walk))(keys)


def mean_and_error(values):
    values = np.asarray(values)
    return values.mean(), values.std() / np.sqrt(values.size)


def test_flat_space_is_exact_at_any_step():
    found = paths(FLAT, jnp.array([1.0, -1.0]))
    assert found.points.shape == (PATHS, STEPS + 1, 2)
    np.testing.assert_allclose(found.ts[0], np.linspace(0, TIME, STEPS + 1))
    np.testing.assert_array_equal(found.points[:, 0], np.broadcast_to([1.0, -1.0], (PATHS, 2)))
    steps = np.diff(np.asarray(found.points), axis=1).reshape(-1, 2)
    covariance = steps.T @ steps / len(steps)
    exact = np.linalg.inv(SKEW.T @ SKEW) * TIME / STEPS
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)) + exact**2) / np.sqrt(len(steps))
    assert np.all(np.abs(covariance - exact) < ERRORS * scale)
    assert np.all(np.abs(steps.mean(0)) < ERRORS * np.sqrt(np.diag(exact) / len(steps)))


@pytest.mark.parametrize("metric", [SPHERE, HYPERBOLIC], ids=["sphere", "hyperbolic"])
def test_eigenfunctions_of_the_laplacian_grow_as_they_should(metric):
    z0 = jnp.array([0.3, -0.1])
    found = paths(metric, z0)
    assert jnp.all(found.result == RESULTS.successful)
    r = jax.vmap(metric.distance, (None, 0))(z0, found.points[:, -1])
    # the cosine and its hyperbolic namesake are eigenfunctions of ½Δ, to −1 and 1
    value, error = mean_and_error(jnp.cos(r) if metric is SPHERE else jnp.cosh(r))
    exact = np.exp(-float(metric.curvature) * TIME)
    # of a path: t h/12 div(Ric ∇f), with Ric = κg and Δf = −2κf
    bias = -(TIME**2) / STEPS / 6 * exact
    assert abs(value - exact - bias) < ERRORS * error
    assert error < 0.005 * exact


def test_the_drift_is_not_left_out():
    # the radius is Bessel's process, with drift 1/2r: E[r²] = r0² + 2t
    found = paths(polar_metric, jnp.array([2.0, 0.0]), seed=2)
    value, error = mean_and_error(found.points[:, -1, 0] ** 2)
    assert abs(value - 4 - 2 * TIME) < ERRORS * error
    assert ERRORS * error < TIME / 2


def test_one_key_is_one_path_and_differentiable():
    key, z0 = jax.random.key(3), jnp.array([0.3, 0.4])

    def end(z0, time):
        return brownian_motion(SPHERE, z0, time=time, n_steps=4, key=key).points[-1]

    np.testing.assert_array_equal(end(z0, 0.2), end(z0, 0.2))
    direction, step = jnp.array([0.5, -1.0]), 1e-6
    slope = jax.jvp(end, (z0, jnp.asarray(0.2)), (direction, jnp.asarray(1.0)))[1]
    ahead, behind = (end(z0 + s * direction, 0.2 + s) for s in (step, -step))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)
    small = jnp.array([0.3, 0.4], jnp.float32)
    path = brownian_motion(problems.euclidean_metric, small, time=1.0, n_steps=2, key=key)
    assert path.points.dtype == path.ts.dtype == jnp.float32


def test_failures_are_named():
    z0 = jnp.array([0.3, -0.1])
    found = paths(HYPERBOLIC, z0, domain=BOX, n=64)
    left = np.asarray(found.result == RESULTS.left_domain)
    assert 0 < left.sum() < 64
    assert np.all(left | np.asarray(found.result == RESULTS.successful))
    points = np.asarray(found.points)
    gone = ~np.isfinite(points).all(-1)
    np.testing.assert_array_equal(gone[:, -1], left)
    assert np.all(np.diff(gone.astype(int), axis=1) >= 0)
    assert np.all((points[~gone] >= BOX[:, 0]) & (points[~gone] <= BOX[:, 1]))

    def fails(metric):
        how = {"time": TIME, "n_steps": 4, "key": jax.random.key(0), "throw": False}
        return brownian_motion(metric, z0, **how).result

    assert fails(BROKEN) == RESULTS.metric_not_positive_definite
    assert fails(space_form(0.0, sign=np.nan)) == RESULTS.nonfinite
    with pytest.raises(Exception, match="positive definite"):
        brownian_motion(BROKEN, z0, time=TIME, n_steps=4, key=jax.random.key(0))


ALONG = jnp.array([0.3, -1.0])


@eqx.filter_jit
def kernel_program(metric, z0, z, time):

    def density(z):
        return brownian_log_density(metric, z0, z, time=time, solver=LIGHT, throw=False)

    return jax.jvp(density, (z,), (ALONG,))


def log_kernel(metric, z0, z, time):
    """The density, and its derivative along a direction, by one program for all tests."""
    return kernel_program(metric, z0, z, jnp.asarray(time, float))


def test_the_density_is_exact_in_flat_space_in_any_chart():
    a, b, time = jnp.array([1.0, -1.0]), jnp.array([0.2, 0.5]), 0.3
    covariance = time * np.linalg.inv(SKEW.T @ SKEW)
    exact = jax.scipy.stats.multivariate_normal.logpdf(b, a, covariance)
    log_volume = np.linalg.slogdet(SKEW)[1]
    np.testing.assert_allclose(log_kernel(FLAT, a, b, time)[0], exact - log_volume, atol=1e-9)


def sphere_kernel(angle, time):
    """Σ (2l + 1)/4π Pₗ(cos r) exp(−l(l + 1)t/2), the exact heat kernel."""
    degrees = np.arange(200)
    weights = (2 * degrees + 1) / (4 * np.pi) * np.exp(-degrees * (degrees + 1) * time / 2)
    return np.polynomial.legendre.legval(np.cos(angle), weights)


def test_the_density_is_the_heat_kernel_to_first_order_in_time():
    a, b = jnp.array([0.1, 0.2]), jnp.array([0.9, -0.1])
    r = float(SPHERE.distance(a, b))
    times = np.array([0.04, 0.08])
    off = [np.log(sphere_kernel(r, t)) - float(log_kernel(SPHERE, a, b, t)[0]) for t in times]
    # the next term is t times 1/8 (1 + 1/r² − cot r / r), 1/6 where r = 0
    coefficient = (1 + (1 / r - 1 / np.tan(r)) / r) / 8
    np.testing.assert_allclose(off, coefficient * times, rtol=0.02)
    back, forth = log_kernel(SPHERE, b, a, 0.04)[0], log_kernel(SPHERE, a, b, 0.04)[0]
    np.testing.assert_allclose(back, forth, rtol=1e-7)


def test_the_density_differentiates_and_fails_by_name():
    a, b = jnp.array([0.0, 0.7]), jnp.array([0.4, -0.3])

    def exact(b):
        r = HYPERBOLIC.distance(a, b)
        return -jnp.log(2 * jnp.pi * 0.1) - r**2 / 0.2 - jnp.log(jnp.sinh(r) / r) / 2

    value, slope = log_kernel(HYPERBOLIC, a, b, 0.1)
    np.testing.assert_allclose(value, exact(b), atol=1e-7)
    np.testing.assert_allclose(slope, jax.grad(exact)(b) @ ALONG, atol=1e-6)
    assert jnp.isnan(log_kernel(BROKEN, a, b, 0.1)[0])


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: brownian_motion(FLAT, z, time=-1.0, n_steps=3, key=KEY), "positive and fin"),
        (lambda z: brownian_motion(FLAT, z, time=1.0, n_steps=0, key=KEY), "least 1, got 0"),
        (lambda z: brownian_motion(FLAT, z, time=np.ones(2), n_steps=3, key=KEY), "one number"),
        (
            lambda z: brownian_motion(FLAT, z, time=1.0, n_steps=3, key=KEY, domain=BOX + 1),
            "`z0` must lie in `domain`",
        ),
        (lambda z: brownian_log_density(FLAT, z, z[:1], time=1.0), r"`z` must have shape \(2,"),
    ],
)
def test_bad_arguments_are_quoted(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros(2))
