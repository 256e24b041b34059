"""Distance maps and the shortest paths behind them, against closed forms and long detours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import AnyOf

import jaxgeo as jg
from jaxgeo import RESULTS
from jaxgeo.geodesics.fronts import DistanceMap
from jaxgeo.problems import euclidean_metric, half_plane_metric

SOURCE = jnp.array([-1.02, 1.03])
STRIP = jnp.array([[-1.5, 1.5], [0.5, 3.0]])
SQUARE = jnp.array([[-1.0, 1.0], [-1.0, 1.0]])


def grid(box, n):
    return tuple(jnp.linspace(*side, n) for side in box)


def nodes(axes):
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def half_plane_distance(a, b):
    a, b = np.asarray(a), np.asarray(b)
    apart = np.sum((a - b) ** 2, axis=-1)
    return np.arccosh(1 + apart / (2 * a[..., 1] * b[..., 1]))


def sheared(z):
    return jnp.array([[4.0, 1.8], [1.8, 1.0]], z.dtype)


def trap(z):
    """A round wall about the origin, open on the left."""
    radius = jnp.sqrt(jnp.sum(z**2) + 1e-12)
    wall = jnp.exp(-(((radius - 0.5) / 0.06) ** 2)) * jax.nn.sigmoid(20 * (z[0] / radius + 0.8))
    return (1 + 400 * wall) * jnp.eye(2, dtype=z.dtype)


def twisted(z):
    angle = 10 * z[0] + 8 * z[1]
    u = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    return 900 * jnp.eye(2) - 899 * jnp.outer(u, u)


def holed(z):
    return jnp.eye(2) * jnp.where(z[0] > 0.8, jnp.nan, 1.0)


def indefinite(z):
    return jnp.diag(jnp.stack([jnp.ones_like(z[0]), jnp.where(z[0] > 0.8, -1.0, 1.0)]))


METRICS = (half_plane_metric, sheared, trap, twisted, holed, indefinite)


def one(metric):
    """One of them, chosen at run time: a grid of one size compiles once for all."""
    return AnyOf(METRICS, jnp.asarray(METRICS.index(metric)))


HALF_PLANE, TRAP = one(half_plane_metric), one(trap)


def test_a_constant_metric_however_sheared():
    axes = grid(SQUARE, 33)
    found = jg.distance_map(one(sheared), jnp.array([0.21, -0.34]), axes)
    step = nodes(axes) - np.asarray(found.source)
    exact = np.sqrt(np.einsum("...i,ij,...j", step, sheared(found.source), step))
    assert found.order == 2
    np.testing.assert_allclose(found.distances, exact, atol=5e-4 * exact.max())


def test_second_order_on_the_half_plane():
    """In the lower half of the box; the geodesics to its top right corner leave it."""
    errors = []
    for n in (33, 65):
        axes = grid(STRIP, n)
        found = jg.distance_map(HALF_PLANE, SOURCE, axes)
        exact = half_plane_distance(SOURCE, nodes(axes))
        errors.append(np.max(np.abs(found.distances - exact)[:, : n // 2]))
    assert errors[1] < 5e-3
    assert errors[0] / errors[1] > 2.5


def test_gradients_have_unit_length():
    axes = grid(STRIP, 65)
    found = jg.distance_map(HALF_PLANE, SOURCE, axes)
    squares = jnp.sum(found.gradients**2, axis=-1) * nodes(axes)[..., 1] ** 2
    assert jnp.max(jnp.abs(squares - 1)[found.distances > 0.3]) < 0.1
    assert jnp.median(jnp.abs(squares - 1)) < 0.03


def test_three_dimensions():
    """Half-plane times a line: squares of distances add."""
    metric = jg.ProductMetric((half_plane_metric, euclidean_metric), (2, 1))
    box = [*STRIP, (-1, 1)]
    axes = tuple(jnp.linspace(*side, n) for side, n in zip(box, (17, 15, 11), strict=True))
    source = jnp.array([-1.0, 1.0, 0.5])
    found = jg.distance_map(metric, source, axes)
    flat = half_plane_distance(source[:2], nodes(axes)[..., :2])
    exact = np.sqrt(flat**2 + (nodes(axes)[..., 2] - 0.5) ** 2)
    assert np.max(np.abs(found.distances - exact)[:, :7]) < 5e-2
    target = jnp.array([1.0, 1.1, -0.7])
    path = jg.shortest_path(metric, found, target, n=129)
    exact = jnp.sqrt(half_plane_distance(source[:2], target[:2]) ** 2 + 1.2**2)
    assert 0 < jg.length(metric, path) / exact - 1 < 5e-3


def test_the_path_is_the_geodesic_and_keeps_its_ends():
    target = jnp.array([1.13, 0.91])
    found = jg.distance_map(HALF_PLANE, SOURCE, grid(STRIP, 65))
    path = jg.shortest_path(HALF_PLANE, found, target)
    assert jnp.all(path[0] == SOURCE)
    assert jnp.all(path[-1] == target)
    exact = half_plane_distance(SOURCE, target)
    assert 0 < jg.length(half_plane_metric, path) / exact - 1 < 1e-3
    geodesic = jg.geodesic_bvp(half_plane_metric, SOURCE, target)
    assert jnp.max(jnp.abs(path - geodesic.points)) < 0.05


def test_the_way_out_of_a_trap():
    """By itself the solver finds a geodesic across the wall; a path starts it on the way round."""
    a, b = jnp.array([0.1, 0.0]), jnp.array([0.9, 0.05])
    found = jg.distance_map(TRAP, a, grid(SQUARE, 65))
    path = jg.shortest_path(TRAP, found, b)
    solver = jg.Shooting(jg.Relaxation(n_segments=256))
    refined = jg.geodesic_bvp(trap, a, b, solver=solver, start=path, throw=False)
    assert refined.result == RESULTS.successful
    straight = jnp.linspace(a, b, len(path))
    across = jg.geodesic_bvp(trap, a, b, solver=solver, start=straight, throw=False)
    assert not refined.stats["shorter_found"]
    assert not across.stats["shorter_found"]  # by the arcs
    assert refined.stats["length"] < 0.9 * jg.length(trap, across.points)
    assert 0 < jg.length(trap, path) / refined.stats["length"] - 1 < 5e-3


def test_failures_are_named():
    axes = grid(SQUARE, 33)
    z = jnp.zeros(2)

    def code(metric, **how):
        return jg.distance_map(one(metric), z, axes, throw=False, **how).result

    assert code(holed) == RESULTS.nonfinite
    assert code(indefinite) == RESULTS.metric_not_positive_definite
    assert code(trap, max_iterations=1) == RESULTS.not_converged
    with pytest.raises(RuntimeError, match="iterations"):
        jg.distance_map(TRAP, z, axes, max_iterations=1)
    failed = jg.distance_map(TRAP, z, axes, max_iterations=1, throw=False)
    assert jnp.all(jnp.isnan(jg.shortest_path(TRAP, failed, jnp.array([0.5, 0.5]))))


def test_a_metric_that_turns_within_a_cell_leaves_first_order():
    found = jg.distance_map(one(twisted), jnp.array([-0.7, 0.05]), grid(SQUARE, 65))
    assert found.order == 1
    assert found.result == RESULTS.successful


def test_ends_outside_the_box_that_only_the_compiled_program_sees():
    axes = grid(SQUARE, 9)

    @jax.jit
    def solve(source, target):
        found = jg.distance_map(euclidean_metric, source, axes, throw=False)
        return found.result, jg.shortest_path(euclidean_metric, found, target)

    inside, outside = jnp.array([0.5, 0.0]), jnp.array([1.5, 0.0])
    assert solve(outside, inside)[0] == RESULTS.left_domain
    assert jnp.all(jnp.isnan(solve(outside, inside)[1]))
    assert jnp.all(jnp.isnan(solve(inside, outside)[1]))
    assert jnp.all(jnp.isfinite(solve(inside, -inside)[1]))


@pytest.mark.parametrize(
    ("source", "axes", "message"),
    [
        ([2.0, 0.0], grid(SQUARE, 5), r"`source` must lie in the grid's box (?s:.*) got \[2"),
        ([0.0, 0.0], grid(SQUARE, 2), r"`axes\[0\]` must have shape \(n,\) with n ≥ 3, got \(2,"),
        ([0.0, 0.0], grid(SQUARE[:1], 5), "as many as `source` has coordinates, got 1 for 2"),
        ([0.0, 0.0], (jnp.zeros(4), jnp.arange(4.0)), "must increase strictly, got"),
        ([0.0, 0.0], (jnp.arange(4.0), jnp.arange(4, dtype=jnp.float32)), "one dtype, got .*32"),
    ],
)
def test_bad_input_is_quoted(source, axes, message):
    with pytest.raises(ValueError, match=message):
        jg.distance_map(euclidean_metric, jnp.array(source), axes)


def test_a_path_to_nowhere_is_refused():
    metric = one(sheared)
    found = jg.distance_map(metric, jnp.zeros(2), grid(SQUARE, 33))
    with pytest.raises(ValueError, match=r"`target` must lie in (?s:.*) got \[3"):
        jg.shortest_path(metric, found, jnp.array([3.0, 0.0]))
    with pytest.raises(ValueError, match="`n` must be at least 2, got 1"):
        jg.shortest_path(metric, found, jnp.array([0.5, 0.0]), n=1)


def test_float32_vmap_and_one_trace():
    calls = 0

    def metric(z):
        nonlocal calls
        calls += 1
        return half_plane_metric(z)

    axes = tuple(axis.astype(jnp.float32) for axis in grid(STRIP, 33))
    sources = jnp.array([[-1.0, 1.0], [0.3, 2.0]], jnp.float32)
    ends = jnp.array([[1.0, 1.0], [-1.2, 0.8]], jnp.float32)

    def both(z, end):
        found = jg.distance_map(metric, z, axes)
        return found, jg.shortest_path(metric, found, end)

    found, paths = jax.vmap(both)(sources, ends)
    assert isinstance(found, DistanceMap)
    assert found.distances.dtype == paths.dtype == jnp.float32
    for i in range(2):
        exact = half_plane_distance(sources[i], nodes(axes))
        assert np.max(np.abs(found.distances[i] - exact)[:, :16]) < 1e-2
        one = jg.shortest_path(metric, jg.distance_map(metric, sources[i], axes), ends[i])
        np.testing.assert_allclose(paths[i], one, atol=1e-4)
    traced = calls
    jg.distance_map(metric, sources[0] + 0.01, axes)
    assert calls == traced
