"""Paths through a graph of neighbours: exact chains, a start for solvers, failures."""

import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter
from test_neural import ARC, ARC_LINE, CENTROIDS, arc_metric

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import Relaxation, geodesic_bvp
from jaxgeo.geodesics.graphs import graph_path
from jaxgeo.geometry import length

LEFT, RIGHT = jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0])


def test_it_leads_along_the_arc():
    start = graph_path(arc_metric, CENTROIDS, LEFT, RIGHT, n_neighbors=4)
    np.testing.assert_array_equal(start[jnp.array([0, -1])], [LEFT, RIGHT])
    # nodes in their order, the two at the ends included: equal to no end, but for rounding
    assert set(map(tuple, start[1:-1].tolist())) <= set(map(tuple, CENTROIDS.tolist()))
    assert jnp.all(jnp.diff(start[:, 0]) > 0)
    assert ARC < length(arc_metric, start) < 1.2 * ARC < ARC_LINE
    even = graph_path(arc_metric, CENTROIDS, LEFT, RIGHT, n_neighbors=4, n_points=33)
    assert even.shape == (33, 2)
    np.testing.assert_array_equal(even[jnp.array([0, -1])], [LEFT, RIGHT])
    steps = np.array([length(arc_metric, even[k : k + 2]) for k in range(32)])
    assert np.ptp(steps) < 0.5 * steps.mean()
    with pytest.raises(ValueError, match="`n_points` must be at least 2, got 1"):
        graph_path(arc_metric, CENTROIDS, LEFT, RIGHT, n_points=1)
    solution = geodesic_bvp(
        arc_metric, LEFT, RIGHT, solver=Relaxation(64, n_starts=1), start=start
    )
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.stats["length"], ARC, rtol=1e-3)  # of order 2 in 1/64


def test_the_chain_is_the_shortest_in_ten_dimensions():
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(7, 10))
    weights = jnp.asarray(rng.normal(size=10))

    def metric(z):
        return jnp.eye(10) * jnp.exp(2 * jnp.dot(weights, z))

    a, b = jnp.zeros(10), jnp.ones(10)
    path = graph_path(metric, nodes, a, b, n_neighbors=8)  # all are neighbours
    points = np.concatenate([[a, b], nodes])
    middle = np.exp((points[:, None] + points[None]) @ weights / 2)
    ends = np.exp(points @ weights)
    speeds = (ends[:, None] + 4 * middle + ends[None]) / 6
    table = speeds * np.linalg.norm(points[:, None] - points[None], axis=2)
    best = table.copy()
    for k in range(len(points)):  # Floyd and Warshall
        best = np.minimum(best, best[:, k : k + 1] + best[k : k + 1])
    chain = [int(np.flatnonzero((points == z).all(axis=1))[0]) for z in np.asarray(path)]
    assert (chain[0], chain[-1]) == (0, 1)
    np.testing.assert_allclose(table[chain[:-1], chain[1:]].sum(), best[0, 1], rtol=1e-12)


def test_repeated_nodes_coincident_ends_float32_and_one_trace():
    counter = TraceCounter(problems.half_plane_metric)
    nodes = np.tile(np.array([[0.0, 1.5], [0.5, 1.5]], np.float32), (20, 1))
    a, b = jnp.array([-1.0, 1.0], jnp.float32), jnp.array([1.0, 1.0], jnp.float32)
    path = graph_path(counter, nodes, a, b, n_neighbors=2)
    traced = counter.count
    assert path.dtype == jnp.float32
    np.testing.assert_array_equal(path, [[-1, 1], [0, 1.5], [1, 1]])
    np.testing.assert_array_equal(graph_path(counter, nodes + 1, a, b)[jnp.array([0, -1])], [a, b])
    # an end that is a node, and ends that coincide
    np.testing.assert_array_equal(graph_path(counter, nodes, b, nodes[0])[-1], nodes[0])
    np.testing.assert_array_equal(graph_path(counter, nodes, a, a), [a, a])
    assert counter.count <= 3 * traced  # as many as there are numbers of points and edges


def wall(z):
    """No metric between 0 and 1, where no edge may pass."""
    return jnp.where((z[0] > 0) & (z[0] < 1), jnp.nan, jnp.eye(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": np.zeros(2)}, r"`nodes` must have shape \(n, d\), n ≥ 1, got \(2,\)"),
        ({"nodes": np.full((3, 2), np.nan)}, r"`nodes` must be finite, got \[\[nan"),
        ({"z1": np.zeros(3)}, r"`z1` must have shape \(2,\).* got shape \(3,\)"),
        ({"n_neighbors": 0}, "`n_neighbors` must be at least 1, got 0"),
        ({"n_neighbors": 2}, r"2 does not join `z0` = \[-1\.  ?0\.\] to .* through 13 nodes"),
        ({"metric": wall}, "`n_neighbors` = 8 does not join"),
        ({"metric": lambda z: jnp.eye(3)}, r"`metric` must return shape \(2, 2\)"),
    ],
)
def test_bad_arguments_are_quoted(change, message):
    nodes = np.delete(CENTROIDS, [7, 8], axis=0)  # a gap in the middle
    arguments = {"metric": problems.euclidean_metric, "nodes": nodes} | change
    ends = {"z0": LEFT, "z1": RIGHT} | arguments
    with pytest.raises(ValueError, match=message):
        graph_path(**ends)
