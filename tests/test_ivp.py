"""Initial-value geodesics: closed forms, conserved speed, derivatives, failures, traces."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES, AnyOf, TraceCounter, metric_of, name, wavy

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import exp, geodesic_ivp

RTOL = 1e-10  # the default in float64
DRIFT = 1e-7  # promised: 1e-6
START, VELOCITY = jnp.array([0.2, 1.0]), jnp.array([0.7, -0.5])


@pytest.mark.parametrize(("problem", "pair"), CASES, ids=name)
def test_speed_is_conserved_and_distance_is_time_times_speed(problem, pair):
    a, v = jnp.asarray(pair[0]), 0.3 * jnp.asarray(pair[1] - pair[0])
    solution = geodesic_ivp(metric_of(problem), a, v)
    assert solution.stats["speed_drift"] < DRIFT
    expected = jax.jit(jax.vmap(problem.distance, in_axes=(None, 0)))(a, solution.points[1:])
    speed = jnp.sqrt(v @ problem.metric(a) @ v)
    np.testing.assert_allclose(speed * solution.ts[1:], expected, rtol=100 * RTOL)
    np.testing.assert_allclose(solution.stats["length"], expected[-1], rtol=100 * RTOL)
    np.testing.assert_allclose(solution.stats["energy"], expected[-1] ** 2 / 2, rtol=100 * RTOL)
    if problem.exp is not None:
        np.testing.assert_allclose(solution.points[-1], problem.exp(a, v), atol=100 * RTOL)


def test_times_are_the_users_and_evaluate_fills_in():
    ts = np.linspace(0.1, 1.7, 65)
    metric = problems.half_plane_metric
    up = geodesic_ivp(metric, START, jnp.array([0.0, 1.0]), ts=ts)
    np.testing.assert_allclose(up.points[:, 1], np.exp(ts), rtol=100 * RTOL)
    np.testing.assert_allclose(up.velocities[:, 1], np.exp(ts), rtol=100 * RTOL)
    dense = geodesic_ivp(metric, START, jnp.array([0.0, 1.0]))
    t = jnp.array([0.0, 0.123, 0.5, 0.999, 1.0])
    points = jax.vmap(dense.evaluate)(t)
    np.testing.assert_allclose(points[:, 1], np.exp(t), rtol=1e-8)
    assert jnp.all(jnp.isnan(dense.evaluate(1.5)))


def test_error_follows_rtol():
    # one time only, so that steps are as long as the tolerance allows
    def error(rtol):
        up = geodesic_ivp(
            problems.half_plane_metric, START, jnp.array([0.0, 3.0]), ts=np.ones(1), rtol=rtol
        )
        return jnp.abs(up.points[-1, 1] / jnp.exp(3.0) - 1)

    coarse, fine = error(1e-3), error(1e-9)
    assert 1e-9 < coarse < 1e-2
    assert fine < min(1e-8, coarse / 100)


def test_a_thousand_geodesics_in_one_call_equal_a_loop():
    velocities = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 2)))
    metric = problems.half_plane_metric

    @jax.jit
    @jax.vmap
    def ends(v):
        solution = geodesic_ivp(metric, START, v)
        return solution.points[-1], solution.stats["speed_drift"]

    points, drift = ends(velocities)
    assert jnp.max(drift) < DRIFT
    expected = jax.vmap(lambda p: problems.half_plane_distance(START, p))(points)
    np.testing.assert_allclose(jnp.linalg.norm(velocities, axis=1), expected, rtol=1e-7)
    one = geodesic_ivp(metric, START, velocities[7]).points[-1]
    np.testing.assert_allclose(points[7], one, rtol=1e-12)


def test_derivatives_of_exp_in_both_modes_and_in_the_metric():
    metric, h = wavy(2), 1e-5
    z, v = jnp.array([0.1, 0.3]), jnp.array([1.0, -0.4])

    def first(metric, z, v):
        return exp(metric, z, v)[0]

    slopes = jax.grad(first, argnums=(0, 1, 2))(metric, z, v)
    e = jnp.array([0.6, 0.8])
    pushed = jax.tree.map(lambda w: w + h * jnp.ones_like(w), metric)
    pulled = jax.tree.map(lambda w: w - h * jnp.ones_like(w), metric)
    differences = [
        (first(pushed, z, v) - first(pulled, z, v)) / (2 * h),
        (first(metric, z + h * e, v) - first(metric, z - h * e, v)) / (2 * h),
        (first(metric, z, v + h * e) - first(metric, z, v - h * e)) / (2 * h),
    ]
    expected = [jnp.sum(slopes[0].weights), slopes[1] @ e, slopes[2] @ e]
    np.testing.assert_allclose(differences, expected, rtol=1e-6)
    # forward mode is for whoever asks for it
    forward = jax.jvp(
        lambda v: geodesic_ivp(metric, z, v, ts=np.ones(1), adjoint=diffrax.ForwardMode()).points[
            -1, 0
        ],
        (v,),
        (e,),
    )[1]
    np.testing.assert_allclose(forward, slopes[2] @ e, rtol=1e-8)


def test_float32_stays_float32():
    z, v = START.astype(jnp.float32), VELOCITY.astype(jnp.float32)
    solution = geodesic_ivp(problems.half_plane_metric, z, v)
    arrays = (solution.ts, solution.points, solution.velocities, solution.stats["speed_drift"])
    assert all(array.dtype == jnp.float32 for array in arrays)
    assert solution.stats["speed_drift"] < 1e-5


def test_one_trace_for_new_numbers_and_new_tolerances():
    counter = TraceCounter(problems.half_plane_metric)
    geodesic_ivp(counter, START, VELOCITY)
    traced = counter.count
    geodesic_ivp(counter, 2 * START, -VELOCITY, rtol=1e-7)
    geodesic_ivp(counter, np.asarray(START), np.asarray(VELOCITY), ts=np.linspace(0, 2, 65))
    assert counter.count == traced


def test_no_velocity_stays():
    solution = geodesic_ivp(problems.half_plane_metric, START, jnp.zeros(2))
    np.testing.assert_array_equal(solution.points[-1], START)
    assert solution.stats["length"] == 0


BAD = (
    lambda z: -jnp.eye(2),
    lambda z: jnp.diag(jnp.stack([1 - z[0], jnp.ones_like(z[0])])),  # indefinite beyond z₀ = 1
    lambda z: jnp.full((2, 2), jnp.nan),
    lambda z: jnp.where(z[0] > 1, jnp.nan, jnp.eye(2)),
)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, RESULTS.metric_not_positive_definite),
        (1, RESULTS.metric_not_positive_definite),
        (2, RESULTS.nonfinite),
        (3, RESULTS.nonfinite),
    ],
)
def test_a_bad_metric_is_named(index, expected):
    metric = AnyOf(BAD, jnp.asarray(index))
    solution = geodesic_ivp(metric, START, jnp.array([3.0, 0.0]), throw=False)
    assert solution.result == expected
    assert not jnp.all(jnp.isfinite(solution.points[-1]))


def test_leaving_the_domain_and_running_out_of_steps_are_named_and_raised():
    metric, domain = problems.half_plane_metric, np.array([[-1, 1], [0.5, 2]])
    short = geodesic_ivp(metric, START, 3 * VELOCITY, max_steps=2, throw=False)
    assert short.result == RESULTS.max_steps_reached
    with pytest.raises(Exception, match="left the domain"):
        geodesic_ivp(metric, START, 3 * VELOCITY, domain=domain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z0": np.zeros((2, 2))}, r"`z0` must have shape \(d,\), got \(2, 2\)"),
        ({"z0": np.array([1, 2])}, "`z0` must hold floats, got dtype int"),
        ({"z0": np.array([np.nan, 2])}, r"`z0` must be finite, got \[nan"),
        ({"v0": np.zeros(3)}, r"`v0` must have shape \(2,\) .* got shape \(3,\)"),
        ({"v0": np.zeros(2, np.float32)}, "got shape .* dtype float32"),
        ({"ts": np.array([0.0, 2.0, 1.0])}, r"`ts` must increase .* got \[0\. 2\. 1\.\]"),
        ({"ts": np.array([-1.0, 1.0])}, "`ts` must increase"),
        ({"ts": np.ones((1, 1))}, r"`ts` must have shape \(n,\), got \(1, 1\)"),
        ({"domain": np.zeros((2, 3))}, r"`domain` must have shape \(2, 2\).* got \(2, 3\)"),
        ({"domain": np.array([[0.0, 1], [2, 1]])}, "`domain` must have lower < upper"),
        ({"domain": np.array([[1.0, 2], [0, 2]])}, "`z0` must lie in `domain`"),
        ({"metric": lambda z: jnp.eye(3)}, r"`metric` must return shape \(2, 2\)"),
        ({"metric": lambda z: jnp.eye(2, dtype=jnp.float32)}, "returned dtype float32"),
    ],
)
def test_bad_arguments_are_quoted(change, message):
    arguments = {"metric": problems.half_plane_metric, "z0": START, "v0": VELOCITY} | change
    with pytest.raises(ValueError, match=message):
        geodesic_ivp(**arguments)
