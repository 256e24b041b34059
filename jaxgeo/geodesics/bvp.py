"""Geodesics between two points, and what follows from them: logarithm and distance."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Scalar, Vector, as_point, check_metric
from jaxgeo.geodesics.relaxation import (
    Diagnostics,
    Relaxation,
    default_rtol,
    relax,
    straight_line,
)
from jaxgeo.geodesics.shooting import Shooting, follow, shoot
from jaxgeo.geodesics.solution import (
    GeodesicSolution,
    as_domain,
    assess,
    check_inside,
    first_failure,
)
from jaxgeo.geometry.connection import geodesic_acceleration


def geodesic_bvp(
    metric: Metric,
    z0: ArrayLike,
    z1: ArrayLike,
    *,
    solver: Shooting | Relaxation | None = None,
    domain: ArrayLike | None = None,
    throw: bool = True,
) -> GeodesicSolution:
    r"""The geodesic from `z0` to `z1`, found by descent of the energy from the straight line.

    $$ \min_\gamma \; \tfrac12\int_0^1 g(\gamma',\gamma')\,dt,
       \qquad \gamma(0) = z_0,\ \gamma(1) = z_1 $$

    It is the shortest curve near the straight line of the chart; where several geodesics join
    the points, another may be shorter.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `z0`, `z1`: the two ends, `(d,)`.
    - `solver`: `Shooting()` (default: error of order 8 in the spacing) or `Relaxation()` (order
      2, cheaper in high dimension).
    - `domain`: `(d, 2)` bounds of the box in which the metric is known.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `GeodesicSolution` at N + 1 equal steps of t ∈ [0, 1]. Differentiable, in forward
    and reverse mode and repeatedly, in `z0`, `z1` and the metric's parameters: by the implicit
    function theorem, never through the iterations.

    **Fails:** `ValueError` on shape, dtype and bounds. `metric_not_positive_definite`,
    `nonfinite`, `left_domain`, `not_converged` (near conjugate points, or if `n_segments` cannot
    resolve the metric), `line_search_failed`.

    **Cost:** see the solvers. Compiles once per shape and structure of `metric` and `solver`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> solution = geodesic_bvp(half_plane_metric, jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0]))
    >>> round(solution.stats["length"].item(), 4)
    0.6931

    **Reference:** do Carmo (1992), ch. 9, prop. 2.4; solvers: see `Relaxation` and `Shooting`.
    """
    z0 = as_point(z0, "z0")
    z1 = as_point(z1, "z1", z0)
    bounds = as_domain(domain, z0)
    check_inside(z0, "z0", bounds)
    check_inside(z1, "z1", bounds)
    return _solve(metric, z0, z1, _with_arrays(solver or Shooting(), z0), bounds, throw)


def _with_arrays(solver: Any, z: Array) -> Any:
    """The solver with its numbers as arrays: they are data, and a new value does not retrace."""
    limit = jnp.asarray(solver.max_iterations, jnp.int32)
    if isinstance(solver, Relaxation):
        if solver.n_segments < 2:
            raise ValueError(f"`n_segments` must be at least 2, got {solver.n_segments}.")
        return Relaxation(solver.n_segments, limit, default_rtol(solver.rtol, z.dtype))
    # Newton's method needs no better start than the discretisation error of the polyline
    coarse = solver.relaxation
    if coarse.rtol is None:
        coarse = eqx.tree_at(
            lambda r: r.rtol,
            coarse,
            default_rtol(None, z.dtype, 0.25),
            is_leaf=lambda r: r is None,
        )
    return Shooting(_with_arrays(coarse, z), limit, default_rtol(solver.rtol, z.dtype))


def _frozen(tree: Any) -> Any:
    """`tree` with no derivative flowing through its arrays."""
    dynamic, static = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(dynamic), static)


@eqx.filter_jit
def _solve(
    metric: Metric,
    z0: Array,
    z1: Array,
    solver: Shooting | Relaxation,
    domain: Array | None,
    throw: bool,
) -> GeodesicSolution:
    check_metric(metric, z0)
    # closures may hold traced values: hoist them, so that derivatives can be taken in them
    g = eqx.filter_closure_convert(metric, z0)
    acceleration = eqx.filter_closure_convert(
        functools.partial(geodesic_acceleration, metric), z0, z0
    )
    start, end = _frozen(z0), _frozen(z1)
    x, found = _search(_frozen(g), _frozen(acceleration), start, end, solver)
    x = follow(x, acceleration, z0, z1)
    points, velocities = jnp.split(x, 2, axis=1)
    ts = jnp.linspace(0, 1, x.shape[0], dtype=z0.dtype)
    judged, stats = assess(g, ts, points, velocities, domain)
    # a curve that is bad in itself is more telling than a solver that could not mend it
    bad_metric = (found.result == RESULTS.nonfinite) | (
        found.result == RESULTS.metric_not_positive_definite
    )
    result = RESULTS.where(bad_metric, found.result, first_failure(judged, found.result))
    stats |= {"iterations": found.iterations, "residual": found.residual}
    solution = GeodesicSolution(ts, points, velocities, result, stats)
    if throw:
        solution = result.error_if(solution, result != RESULTS.successful)
    return solution


def _search(
    metric: Metric, acceleration: Any, z0: Array, z1: Array, solver: Shooting | Relaxation
) -> tuple[Float[Array, "n two_d"], Diagnostics]:
    """The nodes (z, v) of the geodesic, without derivatives."""
    coarse = solver if isinstance(solver, Relaxation) else solver.relaxation
    line = straight_line(z0, z1, coarse.n_segments)
    curve, relaxed = relax(metric, line, *_numbers(coarse))
    x = jnp.concatenate([curve, _velocities(curve)], axis=1)
    if isinstance(solver, Relaxation):
        return x, relaxed
    x, shot = shoot(acceleration, x, *_numbers(solver))
    bad_metric = (relaxed.result == RESULTS.nonfinite) | (
        relaxed.result == RESULTS.metric_not_positive_definite
    )
    result = RESULTS.where(bad_metric, relaxed.result, shot.result)
    return x, Diagnostics(result, relaxed.iterations + shot.iterations, shot.residual)


def _numbers(solver: Shooting | Relaxation) -> tuple[Array, Array]:
    """The settings that `_with_arrays` has made arrays of."""
    return jnp.asarray(solver.rtol), jnp.asarray(solver.max_iterations)


def _velocities(curve: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """dγ/dt at the points, by differences of second order, the ends too."""
    step = jnp.diff(curve, axis=0) * (curve.shape[0] - 1)
    inner = (step[1:] + step[:-1]) / 2
    first, last = (3 * step[0] - step[1]) / 2, (3 * step[-1] - step[-2]) / 2
    return jnp.concatenate([first[None], inner, last[None]])


def log(
    metric: Metric, z0: ArrayLike, z1: ArrayLike, *, solver: Shooting | Relaxation | None = None
) -> Vector:
    r"""The logarithm: the velocity at `z0` of the geodesic that is at `z1` at t = 1.

    **Arguments:** `metric`; `z0`, `z1`, points `(d,)`; `solver` as in `geodesic_bvp`.

    **Returns:** a tangent vector `(d,)` at `z0`, with `exp(metric, z0, v) = z1`. Differentiable
    in both modes; the derivative in `z1` at `z1 = z0` is the identity.

    **Fails, cost:** as `geodesic_bvp` with `throw=True`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> v = log(half_plane_metric, jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0]))
    >>> round(v[1].item(), 4)
    0.6931
    """
    return geodesic_bvp(metric, z0, z1, solver=solver).velocities[0]


def distance(
    metric: Metric, z0: ArrayLike, z1: ArrayLike, *, solver: Shooting | Relaxation | None = None
) -> Scalar:
    r"""The length of the geodesic between two points.

    Its derivative in `z1` is g(z1)γ'(1)/|γ'(1)|, and 0 where the points coincide (there is none).

    **Arguments:** `metric`; `z0`, `z1`, points `(d,)`; `solver` as in `geodesic_bvp`.

    **Returns:** a number; of the geodesic found, see `geodesic_bvp`.

    **Fails, cost:** as `geodesic_bvp` with `throw=True`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> a, b = jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0])
    >>> round(distance(half_plane_metric, a, b).item(), 4)
    0.6931
    """
    return geodesic_bvp(metric, z0, z1, solver=solver).stats["length"]
