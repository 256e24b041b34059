"""Geodesics between two points, and what follows from them: logarithm and distance."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._batching import one_by_one
from jaxgeo._compilation import entry_point
from jaxgeo._linalg import frozen, unit_of
from jaxgeo._results import RESULTS
from jaxgeo._typing import (
    Metric,
    Scalar,
    Vector,
    as_array,
    as_count,
    as_limit,
    as_point,
    check_metric,
)
from jaxgeo.geodesics.fixed_point import DRIFT, FixedPoint, iterate
from jaxgeo.geodesics.relaxation import (
    RESOLVED,
    SHORTER,
    Diagnostics,
    Relaxation,
    Sweep,
    checked_energy,
    default_rtol,
    legendre,
    no_sweep,
    relax,
)
from jaxgeo.geodesics.shooting import Shooting, follow, passes_conjugate_point, shoot
from jaxgeo.geodesics.solution import (
    GeodesicSolution,
    as_domain,
    assess,
    check_inside,
    drift_limit,
    drift_result,
    first_failure,
    is_outside,
)
from jaxgeo.geodesics.starts import constant_speed, start_curves
from jaxgeo.geometry.connection import geodesic_acceleration
from jaxgeo.metrics import warn_off_support

Solver = Shooting | Relaxation | FixedPoint


def geodesic_bvp(
    metric: Metric,
    z0: ArrayLike,
    z1: ArrayLike,
    *,
    solver: Solver | None = None,
    start: ArrayLike | None = None,
    domain: ArrayLike | None = None,
    throw: bool = True,
) -> GeodesicSolution:
    r"""The geodesic from `z0` to `z1`, found by descent of the energy from several curves.

    $$ \min_\gamma \; \tfrac12\int_0^1 g(\gamma',\gamma')\,dt,
       \qquad \gamma(0) = z_0,\ \gamma(1) = z_1 $$

    It is the shortest of those found from the straight line of the chart and from arcs on either
    side of it; where many geodesics join the points, another may be shorter still. One of them is
    found from a `start` near it; in two or three dimensions `shortest_path` leads to the shortest.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `z0`, `z1`: the two ends, `(d,)`.
    - `solver`: `Shooting()` (default: error of order 8 in the spacing), `Relaxation()` (order
      2, cheaper in high dimension) or `FixedPoint()` (for gently bent geodesics only).
    - `start`: `(n, d)`, a curve from `z0` to `z1`: the geodesic near it is returned, be it the
      shortest or not; `stats["shorter_found"]` says which.
    - `domain`: `(d, 2)` bounds of the box in which the metric is known. Starts that leave it are
      not used where another stays inside.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `GeodesicSolution` at N + 1 equal steps of t ∈ [0, 1]. Differentiable, in forward
    and reverse mode and repeatedly, in `z0`, `z1` and the metric's parameters: by the implicit
    function theorem, never through the iterations.

    **Fails:** `ValueError` on shape, dtype and bounds. `metric_not_positive_definite`,
    `nonfinite`, `left_domain`, `not_converged`, `line_search_failed`, `not_resolved`
    (`n_segments` cannot follow the metric), `conjugate_point` (no minimum; `Shooting` only).

    **Cost:** see the solvers. Compiles once per shape and structure of `metric` and `solver`.
    Under `vmap` a CPU takes one pair after another, an accelerator all side by side.

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
    warn_off_support(metric, z0, z1)
    curve = _as_start(start, z0)
    solver = _with_arrays(solver or Shooting(), z0)
    return _solve(metric, z0, z1, curve, solver, bounds, throw)


def _as_start(start: ArrayLike | None, z: Array) -> Array | None:
    if start is None:
        return None
    curve = as_array(start, "start")
    if curve.ndim != 2 or curve.shape[0] < 2 or curve.shape[1] != z.size:
        raise ValueError(f"`start` must have shape (n, {z.size}) with n ≥ 2, got {curve.shape}.")
    if jnp.iscomplexobj(curve):
        raise ValueError(f"`start` must be real, got dtype {curve.dtype}.")
    if not isinstance(curve, jax.core.Tracer) and not np.all(np.isfinite(curve)):
        row = int(np.argmin(np.isfinite(curve).all(axis=1)))
        raise ValueError(f"`start` must be finite, got {np.asarray(curve[row])} in row {row}.")
    return jnp.asarray(curve, z.dtype)


@functools.singledispatch
def _with_arrays(solver: Any, z: Array) -> Any:
    """The solver with its numbers as arrays: they are data, and a new value does not retrace."""
    raise ValueError(f"`solver` must be a Shooting, Relaxation or FixedPoint, got {solver!r}.")


@_with_arrays.register
def _(solver: Relaxation, z: Array) -> Relaxation:
    n_segments = as_count(solver.n_segments, "n_segments", 2)
    n_starts = as_count(solver.n_starts, "n_starts")
    limit = as_limit(solver.max_iterations, "max_iterations")
    return Relaxation(n_segments, limit, default_rtol(solver.rtol, z.dtype), n_starts)


@_with_arrays.register
def _(solver: Shooting, z: Array) -> Shooting:
    # Newton's method needs no better start than the discretisation error of the polyline
    coarse = solver.relaxation
    if coarse.rtol is None:
        coarse = eqx.tree_at(
            lambda r: r.rtol,
            coarse,
            default_rtol(None, z.dtype, 0.25),
            is_leaf=lambda r: r is None,
        )
    limit = as_limit(solver.max_iterations, "max_iterations")
    return Shooting(_with_arrays(coarse, z), limit, default_rtol(solver.rtol, z.dtype))


@_with_arrays.register
def _(solver: FixedPoint, z: Array) -> FixedPoint:
    n_nodes = as_count(solver.n_nodes, "n_nodes", 3)
    if not 0 < solver.length_scale < np.inf:
        raise ValueError(f"`length_scale` must be positive, got {solver.length_scale}.")
    limit = as_limit(solver.max_iterations, "max_iterations")
    return FixedPoint(n_nodes, solver.length_scale, limit, default_rtol(solver.rtol, z.dtype))


@entry_point
def _solve(
    metric: Metric,
    z0: Array,
    z1: Array,
    start: Array | None,
    solver: Solver,
    domain: Array | None,
    throw: bool,
) -> GeodesicSolution:
    check_metric(metric, z0)
    # closures may hold traced values: hoist them, so that derivatives can be taken in them
    g = eqx.filter_closure_convert(metric, z0)
    acceleration = eqx.filter_closure_convert(
        functools.partial(geodesic_acceleration, metric), z0, z0
    )
    still_metric, still_acceleration = frozen(g), frozen(acceleration)

    def search(z0: Array, z1: Array, start: Array | None, rest: Any) -> Any:
        metric, acceleration, solver, domain = rest
        return _search(solver, metric, acceleration, (z0, z1), start, domain)

    rest = still_metric, still_acceleration, solver, domain
    x, found = one_by_one(search, frozen(z0), frozen(z1), start, rest)
    x = follow(x, acceleration, z0, z1)
    points, speeds = jnp.split(x, 2, axis=1)
    ts = jnp.linspace(0, 1, x.shape[0], dtype=z0.dtype)
    judged, stats = assess(g, ts, points, speeds, domain, still_acceleration)
    # a curve that is bad in itself is more telling than a solver that could not mend it
    result = RESULTS.where(
        _is_of_the_metric(found.result), found.result, first_failure(judged, found.result)
    )
    # and only a curve that is resolved can be told to bend back
    bend = RESULTS.where(found.bent_back, RESULTS.conjugate_point, RESULTS.successful)
    result = first_failure(result, drift_result(stats["speed_drift"], found.drift), bend)
    stats |= {"iterations": found.iterations, "shorter_found": found.shorter}
    solution = GeodesicSolution(ts, points, speeds, result, stats)
    if throw:
        solution = result.error_if(solution, result != RESULTS.successful)
    return solution


def _starts(
    metric: Metric, ends: tuple[Array, Array], start: Array | None, solver: Relaxation
) -> Float[Array, "k n d"]:
    """The curves to relax, the user's first."""
    curves = start_curves(metric, *ends, solver.n_segments, solver.n_starts)
    if start is None:
        return curves
    return jnp.concatenate([_joined(metric, ends, start, solver.n_segments)[None], curves])


def _joined(
    metric: Metric, ends: tuple[Array, Array], start: Float[Array, "m d"], n_segments: int
) -> Float[Array, "n d"]:
    """The user's curve, between the ends and at constant speed."""
    joined = jnp.concatenate([ends[0][None], start[1:-1], ends[1][None]])
    ts = jnp.linspace(0, 1, joined.shape[0], dtype=start.dtype)
    return constant_speed(metric, joined, ts, n_segments)


class _Found(NamedTuple):
    result: Any
    iterations: Int[Array, ""]
    shorter: Bool[Array, ""]  # whether another start led to a shorter curve
    bent_back: Bool[Array, ""]  # whether it passes a conjugate point
    drift: Scalar  # of the speed, the greatest where it is resolved


def _is_of_the_metric(result: Any) -> Bool[Array, ""]:
    """Whether it is the metric that failed."""
    return (result == RESULTS.nonfinite) | (result == RESULTS.metric_not_positive_definite)


def _of_order_one(metric: Metric, z: Array) -> Metric:
    """The metric in units in which it is 1 at z: squares of steps neither vanish nor overflow."""
    unit = unit_of(metric(z))
    return lambda y: metric(y) / unit


class _Relaxed(NamedTuple):
    """The best of the curves so far."""

    x: Float[Array, "n d"]
    sweep: Sweep  # at the midpoints
    g: Float[Array, "n d d"]  # at the nodes
    ended: Diagnostics
    energy: Scalar  # infinite if the curve is of no use


def _relax_all(
    metric: Metric,
    ends: tuple[Array, Array],
    start: Array | None,
    domain: Array | None,
    solver: Relaxation,
) -> tuple[_Relaxed, Bool[Array, ""]]:
    """The shortest of the relaxed curves, or that from the user's; whether another is shorter.

    One after another, so that each is spared what cannot make it shorter than the best before.
    """
    metric = _of_order_one(metric, (ends[0] + ends[1]) / 2)
    curves, local = _starts(metric, ends, start, solver), start is not None

    def one(curve: Array, rival: Scalar) -> _Relaxed:
        x, sweep, ended = relax(metric, curve, *_numbers(solver), rival)
        g = jax.vmap(metric)(x)
        usable = ended.result == RESULTS.successful
        if domain is not None:
            usable &= ~jnp.any(jax.vmap(is_outside, in_axes=(0, None))(x, domain))
        energy = jnp.where(usable, checked_energy(x, sweep, g), jnp.inf)
        return _Relaxed(x, sweep, g, ended, energy)

    def compare(carry: tuple[_Relaxed, Array, Array], curve: Array) -> Any:
        best, least, first = carry
        rival = jnp.where(jnp.isfinite(best.energy), best.sweep.energy, jnp.inf)
        new = one(curve, rival)
        better = first | ((new.energy < best.energy) & (not local))
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
        return (best, jnp.fmin(least, new.energy), jnp.zeros_like(first)), None

    inf = jnp.full((), jnp.inf, curves.dtype)
    _, n, d = curves.shape
    g = jnp.zeros((n, d, d), curves.dtype)
    unknown = Diagnostics(RESULTS.not_converged, jnp.zeros((), jnp.int32))
    none = _Relaxed(curves[0], no_sweep(curves[0]), g, unknown, inf)
    (best, least, _), _ = jax.lax.scan(compare, (none, inf, jnp.ones((), bool)), curves)
    return best, least < (1 - SHORTER) * best.energy


@functools.singledispatch
def _search(
    solver: Any,
    metric: Metric,
    acceleration: Any,
    ends: tuple[Array, Array],
    start: Array | None,
    domain: Array | None,
) -> tuple[Float[Array, "n two_d"], _Found]:
    """The nodes (z, v) of the geodesic, without derivatives."""
    raise NotImplementedError


@_search.register
def _(
    solver: Relaxation,
    metric: Metric,
    acceleration: Any,
    ends: tuple[Array, Array],
    start: Array | None,
    domain: Array | None,
) -> tuple[Float[Array, "n two_d"], _Found]:
    best, shorter = _relax_all(metric, ends, start, domain, solver)
    x = jnp.concatenate([best.x, legendre(best.sweep, best.g)], axis=1)
    # a polyline whose energy is not that of the curve has stepped over what it should cross
    unresolved = RESULTS.where(jnp.isfinite(best.energy), RESULTS.successful, RESULTS.not_resolved)
    result = first_failure(best.ended.result, unresolved)
    drift = jnp.asarray(RESOLVED, x.dtype)
    no = jnp.zeros((), bool)
    return x, _Found(result, best.ended.iterations, shorter, no, drift)


@_search.register
def _(
    solver: Shooting,
    metric: Metric,
    acceleration: Any,
    ends: tuple[Array, Array],
    start: Array | None,
    domain: Array | None,
) -> tuple[Float[Array, "n two_d"], _Found]:
    best, shorter = _relax_all(metric, ends, start, domain, solver.relaxation)
    found = best.ended
    x = jnp.concatenate([best.x, legendre(best.sweep, best.g)], axis=1)
    x, matrices, shot = shoot(best.g, acceleration, x, *_numbers(solver))
    result = RESULTS.where(_is_of_the_metric(found.result), found.result, shot.result)
    bent_back = passes_conjugate_point(metric, x, matrices)
    return x, _Found(
        result, found.iterations + shot.iterations, shorter, bent_back, drift_limit(x.dtype)
    )


@_search.register
def _(
    solver: FixedPoint,
    metric: Metric,
    acceleration: Any,
    ends: tuple[Array, Array],
    start: Array | None,
    domain: Array | None,
) -> tuple[Float[Array, "n two_d"], _Found]:
    curve = None if start is None else _joined(metric, ends, start, solver.n_nodes - 1)
    x, ended = iterate(metric, acceleration, ends, curve, solver)
    no = jnp.zeros((), bool)
    return x, _Found(*ended, no, no, jnp.asarray(DRIFT, x.dtype))


def _numbers(solver: Shooting | Relaxation) -> tuple[Array, Array]:
    """The settings that `_with_arrays` has made arrays of."""
    return jnp.asarray(solver.rtol), jnp.asarray(solver.max_iterations)


def log(metric: Metric, z0: ArrayLike, z1: ArrayLike, *, solver: Solver | None = None) -> Vector:
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
    metric: Metric, z0: ArrayLike, z1: ArrayLike, *, solver: Solver | None = None
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
