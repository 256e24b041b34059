"""Geodesics between two points: closed forms, round trips, derivatives, failures, traces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES, AnyOf, TraceCounter, metric_of, name, wavy

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import Relaxation, Shooting, distance, exp, geodesic_bvp
from jaxgeo.geometry import energy, length
from jaxgeo.metrics import HessianMetric, PullbackMetric, ReparametrizedMetric

CLOSED_FORM = 1e-9  # promised: 1e-4 relative
ROUND_TRIP = 1e-8  # promised: 1e-5
DRIFT = 1e-9  # promised: 1e-6
A, B = jnp.array([0.1, 0.3]), jnp.array([0.9, -0.5])


@pytest.mark.parametrize(("problem", "pair"), CASES, ids=name)
def test_distance_round_trip_and_drift(problem, pair):
    a, b, metric = *jnp.asarray(pair), metric_of(problem)
    solution = geodesic_bvp(metric, a, b)
    assert solution.result == RESULTS.successful
    expected = problem.distance(a, b)
    np.testing.assert_allclose(solution.stats["length"], expected, rtol=CLOSED_FORM)
    np.testing.assert_allclose(solution.stats["energy"], expected**2 / 2, rtol=CLOSED_FORM)
    assert solution.stats["speed_drift"] < DRIFT
    np.testing.assert_array_equal(solution.points[0], a)
    np.testing.assert_array_equal(solution.points[-1], b)
    # the way back by another integrator, one that adapts its steps
    np.testing.assert_allclose(exp(metric, a, solution.velocities[0]), b, atol=ROUND_TRIP)


@pytest.mark.parametrize(("problem", "pair"), CASES[3:8], ids=name)
def test_there_and_back_are_the_same_curve(problem, pair):
    a, b, metric = *jnp.asarray(pair), metric_of(problem)
    there, back = geodesic_bvp(metric, a, b), geodesic_bvp(metric, b, a)
    np.testing.assert_allclose(there.points, back.points[::-1], atol=ROUND_TRIP)


def test_relaxation_is_of_second_order():
    a, b = jnp.array([-1.0, 0.5]), jnp.array([1.5, 0.4])
    exact = problems.half_plane_distance(a, b)
    errors = []
    for n in (32, 64):
        solution = geodesic_bvp(
            problems.half_plane_metric, a, b, solver=Relaxation(n, rtol=1e-6), throw=False
        )
        assert solution.result == RESULTS.successful
        errors.append(length(problems.half_plane_metric, solution.points) - exact)
    orders = np.log2(np.abs(np.array(errors[:-1]) / np.array(errors[1:])))
    np.testing.assert_allclose(orders, [2], atol=0.15)


def test_a_geodesic_is_shorter_than_its_neighbours():
    metric = wavy(2)
    solution = geodesic_bvp(metric, A, B)
    bump = 0.05 * jnp.sin(jnp.pi * solution.ts)[:, None]
    least = energy(metric, solution.points)
    for direction in jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]):
        assert energy(metric, solution.points + bump * direction[None, :]) > least


def test_isometric_coordinates_give_the_same_distance():
    # the same categorical distribution: by its potential, on the sphere, in other coordinates
    def roots(theta):
        return 2 * jnp.sqrt(problems.categorical_probabilities(theta))

    def cubic(w):
        return w + w**3 / 10

    a, b = jnp.array([0.3, -0.4]), jnp.array([1.0, 0.6])
    expected = problems.categorical_distance(cubic(a), cubic(b))
    hessian = HessianMetric(problems.log_sum_exp)
    for metric, z0, z1 in [
        (PullbackMetric(roots), cubic(a), cubic(b)),
        (ReparametrizedMetric(hessian, cubic), a, b),
    ]:
        np.testing.assert_allclose(distance(metric, z0, z1), expected, rtol=CLOSED_FORM)


def measure(metric, z0, z1):
    """The distance, and one component of the logarithm."""
    solution = geodesic_bvp(metric, z0, z1)
    return jnp.stack([solution.stats["length"], solution.velocities[0, 0]])


slopes = jax.jit(jax.jacrev(measure, argnums=(0, 1, 2)))


def test_derivatives_of_log_and_distance_against_differences():
    metric, h, e = wavy(2), 1e-5, jnp.array([0.6, 0.8])
    d_metric, d_z0, d_z1 = slopes(metric, A, B)
    pushed = jax.tree.map(lambda w: w + h, metric)
    pulled = jax.tree.map(lambda w: w - h, metric)
    differences = [
        (measure(pushed, A, B) - measure(pulled, A, B)) / (2 * h),
        (measure(metric, A + h * e, B) - measure(metric, A - h * e, B)) / (2 * h),
        (measure(metric, A, B + h * e) - measure(metric, A, B - h * e)) / (2 * h),
    ]
    expected = [jnp.sum(d_metric.weights, axis=(1, 2, 3)), d_z0 @ e, d_z1 @ e]
    np.testing.assert_allclose(differences, expected, rtol=1e-6)
    # ∂d/∂z1 = g γ'(1)/|γ'(1)|
    solution = geodesic_bvp(metric, A, B)
    end = metric(B) @ solution.velocities[-1] / solution.stats["length"]
    np.testing.assert_allclose(d_z1[0], end, rtol=1e-8)


def test_coincident_points():
    metric = wavy(2)
    np.testing.assert_allclose(measure(metric, A, A), np.zeros(2), atol=1e-15)
    _, d_z0, d_z1 = slopes(metric, A, A)
    np.testing.assert_allclose(d_z1, [[0, 0], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(d_z0, [[0, 0], [-1, 0]], atol=1e-12)


def test_second_derivative_of_the_squared_distance_on_the_sphere():
    # along the geodesic the Hessian of d²/2 has the eigenvalue 1, across it d cot d
    a, b = jnp.array([np.pi / 2, 0.0]), jnp.array([np.pi / 2, 1.0])
    hessian = jax.hessian(lambda z: distance(problems.sphere_metric, a, z) ** 2 / 2)(b)
    np.testing.assert_allclose(hessian, np.diag([1 / np.tan(1), 1]), atol=1e-7)


def test_derivatives_in_what_a_closure_holds():
    def stretched(scale):
        def metric(z):
            return scale * problems.sphere_metric(z)

        return distance(metric, A + 1, B + 1, solver=Relaxation(16))

    value, slope = jax.value_and_grad(stretched)(4.0)
    np.testing.assert_allclose(slope, value / 8, rtol=1e-9)


def test_vmap_is_a_loop_and_float32_stays_float32():
    ends = jnp.array([[1.8, 1.2], [1.1, 0.4], [0.7, -1.0]], jnp.float32)
    start = jnp.array([1.0, 0.0], jnp.float32)
    metric = problems.sphere_metric
    batched = jax.jit(jax.vmap(lambda z: geodesic_bvp(metric, start, z)))(ends)
    assert batched.points.dtype == batched.stats["length"].dtype == jnp.float32
    expected = jax.vmap(lambda z: problems.sphere_distance(start, z))(ends)
    np.testing.assert_allclose(batched.stats["length"], expected, rtol=1e-5)
    sphere = metric_of(problems.PROBLEMS[1])
    for points, end in zip(batched.points, ends, strict=True):
        one = geodesic_bvp(sphere, np.asarray(start, float), np.asarray(end, float))
        np.testing.assert_allclose(points, one.points, atol=1e-5)


def test_one_trace_for_new_numbers_parameters_and_settings():
    counter = TraceCounter(problems.half_plane_metric)
    a, b = jnp.array([0.2, 1.0]), jnp.array([1.0, 0.5])
    geodesic_bvp(counter, a, b)
    traced = counter.count
    geodesic_bvp(counter, np.asarray(b), np.asarray(a))
    geodesic_bvp(counter, a, 2 * b, solver=Shooting(max_iterations=11, rtol=1e-7))
    assert counter.count == traced


def test_new_parameters_of_a_metric_do_not_retrace():
    first, second = wavy(2, seed=0), wavy(2, seed=3)
    geodesic_bvp(first, A, B)
    with jax.no_tracing():
        geodesic_bvp(second, A, B)


BAD = (
    lambda z: jnp.full((2, 2), jnp.nan),
    lambda z: jnp.where(z[0] > 0.5, jnp.nan, jnp.eye(2)),
    lambda z: -jnp.eye(2),
    lambda z: jnp.diag(jnp.stack([z[1], jnp.ones_like(z[1])])),
)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, RESULTS.nonfinite),
        (1, RESULTS.nonfinite),
        (2, RESULTS.metric_not_positive_definite),
        (3, RESULTS.metric_not_positive_definite),
    ],
)
@pytest.mark.parametrize("solver", [Relaxation(16), Shooting(Relaxation(16))])
def test_a_bad_metric_is_named_and_no_straight_line_a_success(index, expected, solver):
    metric = AnyOf(BAD, jnp.asarray(index))
    solution = geodesic_bvp(metric, A, B, solver=solver, throw=False)
    assert solution.result == expected


def test_other_failures_are_named_and_raised():
    a, b = jnp.array([-1.0, 0.5]), jnp.array([1.0, 0.5])
    metric = problems.half_plane_metric
    box = np.array([[-2, 2], [0.001, 0.8]])
    outside = geodesic_bvp(metric, a, b, solver=Relaxation(16), domain=box, throw=False)
    assert outside.result == RESULTS.left_domain
    hasty = Relaxation(16, max_iterations=2)
    unfinished = geodesic_bvp(metric, a, b, solver=hasty, domain=100 * box, throw=False)
    assert unfinished.result == RESULTS.not_converged
    with pytest.raises(Exception, match="used up its iterations"):
        geodesic_bvp(metric, a, b, solver=hasty)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z0": np.zeros((2, 2))}, r"`z0` must have shape \(d,\), got \(2, 2\)"),
        ({"z1": np.zeros(3)}, r"`z1` must have shape \(2,\).* got shape \(3,\)"),
        ({"z1": np.array([np.inf, 1.0])}, r"`z1` must be finite, got \[inf"),
        ({"z1": np.array([1, 2])}, "`z1` must hold floats, got dtype int"),
        ({"domain": np.array([[0.0, 0.5], [-1, 1]])}, "`z1` must lie in `domain`"),
        ({"solver": Relaxation(1)}, "`n_segments` must be at least 2, got 1"),
        ({"metric": lambda z: jnp.eye(3)}, r"`metric` must return shape \(2, 2\)"),
    ],
)
def test_bad_arguments_are_quoted(change, message):
    arguments = {"metric": problems.sphere_metric, "z0": A, "z1": B} | change
    with pytest.raises(ValueError, match=message):
        geodesic_bvp(**arguments)
