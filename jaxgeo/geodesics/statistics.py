"""Statistics of points on a manifold: distances, mean, principal directions."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import HIGHEST, cholesky, frozen, instantiate, partial_jvp
from jaxgeo._results import RESULTS
from jaxgeo._typing import (
    Metric,
    Point,
    Scalar,
    as_array,
    as_count,
    as_point,
    as_points,
    check_metric,
)
from jaxgeo.geodesics.bvp import Solver, geodesic_bvp
from jaxgeo.geodesics.relaxation import default_rtol
from jaxgeo.geodesics.solution import worst
from jaxgeo.geometry.inner import norm

ROUNDING = 64
"""Of the coordinates of points near each other: so many epsilons of the pull on their mean."""

MEAN_ITERATIONS = 50
"""Newton steps at most, refused ones included."""


def pairwise_distances(
    metric: Metric,
    points: ArrayLike,
    others: ArrayLike | None = None,
    *,
    solver: Solver | None = None,
    chunk_size: int = 256,
    throw: bool = True,
) -> Float[Array, "n m"]:
    r"""The matrix of geodesic distances, $D_{ij} = d(x_i, y_j)$.

    **Arguments:**

    - `metric`.
    - `points`: `(n, d)`.
    - `others`: `(m, d)`; `points` themselves if not given, and then half the work is done.
    - `solver`: as in `geodesic_bvp`.
    - `chunk_size`: pairs that are solved at once; bounds the memory.
    - `throw`: raise if any pair fails; otherwise a failed pair is NaN.

    **Returns:** `(n, m)`.

    **Fails, cost:** as `geodesic_bvp`, nm times, or n(n − 1)/2 times.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> points = jnp.array([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0]])
    >>> round(pairwise_distances(half_plane_metric, points)[0, 2].item(), 4)
    1.3863
    """
    rows = as_points(points, "points")
    chunk_size = as_count(chunk_size, "chunk_size")
    if others is not None:
        columns = as_points(others, "others", rows[0])
        i, j = np.divmod(np.arange(len(rows) * len(columns)), len(columns))
        flat = _distances(metric, rows[i], columns[j], solver, chunk_size, throw)
        return flat.reshape(len(rows), len(columns))
    i, j = np.triu_indices(len(rows), 1)
    matrix = jnp.zeros((len(rows), len(rows)), rows.dtype)
    if i.size == 0:
        return matrix
    flat = _distances(metric, rows[i], rows[j], solver, chunk_size, throw)
    return matrix.at[i, j].set(flat).at[j, i].set(flat)


@eqx.filter_jit
def _distances(
    metric: Metric, a: Array, b: Array, solver: Solver | None, chunk_size: int, throw: bool
) -> Float[Array, " n"]:
    def one(pair: tuple[Array, Array]) -> tuple[Array, Any]:
        solution = geodesic_bvp(metric, *pair, solver=solver, throw=False)
        failed = solution.result != RESULTS.successful
        return jnp.where(failed, jnp.nan, solution.stats["length"]), solution.result

    lengths, results = jax.lax.map(one, (a, b), batch_size=min(chunk_size, a.shape[0]))
    return _raise_worst(lengths, results) if throw else lengths


def _raise_worst(value: Array, results: Any) -> Array:
    result = worst(results)
    return result.error_if(value, result != RESULTS.successful)


class FrechetMean(NamedTuple):
    """A mean, and how it was found.

    - `point`: `(d,)`. - `variance`: Σ wᵢ d(point, xᵢ)². - `result`: a `RESULTS` member.
    - `iterations`. - `residual`: |Σ wᵢ log xᵢ| over the root of the variance.
    """

    point: Point
    variance: Scalar
    result: Any
    iterations: Int[Array, ""]
    residual: Scalar


def frechet_mean(
    metric: Metric,
    points: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    start: ArrayLike | None = None,
    solver: Solver | None = None,
    rtol: float | None = None,
    throw: bool = True,
) -> FrechetMean:
    r"""The point with the least mean squared geodesic distance.

    $$ \bar x = \arg\min_x \sum_i w_i\, d(x, x_i)^2, \qquad \sum_i w_i \log_{\bar x} x_i = 0 $$

    by Newton's method on the second condition, which is safeguarded by the first.

    **Arguments:**

    - `metric`.
    - `points`: `(n, d)`.
    - `weights`: `(n,)` non-negative numbers; made to sum to 1. Equal if not given.
    - `start`: where to start, `(d,)`; the weighted mean of the coordinates if not given.
    - `solver`: as in `geodesic_bvp`.
    - `rtol`: converged at a residual below it; the square root of epsilon if not given, and
      Newton's last step squares the error.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `FrechetMean`; a local minimum, the only one in a ball of regular size. The point
    is differentiable in `points`, `weights` and `metric` by the implicit function theorem.

    **Fails:** `ValueError` on shapes; `not_converged`, `line_search_failed`, and what
    `geodesic_bvp` fails with at the last iterate.

    **Cost:** n boundary-value problems per iteration, side by side; 3 to 6 iterations.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> mean = frechet_mean(half_plane_metric, jnp.array([[0.0, 1.0], [0.0, 4.0]]))
    >>> round(mean.point[1].item(), 4)
    2.0

    **Reference:** Karcher (1977); Pennec (2006), *J. Math. Imaging Vis.* 25, 127.
    """
    rows = as_points(points, "points")
    if weights is None:
        shares = jnp.full(len(rows), 1 / len(rows), rows.dtype)
    else:
        given = as_array(weights, "weights")
        if given.shape != (len(rows),) or jnp.iscomplexobj(given):
            raise ValueError(
                f"`weights` must have shape ({len(rows)},), real, got {given.shape} of dtype "
                f"{given.dtype}."
            )
        shares = jnp.asarray(given, rows.dtype)
        if not isinstance(shares, jax.core.Tracer) and not (
            np.min(shares) >= 0 and 0 < np.sum(shares) < np.inf
        ):
            raise ValueError(f"`weights` must be ≥ 0, finite and not all 0, got {weights}.")
        shares = shares / jnp.sum(shares)
    centre = jnp.dot(shares, rows, precision=HIGHEST)
    begin = centre if start is None else as_point(start, "start", rows[0])
    return mean_of(metric, rows, shares, begin, solver, default_rtol(rtol, rows.dtype), throw)


class _Mean(NamedTuple):
    x: Point  # the best so far
    objective: Scalar
    step: Float[Array, " d"]  # Newton's, from x
    residual: Scalar
    size: Scalar
    iterations: Int[Array, ""]
    result: Any
    running: Bool[Array, ""]


@eqx.filter_jit
def mean_of(
    metric: Metric,
    points: Array,
    weights: Array,
    start: Array,
    solver: Solver | None,
    rtol: Array,
    throw: bool,
) -> FrechetMean:
    check_metric(metric, start)
    g = eqx.filter_closure_convert(metric, start)
    pull = functools.partial(_pull, solver)
    fixed = jax.lax.stop_gradient((points, weights))
    still = frozen(g)

    def evaluate(x: Array) -> tuple[Array, Array, Array, Array, Any]:
        """Newton's step, the objective, the relative size of the pull, what rounding of the
        coordinates alone makes of it, how the logs went."""
        slope, (force, objective, result) = jax.jacfwd(
            lambda y: pull(still, *fixed, y), has_aux=True
        )(x)
        size, reach = norm(still, x, force), norm(still, x, x)
        spread = jnp.sqrt(objective)
        spread = jnp.where(spread == 0, 1, spread)
        rounding = ROUNDING * float(jnp.finfo(x.dtype).eps) * reach
        step = -jnp.linalg.solve(slope, force)
        return step, objective, size / spread, rounding / spread, result

    def body(state: _Mean) -> _Mean:
        x = state.x + state.size * state.step
        step, objective, residual, rounding, logs = evaluate(x)
        slack = 64 * jnp.finfo(x.dtype).eps * jnp.abs(state.objective)
        healthy = (logs == RESULTS.successful) & jnp.all(jnp.isfinite(step))
        accept = healthy & (objective <= state.objective + slack)
        converged = accept & (residual <= jnp.maximum(rtol, rounding))
        size = jnp.where(accept, jnp.ones_like(state.size), state.size / 2)
        first = state.iterations == 0
        failed = ~accept & (first | (size < 1e-6))
        why = RESULTS.where(logs == RESULTS.successful, RESULTS.line_search_failed, logs)
        result = RESULTS.where(failed, why, RESULTS.not_converged)
        accepted = jnp.where(converged, x + step, x)
        return _Mean(
            x=jnp.where(accept, accepted, state.x),
            objective=jnp.where(accept, objective, state.objective),
            step=jnp.where(accept, step, state.step),
            residual=jnp.where(accept, residual, state.residual),
            size=size,
            iterations=state.iterations + 1,
            result=RESULTS.where(converged, RESULTS.successful, result),
            running=~(converged | failed | (state.iterations + 1 >= MEAN_ITERATIONS)),
        )

    inf = jnp.full((), jnp.inf, start.dtype)
    state = _Mean(
        x=jax.lax.stop_gradient(start),
        objective=inf,
        step=jnp.zeros_like(start),
        residual=inf,
        size=jnp.ones((), start.dtype),
        iterations=jnp.zeros((), jnp.int32),
        result=RESULTS.not_converged,
        running=jnp.ones((), bool),
    )
    end = jax.lax.while_loop(lambda state: state.running, body, state)
    x = _implicit_mean(end.x, pull, g, points, weights)
    variance = pull(g, points, weights, x)[1][1]
    mean = FrechetMean(x, variance, end.result, end.iterations, end.residual)
    if throw:
        mean = end.result.error_if(mean, end.result != RESULTS.successful)
    return mean


def logs_of(
    solver: Solver | None, metric: Metric, points: Array, x: Array
) -> tuple[Float[Array, "n d"], Float[Array, " n"], Any]:
    """logₓ of every point, the squared distances, and how each went."""

    def one(point: Array) -> tuple[Array, Array, Any]:
        solution = geodesic_bvp(metric, x, point, solver=solver, throw=False)
        return solution.velocities[0], solution.stats["length"] ** 2, solution.result

    return jax.vmap(one)(points)


def _pull(
    solver: Solver | None, metric: Metric, points: Array, weights: Array, x: Array
) -> tuple[Array, tuple[Array, Array, Any]]:
    """Σ wᵢ logₓ xᵢ, which the mean makes zero; with it Σ wᵢ d², and how the logarithms went."""
    logs, squares, results = logs_of(solver, metric, points, x)
    # a point of no weight may be out of reach
    counts = weights > 0
    settled = jax.vmap(RESULTS.where, (0, 0, None))(counts, results, RESULTS.successful)
    result = worst(settled)
    force = jnp.sum(jnp.where(counts[:, None], weights[:, None] * logs, 0), axis=0)
    return force, (force, jnp.sum(jnp.where(counts, weights * squares, 0)), result)


@eqx.filter_custom_jvp
def _implicit_mean(x: Array, pull: Any, metric: Any, points: Array, weights: Array) -> Array:
    """`x` unchanged, with its derivatives by the implicit function theorem."""
    return x


@_implicit_mean.def_jvp
def _implicit_mean_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, pull, metric, points, weights = primals
    _, _, d_metric, d_points, d_weights = tangents
    x = _implicit_mean(x, pull, metric, points, weights)
    drift = partial_jvp(lambda g: pull(g, points, weights, x)[0], metric, d_metric)
    d_points, d_weights = instantiate((d_points, d_weights), (points, weights))
    moved = jax.jvp(
        lambda p, w: pull(metric, p, w, x)[0], (points, weights), (d_points, d_weights)
    )[1]
    slope = jax.jacfwd(lambda y: pull(metric, points, weights, y)[0])(x)
    return x, -jnp.linalg.solve(slope, drift + moved)


class TangentPCA(NamedTuple):
    """Principal directions of points about a mean.

    - `components`: `(k, d)` tangent vectors at the mean, orthonormal in the metric.
    - `variances`: `(k,)`, falling.
    - `coordinates`: `(n, k)`, each point's logarithm along the components.
    """

    components: Float[Array, "k d"]
    variances: Float[Array, " k"]
    coordinates: Float[Array, "n k"]


def tangent_pca(
    metric: Metric,
    points: ArrayLike,
    mean: ArrayLike,
    *,
    solver: Solver | None = None,
    throw: bool = True,
) -> TangentPCA:
    r"""Principal components of the logarithms at a mean, in the metric there.

    $$ C = \tfrac1n \sum_i L^\top v_i v_i^\top L, \qquad v_i = \log_{\bar x} x_i,\ g = L L^\top $$

    **Arguments:** `metric`; `points`, `(n, d)`; `mean`, `(d,)`, say `frechet_mean(...).point`;
    `solver` as in `geodesic_bvp`; `throw`: raise if a logarithm fails, otherwise NaN.

    **Returns:** `TangentPCA` with k = min(n, d).

    **Fails, cost:** as `geodesic_bvp`, n of them side by side.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> points = jnp.array([[0.0, 1.0], [0.0, 4.0]])
    >>> pca = tangent_pca(half_plane_metric, points, jnp.array([0.0, 2.0]))
    >>> round(pca.variances[0].item(), 4)  # (log 2)²
    0.4805

    **Reference:** Fletcher et al. (2004), *IEEE Trans. Med. Imaging* 23, 995.
    """
    rows = as_points(points, "points")
    centre = as_point(mean, "mean", rows[0])
    return _pca(metric, rows, centre, solver, throw)


@eqx.filter_jit
def _pca(
    metric: Metric, points: Array, mean: Array, solver: Solver | None, throw: bool
) -> TangentPCA:
    logs, _, results = logs_of(solver, metric, points, mean)
    logs = jnp.where((results == RESULTS.successful)[:, None], logs, jnp.nan)
    if throw:
        logs = _raise_worst(logs, results)
    factor = cholesky(metric(mean))
    white = jnp.dot(logs, factor, precision=HIGHEST)
    left, sizes, axes = jnp.linalg.svd(white, full_matrices=False)
    components = jax.scipy.linalg.solve_triangular(factor.T, axes.T).T
    return TangentPCA(components, sizes**2 / len(points), left * sizes[None, :])
