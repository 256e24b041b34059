"""Phase boundaries against metrics and fields whose peaks and ridges are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter

from jaxgeo._results import RESULTS
from jaxgeo.phases import critical_point, ridges
from jaxgeo.systems import ising

SQRT_EPS = 1e-7
"""A maximum is known to about √eps of the line, for closer its values only round."""
START, END = jnp.array([1.0, 0.0]), jnp.array([4.0, 1.0])


class Lorentzian(eqx.Module):
    """Information that peaks where z[0] is `center`, as a specific heat does."""

    center: jax.Array

    def __call__(self, z):
        return jnp.diag(jnp.stack([1 / ((z[0] - self.center) ** 2 + 0.01), jnp.ones_like(z[0])]))


def peak(center, **options):
    return critical_point(Lorentzian(jnp.asarray(center)), START, END, **options)


@pytest.mark.parametrize("direction", [None, jnp.array([1.0, 0.0]), lambda z: jnp.array([1.0, 0])])
def test_peak_on_a_line(direction):
    found = peak(2.2, direction=direction)
    np.testing.assert_allclose(found.point, [2.2, 0.4], atol=4 * SQRT_EPS)
    np.testing.assert_allclose(found.parameter, 0.4, atol=SQRT_EPS)
    np.testing.assert_allclose(found.value, np.log(100) / 2 if direction is None else 100)
    assert found.result == RESULTS.successful


def test_direction_may_depend_on_the_point():
    found = peak(2.2, direction=lambda z: jnp.stack([z[0], 0 * z[0]]))
    # d/dT of T²/((T − c)² + w²) = 0
    np.testing.assert_allclose(found.point[0], (2.2**2 + 0.01) / 2.2, atol=4 * SQRT_EPS)


def test_critical_temperature_of_a_small_ising_lattice():
    psi = ising.brute_force_log_partition

    def metric(t):
        eta = ising.natural_coordinates(t)
        jacobian = jax.jacfwd(ising.natural_coordinates)(t)
        return jacobian.T @ jax.hessian(lambda e: psi(e, (3, 3)))(eta) @ jacobian

    found = critical_point(
        metric,
        jnp.array([1.0, 0.0]),
        jnp.array([5.0, 0.0]),
        direction=lambda t: jnp.stack([t[0], 0 * t[0]]),
    )
    steps = jnp.array([[-1e-3, 0], [0, 0], [1e-3, 0]])
    beside = jax.jit(jax.vmap(lambda step: metric(found.point + step)[0, 0]))(steps)
    heats = (found.point[0] + steps[:, 0]) ** 2 * beside
    assert heats[1] > max(heats[0], heats[2])
    np.testing.assert_allclose(found.value, heats[1], rtol=1e-12)


def test_derivatives_jit_vmap_and_traces():
    def place(center):
        return peak(center, throw=False).point

    centers = jnp.array([1.5, 3.0])
    for jacobian in (jax.jacfwd, jax.jacrev):
        slopes = jax.jit(jax.vmap(jacobian(place)))(centers)
        np.testing.assert_allclose(slopes, [[1, 1 / 3]] * 2, atol=1e-5)
    places = jax.jit(jax.vmap(place))(centers)
    np.testing.assert_allclose(places[:, 0], centers, atol=4 * SQRT_EPS)

    counter = TraceCounter(Lorentzian(jnp.array(2.0)))
    critical_point(counter, START, END)
    traced = counter.count
    critical_point(counter, START, END + 1)
    assert counter.count == traced


def test_float32_stays():
    small = [x.astype(jnp.float32) for x in (jnp.array(2.2), START, END)]
    found = critical_point(Lorentzian(small[0]), *small[1:])
    assert found.point.dtype == found.value.dtype == jnp.float32
    np.testing.assert_allclose(found.point[0], 2.2, atol=5e-3)


@pytest.mark.parametrize(
    ("metric", "direction", "result"),
    [
        (Lorentzian(jnp.array(7.0)), None, RESULTS.left_domain),
        (lambda z: jnp.eye(2), None, RESULTS.left_domain),
        (lambda z: -jnp.eye(2), None, RESULTS.metric_not_positive_definite),
        (lambda z: jnp.eye(2) / (z[0] - 1), END, RESULTS.nonfinite),
    ],
    ids=["end", "flat", "negative", "infinite"],
)
def test_failures_are_never_a_point(metric, direction, result):
    found = critical_point(metric, START, END, direction=direction, throw=False)
    assert found.result == result
    assert np.isnan(found.point).all()
    assert np.isnan(found.parameter)
    assert np.isnan(found.value)
    with pytest.raises(eqx.EquinoxRuntimeError):
        critical_point(metric, START, END, direction=direction)


def test_bad_lines():
    with pytest.raises(ValueError, match="must differ"):
        critical_point(Lorentzian(jnp.array(2.0)), START, START)
    with pytest.raises(ValueError, match="at least 4, got 3"):
        peak(2.0, n_scan=3)


AXES = (np.linspace(0, 2, 41), np.linspace(-1, 1, 45))


def curve(x):
    return 0.4 * np.sin(2.3 * x) - 0.1


@pytest.mark.parametrize(("logarithm", "share"), [(True, 1e-3), (False, 0.03)])
def test_curved_ridge_far_below_the_spacing(logarithm, share):
    exponent = -((AXES[1] - curve(AXES[0])[:, None]) ** 2) / 0.15**2
    [ridge] = ridges(AXES, exponent if logarithm else np.exp(exponent))
    spacing = AXES[1][1] - AXES[1][0]
    error = np.abs(ridge.points[:, 1] - curve(ridge.points[:, 0]))
    assert error.max() < share * spacing
    assert ridge.points[:, 0].min() == 0
    assert ridge.points[:, 0].max() == 2
    steps = np.linalg.norm(np.diff(ridge.points, axis=0), axis=1)
    assert steps.max() < 2 * spacing  # in order along the ridge
    np.testing.assert_allclose(ridge.heights, 0 if logarithm else 1, atol=1e-3)


def test_ridge_on_a_grid_line_and_its_end():
    x, y = np.linspace(1, 5, 41), np.linspace(-2, 2, 41)
    strength = np.maximum(3 - x, 0) ** 3
    [ridge] = ridges((x, y), -strength[:, None] * y**2 - 0.1 * x[:, None])
    assert np.abs(ridge.points[:, 1]).max() < 1e-9
    np.testing.assert_allclose(ridge.points[:, 0].min(), 1, atol=1e-12)
    # at x the field falls by strength(x)·0.2² within a twentieth of the span
    np.testing.assert_allclose(ridge.points[:, 0].max(), 3 - 2.5 ** (1 / 3), atol=0.1)
    np.testing.assert_allclose(ridge.strengths[np.argmin(ridge.points[:, 0])], 8 * 0.04, rtol=0.1)


def test_sharp_ridge_casts_no_ghosts():
    x, y = np.linspace(1, 5, 40), np.linspace(-2, 2, 41)
    field = np.where(y == 0, 5.0, -np.abs(y)) - 0 * x[:, None]
    [ridge] = ridges((x, y), field)
    assert np.abs(ridge.points[:, 1]).max() < 1e-9


def test_closed_ridge():
    x = np.linspace(-3, 3, 41)
    [ridge] = ridges((x, x), -4 * (np.hypot(x[:, None], x) - 1.7) ** 2)
    np.testing.assert_array_equal(ridge.points[0], ridge.points[-1])
    np.testing.assert_allclose(np.hypot(*ridge.points.T), 1.7, atol=1e-3)


@pytest.mark.parametrize("width", [1.0, 1.2])
def test_a_round_summit_or_a_plane_is_no_ridge(width):
    x = np.linspace(-3, 3, 41)
    exponent = -(((x[:, None] - 0.1) / width) ** 2) - (x + 0.05) ** 2
    assert ridges((x, x), 5 * np.exp(exponent), threshold=1e-3) == []
    assert ridges((x, x), x[:, None] + 2 * x, threshold=1e-3) == []
    assert ridges((x, x), np.zeros((41, 41)), threshold=1e-3) == []


def test_bad_fields():
    values = np.zeros((41, 45))
    values[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"must be finite, got nan at \(0.15, "):
        ridges(AXES, values)
    with pytest.raises(
        ValueError, match=r"must have shape \(41, 45\) like the axes, got \(45, 41"
    ):
        ridges(AXES, values.T)
    with pytest.raises(ValueError, match="six or more increasing"):
        ridges((AXES[0][::-1], AXES[1]), values)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ridges(AXES, np.zeros((41, 45)), refine=0)
