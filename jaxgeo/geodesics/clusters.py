"""Clusters of points on a manifold: around means, or around points of the sample."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgeo._linalg import HIGHEST
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Scalar, as_array, as_count, as_limit, as_points
from jaxgeo.geodesics.relaxation import default_rtol
from jaxgeo.geodesics.solution import first_failure, worst
from jaxgeo.geodesics.statistics import Solver, logs_of, mean_of


class KMeans(NamedTuple):
    """Clusters: `centres` `(k, d)`, `labels` `(n,)`, `inertia` Σ d², `result`, `iterations`."""

    centres: Float[Array, "k d"]
    labels: Int[Array, " n"]
    inertia: Scalar
    result: Any
    iterations: Int[Array, ""]


def kmeans(
    metric: Metric,
    points: ArrayLike,
    n_clusters: int,
    *,
    key: PRNGKeyArray,
    solver: Solver | None = None,
    max_iterations: int = 20,
    throw: bool = True,
) -> KMeans:
    r"""Clusters around Fréchet means, by Lloyd's iteration on geodesic distances.

    $$ \min_{c, \ell} \sum_i d(x_i, c_{\ell_i})^2 $$

    **Arguments:**

    - `metric`.
    - `points`: `(n, d)`.
    - `n_clusters`: k, from 1 to n.
    - `key`: for the first centres, which are points drawn by k-means++.
    - `solver`: as in `geodesic_bvp`.
    - `max_iterations`: of Lloyd's iteration.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `KMeans`, a local minimum; draw several keys and keep the least inertia.

    **Fails:** `ValueError` on shapes; `not_converged`, or what `frechet_mean` fails with.

    **Cost:** nk boundary-value problems for the start, and some four times as many per iteration.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> points = jnp.array([[0.0, 1.0], [0.1, 1.0], [9.0, 1.0], [9.1, 1.0]])
    >>> how = {"key": jax.random.key(0), "solver": jg.Relaxation(16, n_starts=1)}
    >>> kmeans(half_plane_metric, points, 2, **how).labels.tolist()
    [0, 0, 1, 1]

    **Reference:** Lloyd (1982); Arthur & Vassilvitskii (2007).
    """
    rows = as_points(points, "points")
    n_clusters = as_count(n_clusters, "n_clusters", 0)
    if not 1 <= n_clusters <= len(rows):
        raise ValueError(f"`n_clusters` must be from 1 to {len(rows)}, got {n_clusters}.")
    return _lloyd(
        metric, rows, n_clusters, key, solver, as_limit(max_iterations, "max_iterations"), throw
    )


@eqx.filter_jit
def _lloyd(
    metric: Metric,
    points: Array,
    k: int,
    key: PRNGKeyArray,
    solver: Solver | None,
    max_iterations: Array,
    throw: bool,
) -> KMeans:
    n = points.shape[0]
    weights = jnp.full(n, 1 / n, points.dtype)

    def squares(centre: Array) -> Array:
        return logs_of(solver, metric, points, centre)[1]

    def draw(carry: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
        nearest, centre = carry
        nearest = jnp.minimum(nearest, squares(centre))
        following = points[jax.random.categorical(key, jnp.log(nearest))]
        return (nearest, following), centre

    first, *rest = jax.random.split(key, k + 1)
    begin = points[jax.random.choice(first, n)]
    far = jnp.full(n, jnp.inf, points.dtype)
    _, centres = jax.lax.scan(draw, (far, begin), jnp.stack(rest))

    def assign(centres: Array) -> tuple[Array, Array]:
        distances = jax.vmap(squares)(centres)
        return jnp.argmin(distances, axis=0), jnp.sum(jnp.min(distances, axis=0))

    def refine(label: Array, centre: Array, labels: Array) -> tuple[Array, Any]:
        members = (labels == label).astype(points.dtype)
        size = jnp.sum(members)
        shares = jnp.where(size > 0, members / jnp.maximum(size, 1), weights)
        mean = mean_of(metric, points, shares, centre, solver, rtol, False)
        # a centre that lost all its points stays where it is
        return jnp.where(size > 0, mean.point, centre), mean.result

    rtol = default_rtol(None, points.dtype, 0.25)

    def body(state: tuple) -> tuple:
        centres, labels, _, count, _, _ = state
        centres, results = jax.vmap(refine, in_axes=(0, 0, None))(jnp.arange(k), centres, labels)
        relabelled, inertia = assign(centres)
        return centres, relabelled, inertia, count + 1, results, jnp.any(relabelled != labels)

    labels, inertia = assign(centres)
    fine = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (k,)), RESULTS.successful)
    state = (centres, labels, inertia, jnp.zeros((), jnp.int32), fine, jnp.ones((), bool))
    centres, labels, inertia, count, results, moving = jax.lax.while_loop(
        lambda state: state[-1] & (state[3] < max_iterations), body, state
    )
    result = first_failure(
        worst(results),
        RESULTS.where(moving, RESULTS.not_converged, RESULTS.successful),
    )
    clusters = KMeans(centres, labels, inertia, result, count)
    return result.error_if(clusters, result != RESULTS.successful) if throw else clusters


class KMedoids(NamedTuple):
    """Clusters: `medoids` `(k,)`, the points they are around; `labels` `(n,)`; `inertia` Σ d²;
    `result`; `iterations`."""

    medoids: Int[Array, " k"]
    labels: Int[Array, " n"]
    inertia: Scalar
    result: Any
    iterations: Int[Array, ""]


def kmedoids(
    distances: ArrayLike,
    n_clusters: int,
    *,
    key: PRNGKeyArray,
    n_starts: int = 32,
    max_iterations: int = 100,
    throw: bool = True,
) -> KMedoids:
    r"""Clusters around points of the sample, where only distances are known.

    $$ \min_{m, \ell} \sum_i d(x_i, x_{m_{\ell_i}})^2 $$

    `kmeans` with centres that are points, for a matrix of geodesic distances that is there
    already (`pairwise_distances`, `distance_map`): no boundary-value problem is solved.

    **Arguments:**

    - `distances`: `(n, n)`, symmetric, of any metric.
    - `n_clusters`: k, from 1 to n.
    - `key`: for the first medoids, drawn by k-means++.
    - `n_starts`: the best of so many starts is returned.
    - `max_iterations`: of each. - `throw`: raise on failure.

    **Returns:** `KMedoids`, a local minimum.

    **Fails:** `ValueError` on shapes, and on concrete distances that are negative or
    not finite;
    `not_converged`.

    **Cost:** O(n² k) an iteration, some ten of them, all starts side by side.

    **Example:**

    >>> x = jnp.array([0.0, 0.1, 9.0, 9.1])
    >>> kmedoids(jnp.abs(x[:, None] - x[None]), 2, key=jax.random.key(0)).inertia.round(4).item()
    0.02

    **Reference:** Park & Jun (2009), *Expert Syst. Appl.* 36, 3336.
    """
    matrix = as_array(distances, "distances")
    if jnp.iscomplexobj(matrix):
        raise ValueError(f"`distances` must be real, got dtype {matrix.dtype}.")
    if not jnp.issubdtype(matrix.dtype, jnp.floating):
        matrix = matrix.astype(float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"`distances` must have shape (n, n), got {matrix.shape}.")
    if not isinstance(matrix, jax.core.Tracer):
        numbers = np.asarray(matrix)
        bad = np.argwhere(~((numbers >= 0) & np.isfinite(numbers)))
        if len(bad):
            where = tuple(bad[0].tolist())
            raise ValueError(
                f"`distances` must be finite numbers ≥ 0, got {numbers[where]} at {where}."
            )
    n_clusters = as_count(n_clusters, "n_clusters", 0)
    if not 1 <= n_clusters <= len(matrix):
        raise ValueError(f"`n_clusters` must be from 1 to {len(matrix)}, got {n_clusters}.")
    limit = as_limit(max_iterations, "max_iterations")
    keys = jax.random.split(key, as_count(n_starts, "n_starts"))
    found = _voronoi(matrix**2, n_clusters, keys, limit)
    best = jax.tree.map(lambda leaf: leaf[jnp.argmin(found.inertia)], found)
    if throw:
        best = best.result.error_if(best, best.result != RESULTS.successful)
    return best


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(None, None, 0, None))
def _voronoi(squares: Float[Array, "n n"], k: int, key: Array, max_iterations: Array) -> KMedoids:
    """Assign to the nearest, then move to the best of the cluster, until nothing moves."""
    n = len(squares)

    def draw(nearest: Array, key: Array) -> tuple[Array, Array]:
        # the first one anywhere
        chosen = jax.random.categorical(key, jnp.where(nearest < jnp.inf, jnp.log(nearest), 0))
        return jnp.minimum(nearest, squares[chosen]), chosen

    far = jnp.full(n, jnp.inf, squares.dtype)
    _, medoids = jax.lax.scan(draw, far, jax.random.split(key, k))

    def body(state: tuple) -> tuple:
        medoids, _, count = state
        labels = jnp.argmin(squares[medoids], axis=0)
        member = labels[:, None] == jnp.arange(k)[None, :]
        costs = jnp.where(
            member, jnp.dot(squares, member.astype(squares.dtype), precision=HIGHEST), jnp.inf
        )
        # a medoid that lost all its points, to one at no distance, stays where it is
        moved = jnp.where(jnp.any(member, axis=0), jnp.argmin(costs, axis=0), medoids)
        return moved, jnp.any(moved != medoids), count + 1

    medoids, moving, count = jax.lax.while_loop(
        lambda state: state[1] & (state[2] < max_iterations),
        body,
        (medoids, jnp.ones((), bool), jnp.zeros((), jnp.int32)),
    )
    labels = jnp.argmin(squares[medoids], axis=0)
    inertia = jnp.sum(jnp.min(squares[medoids], axis=0))
    result = RESULTS.where(moving, RESULTS.not_converged, RESULTS.successful)
    return KMedoids(medoids, labels, inertia, result, count)
