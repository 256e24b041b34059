"""The fixed point of a Gaussian process: closed forms, the other solvers, failures, traces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import PLANAR, AnyOf, TraceCounter, name

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import FixedPoint, Relaxation, geodesic_bvp
from jaxgeo.geodesics.fixed_point import posterior

LENGTH = 1e-8  # promised
DRIFT = 1e-4
WANTED = ("sphere", "half_plane", "normal")
PROBLEMS = [p for p in PLANAR if p.name in WANTED]
METRICS = {p.name: p.metric for p in PROBLEMS} | {
    "nan": lambda z: jnp.full((2, 2), jnp.nan),
    "nan_beyond": lambda z: jnp.where(z[0] > 0.5, jnp.nan, jnp.eye(2)),
    "negative": lambda z: -jnp.eye(2),
    "indefinite": lambda z: jnp.diag(jnp.stack([z[1], jnp.ones_like(z[1])])),
}
A, B = jnp.array([0.1, 0.3]), jnp.array([0.9, -0.5])


def metric(which):
    """One compiled program for all of them."""
    return AnyOf(tuple(METRICS.values()), jnp.asarray(list(METRICS).index(which)))


def solve(which, a, b, **settings):
    solver = FixedPoint(**{"rtol": 1e-8} | settings)
    return geodesic_bvp(metric(which), np.array(a), np.array(b), solver=solver, throw=False)


def test_the_mean_is_that_of_the_accelerations():
    places, slopes = posterior(33, 0.2)
    t = np.linspace(0, 1, 33)
    wave = np.sin(4 * t + 1)  # against its own straight line
    chord = wave[-1] - wave[0]
    np.testing.assert_allclose(wave[0] + chord * t - 16 * places @ wave, wave, atol=1e-7)
    np.testing.assert_allclose(chord - 16 * slopes @ wave, 4 * np.cos(4 * t + 1), atol=1e-5)
    for n in (3, 9, 65, 129):  # whatever the mesh, noise in the accelerations is not amplified
        assert np.sum(np.abs(posterior(n, 0.2)[0]), axis=1).max() < 0.2


@pytest.mark.parametrize("problem", PROBLEMS, ids=name)
def test_lengths_of_closed_form(problem):
    for a, b in jnp.asarray(problem.pairs[:2]):
        solution = solve(problem.name, a, b)
        assert solution.result == RESULTS.successful
        np.testing.assert_allclose(solution.stats["length"], problem.distance(a, b), rtol=LENGTH)
        assert solution.stats["speed_drift"] < DRIFT
        np.testing.assert_array_equal(solution.points[jnp.array([0, -1])], [a, b])


def hill(z):
    """Symmetric, and high between the ends: the straight line is no minimum."""
    return jnp.eye(2) * jnp.exp(jnp.exp(-jnp.sum(z**2) / 0.3))


def test_a_start_leads_to_the_geodesic_near_it():
    a, b = jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0])
    t = jnp.linspace(0, jnp.pi, 20)
    arc = jnp.stack([-jnp.cos(t), jnp.sin(t) / 2], axis=1)
    mirror = jnp.array([1.0, -1.0])
    over, under = (
        geodesic_bvp(hill, a, b, solver=FixedPoint(), start=curve)
        for curve in (arc, arc * mirror[None, :])
    )
    np.testing.assert_allclose(over.points * mirror[None, :], under.points, atol=1e-7)
    across = geodesic_bvp(hill, a, b, solver=FixedPoint(), start=arc * jnp.array([[1.0, 0.0]]))
    np.testing.assert_allclose(across.points[:, 1], 0, atol=1e-12)
    assert across.stats["length"] > 1.005 * over.stats["length"]
    other = geodesic_bvp(hill, a, b, solver=Relaxation(64, n_starts=1), start=arc)
    points = jax.vmap(other.evaluate)(over.ts)
    np.testing.assert_allclose(over.points, points, atol=2e-3)  # of order 2 in 1/64


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("nan", RESULTS.nonfinite),
        ("nan_beyond", RESULTS.nonfinite),
        ("negative", RESULTS.metric_not_positive_definite),
        ("indefinite", RESULTS.metric_not_positive_definite),
    ],
)
def test_a_bad_metric_is_named(which, expected):
    assert solve(which, A, B).result == expected


def test_other_failures_are_named():
    diverged = solve("normal", [0.0, 0.2], [0.5, 3.0])  # standard deviations 0.2 and 3
    assert diverged.result == RESULTS.not_converged
    assert diverged.stats["iterations"] < 100
    hasty = solve("half_plane", [-1, 0.5], [1, 0.5], max_iterations=3)
    assert hasty.result == RESULTS.not_converged
    assert hasty.stats["iterations"] == 3
    loose = solve("half_plane", [-1, 0.5], [1, 0.5], rtol=0.3)
    assert loose.result == RESULTS.not_resolved
    same = solve("sphere", A + 1, A + 1)
    assert same.result == RESULTS.successful
    np.testing.assert_array_equal(same.stats["length"], 0)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (FixedPoint(n_nodes=2), "`n_nodes` must be at least 3, got 2"),
        (FixedPoint(length_scale=-1.0), "`length_scale` must be positive, got -1.0"),
    ],
)
def test_bad_settings_are_quoted(solver, message):
    with pytest.raises(ValueError, match=message):
        geodesic_bvp(problems.sphere_metric, A, B, solver=solver)


def test_derivatives_batches_float32_and_one_trace():
    counter = TraceCounter(problems.sphere_metric)
    start = jnp.array([1.0, 0.0], jnp.float32)
    ends = jnp.array([[1.8, 1.2], [1.1, 0.4]], jnp.float32)

    def distance(rtol, end):
        solver = FixedPoint(17, 0.25, rtol=rtol)
        return geodesic_bvp(counter, start, end, solver=solver).stats["length"]

    slopes = jax.jit(jax.vmap(jax.value_and_grad(distance, argnums=1), in_axes=(None, 0)))
    values, gradients = slopes(1e-3, ends)
    assert values.dtype == gradients.dtype == jnp.float32
    exact = functools.partial(problems.sphere_distance, start)
    np.testing.assert_allclose(values, jax.vmap(exact)(ends), rtol=1e-5)
    np.testing.assert_allclose(gradients, jax.vmap(jax.grad(exact))(ends), atol=1e-4)
    traced = counter.count
    slopes(1e-4, ends[::-1])
    assert counter.count == traced
