"""The metric on a plane of parameters: its size, its unit balls, its geodesics."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from jaxgeo._results import RESULTS
from jaxgeo.geodesics import GeodesicSolution
from jaxgeo.phases import Ridge
from jaxgeo.plotting.fields import NOT_FINITE, checked, heat_map
from jaxgeo.plotting.figures import legend_columns, panels

BACKDROP = "cividis"
"""The colour map beneath curves: no red, no white."""
BOUNDARY, FITTING, SHRUNK, FAILED = "#D81B60", "white", "#FFB14A", "#FF4040"
STYLES = {
    "Levi-Civita": ("-", "white"),
    "mixture": ("--", "#FFA94D"),
    "exponential": (":", "#7FD8FF"),
}
SIZE_LABEL = r"$\log\,\sqrt{\det\,g}$"
FILL = 0.46
"""Largest half-axis of an ellipse, in units of the distance between their centres."""
SIZE = (5.4, 4.8)
"""Inches of a map with its legend."""


class Curve(NamedTuple):
    """One curve of `geodesic_map`.

    - `kind`: "Levi-Civita", "mixture" or "exponential".
    - `points`: `(n, 2)`. `length`: as the metric measures it, for the legend.
    - `failure`: why the curve is no result, if it is none.
    """

    kind: str
    points: ArrayLike
    length: float | None = None
    failure: str | None = None


def metric_map(
    grid: Sequence[ArrayLike],
    g: ArrayLike,
    *,
    ax: Axes | None = None,
    labels: Sequence[str] = ("", ""),
    boundary: Sequence[Ridge | ArrayLike] = (),
    boundary_label: str = "phase boundary",
    n_ellipses: int = 10,
) -> Axes:
    r"""log √det g in colours, and balls $g_{ij}v^iv^j = r^2$ of a thinned grid as ellipses.

    A long ellipse lies where and whither the distribution hardly changes. r is one for the whole
    picture, such that three in four ellipses fit between their neighbours; the others are
    shrunk until they do, keep their shape, and have another colour. The legend says so.

    **Arguments:**

    - `grid`: two increasing vectors `(n₁,)`, `(n₂,)`.
    - `g`: the metric, `(n₁, n₂, 2, 2)`. Where it is not positive definite, the cell is grey and
      has no ellipse.
    - `ax`: axes to draw on; those of a new figure if not given.
    - `labels`: symbols and units of both axes.
    - `boundary`: polylines, as `phases.ridges` returns them or as arrays `(n, 2)`.
    - `n_ellipses`: about how many along each axis; 0 for none.

    **Returns:** the axes. **Fails:** `ValueError` as `heat_map`.
    """
    x, y, density, tensor = _density(grid, g)
    ax = panels(size=SIZE)[0, 0] if ax is None else ax
    ax = heat_map((x, y), density, ax=ax, labels=labels, value_label=SIZE_LABEL)
    handles = []
    if n_ellipses:
        handles += _draw_ellipses(ax, x, y, np.isfinite(density), tensor, n_ellipses)
    for line in boundary:
        points = np.asarray(line.points if isinstance(line, Ridge) else line)
        ax.plot(
            *points.T,
            color=BOUNDARY,
            lw=2.2,
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )
    if boundary:
        handles.append(Line2D([], [], color=BOUNDARY, lw=2.2, label=boundary_label))
    if not np.all(np.isfinite(density)):
        handles.append(_grey_square("$g$ not positive definite"))
    legend_above(ax, handles)
    return ax


def geodesic_map(
    grid: Sequence[ArrayLike],
    g: ArrayLike,
    pairs: Sequence[Sequence[Curve | GeodesicSolution]],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] = ("", ""),
) -> Axes:
    """Curves between the same points over log √det g, with their lengths.

    Levi-Civita geodesics are solid, mixture dashed, exponential dotted; each pair of end points
    has two letters. A curve whose computation failed is thin, red and crossed out, and its legend
    says why.

    **Arguments:**

    - `grid`, `g`: as in `metric_map`.
    - `pairs`: for each pair of points, the curves between them. A `GeodesicSolution` is a
      Levi-Civita geodesic that brings its length and its result along.
    - `ax`: axes to draw on; those of a new figure if not given.
    - `labels`: symbols and units of both axes.

    **Returns:** the axes. **Fails:** `ValueError` as `heat_map`, on an unknown kind of curve, and
    on points that are not `(n, 2)`.
    """
    x, y, density, _ = _density(grid, g)
    ax = panels(size=SIZE)[0, 0] if ax is None else ax
    heat_map((x, y), density, ax=ax, labels=labels, cmap=BACKDROP, value_label=SIZE_LABEL)
    handles = []
    for number, curves in enumerate(pairs):
        names = tuple(chr(ord("A") + (2 * number + end) % 26) for end in (0, 1))
        drawn = [_as_curve(curve) for curve in curves]
        handles += [_draw_curve(ax, curve, "–".join(names)) for curve in drawn]
        _mark_ends(ax, drawn, names)
    if not np.all(np.isfinite(density)):
        handles.append(_grey_square("$g$ not positive definite"))
    ax.set_xlim(*_edges(x))
    ax.set_ylim(*_edges(y))
    legend_above(ax, handles)
    return ax


def _edges(axis: np.ndarray) -> tuple[float, float]:
    """Where the first and the last cell end."""
    return 1.5 * axis[0] - 0.5 * axis[1], 1.5 * axis[-1] - 0.5 * axis[-2]


def _density(
    grid: Sequence[ArrayLike], g: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The axes, log √det g with NaN where g is not positive definite, and g."""
    if np.shape(g)[2:] != (2, 2):
        raise ValueError(f"`g` must have shape (n₁, n₂, 2, 2), got {np.shape(g)}.")
    x, y, tensor = checked(grid, g, "`g`")
    finite = np.all(np.isfinite(tensor), axis=(2, 3))
    lowest = np.linalg.eigvalsh(np.where(finite[..., None, None], tensor, -np.eye(2)))[..., 0]
    safe = np.where((lowest > 0)[..., None, None], tensor, np.eye(2))
    density = np.where(lowest > 0, np.linalg.slogdet(safe)[1] / 2, np.nan)
    if not np.any(lowest > 0):
        raise ValueError("`g` is positive definite at no node of the grid.")
    return x, y, density, tensor


def _draw_ellipses(
    ax: Axes, x: np.ndarray, y: np.ndarray, valid: np.ndarray, g: np.ndarray, count: int
) -> list[Line2D]:
    """Unit balls at a thinned grid, and their entries of the legend."""
    picks = [_thinned(n, count) for n in g.shape[:2]]
    i, j = (index.ravel() for index in np.meshgrid(*picks, indexing="ij"))
    i, j = i[valid[i, j]], j[valid[i, j]]
    if not len(i):
        return []
    cell = np.array([np.ptp(axis) / len(pick) for axis, pick in zip((x, y), picks, strict=True)])
    eigenvalues, vectors = np.linalg.eigh(g[i, j] * cell[:, None] * cell)
    longest = eigenvalues[:, 0] ** -0.5  # half-axes of the ball of radius 1, in cells
    r = float(f"{FILL / np.quantile(longest, 0.75):.2g}")
    shrunk = r * longest > FILL * 1.03  # r is rounded for the legend
    radius = np.where(shrunk, FILL / longest, r)
    angle = np.linspace(0, 2 * np.pi, 73)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    offsets = vectors @ (radius[:, None, None] * eigenvalues[:, :, None] ** -0.5 * circle)
    curves = np.stack([x[i], y[j]], -1)[:, None] + cell * np.swapaxes(offsets, 1, 2)
    handles = []
    for chosen, color, label in (
        (~shrunk, FITTING, f"$g_{{ij}}v^iv^j=r^2$, $r={r:g}$"),
        (shrunk, SHRUNK, "shrunk to the spacing"),
    ):
        if np.any(chosen):
            lines = LineCollection(list(curves[chosen]), linewidths=1.1, colors=color)
            lines.set_path_effects([withStroke(linewidth=2.2, foreground="black", alpha=0.55)])
            ax.add_collection(lines, autolim=False)
            handles.append(Line2D([], [], color=color, lw=1.1, label=label))
            handles[-1].set_path_effects(lines.get_path_effects())
    return handles


def _as_curve(curve: Curve | GeodesicSolution) -> Curve:
    """A curve with its length, or with why it failed."""
    if isinstance(curve, GeodesicSolution):
        message = None
        if not bool(curve.result == RESULTS.successful):
            text: str = RESULTS[curve.result]  # type: ignore[misc]
            message = text.split(". ")[0].rstrip(".")
        curve = Curve("Levi-Civita", curve.points, float(curve.stats["length"]), message)
    points = np.asarray(curve.points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise ValueError(f"a curve's points must have shape (n, 2), got {points.shape}.")
    if curve.kind not in STYLES:
        raise ValueError(f"a curve's kind must be one of {list(STYLES)}, got {curve.kind!r}.")
    lost = int(np.sum(~np.isfinite(points).all(axis=1)))
    if lost and curve.failure is None:
        curve = curve._replace(failure=f"{lost} of {len(points)} points are not finite")
    if curve.length is not None and curve.failure is None and not np.isfinite(curve.length):
        curve = curve._replace(failure=f"its length is {curve.length}")
    return curve._replace(points=points)


def _draw_curve(ax: Axes, curve: Curve, name: str) -> Line2D:
    """One curve, and its entry of the legend."""
    points, (style, color) = np.asarray(curve.points), STYLES[curve.kind]
    outline = [withStroke(linewidth=3.8, foreground="black")]
    if curve.failure is None:
        label = f"{name} {curve.kind}"
        if curve.length is not None:
            label += f", length {curve.length:.4g}"
        look: dict[str, Any] = {"color": color, "lw": 2.0}
    else:
        label = textwrap.fill(f"{name} {curve.kind} FAILED: {curve.failure}", 46)
        look = {"color": FAILED, "lw": 1.0, "marker": "x", "ms": 6, "markevery": 0.09}
    look |= {"ls": style, "path_effects": outline, "label": label}
    ax.plot(*points.T, **look)
    return Line2D([], [], **look)


def _mark_ends(ax: Axes, curves: Sequence[Curve], names: Sequence[str]) -> None:
    """A dot and a letter at both end points."""
    for end, name in zip((0, -1), names, strict=True):
        points = [np.asarray(c.points)[end] for c in curves]
        for point in points:
            if np.all(np.isfinite(point)):
                ax.plot(*point, "o", ms=7, color="white", mec="black", zorder=5)
                outline = [withStroke(linewidth=2.5, foreground="black")]
                ax.annotate(
                    name, point, (6, 6), textcoords="offset points", color="white",
                    weight="bold", path_effects=outline, zorder=6,
                )  # fmt: skip
                break


def _thinned(n: int, count: int) -> np.ndarray:
    """About `count` of n nodes, evenly spaced and symmetric about the middle."""
    for m in sorted(range(1, n + 1), key=lambda m: abs(m - count)):
        stride = n // m
        rest = n - 1 - (m - 1) * stride
        if rest % 2 == 0:
            break
    return rest // 2 + stride * np.arange(m)


def _grey_square(label: str) -> Line2D:
    return Line2D([], [], ls="", marker="s", color=NOT_FINITE, mec="0.4", ms=9, label=label)


def legend_above(ax: Axes, handles: Sequence[Line2D]) -> None:
    """A legend that hides nothing of the picture."""
    if handles:
        columns = 2 if len(handles) > 2 else 1
        place: dict[str, Any] = {
            "ncols": min(columns, legend_columns(ax, handles)),
            "loc": "lower left",
            "bbox_to_anchor": (0, 1.01),
            "borderaxespad": 0,
        }
        ax.legend(handles=handles, fontsize="small", facecolor="0.75", framealpha=1, **place)
