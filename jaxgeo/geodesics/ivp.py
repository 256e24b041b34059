"""Geodesics from a point and a velocity: adaptive integration of the geodesic equation."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxgeo._compilation import entry_point
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, as_array, as_count, as_number, as_point, check_metric
from jaxgeo.geodesics.solution import (
    GeodesicSolution,
    as_domain,
    assess,
    check_inside,
    drift_result,
    first_failure,
    is_outside,
    metric_result,
)
from jaxgeo.geometry.connection import geodesic_acceleration

SAVED_POINTS = 65
"""Points of a geodesic whose times nobody asked for: enough for evaluate() to be good to 1e-8."""

FIRST_STEP = 1 / 64
"""Of the interval. Given, so that a bad metric at the start is met by the solver's own checks."""

LONGEST_STEP = 1 / 16
"""Of the interval, where points on the way are asked for: they come from the solver's interpolant,
whose order is lower than that of its steps."""


def _tolerance(dtype: Any) -> float:
    return max(1e-10, 32 * float(jnp.finfo(dtype).eps))


def _smallest_step(dtype: Any) -> float:
    """Of the interval: below it the time no longer resolves, and the metric is at fault."""
    return max(1e-10, 8 * float(jnp.finfo(dtype).eps))


def geodesic_ivp(
    metric: Metric,
    z0: ArrayLike,
    v0: ArrayLike,
    *,
    ts: ArrayLike | None = None,
    domain: ArrayLike | None = None,
    rtol: float | None = None,
    max_steps: int = 4096,
    adjoint: diffrax.AbstractAdjoint | None = None,
    throw: bool = True,
) -> GeodesicSolution:
    r"""The geodesic that starts at `z0` with velocity `v0`, by adaptive Runge–Kutta (Dopri8).

    $$ \ddot z^k + \Gamma^k{}_{ij}\,\dot z^i\dot z^j = 0 $$

    For the end point only, use `exp`; between two given points, `geodesic_bvp`.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `z0`, `v0`: start `(d,)` and velocity `(d,)`, dγ/dt at t = 0.
    - `ts`: `(n,)` increasing times at which to save, `ts[0]` ≥ 0; 65 equal steps of [0, 1] if not
      given. The integration starts at t = 0 and ends at `ts[-1]`.
    - `domain`: `(d, 2)` bounds of the box in which the metric is known.
    - `rtol`: local error relative to the displacement of the curve; 1e-10 in float64, 4e-6 in
      float32 if not given.
    - `max_steps`: of the integrator; static.
    - `adjoint`: diffrax's; the default is for reverse-mode derivatives. Give
      `diffrax.ForwardMode()` for `jax.jvp` and `jax.jacfwd`.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `GeodesicSolution`; points beyond a failure are not finite.

    **Fails:** `ValueError` on shape, dtype, times and bounds. `left_domain`,
    `metric_not_positive_definite`, `nonfinite`, or diffrax's own codes, `max_steps_reached` above
    all: the curve runs off to infinity, or `rtol` is below what the metric's rounding allows.

    **Cost:** 13 accelerations a step, one metric evaluation a saved point. Compiles once per shape
    and structure of `metric`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> z, v = jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0])
    >>> round(geodesic_ivp(half_plane_metric, z, v).points[-1, 1].item(), 4)
    2.7183

    **Reference:** do Carmo (1992), ch. 3, eq. 1; Prince & Dormand (1981), RK8(7)13M.
    """
    z0 = as_point(z0, "z0")
    v0 = as_point(v0, "v0", z0)
    bounds = as_domain(domain, z0)
    check_inside(z0, "z0", bounds)
    check_inside(v0, "v0", None)
    times = _as_times(ts, z0)
    tolerance = as_number(_tolerance(z0.dtype) if rtol is None else rtol, "rtol", z0.dtype)
    max_steps = as_count(max_steps, "max_steps")
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    return _solve(metric, z0, v0, times, bounds, tolerance, max_steps, adjoint, throw)


def _as_times(ts: ArrayLike | None, z0: Array) -> Array:
    if ts is None:
        return jnp.linspace(0, 1, SAVED_POINTS, dtype=z0.dtype)
    times = as_array(ts, "ts")
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"`ts` must have shape (n,), got {times.shape}.")
    if jnp.iscomplexobj(times):
        raise ValueError(f"`ts` must be real, got dtype {times.dtype}.")
    times = jnp.asarray(times, z0.dtype)  # in which neighbours may be equal
    if not isinstance(times, jax.core.Tracer):
        values = np.asarray(times)
        if not (values[0] >= 0 and 0 < values[-1] < np.inf and np.all(np.diff(values) > 0)):
            raise ValueError(f"`ts` must increase from 0 or later, and be finite, got {values}.")
    return times


@entry_point
def _solve(
    metric: Metric,
    z0: Array,
    v0: Array,
    ts: Array,
    domain: Array | None,
    rtol: Array,
    max_steps: int,
    adjoint: diffrax.AbstractAdjoint,
    throw: bool,
) -> GeodesicSolution:
    check_metric(metric, z0)
    # Integrate w = (z − z0)/scale over s = t/T ∈ [0, 1]: the tolerances are then relative to the
    # displacement, whatever the units of the chart and however short the geodesic.
    duration = ts[-1]
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(v0)) * duration)
    scale = jnp.where(scale == 0, jnp.ones_like(scale), scale)

    def field(s: Any, y: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
        w, u = y
        # a(z, λu) = λ² a(z, u), so one factor of the scale is left
        return u, scale * geodesic_acceleration(metric, z0 + scale * w, u)

    event = None
    if domain is not None:
        event = diffrax.Event(lambda t, y, args, **kw: is_outside(z0 + scale * y[0], domain))
    out = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8(),
        t0=jnp.zeros_like(duration),
        t1=jnp.ones_like(duration),
        dt0=jnp.full_like(duration, FIRST_STEP),
        y0=(jnp.zeros_like(z0), v0 * (duration / scale)),
        saveat=diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(ts=_unit_times(ts)), diffrax.SubSaveAt(t1=True)]
        ),
        stepsize_controller=diffrax.PIDController(
            rtol=rtol,
            atol=rtol,
            dtmin=_smallest_step(z0.dtype),
            dtmax=LONGEST_STEP if ts.size > 1 else None,
            force_dtmin=False,
        ),
        event=event,
        adjoint=adjoint,
        max_steps=max_steps,
        throw=False,
    )
    (w, u), (w_last, u_last) = out.ys
    points, velocities = z0[None, :] + scale * w, (scale / duration) * u
    judged, stats = assess(metric, ts, points, velocities, domain)
    solver = RESULTS.promote(out.result)
    solver = RESULTS.where(
        out.result == diffrax.RESULTS.event_occurred, RESULTS.left_domain, solver
    )
    ended = jax.lax.cond(
        (solver == RESULTS.successful) | (solver == RESULTS.left_domain),
        lambda z, u: solver,
        lambda z, u: first_failure(_cause(metric, z, u), solver),
        *jax.lax.stop_gradient((z0 + scale * w_last[0], scale * u_last[0])),
    )
    stats |= {"iterations": out.stats["num_steps"]}
    result = first_failure(ended, judged, drift_result(stats["speed_drift"]))
    solution = GeodesicSolution(ts, points, velocities, result, stats)
    if throw:
        solution = result.error_if(solution, result != RESULTS.successful)
    return solution


def _unit_times(ts: Array) -> Array:
    return ts / ts[-1]


def _cause(metric: Metric, z: Array, v: Array) -> Any:
    """Why an integration stopped at `z`: what the metric is there and just ahead along `v`."""
    steps = jnp.concatenate([jnp.zeros(1, z.dtype), 10.0 ** jnp.arange(-9, -1, dtype=z.dtype)])
    ahead = z[None, :] + steps[:, None] * v[None, :]
    return metric_result(jax.vmap(metric)(ahead))


def exp(metric: Metric, z: ArrayLike, v: ArrayLike) -> Point:
    r"""The exponential map: where the geodesic from `z` with velocity `v` is at t = 1.

    **Arguments:** `metric`; `z`, a point `(d,)`; `v`, a tangent vector `(d,)` at it.

    **Returns:** a point `(d,)`. Differentiable in reverse mode.

    **Fails:** as `geodesic_ivp` does with `throw=True`.

    **Cost:** 13 accelerations a step, typically 10 to 40 steps.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> round(exp(half_plane_metric, jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]))[1].item(), 4)
    2.7183
    """
    return geodesic_ivp(metric, z, v, ts=np.ones(1)).points[-1]
