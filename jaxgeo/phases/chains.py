"""Points on the edges of a grid, linked to polylines from cell to cell."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int


def grid_edges(m: int, k: int) -> Int[np.ndarray, "edges 2"]:
    """Both nodes of every edge of an (m, k) grid, nodes numbered row by row.

    Edges along the first axis come first."""
    number = np.arange(m * k).reshape(m, k)
    return np.concatenate(
        [
            np.stack([number[:-1].ravel(), number[1:].ravel()], -1),
            np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], -1),
        ]
    )


def points_of_cells(
    crossed: Bool[np.ndarray, " edges"], m: int, k: int
) -> Int[np.ndarray, "cells 4"]:
    """Which of the points, one on each crossed edge, every cell has on its own; −1 for none.

    Of cell (i, j) in order the edges (i, j)–(i+1, j), (i, j+1)–(i+1, j+1), (i, j)–(i, j+1) and
    (i+1, j)–(i+1, j+1)."""
    index = np.where(crossed, np.cumsum(crossed) - 1, -1)
    along_x = index[: (m - 1) * k].reshape(m - 1, k)
    along_y = index[(m - 1) * k :].reshape(m, k - 1)
    cells = np.stack([along_x[:, :-1], along_x[:, 1:], along_y[:-1], along_y[1:]], axis=-1)
    return cells.reshape(-1, 4)


def chains(points: Iterable[int], links: Iterable[Iterable[int]]) -> list[list[int]]:
    """All of the points, in chains of which each is linked to the next; a loop ends as it begins.

    A point without links is a chain by itself."""
    neighbours: dict[int, list[int]] = {p: [] for p in points}
    for a, b in links:
        neighbours[a].append(b)
        neighbours[b].append(a)
    found, left = [], set(neighbours)
    ends = [p for p in neighbours if len(neighbours[p]) <= 1]
    for start in ends + list(neighbours):  # loops have no end: begin anywhere
        if start not in left:
            continue
        chain, following = [], [start]
        while following:
            chain.append(following[0])
            left.discard(following[0])
            following = [p for p in neighbours[following[0]] if p in left]
        if len(chain) > 2 and chain[0] in neighbours[chain[-1]]:
            chain.append(chain[0])
        found.append(chain)
    return found
