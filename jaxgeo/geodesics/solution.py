"""What every geodesic solver returns, and how its curve is judged."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxgeo._linalg import cholesky, quadratic_form, safe_sqrt
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar


@final
class GeodesicSolution(eqx.Module):
    """A geodesic at `n` times, and how its computation ended.

    - `ts`: `(n,)` times of the affine parameter.
    - `points`: `(n, d)` in the chart of the metric.
    - `velocities`: `(n, d)`, dγ/dt at the same times.
    - `result`: a `RESULTS` member; `solution.result == RESULTS.successful` works inside `jit`.
    - `stats`: `iterations` (steps of an initial-value solve), `residual` (relative size of the
      last correction to the curve; 0 where the solver makes none), `energy` and `length` over the
      whole of `ts`, `speed_drift` (greatest relative departure from the speed at the start).
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
    if np.shape(domain) != (z.size, 2):
        raise ValueError(
            f"`domain` must have shape ({z.size}, 2), lower and upper bounds, "
            f"got {np.shape(domain)}."
        )
    if not isinstance(domain, jax.core.Tracer):
        lower, upper = np.asarray(domain).T
        if not np.all(lower < upper):
            raise ValueError(f"`domain` must have lower < upper, got {np.asarray(domain)}.")
    return jnp.asarray(domain, z.dtype)


def check_inside(z: Array, name: str, domain: Array | None) -> None:
    """`ValueError` if the concrete point `z` is outside `domain`, or not finite."""
    if isinstance(z, jax.core.Tracer) or isinstance(domain, jax.core.Tracer):
        return
    point = np.asarray(z)
    if not np.all(np.isfinite(point)):
        raise ValueError(f"`{name}` must be finite, got {point}.")
    if domain is not None:
        lower, upper = np.asarray(domain).T
        if not np.all((lower <= point) & (point <= upper)):
            raise ValueError(f"`{name}` must lie in `domain` {np.asarray(domain)}, got {point}.")


def is_outside(z: Point, domain: Float[Array, "d 2"]) -> Bool[Array, ""]:
    """Whether a point has left the box."""
    return jnp.any((z < domain[:, 0]) | (z > domain[:, 1]))


def metric_result(g: Float[Array, "... d d"], factor: Array | None = None) -> Any:
    """`successful` if every matrix is finite and positive definite, else which it is not.

    `factor`: the Cholesky factors, if they are at hand.
    """
    finite = jnp.all(jnp.isfinite(g))
    factor = cholesky(g) if factor is None else factor
    definite = jnp.all(jnp.isfinite(factor))
    failed = RESULTS.where(finite, RESULTS.metric_not_positive_definite, RESULTS.nonfinite)
    return RESULTS.where(definite, RESULTS.successful, failed)


def first_failure(*results: Any) -> Any:
    """The first result that is not `successful`, the most telling cause given first."""
    *others, outcome = results
    for result in reversed(others):
        outcome = RESULTS.where(result == RESULTS.successful, outcome, result)
    return outcome


def assess(
    metric: Metric,
    ts: Float[Array, " n"],
    points: Float[Array, "n d"],
    velocities: Float[Array, "n d"],
    domain: Float[Array, "d 2"] | None,
) -> tuple[Any, dict[str, Scalar]]:
    """Judge a curve by its own points: a result, and energy, length and speed drift."""
    g = jax.vmap(metric)(points)
    squares = jax.vmap(quadratic_form)(g, velocities, velocities)
    finite = jnp.all(jnp.isfinite(points)) & jnp.all(jnp.isfinite(velocities))
    result = first_failure(
        RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite), metric_result(g)
    )
    if domain is not None:
        left = jnp.any(jax.vmap(is_outside, in_axes=(0, None))(points, domain))
        result = first_failure(
            result, RESULTS.where(left, RESULTS.left_domain, RESULTS.successful)
        )
    speeds = safe_sqrt(squares)
    at_start = jax.lax.stop_gradient(speeds[0])
    drift = jnp.max(jnp.abs(jax.lax.stop_gradient(speeds) - at_start))
    stats = {
        "energy": jnp.trapezoid(squares, ts) / 2,
        "length": jnp.trapezoid(speeds, ts),
        "speed_drift": drift / jnp.where(at_start == 0, 1, at_start),
    }
    return result, stats
