"""Ridges of a field on the plane: the phase boundaries of a metric, if it is log √det g."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int
from scipy.interpolate import RectBivariateSpline, RegularGridInterpolator

from jaxgeo._typing import as_count
from jaxgeo.phases.chains import chains, grid_edges, points_of_cells

REACH = 0.05
"""How far from a ridge its strength is judged, in units of the axes' spans; at least 1½ cells."""
ROUND = 0.5
"""Above this ratio of curvature along to curvature across, a summit is round and no ridge."""


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
    refine = as_count(refine, "refine")
    nodes = [_off_nodes(len(axis), refine) for axis in surface.axes]
    points, cells = _crossings(surface, *nodes)
    reach = 0.25 * min(np.diff(axis).max() for axis in nodes)
    strength, is_ridge = surface.judge(points, reach)
    keep = is_ridge & (strength >= threshold)
    found = []
    links = _links(cells, np.where(keep, strength, -1.0))
    for chain in chains(dict.fromkeys(p for link in links for p in link), links):
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
    pairs = grid_edges(m, k)
    first, second = pairs.T
    aligned = np.sign(np.sum(e[first] * e[second], axis=1))
    changes = slope[first] * slope[second] * aligned < 0
    first, second = pairs[changes].T
    low, high, like, sign = nodes[first], nodes[second], e[first], np.sign(slope[first])
    for _ in range(40):
        middle = (low + high) / 2
        same = (np.sign(surface.across(middle, like)[0]) == sign)[:, None]
        low, high = np.where(same, middle, low), np.where(same, high, middle)

    return (low + high) / 2, points_of_cells(changes, m, k)


def _links(
    cells: Int[np.ndarray, "cells 4"], strength: Float[np.ndarray, " n"]
) -> list[list[int]]:
    """Pairs of points of the same cell, the two strongest of it."""
    links = []
    for cell in cells[np.sum(cells >= 0, axis=1) >= 2]:
        usable = sorted((p for p in cell.tolist() if p >= 0), key=lambda p: -strength[p])
        if strength[usable[1]] >= 0:
            links.append(usable[:2])
    return links
