"""Connected regions of one label on a grid, and their areas."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxgeo.grids import as_axes
from jaxgeo.phases.boundaries import as_labels


class Regions(NamedTuple):
    """The connected regions of a grid of labels, the largest first.

    - `numbers`: of the shape of the grid, the region each node is in, from 0.
    - `labels`: `(n,)`, the label of each region.
    - `areas`: `(n,)`, its area.
    """

    numbers: Int[np.ndarray, "*shape"]
    labels: Int[np.ndarray, " n"]
    areas: Float[np.ndarray, " n"]


def regions(labels: ArrayLike, axes: Sequence[ArrayLike] | None = None) -> Regions:
    """Phases in one piece each: nodes of one label joined by edges of the grid.

    Every node is in one region, be it alone there; diagonals join nothing.

    **Arguments:**

    - `labels`: integers on a grid of any dimension, `(n₁, …, n_d)`.
    - `axes`: d increasing vectors `(n₁,)`, …; to measure areas in their units. A node has the
      part of the grid that is nearest to it, so that areas add up to the grid's.

    **Returns:** `Regions`. Without `axes` areas are numbers of nodes.

    **Fails:** `ValueError` on shapes and dtypes.

    **Cost:** host only, linear in the number of nodes.

    **Example:**

    >>> found = regions(np.array([[0, 0, 1], [0, 2, 0]]))
    >>> found.labels.tolist(), found.areas.tolist()
    ([0, 1, 2, 0], [3.0, 1.0, 1.0, 1.0])
    """
    grid = as_labels(labels)
    if grid.size == 0 or grid.ndim == 0:
        raise ValueError(f"`labels` must be a grid with nodes, got shape {grid.shape}.")
    weights = np.ones(grid.shape) if axes is None else _cells(axes, grid.shape)
    number = np.arange(grid.size).reshape(grid.shape)
    pairs = []
    for axis in range(grid.ndim):
        rows = np.moveaxis(number, axis, 0)
        pairs.append(np.stack([rows[:-1].ravel(), rows[1:].ravel()]))
    first, second = np.concatenate(pairs, axis=1)
    joined = grid.ravel()[first] == grid.ravel()[second]
    edges = (np.ones(joined.sum(), bool), (first[joined], second[joined]))
    count, numbers = connected_components(coo_array(edges, (grid.size, grid.size)), False)
    areas = np.bincount(numbers, weights.ravel(), count)
    order = np.argsort(-areas, kind="stable")
    of_regions = np.empty(count, int)
    of_regions[numbers] = grid.ravel()
    place = np.empty(count, int)
    place[order] = np.arange(count)
    return Regions(place[numbers].reshape(grid.shape), of_regions[order], areas[order])


def _cells(axes: Sequence[ArrayLike], shape: tuple[int, ...]) -> np.ndarray:
    """The part of the grid that is nearest to each node."""
    arrays = [np.asarray(axis, np.float64) for axis in as_axes(axes)]
    sizes = tuple(axis.size for axis in arrays)
    if sizes != shape or not all(np.all(np.diff(axis) > 0) for axis in arrays):
        raise ValueError(f"`axes` must increase and have sizes {shape}, got {sizes}: {axes}.")
    weights = np.ones(())
    for axis in arrays:
        steps = np.concatenate([[0.0], np.diff(axis), [0.0]])
        weights = np.multiply.outer(weights, (steps[:-1] + steps[1:]) / 2)
    return weights
