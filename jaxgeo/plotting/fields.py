"""Functions on a grid in colours: one alone, or reconstructed beside exact."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

from jaxgeo.plotting.figures import panels

MAGNITUDE, SIGNED = "viridis", "RdBu_r"
"""Colour maps that the colour-blind can read: of magnitudes and of errors."""
NOT_FINITE = "0.8"
"""The grey of a cell without a value."""


def heat_map(
    grid: Sequence[ArrayLike],
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    labels: Sequence[str] = ("", ""),
    value_label: str = "",
    signed: bool = False,
    limits: tuple[float, float] | None = None,
    cmap: str | None = None,
) -> Axes:
    """A function on a 2-D grid in colours, one cell a node, with its colour bar.

    **Arguments:**

    - `grid`: two increasing vectors `(n₁,)`, `(n₂,)`.
    - `values`: `(n₁, n₂)`, as `on_grid` gives them. Cells that are not finite are grey.
    - `ax`: axes to draw on; those of a new figure if not given.
    - `labels`, `value_label`: symbols and units of both axes and the colour bar.
    - `signed`: diverging colours, white at 0, for errors.
    - `limits`: of the colour scale. For `signed`, if not given, ± the 98th percentile of the
      size; the colour bar then shows by an arrow that some values are beyond.
    - `cmap`: a matplotlib colour map instead of the default.

    **Returns:** the axes. **Fails:** `ValueError` on shapes, axes that do not increase, and if no
    value is finite.

    **Example:**

    >>> grid = (np.arange(2.0), np.arange(3.0))
    >>> ax = heat_map(grid, np.eye(2, 3), labels=("$T$", "$H$"))
    >>> ax.get_ylabel()
    '$H$'
    """
    x, y, field = checked(grid, values, "values")
    ax = panels()[0, 0] if ax is None else ax
    finite = field[np.isfinite(field)]
    if limits is None:
        limits = colour_limits(finite, signed)
    colors = matplotlib.colormaps[cmap or (SIGNED if signed else MAGNITUDE)]
    mesh = ax.pcolormesh(
        x,
        y,
        np.ma.masked_invalid(field).T,
        cmap=colors.with_extremes(bad=NOT_FINITE),
        vmin=limits[0],
        vmax=limits[1],
        shading="nearest",
        rasterized=True,
    )
    beyond = (finite.min() < limits[0], finite.max() > limits[1])
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond)
    ax.figure.colorbar(mesh, ax=ax, label=value_label, extend=extend or "neither", pad=0.02)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    return ax


def comparison(
    grid: Sequence[ArrayLike],
    reconstructed: Mapping[str, ArrayLike],
    exact: Mapping[str, ArrayLike] | None = None,
    *,
    axes: Any = None,
    labels: Sequence[str] = ("", ""),
) -> Any:
    """Functions as reconstructed, beside the exact ones and the errors: a row for each.

    Reconstructed and exact share their colour scale; the error is titled with its root mean
    square and its largest size.

    **Arguments:**

    - `grid`: two increasing vectors `(n₁,)`, `(n₂,)`.
    - `reconstructed`, `exact`: label to values `(n₁, n₂)`, with the same labels in both.
      Without `exact` there is one column.
    - `axes`: an array of axes, `(rows, 3)` or `(rows, 1)`; of a new figure if not given.
    - `labels`: symbols and units of both axes.

    **Returns:** the array of axes. **Fails:** `ValueError` as `heat_map`, on labels that differ,
    and if `axes` has another shape.
    """
    if not reconstructed or (exact is not None and set(exact) != set(reconstructed)):
        raise ValueError(
            "`reconstructed` and `exact` must have the same labels, got "
            f"{list(reconstructed)} and {None if exact is None else list(exact)}."
        )
    shape = (len(reconstructed), 1 if exact is None else 3)
    own = axes is None
    axes = panels(*shape, size=(3.9, 2.8)) if own else np.asarray(axes)
    if axes.shape != shape:
        raise ValueError(f"`axes` must have shape {shape}, got {axes.shape}.")
    for row, (label, values) in zip(axes, reconstructed.items(), strict=True):
        ours = checked(grid, values, label)[2]
        if exact is None:
            heat_map(grid, ours, ax=row[0], labels=labels, value_label=label)
            continue
        theirs = checked(grid, exact[label], label)[2]
        both = np.concatenate([ours.ravel(), theirs.ravel()])
        limits = colour_limits(both[np.isfinite(both)], False)
        error = ours - theirs
        for ax, field, title in zip(row, (ours, theirs), ("reconstructed", "exact"), strict=False):
            heat_map(grid, field, ax=ax, labels=labels, value_label=label, limits=limits)
            ax.set_title(title, fontsize="medium")
        heat_map(
            grid, error, ax=row[2], labels=labels, value_label=f"error of {label}", signed=True
        )
        rms = float(np.sqrt(np.nanmean(error**2)))
        row[2].set_title(
            f"RMS {rms:.2g}, largest {np.nanmax(np.abs(error)):.2g}", fontsize="medium"
        )
    if own:
        for ax in axes.ravel():
            ax.label_outer()
    return axes


def checked(
    grid: Sequence[ArrayLike], values: ArrayLike, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two axes and the values on them as float arrays, or a `ValueError`."""
    x, y = increasing(grid, "grid")
    field = np.asarray(values, np.float64)
    shape = (x.size, y.size)
    if field.shape[:2] != shape or field.shape[2:] not in ((), (2, 2)):
        raise ValueError(f"{name}: expected shape {shape} like the grid, got {field.shape}.")
    if not np.any(np.isfinite(field)):
        raise ValueError(f"{name}: no value is finite.")
    return x, y, field


def increasing(grid: Sequence[ArrayLike], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The two axes as float arrays, or a `ValueError`."""
    axes = [np.asarray(axis, np.float64) for axis in grid]
    if len(axes) != 2:
        raise ValueError(f"`{name}` must hold two vectors, got {len(axes)}.")
    for k, axis in enumerate(axes):
        if axis.ndim != 1 or axis.size < 2 or not np.all(np.diff(axis) > 0):
            raise ValueError(f"`{name}[{k}]` must be two or more increasing numbers, got {axis}.")
    return axes[0], axes[1]


def colour_limits(finite: np.ndarray, signed: bool) -> tuple[float, float]:
    """Of the colour scale, with room even for a constant."""
    if signed:
        size = float(np.quantile(np.abs(finite), 0.98)) or float(np.abs(finite).max()) or 1.0
        return -size, size
    low, high = float(finite.min()), float(finite.max())
    margin = 0.0 if high > low else abs(low) * 1e-3 + 1e-12
    return low - margin, high + margin
