"""Slices of a latent space: what they decode to, its phases, and how rough their boundary is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from jaxgeo.phases import Boundary, BoxDimension, Ridge, ZoomLevel
from jaxgeo.phases.boundaries import as_labels
from jaxgeo.plotting.fields import increasing
from jaxgeo.plotting.figures import legend_columns, panels

PHASES = (
    *("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE"),
    *("#AA3377", "#BBBBBB", "#EE8866", "#44BB99", "#222255"),
)
"""Ten colours that colour-blind readers can tell apart (Tol 2021), for phases; then again."""
PLANE = (r"$\alpha$", r"$\beta$")
CURVES = (("-", "white"), ("--", "#FFD92F"), (":", "white"), ("-.", "#FFD92F"))


def phase_map(
    axes: Sequence[ArrayLike],
    labels: ArrayLike,
    *,
    boundaries: Sequence[Boundary | Ridge | ArrayLike] = (),
    curves: Mapping[str, Sequence[ArrayLike]] | None = None,
    names: Mapping[int, str] | None = None,
    ax: Axes | None = None,
    axis_labels: Sequence[str] = PLANE,
    title: str = "",
) -> Axes:
    """A discrete label over the plane in colours, its boundaries, and curves on it.

    **Arguments:**

    - `axes`: two increasing vectors `(n₁,)`, `(n₂,)`. - `labels`: whole numbers `(n₁, n₂)`.
    - `boundaries`: polylines, as `phases.boundaries` or `phases.ridges` give them.
    - `curves`: a name to polylines `(k, 2)`; at most four names.
    - `names`: of labels, for the legend; the numbers if not given.
    - `ax`: axes to draw on; those of a new figure if not given.

    **Returns:** the axes. **Fails:** `ValueError` on axes that do not increase, labels that are
    no whole numbers or do not fit the axes, and more names of curves than can be told apart.
    """
    x, y = increasing(axes, "axes")
    kinds = as_labels(labels, (x.size, y.size))
    curves = curves or {}
    if len(curves) > len(CURVES):
        raise ValueError(f"`curves` must have {len(CURVES)} names at most, got {list(curves)}.")
    ax = panels(size=(5.4, 4.8))[0, 0] if ax is None else ax
    present = np.unique(kinds).tolist()
    colors = [PHASES[kind % len(PHASES)] for kind in present]
    ax.pcolormesh(
        x, y, np.searchsorted(present, kinds).T, cmap=ListedColormap(colors), vmin=-0.5,
        vmax=len(present) - 0.5, shading="nearest", rasterized=True,
    )  # fmt: skip
    handles: list[Any] = [
        Line2D([], [], ls="", marker="s", color=color, label=str((names or {}).get(kind, kind)))
        for kind, color in zip(present, colors, strict=True)
    ]
    for line in boundaries:
        points = np.asarray(getattr(line, "points", line))
        ax.plot(*points.T, color="black", lw=0.9)
    outline = [withStroke(linewidth=3.2, foreground="black")]
    for (name, lines), (style, color) in zip(curves.items(), CURVES, strict=False):
        look: dict[str, Any] = {"ls": style, "color": color, "lw": 1.6, "path_effects": outline}
        for line in map(np.asarray, lines):
            ax.plot(*line.T, **look)
            ax.plot(*line[[0, -1]].T, "o", ms=4.5, color="white", mec="black", zorder=5)
        handles.append(Line2D([], [], label=name, **look))
    ax.legend(
        handles=handles, ncols=legend_columns(ax, handles), loc="lower left",
        bbox_to_anchor=(0, 1.01), fontsize="small", facecolor="0.85", framealpha=1,
        columnspacing=1.0, handletextpad=0.4,
    )  # fmt: skip
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.set_xlabel(axis_labels[0] + (f"\n{title}" if title else ""))
    ax.set_ylabel(axis_labels[1])
    return ax


def image_map(
    axes: Sequence[ArrayLike],
    images: ArrayLike,
    *,
    boundaries: Sequence[Boundary | Ridge | ArrayLike] = (),
    ax: Axes | None = None,
    axis_labels: Sequence[str] = PLANE,
) -> Axes:
    """Decoded images, each at its place of the plane: α to the right and β up.

    **Arguments:** `axes`: two evenly spaced vectors `(n₁,)`, `(n₂,)`; `images`:
    `(n₁, n₂, height, width)`, in greys between their extremes, dark where they are large, or with
    colours `(…, 3)`, in [0, 1] or whole numbers up to 255; `boundaries`, as of `phase_map`; `ax`.

    **Returns:** the axes. **Fails:** `ValueError` on axes that are not evenly spaced, images that
    do not fit them, and colours out of their range.
    """
    x, y = increasing(axes, "axes")
    for k, axis in enumerate((x, y)):
        if not np.allclose(np.diff(axis), np.diff(axis).mean(), rtol=1e-3, atol=0):
            raise ValueError(f"`axes[{k}]` must be evenly spaced, got {axis}.")
    tiles = np.asarray(images)
    n, m = x.size, y.size
    if tiles.shape[:2] != (n, m) or tiles.shape[4:] not in ((), (3,)) or tiles.ndim < 4:
        raise ValueError(
            f"`images` must have shape {(n, m)} + (height, width) or (height, width, 3), "
            f"got {tiles.shape}."
        )
    whole = np.issubdtype(tiles.dtype, np.integer)
    tiles = tiles if whole else tiles.astype(np.float64)  # bfloat16 is no dtype of matplotlib's
    if tiles.ndim == 5 and not (tiles.min() >= 0 and tiles.max() <= (255 if whole else 1)):
        raise ValueError(
            "colours must lie in [0, 1], or be whole numbers up to 255, got "
            f"{tiles.dtype} from {tiles.min()} to {tiles.max()}."
        )
    height, width, *colors = tiles.shape[2:]
    aspect = m * height / (n * width)  # kept, or images would be stretched
    ax = panels(size=(5.2, 4.5 * aspect + 0.5))[0, 0] if ax is None else ax
    # rows of the picture: β from above down, and in each the rows of the images
    rows = tiles[:, ::-1].swapaxes(0, 1).swapaxes(1, 2)
    mosaic = rows.reshape(m * height, n * width, *colors)
    (left, right), (bottom, top) = (
        (axis[0] - half, axis[-1] + half)
        for axis, half in ((axis, np.ptp(axis) / (axis.size - 1) / 2) for axis in (x, y))
    )
    ax.imshow(mosaic, cmap="gray_r", extent=(left, right, bottom, top), aspect="auto")
    ax.set_box_aspect(aspect)
    for line in boundaries:
        points = np.asarray(getattr(line, "points", line))
        ax.plot(*points.T, color="#D81B60", lw=1.2)
    ax.set_xlabel(axis_labels[0])
    ax.set_ylabel(axis_labels[1])
    return ax


def zoom_strip(series: Mapping[str, Sequence[ZoomLevel]], *, columns: int = 8) -> Any:
    """A row of windows for every name, each ever nearer to a point of a boundary.

    Above each its width; the colours of phases are those of `phase_map`.

    **Arguments:** `series`: a name to the levels that `phases.zoom_series` gives; `columns`: how
    many of them are drawn, evenly spaced.

    **Returns:** the axes, `(names, columns)`. **Fails:** `ValueError` without a level.
    """
    columns = min(columns, max((len(levels) for levels in series.values()), default=0))
    if columns == 0:
        raise ValueError("`series` must hold at least one level.")
    axes = panels(len(series), columns, size=(1.35, 1.55))
    for row, (name, levels) in zip(axes, series.items(), strict=True):
        chosen = np.unique(np.linspace(0, len(levels) - 1, columns).round().astype(int))
        for ax in row[len(chosen) :]:
            ax.set_axis_off()
        for ax, k in zip(row, chosen, strict=False):
            kinds = np.asarray(levels[k].labels)
            cycle = ListedColormap(PHASES)
            ax.imshow(kinds.T % len(PHASES), origin="lower", cmap=cycle, vmin=-0.5,
                      vmax=len(PHASES) - 0.5, interpolation="nearest")  # fmt: skip
            width = float(np.ptp(levels[k].axes[0]))
            digit, power = f"{width:.0e}".split("e")
            ax.set_title(rf"${digit}\times10^{{{int(power)}}}$", fontsize="x-small")
            ax.set_xticks([])
            ax.set_yticks([])
        row[0].set_ylabel(name, fontsize="small")
    return axes


def box_counts(
    dimensions: Mapping[str, BoxDimension], *, ax: Axes | None = None, title: str = ""
) -> Axes:
    r"""Boxes that meet a boundary against their size, with the fit whose slope is −D.

    Filled marks are what was fitted. **Arguments:** `dimensions`: a name to what
    `phases.box_dimension` gives; `ax`. **Returns:** the axes. **Fails:** `ValueError` without a
    dimension.
    """
    if not dimensions:
        raise ValueError("`dimensions` must hold at least one, got none.")
    ax = panels(size=(5.0, 4.0))[0, 0] if ax is None else ax
    marks = "os^Dv<>p*h"
    for k, (name, found) in enumerate(dimensions.items()):
        color, fitted = PHASES[k % len(PHASES)], np.asarray(found.fitted)
        scales, counts = np.asarray(found.scales), np.asarray(found.counts)
        line = f"{name}: $D={found.dimension:.3f}\\pm{found.error:.3f}$"
        look: dict[str, Any] = {"ls": "", "marker": marks[k % len(marks)], "ms": 5, "color": color}
        ax.loglog(scales[fitted], counts[fitted], label=line, **look)
        ax.loglog(scales[~fitted], counts[~fitted], mfc="none", **look)
        middle = np.exp(np.mean(np.log(counts[fitted] * scales[fitted] ** found.dimension)))
        ends = np.array([scales[fitted].min(), scales[fitted].max()])
        ax.loglog(ends, middle * ends**-found.dimension, color=color, lw=1.0)
    ax.set_xlabel("size of a box")
    ax.set_ylabel("boxes that meet the boundary")
    ax.legend(fontsize="small")
    if title:
        ax.set_title(title, fontsize="medium")
    return ax


def growth(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] = ("distance to the boundary", "Lipschitz constant"),
) -> Axes:
    """Lipschitz constants against the distance to a boundary, on logarithmic scales.

    **Arguments:** `curves`: a name to distances `(n,)` and constants `(n,)`; those that are not
    finite are left out, and named in the legend. **Returns:** the axes. **Fails:** `ValueError`
    without a curve.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one, got none.")
    ax = panels(size=(5.0, 4.0))[0, 0] if ax is None else ax
    for k, (name, (distances, constants)) in enumerate(curves.items()):
        bad = int(np.sum(~np.isfinite(np.asarray(constants))))
        note = f" ({bad} not finite)" if bad else ""
        ax.loglog(
            np.asarray(distances), np.asarray(constants), "o-", ms=3.5, lw=1.2,
            color=PHASES[k % len(PHASES)], label=name + note,
        )  # fmt: skip
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    ax.legend(fontsize="small")
    return ax
