"""Phase boundaries, read off a metric: its peak along a line, and the ridges of its size."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int
from scipy.interpolate import RectBivariateSpline, RegularGridInterpolator

from jaxgeo._linalg import logdet_spd, partial_jvp, quadratic_form
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, Vector, as_point, check_metric
from jaxgeo.geodesics.solution import first_failure, metric_result

GOLDEN = (5**0.5 - 1) / 2

REACH = 0.05
"""How far from a ridge its strength is judged, in units of the axes' spans; at least 1½ cells."""
ROUND = 0.5
"""Above this ratio of curvature along to curvature across, a summit is round and no ridge."""


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
    if n_scan < 4:
        raise ValueError(f"`n_scan` must be at least 4, got {n_scan}.")
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


class Ridge(NamedTuple):
    """One ridge of a field on the plane.

    - `points`: `(n, 2)`, in order along the ridge, in the coordinates of the grid.
    - `heights`: `(n,)`, the field there.
    - `strengths`: `(n,)`, by how much the field falls on both sides, within a twentieth of the
      axes' spans (or 1½ cells, if that is more).
    """

    points: Float[np.ndarray, "n 2"]
    heights: Float[np.ndarray, " n"]
    strengths: Float[np.ndarray, " n"]


def ridges(
    axes: Sequence[ArrayLike],
    values: ArrayLike,
    *,
    threshold: float = 0.1,
    min_length: float = 0.1,
    refine: int = 3,
) -> list[Ridge]:
    r"""The ridges of a field on a 2-D grid, as polylines: phase boundaries, if it is log √det g.

    $$ \langle\nabla f, e\rangle = 0, \qquad \nabla^2 f\, e = \lambda e, \quad
       \lambda = \lambda_{\min} < 0, \quad \lambda' \ge \tfrac12 \lambda $$

    with e the direction of steepest descent, λ' the curvature along the ridge, and coordinates in
    units of the axes' spans. Take the logarithm of what varies over decades, such as √det g: then
    strengths compare from place to place. A round summit is no ridge.

    **Arguments:**

    - `axes`: two increasing vectors `(n₁,)`, `(n₂,)`, six nodes or more each.
    - `values`: f, `(n₁, n₂)`, as `on_grid` gives it.
    - `threshold`: least strength of a ridge point (see `Ridge`), in the units of the field.
    - `min_length`: ridges shorter than this, in units of the axes' spans, are left out.
    - `refine`: crossings are looked for on a grid this many times finer than the given one.

    **Returns:** ridges, the one of largest (mean strength × length) first; an empty list if there
    is none. One narrower than the grid's spacing is seen only if nodes lie on it.

    **Fails:** `ValueError` on shapes, axes that do not increase, values that are not finite.

    **Cost:** host only: one quintic spline, a few hundred evaluations of it a ridge point.

    **Example:**

    >>> x, y = np.linspace(0, 1, 21), np.linspace(-1, 1, 21)
    >>> [ridge] = ridges((x, y), -9 * (y[None, :] - 0.123 * x[:, None]) ** 2)
    >>> bool(np.allclose(ridge.points[:, 1], 0.123 * ridge.points[:, 0]))
    True

    **Reference:** Eberly (1996), *Ridges in Image and Data Analysis*, def. 5.2; linked as in
    Lorensen & Cline (1987).
    """
    surface = _Surface(axes, values)
    if refine < 1:
        raise ValueError(f"`refine` must be at least 1, got {refine}.")
    nodes = [_off_nodes(len(axis), refine) for axis in surface.axes]
    points, cells = _crossings(surface, *nodes)
    reach = 0.25 * min(np.diff(axis).max() for axis in nodes)
    strength, is_ridge = surface.judge(points, reach)
    keep = is_ridge & (strength >= threshold)
    found = []
    for chain in _chains(cells, np.where(keep, strength, -1.0)):
        length = np.linalg.norm(np.diff(points[chain], axis=0), axis=1).sum()
        if length >= min_length:
            ridge = Ridge(
                surface.lower + points[chain] * surface.span,
                surface(points[chain]),
                strength[chain],
            )
            found.append((length * strength[chain].mean(), ridge))
    return [ridge for _, ridge in sorted(found, key=lambda item: -item[0])]


class _Surface:
    """A field on a grid as a quintic spline over the unit square."""

    def __init__(self, axes: Sequence[ArrayLike], values: ArrayLike) -> None:
        field = np.asarray(values, np.float64)
        if len(axes) != 2:
            raise ValueError(f"`axes` must hold two vectors, got {len(axes)}.")
        self.axes = [np.asarray(axis, np.float64) for axis in axes]
        for k, axis in enumerate(self.axes):
            if axis.ndim != 1 or axis.size < 6 or not np.all(np.diff(axis) > 0):
                raise ValueError(
                    f"`axes[{k}]` must be six or more increasing numbers, got {axis}."
                )
        shape = tuple(axis.size for axis in self.axes)
        if field.shape != shape:
            raise ValueError(f"`values` must have shape {shape} like the axes, got {field.shape}.")
        if not np.all(np.isfinite(field)):
            i, j = np.argwhere(~np.isfinite(field))[0]
            raise ValueError(
                f"`values` must be finite, got {field[i, j]} at "
                f"({self.axes[0][i]:g}, {self.axes[1][j]:g})."
            )
        self.lower = np.array([axis[0] for axis in self.axes])
        self.span = np.array([np.ptp(axis) for axis in self.axes])
        unit = [
            (a - low) / span for a, low, span in zip(self.axes, self.lower, self.span, strict=True)
        ]
        self.reach = max(REACH, 1.5 * max(np.diff(axis).max() for axis in unit))
        # between the nodes a spline may ring beside a sharp ridge, and this does not
        self.chords = RegularGridInterpolator(unit, field)
        self.spline = RectBivariateSpline(*unit, field, kx=5, ky=5)

    def __call__(self, p: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
        return self.spline.ev(p[:, 0], p[:, 1])

    def across(self, p: Float[np.ndarray, "n 2"], like: np.ndarray | None = None) -> tuple:
        """The gradient along e, both curvatures (steepest descent first), and e itself.

        e points the way of `like`, if that is given."""
        dx, dy, dxx, dxy, dyy = (
            self.spline.ev(p[:, 0], p[:, 1], dx=i, dy=j)
            for i, j in ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        )
        mean, half = (dxx + dyy) / 2, np.hypot((dxx - dyy) / 2, dxy)
        angle = np.arctan2(2 * dxy, dxx - dyy) / 2  # of the direction of the larger curvature
        e = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
        if like is not None:
            e = np.where(np.sum(e * like, axis=1, keepdims=True) < 0, -e, e)
        return dx * e[:, 0] + dy * e[:, 1], (mean - half, mean + half), e

    def judge(self, p: Float[np.ndarray, "n 2"], step: float) -> tuple[np.ndarray, np.ndarray]:
        """The strength of each point as one of a ridge, and whether the spline has one there."""
        slope, (steepest, other), e = self.across(p)
        before, after = (self.across(p + sign * step * e, e)[0] for sign in (-1, 1))
        # e turns from place to place: about a round summit so that the slope stays zero
        fall = (before - after) / (2 * step)
        is_ridge = (
            (steepest < 0)
            & (-other <= ROUND * np.abs(steepest))
            & (fall >= ROUND * np.abs(steepest))
            & (np.abs(slope) <= 1e-3 * step * np.abs(steepest))
        )
        beside = [np.clip(p + sign * self.reach * e, 0, 1) for sign in (-1, 1)]
        strength = self.chords(p) - np.maximum(*map(self.chords, beside))
        return strength, is_ridge


def _off_nodes(n: int, refine: int) -> Float[np.ndarray, " m"]:
    """A finer axis over [0, 1] off the nodes of the given one, on which ridges like to lie."""
    step = 1 / (refine * (n - 1))
    return np.concatenate([[0.0], (np.arange(refine * (n - 1)) + 0.382) * step, [1.0]])


def _crossings(
    surface: _Surface, x: Float[np.ndarray, " m"], y: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, "cells 4"]]:
    """Where the slope across vanishes on the edges of a grid, and which of these a cell has.

    The second array holds indices of points, −1 where an edge has none."""
    m, k = len(x), len(y)
    nodes = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    slope, _, e = surface.across(nodes)
    number = np.arange(m * k).reshape(m, k)
    pairs = np.concatenate(
        [
            np.stack([number[:-1].ravel(), number[1:].ravel()], -1),
            np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], -1),
        ]
    )
    first, second = pairs.T
    aligned = np.sign(np.sum(e[first] * e[second], axis=1))
    changes = slope[first] * slope[second] * aligned < 0
    first, second = pairs[changes].T
    low, high, like, sign = nodes[first], nodes[second], e[first], np.sign(slope[first])
    for _ in range(40):
        middle = (low + high) / 2
        same = (np.sign(surface.across(middle, like)[0]) == sign)[:, None]
        low, high = np.where(same, middle, low), np.where(same, high, middle)

    index = np.full(len(pairs), -1)
    index[changes] = np.arange(changes.sum())
    along_x = index[: (m - 1) * k].reshape(m - 1, k)
    along_y = index[(m - 1) * k :].reshape(m, k - 1)
    cells = np.stack([along_x[:, :-1], along_x[:, 1:], along_y[:-1], along_y[1:]], axis=-1)
    return (low + high) / 2, cells.reshape(-1, 4)


def _chains(
    cells: Int[np.ndarray, "cells 4"], strength: Float[np.ndarray, " n"]
) -> list[list[int]]:
    """Points of the same cell, the two strongest of it, linked one to the next."""
    neighbours: dict[int, list[int]] = {}
    for cell in cells[np.sum(cells >= 0, axis=1) >= 2]:
        usable = sorted((p for p in cell.tolist() if p >= 0), key=lambda p: -strength[p])
        a, b = usable[:2]
        if strength[b] >= 0:
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
    chains, left = [], set(neighbours)
    ends = [p for p in neighbours if len(neighbours[p]) == 1]
    for start in ends + list(neighbours):  # closed ridges have no end: begin anywhere
        if start not in left:
            continue
        chain, following = [], [start]
        while following:
            chain.append(following[0])
            left.discard(following[0])
            following = [p for p in neighbours[following[0]] if p in left]
        if len(chain) > 2 and chain[0] in neighbours[chain[-1]]:
            chain.append(chain[0])
        chains.append(chain)
    return chains
