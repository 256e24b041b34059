"""What every geodesic solver returns, and how its curve is judged."""

import functools
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxgeo._linalg import cholesky, quadratic_form, safe_sqrt, unit_of
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, Vector, as_array
from jaxgeo.geodesics.flows import flow, geodesic_field
from jaxgeo.geometry.connection import geodesic_acceleration

Acceleration = Callable[[Point, Vector], Vector]
"""Of a curve that a connection holds straight, from its place and velocity."""

CHECKED = 4
"""Segments of a curve on which the geodesic equation is tested."""

HIGH_DIMENSION = 64
"""Above it only the first segment is tested."""

STEPS = 64
"""Runge–Kutta steps at least, along the whole of a solution."""


@final
class GeodesicSolution(eqx.Module):
    """A geodesic at `n` times, and how its computation ended.

    - `ts`: `(n,)` times of the affine parameter.
    - `points`: `(n, d)` in the chart of the metric.
    - `velocities`: `(n, d)`, dγ/dt at the same times.
    - `result`: a `RESULTS` member; `solution.result == RESULTS.successful` works inside `jit`.
    - `stats`: what was measured on the curve itself, whoever made it. `energy` and `length` over
      the whole of `ts`; `excess_energy`, energy − length²/(2T) ≥ 0, zero at constant speed;
      `speed_drift`, the greatest relative departure from the speed at the start; `residual` of
      the geodesic equation, the covariant acceleration in units of speed per duration: the angle
      by which the curve turns away from a geodesic over its whole length. `iterations` of the
      solver (steps of an initial-value solve). Between two points also `shorter_found`, whether
      another start led to a shorter curve.
    """

    ts: Float[Array, " n"]
    points: Float[Array, "n d"]
    velocities: Float[Array, "n d"]
    result: Any
    stats: dict[str, Array]

    def evaluate(self, t: ArrayLike) -> Point:
        """The point at time `t` by cubic Hermite interpolation between the stored points.

        Of fourth order in the spacing of `ts`; NaN outside them. Vectorise with `jax.vmap`.
        """
        t = jnp.asarray(t, self.ts.dtype)
        i = jnp.clip(jnp.searchsorted(self.ts, t, side="right") - 1, 0, self.ts.size - 2)
        h = self.ts[i + 1] - self.ts[i]
        s = (t - self.ts[i]) / h
        step = self.points[i + 1] - self.points[i]
        first, last = self.velocities[i] * h - step, step - self.velocities[i + 1] * h
        point = self.points[i] + s * step + s * (1 - s) * ((1 - s) * first + s * last)
        inside = (t >= self.ts[0]) & (t <= self.ts[-1])
        return jnp.where(inside, point, jnp.nan)


def as_domain(domain: ArrayLike | None, z: Array) -> Array | None:
    """`domain` as an array `(d, 2)` of the dtype of `z`; `ValueError` where it is no box."""
    if domain is None:
        return None
    box = as_array(domain, "domain")
    if box.shape != (z.size, 2):
        raise ValueError(
            f"`domain` must have shape ({z.size}, 2), lower and upper bounds, got {box.shape}."
        )
    if jnp.iscomplexobj(box):
        raise ValueError(f"`domain` must be real, got dtype {box.dtype}.")
    if not isinstance(box, jax.core.Tracer):
        lower, upper = np.asarray(box).T
        if not np.all(lower < upper):
            raise ValueError(f"`domain` must have lower < upper, got {np.asarray(box)}.")
    return jnp.asarray(box, z.dtype)


def check_inside(z: Array, name: str, domain: Array | None, box: str = "`domain`") -> None:
    """`ValueError` if the concrete point `z` is outside `domain`, or not finite."""
    if isinstance(z, jax.core.Tracer) or isinstance(domain, jax.core.Tracer):
        return
    point = np.asarray(z)
    if not np.all(np.isfinite(point)):
        raise ValueError(f"`{name}` must be finite, got {point}.")
    if domain is not None:
        lower, upper = np.asarray(domain).T
        if not np.all((lower <= point) & (point <= upper)):
            raise ValueError(f"`{name}` must lie in {box} {np.asarray(domain)}, got {point}.")


def is_outside(z: Point, domain: Float[Array, "d 2"]) -> Bool[Array, ""]:
    """Whether a point has left the box."""
    return jnp.any((z < domain[:, 0]) | (z > domain[:, 1]))


def metric_result(g: Float[Array, "... d d"], factor: Array | None = None) -> Any:
    """`successful` if every matrix is finite, symmetric and positive definite, else
    `metric_not_positive_definite` or `nonfinite`.

    A pivot that rounding alone could have made of its diagonal entry counts as none, so that a
    matrix of too low a rank does not pass; an entry whose inverse is rounded to 0 counts as
    infinite. `factor`: the Cholesky factors, if they are at hand.
    """
    finite = jnp.all(jnp.abs(g) < 1 / float(jnp.finfo(g.dtype).tiny))
    factor = cholesky(g) if factor is None else factor
    pivots = jnp.diagonal(factor, axis1=-2, axis2=-1) ** 2
    rounding = 4 * g.shape[-1] ** 0.5 * float(jnp.finfo(g.dtype).eps)
    diagonal = jnp.diagonal(g, axis1=-2, axis2=-1)
    definite = jnp.all(pivots > rounding * diagonal)
    # Cholesky's factor is of the lower half, the energy of both
    root = safe_sqrt(jnp.abs(diagonal))
    slack = float(jnp.finfo(g.dtype).eps) ** 0.5 * root[..., :, None] * root[..., None, :]
    definite &= jnp.all(jnp.abs(g - jnp.swapaxes(g, -2, -1)) <= slack)
    failed = RESULTS.where(finite, RESULTS.metric_not_positive_definite, RESULTS.nonfinite)
    return RESULTS.where(finite & definite, RESULTS.successful, failed)


def drift_limit(dtype: Any) -> Scalar:
    """How constant the speed is at order 8: 5e-7 in float64, 2e-3 in float32."""
    return jnp.asarray(float(jnp.finfo(dtype).eps) ** 0.4, dtype)


def drift_result(drift: Scalar, limit: Scalar | None = None) -> Any:
    """`not_resolved` if the speed, a constant of the motion, is not constant."""
    limit = drift_limit(drift.dtype) if limit is None else limit
    return RESULTS.where(drift <= limit, RESULTS.successful, RESULTS.not_resolved)


def first_failure(*results: Any) -> Any:
    """The first result that is not `successful`, the most telling cause given first."""
    *others, outcome = results
    for result in reversed(others):
        outcome = RESULTS.where(result == RESULTS.successful, outcome, result)
    return outcome


def worst(results: Any) -> Any:
    """The first of many results that is not `successful`, if there is one."""
    place = jnp.argmax(results != RESULTS.successful)
    return jax.tree.map(lambda leaf: leaf[place], results)


def assess(
    metric: Metric,
    ts: Float[Array, " n"],
    points: Float[Array, "n d"],
    velocities: Float[Array, "n d"],
    domain: Float[Array, "d 2"] | None,
    acceleration: Acceleration | None = None,
) -> tuple[Any, dict[str, Scalar]]:
    """Judge a curve by its own points: a result, and the statistics that every solution has."""
    g = jax.vmap(metric)(points)
    # squares of a velocity of order 1: those of a small one vanish, in float32 from 1e-19 on
    unit = unit_of(velocities)
    scaled = velocities / unit
    squares = jax.vmap(quadratic_form)(g, scaled, scaled)
    finite = jnp.all(jnp.isfinite(points)) & jnp.all(jnp.isfinite(velocities))
    # velocities are not finite where the metric cannot be inverted, which is the better reason
    result = first_failure(
        metric_result(g), RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite)
    )
    if domain is not None:
        left = jnp.any(jax.vmap(is_outside, in_axes=(0, None))(points, domain))
        result = first_failure(
            result, RESULTS.where(left, RESULTS.left_domain, RESULTS.successful)
        )
    speeds = safe_sqrt(squares)
    still = jax.lax.stop_gradient(speeds)
    at_start = jnp.where(still[0] == 0, 1, still[0])
    energy, length = jnp.trapezoid(squares, ts) / 2, jnp.trapezoid(speeds, ts)
    energy, length = energy * unit * unit, length * unit
    duration = ts[-1] - ts[0]
    excess = energy - length**2 / (2 * jnp.where(duration == 0, 1, duration))
    acceleration = acceleration or functools.partial(geodesic_acceleration, metric)
    stats = {
        "energy": energy,
        "length": length,
        "excess_energy": jax.lax.stop_gradient(excess),
        "speed_drift": jnp.max(jnp.abs(still - still[0])) / at_start,
        "residual": jax.lax.stop_gradient(
            _residual(acceleration, ts, *jax.lax.stop_gradient((points, velocities, g)))
        ),
    }
    return result, stats


def _residual(
    acceleration: Acceleration, ts: Array, points: Array, velocities: Array, g: Array
) -> Scalar:
    """How far the geodesic equation leads away from the curve, on 4 of its segments, or on one.

    By two Runge–Kutta steps of order 8 a segment, more where there are few points.
    """
    n, d = points.shape
    if n == 1:
        return jnp.zeros((), points.dtype)
    # in high dimension a step costs more than the rest of the judgement
    checked = CHECKED if d <= HIGH_DIMENSION else 1
    first = np.unique(np.linspace(0, n - 2, checked).round().astype(int))
    substeps = max(2, -(-STEPS // (4 * (n - 1))))
    field = functools.partial(geodesic_field, acceleration)
    x = jnp.concatenate([points, velocities], axis=1)
    h = ts[first + 1] - ts[first]

    def advance(y: Array, duration: Array) -> Array:
        def step(y: Array, _: None) -> tuple[Array, None]:
            return flow(field, y, duration / substeps), None

        return jax.lax.scan(step, y, None, length=substeps)[0]

    missed = (x[first + 1] - jax.vmap(advance)(x[first], h)) / h[:, None]

    def size(u: Array) -> Array:
        return safe_sqrt(jnp.maximum(jax.vmap(quadratic_form)(g[first], u, u), 0))

    speed = size(velocities[first])
    worst = size(missed[:, :d]) + (ts[-1] - ts[0]) * size(missed[:, d:])
    return jnp.max(worst / jnp.where(speed == 0, 1, speed))
