"""Geodesics as networks: closed forms, the arc, the judgement, failures by code, traces."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter, name

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import neural
from jaxgeo.geodesics.neural import NeuralGeodesic, fit_neural_geodesics
from jaxgeo.geometry import length

RTOL = 0.02  # the default: greatest correction of a geodesic
LENGTH = RTOL**2 / 2  # promised of the length, then
ARC = 6.102295  # by `geodesic_bvp`; and by a polyline of 512 and 1,024 segments laid on the arc
ARC_LINE = 10.450  # the straight line across
A, B = jnp.array([0.1, 0.3]), jnp.array([0.9, -0.5])
CENTROIDS = np.stack([f(np.linspace(0, np.pi, 16)) for f in (np.cos, np.sin)], axis=1)


def arc_metric(z):
    """The inverse of the mean of kernels of width 0.4 on a half circle, plus 0.01."""
    squares = jnp.sum((z[None] - jnp.asarray(CENTROIDS, z.dtype)) ** 2, axis=1)
    return jnp.eye(2, dtype=z.dtype) / (jnp.mean(jnp.exp(-squares / 0.4**2)) + 0.01)


METRICS = {
    "sphere": problems.sphere_metric,
    "half_plane": problems.half_plane_metric,
    "normal": problems.normal_metric,
    "arc": arc_metric,
}
GOOD = (np.inf, 1.0, 0.0)
EVERYWHERE = ((-np.inf, np.inf),) * 2


class Chosen(eqx.Module):
    """One of the metrics, spoilt: NaN where z₀ > edge, and times constant + slope·z₁."""

    index: jax.Array
    spoilt: jax.Array

    def __call__(self, z):
        g = jax.lax.switch(self.index, tuple(METRICS.values()), z)
        edge, constant, slope = self.spoilt
        return jnp.where(z[0] > edge, jnp.nan, g) * (constant + slope * z[1])


def fit(which, starts, ends, *, seed=0, domain=EVERYWHERE, spoilt=GOOD, **settings):
    """Two pairs under one of the metrics: all of them share one compiled program."""
    metric = Chosen(jnp.asarray(list(METRICS).index(which)), jnp.asarray(spoilt))
    settings = {"learning_rate": 0.01, "domain": np.array(domain), "throw": False} | settings
    return fit_neural_geodesics(
        metric,
        np.array(starts, float),
        np.array(ends, float),
        key=jax.random.key(seed),
        **settings,
    )


@pytest.fixture(scope="module")
def arcs():
    """There and back, for eight seeds."""
    pairs = [[-1.0, 0.0], [1.0, 0.0]]
    return [fit("arc", pairs, pairs[::-1], seed=seed) for seed in range(8)]


@pytest.mark.parametrize("problem", [p for p in problems.PROBLEMS if p.name in METRICS], ids=name)
def test_lengths_of_closed_form(problem):
    starts, ends = np.swapaxes(problem.pairs[-2:], 0, 1)
    trained = fit(problem.name, starts, ends)
    solution, stats = trained.solution, trained.solution.stats
    assert jnp.all(solution.result == RESULTS.successful)
    exact = jax.vmap(problem.distance)(jnp.asarray(starts), jnp.asarray(ends))
    np.testing.assert_allclose(stats["length"], exact, rtol=LENGTH)
    assert jnp.all(stats["correction"] < RTOL)
    assert jnp.all(stats["length"] > exact * (1 - 1e-9))
    np.testing.assert_allclose(stats["energy"], exact**2 / 2, rtol=2 * LENGTH)
    np.testing.assert_allclose(
        stats["excess_energy"], stats["energy"] - stats["length"] ** 2 / 2, atol=1e-12
    )
    np.testing.assert_array_equal(solution.points[:, 0], starts)
    np.testing.assert_array_equal(solution.points[:, -1], ends)
    # the last steps' random estimates agree with the quadrature
    np.testing.assert_allclose(trained.history[:, -50:].mean(axis=1), stats["energy"], rtol=1e-2)


def test_the_geodesic_follows_the_arc_for_every_seed(arcs):
    for trained in arcs:
        assert jnp.all(trained.solution.result == RESULTS.successful)
        np.testing.assert_allclose(trained.solution.stats["length"], ARC, rtol=1e-3)
        radii = jnp.linalg.norm(trained.solution.points, axis=-1)
        assert jnp.all((radii > 0.7) & (radii < 1.001))
        np.testing.assert_allclose(trained.history[:, 0], ARC_LINE**2 / 2, rtol=0.5)


@jax.jit
def trace(curves, ts):
    """Points and velocities of a batch of curves."""
    points = jax.vmap(lambda curve: jax.vmap(curve)(ts))(curves)
    velocities = jax.vmap(lambda curve: jax.vmap(curve.velocity)(ts))(curves)
    by_differences = jax.vmap(lambda curve: jax.vmap(curve.velocity_by_differences)(ts))(curves)
    return points, velocities, by_differences


def test_a_curve_is_a_function_of_time(arcs):
    curves, solution = arcs[0].curves, arcs[0].solution
    points, velocities, differences = trace(curves, solution.ts[0])
    np.testing.assert_allclose(points, solution.points, atol=1e-14)
    np.testing.assert_allclose(velocities, solution.velocities, atol=1e-12)
    np.testing.assert_array_equal(points[0, [0, -1]], [[-1, 0], [1, 0]])
    np.testing.assert_allclose(velocities, differences, atol=1e-6)  # at the ends as well
    t, h = jnp.linspace(0.01, 0.99, 65), 1e-5
    difference = (trace(curves, t + h)[0] - trace(curves, t - h)[0]) / (2 * h)
    np.testing.assert_allclose(trace(curves, t)[1], difference, atol=1e-6)
    for outside in trace(curves, solution.ts[0] + 1.01):
        assert jnp.all(jnp.isnan(outside))
    first = jax.tree.map(lambda leaf: leaf[0], curves)
    np.testing.assert_array_equal(first(0), [-1, 0])
    np.testing.assert_allclose(first.velocity(0.0), velocities[0, 0], atol=1e-12)


def test_a_pair_does_not_depend_on_its_batch():
    pairs = problems.PROBLEMS[2].pairs
    together = fit("half_plane", pairs[:2, 0], pairs[:2, 1]).solution
    alike = fit("half_plane", pairs[[1, 1], 0], pairs[[1, 1], 1]).solution
    assert jnp.all(alike.result == together.result)
    np.testing.assert_allclose(alike.points, together.points[jnp.array([1, 1])], atol=1e-9)


def test_lengths_are_of_the_whole_curve(arcs):
    for trained in arcs:
        fine, *_ = trace(trained.curves, jnp.linspace(0, 1, 8193))
        chords = jax.vmap(lambda points: length(arc_metric, points))(fine)
        np.testing.assert_allclose(trained.solution.stats["length"], chords, rtol=1e-6)


def test_a_staircase_is_no_geodesic():
    plan = neural._Plan("bubble", "energy", 1, 1, 1, 1, 16)

    @jax.jit
    def judge(rate):
        def staircase(t):
            return (t - jnp.sin(rate * t) / rate) * jnp.array([0.6, 0.8])

        return neural._judge(problems.euclidean_metric, staircase, float, plan, None)[1:]

    for steps in (1, 2):  # between points of the solution, at all of which it stands still
        stats, (_, _, velocities) = judge(2 * np.pi * steps * plan.n_segments)
        np.testing.assert_allclose(velocities, 0, atol=1e-12)
        np.testing.assert_allclose(stats["length"], 1, rtol=0.2)
        np.testing.assert_allclose(stats["energy"], 0.75, rtol=0.2)  # ½∫(1 − cos)²
        assert stats["correction"] > 10 * RTOL


class Scaled(eqx.Module):
    scale: jax.Array
    metric: TraceCounter = eqx.field(static=True)

    def __call__(self, z):
        return self.scale * self.metric(z)


def test_length_in_float32_its_derivatives_and_one_trace():
    problem, counter = problems.PROBLEMS[1], TraceCounter(problems.sphere_metric)
    starts, ends = jnp.swapaxes(jnp.asarray(problem.pairs, jnp.float32), 0, 1)

    def lengths(scale, starts, ends, seed, rtol):
        trained = fit_neural_geodesics(
            Scaled(scale, counter),
            starts,
            ends,
            key=jax.random.key(seed),
            functional="length",
            rtol=rtol,
        )
        return jnp.sum(trained.solution.stats["length"]), trained

    slopes = jax.value_and_grad(lengths, argnums=(0, 2), has_aux=True)
    (_, trained), (d_scale, d_ends) = slopes(jnp.float32(4), starts, ends, 0, RTOL)
    traced = counter.count
    floats = [x for x in jax.tree.leaves(trained) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}
    stats, points = trained.solution.stats, trained.solution.points
    exact = 2 * jax.vmap(problem.distance)(starts, ends)
    np.testing.assert_allclose(stats["length"], exact, rtol=LENGTH)
    np.testing.assert_allclose(trained.history[:, -50:].mean(axis=1), exact, rtol=1e-2)
    # the solution has constant speed, whatever the networks have
    assert jnp.all(stats["speed_drift"] < 1e-5)
    np.testing.assert_array_equal(points[:, 0], starts)
    np.testing.assert_array_equal(points[:, -1], ends)
    half = jax.vmap(lambda x: length(problem.metric, x))(points[:, :33])
    np.testing.assert_allclose(2 * half / (exact / 2), 1, atol=5e-4)  # of the chords

    expected = 2 * jax.vmap(jax.grad(problem.distance, argnums=1))(starts, ends)
    np.testing.assert_allclose(d_scale, jnp.sum(exact) / 8, rtol=LENGTH)
    np.testing.assert_allclose(d_ends, expected, atol=2 * RTOL)

    slopes(jnp.float32(1), ends, starts, 1, RTOL)
    with pytest.raises(Exception, match="used up its iterations"):
        slopes(jnp.float32(4), starts, ends, 0, 1e-6)
    assert counter.count == traced


@pytest.mark.parametrize(
    ("spoilt", "expected"),
    [
        ((-np.inf, 1, 0), RESULTS.nonfinite),
        ((0.5, 1, 0), RESULTS.nonfinite),
        ((np.inf, -1, 0), RESULTS.metric_not_positive_definite),
        ((np.inf, 0, 1), RESULTS.metric_not_positive_definite),
    ],
)
def test_a_bad_metric_is_named(spoilt, expected):
    result = fit("arc", [A, B], [B, A], spoilt=spoilt).solution.result
    assert jnp.all(result == expected)


def test_other_failures_are_named_pair_by_pair():
    starts, ends = [[-1, 0.5], [0, 0.5]], [[1, 0.5], [0, 0.7]]
    box = ((-2, 2), (0.001, 0.8))
    result = fit("half_plane", starts, ends, domain=box).solution.result
    assert (result == RESULTS.left_domain).tolist() == [True, False]
    assert (result == RESULTS.successful).tolist() == [False, True]
    # a straight line is a geodesic only where it is one
    straight = fit("half_plane", starts, starts[::-1], learning_rate=0.0).solution
    assert jnp.all(straight.result == RESULTS.not_converged)
    np.testing.assert_allclose(straight.points[:, :, 1], 0.5)


def test_coincident_points():
    trained = fit("sphere", [[1, 0.5], [1, 0]], [[1, 0.5], [1.8, 1.2]])
    assert jnp.all(trained.solution.result == RESULTS.successful)
    np.testing.assert_array_equal(trained.solution.stats["length"][0], 0)
    np.testing.assert_array_equal(trained.solution.points[0], np.tile([1, 0.5], (65, 1)))


def test_the_affine_form_fails_by_code():
    # the arc's ends have one coordinate in common; a network that is zero has no scale
    rng = np.random.default_rng(0)
    shapes = [(1, 16), (16,)], [(16, 2), (2,)]
    weights = [tuple(jnp.asarray(rng.normal(size=(2, *s))) for s in pair) for pair in shapes]
    weights[-1] = jax.tree.map(lambda leaf: leaf.at[1].set(0), weights[-1])
    ends = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    make = jax.vmap(lambda z, w: NeuralGeodesic(-z, z, jnp.eye(2), w, "affine"))
    curves = make(ends, tuple(weights))
    trained = fit_neural_geodesics(
        arc_metric, -ends, ends, key=jax.random.key(0), curves=curves, steps=300, throw=False
    )
    result = trained.solution.result
    assert (result == RESULTS.not_converged).tolist() == [True, False]
    assert (result == RESULTS.nonfinite).tolist() == [False, True]
    np.testing.assert_allclose(trained.solution.points[0, [0, -1]], [-ends[0], ends[0]], atol=1e-9)
    np.testing.assert_allclose(trained.solution.stats["length"][0], ARC_LINE, rtol=1e-3)
    assert trained.solution.stats["correction"][0] > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"starts": np.zeros(2)}, r"`starts` must have shape \(n, d\), n ≥ 1, got \(2,\)"),
        ({"ends": np.zeros((3, 2))}, r"`ends` must have shape \(1, 2\).* got \(3, 2\)"),
        ({"ends": np.zeros((1, 2), int)}, r"`ends\[0\]` must hold floats, got dtype int"),
        ({"starts": np.array([[np.nan, 1.0]])}, r"`starts` must be finite, got \[\[nan"),
        ({"domain": np.array([[0.0, 0.5], [-1, 1]])}, "`ends` must lie in `domain`"),
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"boundary": "bubbly"}, "boundary"),
        ({"metric": lambda z: jnp.eye(3)}, r"`metric` must return shape \(2, 2\)"),
    ],
)
def test_bad_arguments_are_quoted(change, message):
    arguments = {"metric": problems.sphere_metric, "starts": A[None], "ends": B[None]} | change
    with pytest.raises(Exception, match=message):
        fit_neural_geodesics(**arguments, key=jax.random.key(0))
