"""Shortest paths through the data: a first curve for solvers, in any dimension.

Away from the data a learned metric is nearly flat, and a solver that starts from the straight line
may not find the way along them. A graph of near neighbours has it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from jaxgeo._linalg import quadratic_form
from jaxgeo._typing import Metric, as_count, as_point, as_points, check_metric
from jaxgeo.geodesics.solution import check_inside

CHUNK = 1024
"""Edges that are measured side by side."""


def graph_path(
    metric: Metric,
    nodes: ArrayLike,
    z0: ArrayLike,
    z1: ArrayLike,
    *,
    n_neighbors: int = 8,
    n_points: int | None = None,
) -> Float[Array, "n d"]:
    r"""The shortest path from `z0` to `z1` along straight edges between near neighbours.

    $$ \min \sum_k \tfrac16\bigl(|u_k|_{a_k} + 4\,|u_k|_{(a_k + b_k)/2} + |u_k|_{b_k}\bigr),
       \qquad u_k = b_k - a_k $$

    over the chains of edges $a_k b_k$ from end to end, Simpson's rule giving the length of each. A
    `start` for `geodesic_bvp`, where the straight line is a bad one; it bends at every node, so it
    is too long. In two or three dimensions `shortest_path` needs no nodes.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `nodes`: `(m, d)`, say the encoded data, or their centroids. Some spread evenly are better
      than many: the more there are, the more neighbours a path needs to keep its direction.
    - `z0`, `z1`: the two ends, `(d,)`; they need not be nodes.
    - `n_neighbors`: every node, and every end, is joined to so many nearest to it in the chart.

    - `n_points`: points of the path, at equal steps of its length, which cuts its corners. Give
      it to start a solver many times: it compiles once for every number of points.

    **Returns:** `(n, d)` from `z0` to `z1`, both to the last bit, and the nodes on the way. Not to
    be traced, and without derivatives: those of the geodesic that is found from it are exact.

    **Fails:** `ValueError` on shape, dtype, values that are not finite, and if no chain joins the
    ends. An edge on which the metric gives no positive length is in no chain.

    **Cost:** 3 (m + 2) `n_neighbors` metric evaluations, and Dijkstra's algorithm. Compiles once
    per number of distinct nodes and structure of `metric`.

    **Example:** along a half circle, where only the nearest are neighbours.

    >>> from jaxgeo.problems import euclidean_metric
    >>> t = jnp.linspace(0, jnp.pi, 16)
    >>> nodes = jnp.stack([jnp.cos(t), jnp.sin(t)], axis=1)
    >>> path = graph_path(euclidean_metric, nodes, nodes[0], nodes[-1], n_neighbors=2)
    >>> round(jg.length(euclidean_metric, path).item(), 3)
    3.131

    **Reference:** Dijkstra (1959), *Numer. Math.* 1, 269; Tenenbaum, de Silva & Langford (2000),
    *Science* 290, 2319, for the graph.
    """
    start = as_point(z0, "z0")
    end = as_point(z1, "z1", start)
    others = as_points(nodes, "nodes", start)
    for name, given in (("z0", start), ("z1", end), ("nodes", others)):
        check_inside(given, name, None)
    n_neighbors = as_count(n_neighbors, "n_neighbors")
    n_points = None if n_points is None else as_count(n_points, "n_points", 2)
    ends = np.stack([start, end])
    if np.array_equal(*ends):
        return jnp.asarray(np.repeat(ends[:1], n_points or 2, axis=0))
    # of equal points one: they would be nobody's neighbours but each other's
    distinct = np.unique(np.asarray(others), axis=0)
    taken = (distinct[:, None, :] == ends[None]).all(axis=2).any(axis=1)
    points = np.concatenate([ends, distinct[~taken]])
    first, last = _edges(points, n_neighbors)
    lengths = np.asarray(_lengths(metric, jnp.asarray(points), jnp.asarray([first, last]).T))
    usable = np.isfinite(lengths) & (lengths > 0)
    shape = (len(points), len(points))
    graph = csr_array((lengths[usable].astype(float), (first[usable], last[usable])), shape)
    distances, before = dijkstra(graph, directed=False, indices=0, return_predecessors=True)
    if not np.isfinite(distances[1]):
        raise ValueError(
            f"`n_neighbors` = {n_neighbors} does not join `z0` = {ends[0]} to `z1` = {ends[1]} "
            f"through {len(points) - 2} nodes. Give more neighbours, or nodes in between."
        )
    chain = [1]
    while chain[-1] != 0:
        chain.append(before[chain[-1]])
    path = points[chain[::-1]]
    if n_points is not None:
        places = np.linspace(0, distances[1], n_points)
        path = np.stack([np.interp(places, distances[chain[::-1]], x) for x in path.T], axis=1)
        path[[0, -1]] = ends
    return jnp.asarray(path, start.dtype)


def _edges(points: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last point of the edges from every point to its neighbours."""
    k = min(n_neighbors, len(points) - 1)
    _, nearest = KDTree(points).query(points, k + 1)
    first = np.repeat(np.arange(len(points)), k)
    # distinct points have themselves for nearest
    return first, nearest[:, 1:].ravel()


@eqx.filter_jit
def _lengths(metric: Metric, points: Float[Array, "m d"], edges: Array) -> Float[Array, " n"]:
    check_metric(metric, points[0])

    def length(edge: Array) -> Array:
        a, b = points[edge[0]], points[edge[1]]
        places = jnp.stack([a, (a + b) / 2, b])
        squares = jax.vmap(lambda z: quadratic_form(metric(z), b - a, b - a))(places)
        weights = jnp.array([1, 4, 1], points.dtype) / 6
        return jnp.dot(weights, jnp.sqrt(squares))

    return jax.lax.map(length, edges, batch_size=CHUNK)
