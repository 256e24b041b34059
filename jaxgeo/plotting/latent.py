"""Latent spaces: encoded data on the size of the metric, curves, and what they decode to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from jaxgeo.plotting.fields import heat_map
from jaxgeo.plotting.figures import panels

CLASSES = "tab10"
IMAGES = "gray_r"
GEODESIC, STRAIGHT = ("-", "white"), ("--", "#FFA94D")


def latent_map(
    axes: Sequence[ArrayLike],
    log_volume: ArrayLike,
    points: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    geodesics: Sequence[ArrayLike] = (),
    ax: Axes | None = None,
    title: str = "",
    classes_label: str = "class",
    value_label: str = r"$\log\,\sqrt{\det\,g}$",
) -> Axes:
    r"""Encoded data over log √det g, with geodesics and the straight lines between their ends.

    Dark is where lengths are short: where a metric that was learned from data knows them.

    **Arguments:**

    - `axes`: two increasing vectors `(n₁,)`, `(n₂,)`. - `log_volume`: `(n₁, n₂)`.
    - `points`: `(n, 2)`. - `classes`: whole numbers `(n,)`, for the colours; at most ten kinds.
    - `geodesics`: polylines `(k, 2)`; each gets its chord, dashed.
    - `ax`: axes to draw on; those of a new figure if not given.

    **Returns:** the axes. **Fails:** `ValueError` as `heat_map`.
    """
    ax = panels(size=(6.4, 5.4))[0, 0] if ax is None else ax
    heat_map(axes, log_volume, ax=ax, labels=("$z_1$", "$z_2$"), value_label=value_label)
    places = np.asarray(points)
    kinds = np.zeros(len(places), int) if classes is None else np.asarray(classes)
    handles: list[Any] = []
    cycle = _colors()
    for kind in np.unique(kinds):
        color = cycle[int(kind) % len(cycle)] if classes is not None else "white"
        here = places[kinds == kind]
        ax.plot(*here.T, "o", ms=2.4, color=color, mec="black", mew=0.25, alpha=0.9)
        if classes is not None:
            handles.append(Line2D([], [], ls="", marker="o", color=color, label=str(kind)))
    outline = [withStroke(linewidth=3.2, foreground="black")]
    for curve in map(np.asarray, geodesics):
        for (style, color), path in ((STRAIGHT, curve[[0, -1]]), (GEODESIC, curve)):
            ax.plot(*path.T, ls=style, color=color, lw=1.6, path_effects=outline)
        ax.plot(*curve[[0, -1]].T, "o", ms=5, color="white", mec="black", zorder=5)
    if len(geodesics):
        for (style, color), label in ((GEODESIC, "geodesic"), (STRAIGHT, "straight")):
            handles.append(
                Line2D([], [], ls=style, color=color, lw=1.6, label=label, path_effects=outline)
            )
    if handles:
        ax.legend(
            handles=handles, ncols=6, loc="lower left", bbox_to_anchor=(0, 1.01), fontsize="small",
            facecolor="0.8", framealpha=1, columnspacing=1.0, handletextpad=0.4,
            title=classes_label if classes is not None else None, title_fontsize="small",
        )  # fmt: skip
    ax.set_xlim(float(np.min(np.asarray(axes[0]))), float(np.max(np.asarray(axes[0]))))
    ax.set_ylim(float(np.min(np.asarray(axes[1]))), float(np.max(np.asarray(axes[1]))))
    if title:
        ax.set_xlabel(f"$z_1$\n{title}")
    return ax


def image_strips(strips: Mapping[str, Sequence[ArrayLike]], *, shades: int = 9) -> Any:
    """Rows of images: for every pair of ends one row of each kind, the kinds beneath each other.

    **Arguments:** `strips`: a name of each kind to its rows, every row `(k, height, width)`, one
    row of each kind a pair; `shades`: how many images of a row are drawn, evenly spaced.

    **Returns:** the axes, `(pairs · kinds, 1)`. **Fails:** `ValueError` unless all kinds have as
    many rows.
    """
    counts = {name: len(rows) for name, rows in strips.items()}
    if not counts or len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(f"`strips` must hold as many rows of every kind, got {counts}.")
    n = next(iter(counts.values()))
    grid = panels(n * len(strips), 1, size=(0.62 * shades, 0.72))
    for k, (name, rows) in enumerate(strips.items()):
        for pair, images in enumerate(rows):
            row = np.asarray(images)
            chosen = row[np.linspace(0, len(row) - 1, shades).round().astype(int)]
            ax = grid[pair * len(strips) + k, 0]
            _tile(ax, chosen[None])
            ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize="small")
    return grid


def image_grids(grids: Mapping[str, ArrayLike], *, columns: int = 8) -> Any:
    """Images side by side, in one panel for each name.

    **Arguments:** `grids`: a title to its images, `(n, height, width)`; `columns` of a panel.

    **Returns:** the axes, `(1, panels)`.
    """
    axes = panels(1, len(grids), size=(3.6, 3.8))
    for ax, (name, images) in zip(axes[0], grids.items(), strict=True):
        array = np.asarray(images)
        rows = -(-len(array) // columns)
        full = np.full((rows * columns, *array.shape[1:]), np.nan)
        full[: len(array)] = array
        _tile(ax, full.reshape(rows, columns, *array.shape[1:]))
        ax.set_title(name, fontsize="medium")
    return axes


def distance_matrices(
    matrices: Mapping[str, ArrayLike], *, classes: ArrayLike | None = None
) -> Any:
    """Matrices of distances, points sorted by class, with lines between classes.

    **Arguments:** `matrices`: a title to a matrix `(n, n)`; `classes`: whole numbers `(n,)`.

    **Returns:** the axes, `(1, panels)`.
    """
    axes = panels(1, len(matrices), size=(4.4, 3.9))
    for ax, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        array = np.asarray(matrix)
        kinds = np.zeros(len(array), int) if classes is None else np.asarray(classes)
        order = np.argsort(kinds, kind="stable")
        image = ax.imshow(array[np.ix_(order, order)], cmap="viridis", interpolation="nearest")
        edges = np.flatnonzero(np.diff(kinds[order])) + 0.5
        for edge in edges:
            ax.axhline(edge, color="white", lw=0.5)
            ax.axvline(edge, color="white", lw=0.5)
        if classes is not None:
            middles = [np.mean(np.flatnonzero(kinds[order] == k)) for k in np.unique(kinds)]
            ax.set_xticks(middles, [str(k) for k in np.unique(kinds)])
            ax.set_yticks(middles, [str(k) for k in np.unique(kinds)])
        ax.set_title(name, fontsize="medium")
        ax.figure.colorbar(image, ax=ax, label="distance")
    return axes


def _tile(ax: Axes, images: np.ndarray) -> None:
    """`(rows, columns, height, width)` as one picture, with a little room between."""
    rows, columns, height, width = images.shape
    room = np.full((rows, columns, height + 1, width + 1), np.nan)
    room[..., :height, :width] = images
    joined = room.transpose(0, 2, 1, 3).reshape(rows * (height + 1), columns * (width + 1))
    ax.imshow(joined[:-1, :-1], cmap=IMAGES, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)


def _colors() -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps[CLASSES](np.arange(10))
