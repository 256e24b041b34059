"""Fields whose level lines say what they are: distances, curvatures, posteriors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from jaxgeo._results import RESULTS
from jaxgeo.geodesics import DistanceMap
from jaxgeo.plotting.fields import checked, heat_map
from jaxgeo.plotting.figures import panels
from jaxgeo.plotting.maps import BACKDROP, FAILED, SIZE, legend_above

PATH, TRUTH = "#FFA94D", "#D81B60"
OUTLINE = (withStroke(linewidth=2.6, foreground="black", alpha=0.6),)
CREDIBLE = ("-", "--", ":", "-.")


def wavefronts(
    distance_map: DistanceMap,
    *,
    ax: Axes | None = None,
    labels: Sequence[str] = ("", ""),
    paths: Sequence[ArrayLike] = (),
    paths_label: str = "shortest path",
    n_fronts: int = 10,
) -> Axes:
    r"""The distance from a point in colours, with the fronts that reach equal distances.

    $$ \{z : T(z) = k\,\Delta\}, \qquad k = 1, 2, \dots $$

    Fronts of a wave that starts at the source and travels one unit of length in one unit of time:
    wide apart where the metric is small. Shortest paths cross them at right angles, as the metric
    measures angles. A map whose computation failed is titled in red with the reason.

    **Arguments:**

    - `distance_map`: in two dimensions, as `jg.distance_map` returns it. Where the distance is not
      finite, the cell is grey.
    - `ax`: axes to draw on; those of a new figure if not given.
    - `labels`: symbols and units of both axes.
    - `paths`, `paths_label`: polylines `(k, 2)`, as of `jg.shortest_path` or the points of
      geodesics, and their name.
    - `n_fronts`: about how many fronts; their round spacing Δ is in the legend.

    **Returns:** the axes. **Fails:** `ValueError` on a map in three dimensions, on fewer fronts
    than one, and if no distance is finite.

    **Cost:** none to speak of beside the map's.

    **Example:**

    >>> import jaxgeo as jg
    >>> square = (jnp.linspace(-1.0, 1.0, 21),) * 2
    >>> ax = wavefronts(jg.distance_map(lambda z: jnp.eye(2), jnp.zeros(2), square), n_fronts=7)
    >>> ax.get_legend().get_texts()[0].get_text()
    'distance every 0.25'
    """
    if len(distance_map.axes) != 2:
        raise ValueError(
            f"`distance_map` must be of two dimensions, got {len(distance_map.axes)}."
        )
    if n_fronts < 1:
        raise ValueError(f"`n_fronts` must be at least 1, got {n_fronts}.")
    x, y, distances = checked(distance_map.axes, distance_map.distances, "`distance_map`")
    ax = panels(size=SIZE)[0, 0] if ax is None else ax
    heat_map((x, y), distances, ax=ax, labels=labels, cmap=BACKDROP, value_label="distance")
    largest = float(np.nanmax(np.where(np.isfinite(distances), distances, np.nan)))
    ticks = MaxNLocator(n_fronts, steps=[1, 2, 2.5, 5, 10])
    levels = np.asarray(ticks.tick_values(0.0, largest))
    levels = levels[(levels > 0) & (levels < largest)]
    look: dict[str, Any] = {"color": "white", "lw": 1.1, "path_effects": OUTLINE}
    handles = []
    if len(levels):
        _level_lines(ax, x, y, distances, levels, "-")
        handles.append(Line2D([], [], label=f"distance every {levels[0]:g}", **look))
    wide: dict[str, Any] = {
        "color": PATH,
        "lw": 2.0,
        "path_effects": [withStroke(linewidth=3.8, foreground="black")],
    }
    for path in map(np.asarray, paths):
        ax.plot(*path.T, **wide)
    if len(paths):
        handles.append(Line2D([], [], label=paths_label, **wide))
    ax.plot(*np.asarray(distance_map.source), "o", ms=7, color="white", mec="black", zorder=5)
    handles.append(Line2D([], [], ls="", marker="o", color="white", mec="black", label="source"))
    legend_above(ax, handles)
    if not bool(distance_map.result == RESULTS.successful):
        reason: str = RESULTS[distance_map.result]  # type: ignore[misc]
        ax.set_xlabel(f"{labels[0]}\nFAILED: {reason.split('. ')[0].rstrip('.')}", color=FAILED)
    return ax


def curvature_map(
    grid: Sequence[ArrayLike],
    curvature: ArrayLike,
    *,
    ax: Axes | None = None,
    labels: Sequence[str] = ("", ""),
    value_label: str = "scalar curvature",
    limits: tuple[float, float] | None = None,
    n_levels: int = 6,
) -> Axes:
    r"""A curvature, or any field whose sign matters, in diverging colours about 0.

    $$ S = g^{ij} R^k{}_{ikj}, \qquad K = S/2 \text{ in the plane} $$

    Level lines tell the sign without colours: solid above 0, dashed below, thick at 0.

    **Arguments:**

    - `grid`: two increasing vectors `(n₁,)`, `(n₂,)`.
    - `curvature`: `(n₁, n₂)`, as
      `jg.on_grid(lambda z: jg.scalar_curvature(metric, z), grid)` gives it. Cells that are not
      finite are grey, and no line passes them.
    - `ax`, `labels`, `value_label`, `limits`: as in `heat_map` with `signed`.
    - `n_levels`: about how many lines; 0 for none.

    **Returns:** the axes. **Fails:** `ValueError` as `heat_map`.

    **Cost:** none to speak of beside the curvature's.

    **Example:**

    >>> grid = (np.linspace(-1, 1, 5), np.linspace(0, 1, 4))
    >>> ax = curvature_map(grid, np.broadcast_to(grid[0][:, None], (5, 4)))
    >>> bool(np.sum(ax.collections[0].get_clim()) == 0.0)
    True
    """
    x, y, field = checked(grid, curvature, "curvature")
    ax = panels(size=SIZE)[0, 0] if ax is None else ax
    heat_map(
        (x, y), field, ax=ax, labels=labels, value_label=value_label, signed=True, limits=limits
    )
    if n_levels:
        low, high = ax.collections[0].get_clim()
        levels = np.asarray(MaxNLocator(n_levels).tick_values(low, high))
        for side, style, width in ((1, "-", 1.0), (-1, "--", 1.2), (0, "-", 2.2)):
            chosen = levels[np.sign(levels) == side] if side else np.zeros(1)
            _level_lines(ax, x, y, field, chosen, style, color="black", width=width)
    return ax


def posterior_map(
    grid: Sequence[ArrayLike],
    log_density: ArrayLike,
    *,
    ax: Axes | None = None,
    labels: Sequence[str] = ("", ""),
    truth: ArrayLike | None = None,
    levels: Sequence[float] = (0.5, 0.9),
) -> Axes:
    r"""A posterior density over a plane of parameters, its credible regions, and the truth.

    $$ \int_{p \ge c} p\,\mathrm dt = \text{level} $$

    bounds the region of highest density that holds so much: no other is smaller.

    **Arguments:**

    - `grid`: two increasing vectors `(n₁,)`, `(n₂,)`, evenly spaced or not.
    - `log_density`: `(n₁, n₂)`, up to a constant, as
      `jg.on_grid(lambda t: fit.posterior.log_weight(x, t), grid)` or `slices.log_posterior`
      gives it. −∞ is no density; other values that are not finite are refused.
    - `ax`: axes to draw on; those of a new figure if not given.
    - `labels`: symbols and units of both axes.
    - `truth`: the parameter behind the sample, `(2,)`, for a star.
    - `levels`: at most four probabilities inside (0, 1). A region that the grid does not resolve,
      or that is the whole of it, is in the legend without a line.

    **Returns:** the axes; the density integrates to 1 over the cells of the grid.

    **Fails:** `ValueError` as `heat_map`; on NaN and +∞, on levels outside (0, 1) or more than
    four, and on a truth that is not `(2,)`.

    **Cost:** one sort of the nodes.

    **Example:**

    >>> axis = np.linspace(-4, 4, 41)
    >>> ax = posterior_map((axis, axis), -np.add.outer(axis**2, axis**2) / 2, truth=np.zeros(2))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['50 % credible', '90 % credible', 'truth']
    """
    x, y, logs = checked(grid, log_density, "log_density")
    if np.any(np.isnan(logs) | (logs == np.inf)):
        bad = np.argwhere(np.isnan(logs) | (logs == np.inf))[0]
        raise ValueError(f"`log_density` must be finite or −∞, got {logs[tuple(bad)]} at {bad}.")
    if len(levels) > len(CREDIBLE) or not all(0 < level < 1 for level in levels):
        raise ValueError(
            f"`levels` must be {len(CREDIBLE)} numbers at most, inside (0, 1), got {levels}."
        )
    if truth is not None and np.shape(truth) != (2,):
        raise ValueError(f"`truth` must have shape (2,), got {np.shape(truth)}.")
    areas = np.outer(_widths(x), _widths(y))
    density = np.exp(logs - logs.max())
    density /= np.sum(density * areas)
    ax = panels(size=SIZE)[0, 0] if ax is None else ax
    heat_map((x, y), density, ax=ax, labels=labels, cmap=BACKDROP, value_label="density")
    handles = []
    for level, style in zip(levels, CREDIBLE, strict=False):
        bound = _bound(density, areas, level)
        drawn = density.min() < bound < density.max()
        if drawn:
            _level_lines(ax, x, y, density, np.array([bound]), style, width=1.4)
        label = f"{100 * level:g} % credible" + ("" if drawn else " (no line)")
        look: dict[str, Any] = {"color": "white", "lw": 1.4, "path_effects": OUTLINE}
        handles.append(Line2D([], [], ls=style if drawn else "", label=label, **look))
    if truth is not None:
        star: dict[str, Any] = {"marker": "*", "ms": 13, "color": TRUTH, "mec": "white", "ls": ""}
        ax.plot(*np.asarray(truth), zorder=5, **star)
        handles.append(Line2D([], [], label="truth", **star))
    legend_above(ax, handles)
    return ax


def _level_lines(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    field: np.ndarray,
    levels: np.ndarray,
    style: str,
    *,
    color: str = "white",
    width: float = 1.1,
) -> None:
    """Lines at those levels that the field crosses: matplotlib warns of others."""
    finite = field[np.isfinite(field)]
    crossed = [level for level in levels if finite.min() < level < finite.max()]
    if crossed:
        lines = ax.contour(
            x, y, np.ma.masked_invalid(field).T, levels=crossed, colors=color,
            linewidths=width, linestyles=style,
        )  # fmt: skip
        if color == "white":
            lines.set(path_effects=OUTLINE)


def _widths(axis: np.ndarray) -> np.ndarray:
    """Of the cells of an axis, which end midway between its nodes and at the outer ones."""
    edges = np.concatenate([axis[:1], (axis[1:] + axis[:-1]) / 2, axis[-1:]])
    return np.diff(edges)


def _bound(density: np.ndarray, areas: np.ndarray, level: float) -> float:
    """The density above which the probability is `level`, between nodes by interpolation."""
    order = np.argsort(density, axis=None)[::-1]
    heights, masses = density.ravel()[order], (density * areas).ravel()[order]
    middles = np.cumsum(masses) - masses / 2  # half of a cell is above the density of its node
    return float(np.interp(level, middles, heights))
