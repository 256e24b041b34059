"""The box-counting dimension of a phase boundary, or of any set of cells or points."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxgeo.phases.boundaries import as_labels
from jaxgeo.phases.slopes import fit_slope

N_OFFSETS = 16
"""Grids of boxes of one size, over which counts are averaged."""
LARGEST = 1 / 8
"""Of the set's extent: larger boxes count how many pieces it has, not its dimension."""
SMALLEST = 6
"""Cells: in smaller boxes a grid of labels misses what is thinner than its spacing."""
CROWD = 8
"""Points a box on average, at least: with fewer a sample's own sparseness shows."""


class BoxDimension(NamedTuple):
    """A dimension by box counting, and what it was read off.

    - `dimension`: the slope of log counts against −log scales over those that are `fitted`.
    - `error`: of it, one standard deviation.
    - `scales`: `(n,)`, sides of the boxes, the smallest first: in cells, or units of the points.
    - `counts`: `(n,)`, boxes that hold some of the set, on average over grids of them.
    - `slopes`: `(n − 1,)`, local dimensions, between one scale and the next.
    - `fitted`: `(n,)`, the scales within the range of the fit.
    """

    dimension: float
    error: float
    scales: Float[np.ndarray, " n"]
    counts: Float[np.ndarray, " n"]
    slopes: Float[np.ndarray, " n-1"]
    fitted: Bool[np.ndarray, " n"]


def box_dimension(
    boundary: ArrayLike,
    *,
    smallest: float | None = None,
    largest: float | None = None,
) -> BoxDimension:
    r"""The box-counting dimension of the boundary of labels on a grid, or of a set.

    $$ D = -\lim_{s \to 0} \frac{\mathrm d \log N(s)}{\mathrm d \log s} $$

    with N(s) the number of boxes of side s that hold some of the set; of labels, those that hold
    nodes of more than one, boxes sharing the nodes of their sides. Counts are averaged over 16
    grids of boxes, shifted by a sequence that fills their sides evenly. On a grid only boxes
    count whose centre is in it: the others see too little of a set that goes on outside. Scales
    go up by √2 from one cell, or from where there are 8 points a box, to half of the set's
    extent, the longest side of the box about it; those at which some grid counts nothing are left
    out. The fit is over those from 6 cells to an eighth of the extent, which takes grids of some
    130 nodes a side.

    The error has four parts, added in squares: that of the fit; the scatter over the grids of
    boxes; and, for counts at different scales are not independent, that of local slopes taken as
    one independent value an octave, and half of the difference between the fits of the smaller
    and the larger scales. What lies beyond the range of scales is beyond it: compare levels of
    `zoom_series`, and `uncertainty_dimension`.

    **Arguments:**

    - `boundary`: integers `(n₁, …, n_d)`, labels at the nodes of a grid of cubic cells; or truth
      values `(n₁, …, n_d)`, a set of such cells; or floats `(n, d)`, points.
    - `smallest`, `largest`: the range of the fit, in cells or units of the points, if it is not
      to be chosen as above. Points without `smallest` are fitted from where boxes hold 8.

    **Returns:** `BoxDimension`.

    **Fails:** `ValueError` on shapes, dtypes, values that are not finite, a set that is empty, or
    so small that fewer than four scales are in the range.

    **Cost:** host only: a sort of all cells of the set for each of 16 grids of each scale.

    **Example:**

    >>> x = np.linspace(-1, 1, 256)
    >>> disc = (x[:, None] ** 2 + x**2 < 0.7).astype(int)
    >>> bool(abs(box_dimension(disc).dimension - 1) < 0.03)
    True

    **Reference:** Falconer (2003), *Fractal Geometry*, ch. 3.
    """
    points, window = _as_points(boundary)
    unit = 0.0 if window is None else 1.0
    extent = float(np.ptp(points, axis=0).max()) + unit
    if extent == 0:
        raise ValueError(f"`boundary` must hold points that differ, got {len(points)} of them.")
    scales, by_grid = _count(points, extent, window)
    seen = np.all(by_grid > 0, axis=1)
    scales, by_grid = scales[seen], by_grid[seen]
    counts = by_grid.mean(axis=1)
    low = smallest if smallest is not None else SMALLEST * unit
    high = largest if largest is not None else LARGEST * extent
    slack = 1 + 1e-9
    fitted = (scales * slack >= low) & (scales <= high * slack)
    if fitted.sum() < 4:
        raise ValueError(
            f"`boundary` must be resolved on four scales or more between {low:g} and {high:g}, "
            f"got {fitted.sum()}: give a finer grid, more points, or another range."
        )
    x, y = -np.log(scales), np.log(counts)
    slopes = np.diff(y) / np.diff(x)
    slope, error = fit_slope(x[fitted], y[fitted])
    of_grids = [fit_slope(x[fitted], np.log(c))[0] for c in by_grid[fitted].T]
    local = slopes[fitted[1:] & fitted[:-1]]
    octaves = np.log2(scales[fitted][-1] / scales[fitted][0])
    parts = (error, np.std(of_grids, ddof=1) / N_OFFSETS**0.5, np.std(local) / octaves**0.5)
    return BoxDimension(slope, float(np.linalg.norm(parts)), scales, counts, slopes, fitted)


def _as_points(
    boundary: ArrayLike,
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " d"] | None]:
    """The set as points, the lower corners of its cells, and how many cells the grid has."""
    array = np.asarray(boundary)
    window = None
    if np.issubdtype(array.dtype, np.floating):
        if array.ndim != 2 or not np.all(np.isfinite(array)):
            raise ValueError(f"points must be finite and of shape (n, d), got {array}.")
        points = array.astype(np.float64)
    else:
        cells = array if array.dtype == bool else _mixed(as_labels(array))
        points = np.argwhere(cells).astype(np.float64)
        window = np.array(cells.shape)
    if len(points) == 0:
        raise ValueError(f"`boundary` must not be empty, got none in shape {array.shape}.")
    return points, window


def _mixed(labels: Int[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Cells whose corners have more than one label."""
    low = high = labels
    for axis, n in enumerate(labels.shape):
        low, high = (
            extreme(np.take(x, range(n - 1), axis), np.take(x, range(1, n), axis))
            for extreme, x in ((np.minimum, low), (np.maximum, high))
        )
    return low != high


def _count(
    points: Float[np.ndarray, "n d"], extent: float, window: Int[np.ndarray, " d"] | None
) -> tuple[Float[np.ndarray, " scales"], Float[np.ndarray, "scales grids"]]:
    """Sides of boxes, by steps of √2, and the counts of each; cells have whole numbers of them."""
    if window is not None:
        steps = np.arange(0, 2 * np.log2(max(extent, 4) / 2) + 0.01)
        scales = np.unique(np.round(2 ** (steps / 2)))
        return scales, np.array([_counts(points, scale, window) for scale in scales])
    sides: list[float] = []
    found: list[np.ndarray] = []
    scale = extent / 2
    deepest = extent * 0.5 ** min(40, 60 // points.shape[1])  # or numbers of boxes overflow
    while not found or (found[-1].mean() * CROWD <= len(points) and scale > deepest):
        sides.append(scale)
        found.append(_counts(points, scale, window))
        scale /= 2**0.5
    # the last has too few
    return np.array(sides[-2::-1]), np.array(found[-2::-1]).reshape(-1, N_OFFSETS)


def _counts(
    points: Float[np.ndarray, "n d"], scale: float, window: Int[np.ndarray, " d"] | None
) -> Float[np.ndarray, " grids"]:
    """Boxes of this side that hold points, on each of the shifted grids."""
    d = points.shape[1]
    # the generalised golden ratio's powers: shifts that fill the box evenly for every d
    ratio = np.real(np.roots([1.0, *[0.0] * (d - 1), -1.0, -1.0])).max()
    shifts = np.outer(np.arange(N_OFFSETS), ratio ** -np.arange(1.0, d + 1)) % 1.0
    relative = (points - (points.min(axis=0) if window is None else 0)) / scale
    sizes = tuple((relative.max(axis=0) + 2).astype(np.int64).tolist())
    counts = []
    for shift in shifts:
        boxes = np.floor(relative + shift).astype(np.int64)
        held = np.unique(np.ravel_multi_index(tuple(boxes.T), sizes))
        if window is not None:
            centres = np.stack(np.unravel_index(held, sizes), axis=-1) + 0.5 - shift
            held = held[np.all((centres >= 0) & (centres * scale <= window), axis=1)]
        counts.append(len(held))
    return np.array(counts, np.float64)
