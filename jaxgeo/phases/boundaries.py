"""Boundaries of a discrete label on the plane, as polylines."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxgeo._typing import as_count
from jaxgeo.grids import increasing_axes, on_grid
from jaxgeo.phases.bisection import CHUNK, Label, check_label, halve
from jaxgeo.phases.chains import chains, grid_edges, points_of_cells


class Boundary(NamedTuple):
    """One connected piece of the boundary between two phases.

    - `points`: `(n, 2)`, in order along it; where it is closed, the last is the first.
    - `labels`: of the two phases, the smaller first.
    """

    points: Float[np.ndarray, "n 2"]
    labels: tuple[int, int]


def boundaries(
    axes: Sequence[ArrayLike],
    label: Label | ArrayLike,
    *,
    labels: ArrayLike | None = None,
    tolerance: float = 1e-6,
    chunk_size: int = CHUNK,
) -> list[Boundary]:
    """The boundaries of a discrete label on a 2-D grid, as polylines from edge to edge.

    A point lies on each edge of the grid whose ends differ in label, and points of one pair of
    labels in one cell are linked. Where three or more labels meet in a cell the chains end, less
    than a cell from the junction; one that has only a point is a chain too. On a saddle, a cell
    with one label on either diagonal, the label at the cell's centre joins hands.

    Finer structure than a cell is not seen: see `zoom_series`. For the creases of a field there
    is `ridges`.

    **Arguments:**

    - `axes`: two increasing vectors `(n₁,)`, `(n₂,)`, two nodes or more each.
    - `label`: any callable from a point `(2,)` to an integer; or its values `(n₁, n₂)` at the
      nodes. Of values the points are mid-edge, and on saddles the smaller label is joined.
    - `labels`: the values of a callable `label` at the nodes, where they are known already.
    - `tolerance`: how far from where its first end's label ceases a point on an edge may lie, as
      a share of the edge, by halving; what floats can tell sets a limit.
    - `chunk_size`: nodes and edges looked at side by side.

    **Returns:** every boundary, those of most points first; an empty list if there is none.

    **Fails:** `ValueError` on shapes, dtypes, axes that do not increase, `tolerance`.

    **Cost:** a label a node, and log₂(1/`tolerance`) a point. Compiles once per shape of the
    grid, structure of `label`, and power of two that the number of points is below.

    **Example:**

    >>> x = jnp.linspace(-1, 1, 8)
    >>> [circle] = boundaries((x, x), lambda z: z[0] ** 2 + z[1] ** 2 > 0.5)
    >>> circle.labels, bool(np.allclose(np.hypot(*circle.points.T), 0.5**0.5, atol=1e-6))
    ((0, 1), True)

    **Reference:** marching squares, Lorensen & Cline (1987), for more than two labels.
    """
    arrays = increasing_axes(axes, 2)
    chunk_size = as_count(chunk_size, "chunk_size")
    if len(arrays) != 2:
        raise ValueError(f"`axes` must hold two vectors, got {len(arrays)}.")
    if not 0 < tolerance <= 0.5:
        raise ValueError(f"`tolerance` must be in (0, 0.5], got {tolerance}.")
    m, k = shape = tuple(axis.size for axis in arrays)
    if callable(label):
        check_label(label, jnp.stack([axis[0] for axis in arrays]))
        known = on_grid(label, arrays, chunk_size=chunk_size) if labels is None else labels
        nodal = as_labels(known, shape)
    elif labels is not None:
        raise ValueError("`labels` are those of a callable `label`, got values for both.")
    else:
        nodal = as_labels(label, shape)
    pairs = grid_edges(m, k)
    at_ends = nodal.ravel()[pairs]
    crossed = at_ends[:, 0] != at_ends[:, 1]
    nodes = np.stack(np.meshgrid(*map(np.asarray, arrays), indexing="ij"), -1).reshape(-1, 2)
    first, second = (nodes[ends] for ends in pairs[crossed].T)
    cells = points_of_cells(crossed, m, k)
    kinds = np.sort(at_ends[crossed], axis=1)
    saddles = _saddles(cells, kinds)
    corners = np.stack([nodal[:-1, :-1], nodal[1:, :-1]], axis=-1).reshape(-1, 2)[saddles]
    if callable(label):
        steps = int(np.ceil(-np.log2(tolerance))) - 1  # the middle is half of what is left away
        first, second = _halved(label, first, second, steps, chunk_size)
        low = nodes.reshape(m, k, 2)[:-1, :-1].reshape(-1, 2)[saddles]
        high = nodes.reshape(m, k, 2)[1:, 1:].reshape(-1, 2)[saddles]
        centres = _at(label, low / 2 + high / 2, chunk_size)
    else:
        centres = corners.min(axis=1)
    points = (first + second) / 2
    links = np.concatenate(
        [_links(cells[~saddles], kinds), _saddle_links(cells[saddles], corners, centres)]
    )
    found = chains(range(len(points)), links.tolist())
    return [
        Boundary(points[chain], tuple(kinds[chain[0]].tolist()))
        for chain in sorted(found, key=len, reverse=True)
    ]


def as_labels(labels: ArrayLike, shape: tuple[int, ...] | None = None) -> Int[np.ndarray, "..."]:
    """`labels` as integers; `ValueError` if they are none, or not of the axes' `shape`."""
    array = np.asarray(labels)
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise ValueError(f"labels must be integers, got dtype {array.dtype}.")
    if shape is not None and array.shape != shape:
        raise ValueError(f"labels must have shape {shape} like the axes, got {array.shape}.")
    return array.astype(int)


def _saddles(cells: Int[np.ndarray, "cells 4"], kinds: Int[np.ndarray, "n 2"]) -> np.ndarray:
    """Whether all four edges of a cell are crossed between the same two labels."""
    saddles = np.all(cells >= 0, axis=1)
    of_cells = kinds[cells[saddles]]
    saddles[saddles] = np.all(of_cells == of_cells[:, :1], axis=(1, 2))
    return saddles


def _links(cells: Int[np.ndarray, "cells 4"], kinds: Int[np.ndarray, "n 2"]) -> np.ndarray:
    """Pairs of points of one cell that are between the same two labels; no saddles."""
    links = [np.zeros((0, 2), int)]
    for a in range(4):
        for b in range(a):
            both = cells[:, [a, b]]
            both = both[np.all(both >= 0, axis=1)]
            links.append(both[np.all(kinds[both[:, 0]] == kinds[both[:, 1]], axis=1)])
    return np.concatenate(links)


def _saddle_links(
    cells: Int[np.ndarray, "cells 4"],
    corners: Int[np.ndarray, "cells 2"],
    centres: Int[np.ndarray, " cells"],
) -> np.ndarray:
    """Pairs of points that cut off the corners whose label is not the centre's.

    `corners` are the labels of (i, j) and (i+1, j). A third label at the centre joins none."""
    beside = cells[centres == corners[:, 0]]  # (i+1, j) and (i, j+1) are cut off
    others = cells[centres == corners[:, 1]]
    cuts = (beside[:, [0, 3]], beside[:, [1, 2]], others[:, [0, 2]], others[:, [1, 3]])
    return np.concatenate(cuts)


def _halved(
    label: Label, first: np.ndarray, second: np.ndarray, steps: int, chunk_size: int
) -> tuple[np.ndarray, np.ndarray]:
    n = len(first)
    if n == 0:
        return first, second
    first, second = _filled(first), _filled(second)
    ends = _halve(label, jnp.asarray(first), jnp.asarray(second), jnp.asarray(steps), chunk_size)
    before, after = (np.asarray(z)[:n] for z in ends)
    return before, after


def _at(label: Label, points: np.ndarray, chunk_size: int) -> np.ndarray:
    n = len(points)
    if n == 0:
        return np.zeros(0, int)
    return np.asarray(_labels_at(label, jnp.asarray(_filled(points)), chunk_size))[:n].astype(int)


def _filled(points: np.ndarray) -> np.ndarray:
    """Points up to a power of two, lest every number of them compile anew."""
    missing = (1 << (len(points) - 1).bit_length()) - len(points)
    return np.concatenate([points, np.broadcast_to(points[-1], (missing, points.shape[1]))])


@eqx.filter_jit
def _halve(
    label: Label, first: Array, second: Array, steps: Array, chunk_size: int
) -> tuple[Array, Array]:
    def one(ends: tuple[Array, Array]) -> tuple[Array, Array]:
        return halve(label, *ends, steps)[:2]

    return jax.lax.map(one, (first, second), batch_size=min(chunk_size, len(first)))


@eqx.filter_jit
def _labels_at(label: Label, points: Array, chunk_size: int) -> Array:
    return jax.lax.map(label, points, batch_size=min(chunk_size, len(points)))
