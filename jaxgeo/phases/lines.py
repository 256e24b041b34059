"""Where a metric peaks on a line: a transition, if the line crosses one."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxgeo._linalg import logdet_spd, partial_jvp, quadratic_form
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, Vector, as_count, as_point, check_metric
from jaxgeo.geodesics.solution import first_failure, metric_result

GOLDEN = (5**0.5 - 1) / 2


@final
class CriticalPoint(eqx.Module):
    """Where the metric peaks on a line; every number is NaN unless `result` is `successful`.

    - `point`: `(d,)`, the place of the peak.
    - `parameter`: its position on the line, between 0 at `start` and 1 at `end`.
    - `value`: what was maximised, at the peak.
    - `result`: a `RESULTS` member.
    """

    point: Point
    parameter: Scalar
    value: Scalar
    result: Any


def critical_point(
    metric: Metric,
    start: ArrayLike,
    end: ArrayLike,
    *,
    direction: ArrayLike | Callable[[Point], Vector] | None = None,
    n_scan: int = 128,
    throw: bool = True,
) -> CriticalPoint:
    r"""The point of a line at which the metric peaks: a transition, if the line crosses one.

    $$ \arg\max_{0 < s < 1} \; g(u, u)\bigl(z(s)\bigr), \qquad z(s) = (1 - s)\,z_0 + s\,z_1 $$

    or of ½ log det g if no direction u is given. For u = T ∂/∂T, g(u, u) is the heat capacity;
    for u = ∂/∂T, whose peak lies lower by a few hundredths on small lattices, it is not.

    **Arguments:**

    - `metric`: any callable from a point to a matrix. Only its values are used, no derivatives.
    - `start`, `end`: the ends of the line, `(d,)`.
    - `direction`: u, a vector `(d,)`, or a vector field, from a point to a vector.
    - `n_scan`: intervals that are scanned for the highest peak. A peak narrower than one of them
      may be missed.
    - `throw`: raise on failure; otherwise see `result`.

    **Returns:** `CriticalPoint`, with `parameter` good to about √eps. Differentiable in the
    line's ends, a direction and the metric's parameters, by the implicit function theorem.

    **Fails:** `ValueError` on shapes, or ends that coincide. `left_domain`: the largest value is
    at an end of the line, so no peak was found on it. `nonfinite`, `metric_not_positive_definite`
    (without `direction` only).

    **Cost:** `n_scan` metric evaluations, and about 30 (float64) one after the other.

    **Example:**

    >>> lorentzian = lambda z: jnp.diag(1 / (1 + 25 * (z - 0.3) ** 2))
    >>> peak = critical_point(lorentzian, jnp.zeros(1), jnp.ones(1), direction=jnp.ones(1))
    >>> round(peak.point.item(), 4)
    0.3

    **Reference:** the peak of Fisher information as an order-free sign of a transition: Prokopenko
    et al. (2011), Phys. Rev. E 84, 041116.
    """
    start = as_point(start, "start")
    end = as_point(end, "end", start)
    n_scan = as_count(n_scan, "n_scan", 4)
    if not isinstance(start + end, jax.core.Tracer) and np.array_equal(start, end):
        raise ValueError(f"`start` and `end` must differ, got {start} for both.")
    if direction is not None and not callable(direction):
        direction = as_point(direction, "direction", start)
    peak = _peak(metric, start, end, direction, n_scan)
    if not throw:
        return peak
    at_end = peak.result == RESULTS.left_domain
    peak = eqx.error_if(
        peak,
        at_end,
        "critical_point: the largest value is at an end of the line; extend the line.",
    )
    return peak.result.error_if(peak, peak.result != RESULTS.successful)


@eqx.filter_jit
def _peak(metric: Metric, start: Array, end: Array, direction: Any, n_scan: int) -> CriticalPoint:
    check_metric(metric, start)

    def point(s: Array) -> Array:
        return start + s * (end - start)

    def height_and_metric(s: Array) -> tuple[Array, Array]:
        z = point(s)
        g = metric(z)
        if direction is None:
            return logdet_spd(g) / 2, g
        u = direction(z) if callable(direction) else direction
        return quadratic_form(g, u, u), g

    # closures may hold traced values: hoist them, so that derivatives can be taken in them
    f = eqx.filter_closure_convert(height_and_metric, jnp.zeros((), start.dtype))
    dynamic, static = eqx.partition(f, eqx.is_inexact_array)
    frozen = eqx.combine(jax.lax.stop_gradient(dynamic), static)
    nodes = jnp.linspace(0, 1, n_scan + 1, dtype=start.dtype)
    heights, gs = jax.vmap(frozen)(nodes)
    top = jnp.argmax(heights)
    at_end = (top == 0) | (top == n_scan)
    low, high = nodes[jnp.clip(top - 1, 0)], nodes[jnp.clip(top + 1, max=n_scan)]
    s = _implicit(_golden_section(lambda s: frozen(s)[0], low, high, n_scan), f)
    value = f(s)[0]

    finite = jnp.all(jnp.isfinite(heights)) & jnp.isfinite(value)
    result = RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite)
    if direction is None:
        result = first_failure(metric_result(gs), result)
    result = first_failure(result, RESULTS.where(at_end, RESULTS.left_domain, RESULTS.successful))
    s, z, value = (
        jnp.where(result == RESULTS.successful, x, jnp.nan) for x in (s, point(s), value)
    )
    return CriticalPoint(point=z, parameter=s, value=value, result=result)


def _golden_section(f: Callable[[Array], Array], low: Array, high: Array, n_scan: int) -> Scalar:
    """The maximum of `f` between `low` and `high`, to √eps: closer its values only round."""
    tolerance = float(jnp.finfo(low.dtype).eps) ** 0.5
    steps = int(np.ceil(np.log(tolerance * n_scan / 2) / np.log(GOLDEN)))

    def shrink(_: Any, state: tuple) -> tuple:
        low, high, (left, at_left), (right, at_right) = state
        drop_right = at_left > at_right
        low, high = jnp.where(drop_right, low, left), jnp.where(drop_right, right, high)
        new = jnp.where(drop_right, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        at_new = f(new)
        return (
            low,
            high,
            (jnp.where(drop_right, new, right), jnp.where(drop_right, at_new, at_right)),
            (jnp.where(drop_right, left, new), jnp.where(drop_right, at_left, at_new)),
        )

    pair = jnp.stack([high - GOLDEN * (high - low), low + GOLDEN * (high - low)])
    left, right = zip(pair, jax.vmap(f)(pair), strict=True)
    state = (low, high, left, right)
    low, high, *_ = jax.lax.fori_loop(0, max(steps, 1), shrink, state)
    return (low + high) / 2


@eqx.filter_custom_jvp
def _implicit(s: Scalar, f: Any) -> Scalar:
    """`s` unchanged, with the derivatives of the stationary point of `f(s)[0]` that it is."""
    return s


@_implicit.def_jvp
def _implicit_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    s, f = primals
    _, d_f = tangents
    s = _implicit(s, f)

    def slope(function: Any) -> Array:
        return jax.grad(lambda at: function(at)[0])(s)

    curvature = jax.grad(jax.grad(lambda at: f(at)[0]))(s)
    return s, -partial_jvp(slope, f, d_f) / curvature
