"""What is carried along a geodesic: parallel vectors, Jacobi fields, conjugate points."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, negative_eigenvalues
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, Vector, as_point
from jaxgeo.geodesics.flows import flow
from jaxgeo.geodesics.solution import STEPS, GeodesicSolution, drift_result, first_failure, worst
from jaxgeo.geometry.connection import geodesic_acceleration

BISECTIONS = 48
"""Halvings of a segment in which a conjugate point is sought."""


class JacobiField(NamedTuple):
    """A Jacobi field along a geodesic: `values` J and `derivatives` DJ/dt, `(n, d)` each."""

    values: Float[Array, "n d"]
    derivatives: Float[Array, "n d"]


def parallel_transport(
    metric: Metric, solution: GeodesicSolution, v: ArrayLike, *, throw: bool = True
) -> Float[Array, "n d"]:
    r"""A vector carried along a geodesic without turning.

    $$ \dot w^k + \Gamma^k{}_{ij}\,\dot\gamma^i w^j = 0, \qquad w(t_0) = v $$

    Lengths and angles are kept.

    **Arguments:**

    - `metric`: that of `solution`.
    - `solution`: a `GeodesicSolution` with two points at least.
    - `v`: a tangent vector `(d,)` at the first point.
    - `throw`: raise on failure; otherwise a failure gives NaN.

    **Returns:** `(n, d)`, the vector at each of `solution.ts`. Differentiable in both modes.

    **Fails:** `ValueError` on shapes. `not_resolved`, if the points of `solution` are too far
    apart for steps of order 8, or not those of a geodesic of `metric`; `nonfinite`.

    **Cost:** 13 accelerations with one derivative each per step, n − 1 steps and no fewer than 64.

    **Example:** a quarter round the pole of the sphere, along the equator, and back north.

    >>> from jaxgeo.geodesics import geodesic_ivp
    >>> from jaxgeo.problems import sphere_metric
    >>> equator = jnp.array([jnp.pi / 2, 0.0]), jnp.array([0.0, 1.0])
    >>> solution = geodesic_ivp(sphere_metric, *equator)
    >>> parallel_transport(sphere_metric, solution, jnp.array([1.0, 0.0]))[-1, 0].item()
    1.0

    **Reference:** do Carmo (1992), ch. 2, prop. 2.6.
    """
    v = as_point(v, "v", solution.points[0])

    def field(z: Array, u: Array, carried: Array) -> Array:
        return _turn(metric, z, u, carried)

    carried, result = _carry(field, metric, solution, v)
    return _checked(carried, result, throw)


def jacobi_field(
    metric: Metric,
    solution: GeodesicSolution,
    j0: ArrayLike,
    dj0: ArrayLike,
    *,
    throw: bool = True,
) -> JacobiField:
    r"""How neighbouring geodesics part: the Jacobi field with given start.

    $$ \frac{D^2 J}{dt^2} + R(J, \dot\gamma)\dot\gamma = 0 $$

    It is the derivative of the geodesics that leave $\gamma(t_0)$ displaced by `j0`, with a
    velocity that differs by `dj0`.

    **Arguments:**

    - `metric`: that of `solution`.
    - `solution`: a `GeodesicSolution` with two points at least.
    - `j0`: J at the first point, `(d,)`.
    - `dj0`: its covariant derivative DJ/dt there, `(d,)`.
    - `throw`: raise on failure; otherwise a failure gives NaN.

    **Returns:** `JacobiField` at each of `solution.ts`. Differentiable in both modes.

    **Fails, cost:** as `parallel_transport`. No curvature tensor is formed.

    **Example:** on the sphere neighbours meet again at the opposite pole: J = sin t.

    >>> from jaxgeo.geodesics import geodesic_ivp
    >>> from jaxgeo.problems import sphere_metric
    >>> z, v, e = jnp.array([jnp.pi / 2, 0.0]), jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])
    >>> field = jacobi_field(sphere_metric, geodesic_ivp(sphere_metric, z, v), 0 * e, e)
    >>> round(field.values[-1, 0].item(), 4)
    0.8415

    **Reference:** do Carmo (1992), ch. 5, eq. 1.
    """
    j0 = as_point(j0, "j0", solution.points[0])
    dj0 = as_point(dj0, "dj0", j0)
    z, v = solution.points[0], solution.velocities[0]
    start = jnp.concatenate([j0, dj0 + _turn(metric, z, v, j0)])
    carried, result = _carry(functools.partial(_part, metric), metric, solution, start)
    carried = _checked(carried, result, throw)
    values, rates = jnp.split(carried, 2, axis=1)
    turns = jax.vmap(functools.partial(_turn, metric))(
        solution.points, solution.velocities, values
    )
    return JacobiField(values, rates - turns)


def conjugate_time(metric: Metric, solution: GeodesicSolution, *, throw: bool = True) -> Scalar:
    r"""When a geodesic first meets a point conjugate to its start.

    From there on it is no longer the shortest, even among its neighbours. The d Jacobi fields that
    vanish at the start make a symmetric matrix $\langle J_a, DJ_b/dt\rangle$, whose eigenvalues
    cross zero upwards at conjugate points and nowhere else: multiple ones count as well.

    **Arguments:** `metric`, that of `solution`; `solution`, with points close enough that no
    segment holds two zeros; `throw`: raise on failure, otherwise a failure gives NaN.

    **Returns:** a time; infinity if there is none up to `solution.ts[-1]`. Not differentiable.

    **Fails:** as `parallel_transport`.

    **Cost:** d Jacobi fields, and 48 steps for each further digit of the one segment.

    **Example:**

    >>> from jaxgeo.geodesics import geodesic_ivp
    >>> from jaxgeo.problems import sphere_metric
    >>> z, v = jnp.array([jnp.pi / 2, 0.0]), jnp.array([0.0, 4.0])
    >>> t = conjugate_time(sphere_metric, geodesic_ivp(sphere_metric, z, v))
    >>> round(t.item(), 4)
    0.7854

    **Reference:** do Carmo (1992), ch. 5, def. 3.1 and ch. 11, thm. 2.2.
    """
    d = solution.points.shape[1]
    solution = jax.lax.stop_gradient(solution)
    eye = jnp.eye(d, dtype=solution.points.dtype)
    field = functools.partial(_part, metric)
    start = jnp.concatenate([jnp.zeros_like(eye), eye], axis=1)
    spread, results = jax.vmap(lambda y: _carry(field, metric, solution, y), out_axes=(1, 0))(
        start
    )

    def index(z: Array, v: Array, fields: Float[Array, "d two_d"]) -> Array:
        values, rates = jnp.split(fields, 2, axis=1)
        derivatives = rates - jax.vmap(lambda j: _turn(metric, z, v, j))(values)
        product = jnp.dot(
            jnp.dot(values, metric(z), precision=HIGHEST), derivatives.T, precision=HIGHEST
        )
        return negative_eigenvalues(product + product.T)

    indices = jax.vmap(index)(solution.points, solution.velocities, spread)
    drops = jnp.concatenate([jnp.zeros(1, bool), indices[2:] < indices[1:-1]])
    first = jnp.argmax(drops)
    begin = jnp.concatenate(
        [solution.points[first], solution.velocities[first], spread[first].ravel()]
    )

    def joint(y: Array) -> Array:
        z, v = y[:d], y[d : 2 * d]
        rates = jax.vmap(lambda f: _part(metric, z, v, f))(y[2 * d :].reshape(d, 2 * d))
        return jnp.concatenate([v, geodesic_acceleration(metric, z, v), rates.ravel()])

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        lower, upper = bracket
        middle = (lower + upper) / 2
        y = flow(joint, begin, middle - solution.ts[first])
        passed = index(y[:d], y[d : 2 * d], y[2 * d :].reshape(d, 2 * d)) < indices[first]
        return jnp.where(passed, lower, middle), jnp.where(passed, middle, upper)

    bracket = solution.ts[first], solution.ts[first + 1]
    lower, upper = jax.lax.fori_loop(0, BISECTIONS, halve, bracket)
    time = jnp.where(jnp.any(drops), (lower + upper) / 2, jnp.inf)
    return _checked(time, worst(results), throw)


def _turn(metric: Metric, z: Point, v: Vector, w: Vector) -> Vector:
    """−Γ(v, w): half the derivative of the acceleration, which is quadratic in v."""
    return jax.jvp(lambda u: geodesic_acceleration(metric, z, u), (v,), (w,))[1] / 2


def _part(metric: Metric, z: Point, v: Vector, y: Float[Array, " two_d"]) -> Array:
    """The rate of change of (δz, δv), the derivative of the geodesic equation."""
    dz, dv = jnp.split(y, 2)
    acceleration = functools.partial(geodesic_acceleration, metric)
    return jnp.concatenate([dv, jax.jvp(acceleration, (z, v), (dz, dv))[1]])


def _carry(
    field: Any, metric: Metric, solution: GeodesicSolution, start: Float[Array, " m"]
) -> tuple[Float[Array, "n m"], Any]:
    """`start` carried by dy/dt = field(z, v, y) along the geodesic, and how that went.

    Every segment starts from the solution's own point, so that errors of the curve do not grow.
    """
    points, velocities, ts = solution.points, solution.velocities, solution.ts
    n, d = points.shape
    if n < 2:
        raise ValueError(f"`solution` must have at least 2 points, got {n}.")
    substeps = -(-STEPS // (n - 1))

    def joint(x: Array) -> Array:
        z, v, y = x[:d], x[d : 2 * d], x[2 * d :]
        return jnp.concatenate([v, geodesic_acceleration(metric, z, v), field(z, v, y)])

    def advance(y: Array, segment: tuple[Array, Array, Array]) -> tuple[Array, tuple]:
        z, v, duration = segment

        def step(x: Array, _: None) -> tuple[Array, None]:
            return flow(joint, x, duration / substeps), None

        begin = jnp.concatenate([z, v, y])
        x, _ = jax.lax.scan(step, begin, None, length=substeps)
        return x[2 * d :], (x[2 * d :], x[: 2 * d])

    _, (carried, arrived) = jax.lax.scan(
        advance, start, (points[:-1], velocities[:-1], jnp.diff(ts))
    )
    missed = arrived - jnp.concatenate([points[1:], velocities[1:]], axis=1)
    off = jax.vmap(lambda z, u: jnp.sqrt(u @ metric(z) @ u))
    speed = off(points[1:], velocities[1:])
    gap = off(points[1:], missed[:, d:]) + off(points[1:], missed[:, :d]) / (ts[-1] - ts[0])
    finite = jnp.all(jnp.isfinite(carried))
    result = first_failure(
        RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite),
        drift_result(jnp.max(gap / jnp.where(speed == 0, 1, speed))),
    )
    return jnp.concatenate([start[None], carried]), result


def _checked(value: Array, result: Any, throw: bool) -> Array:
    """`value`, or a failure: raised, or NaN."""
    if throw:
        return result.error_if(value, result != RESULTS.successful)
    return jnp.where(result == RESULTS.successful, value, jnp.nan)
