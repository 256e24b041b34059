"""What a generator makes at the nodes of a slice, in memory or on disk."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxgeo.grids import GridSpline


class SliceGrid(NamedTuple):
    """Samples, features, or both, at every node of a tensor grid of (α, β).

    - `axes`: the n₁ values of α and the n₂ values of β, both increasing.
    - `samples`: `(n₁, n₂, ...)`, or None; perhaps a memory map of a file.
    - `features`: `(n₁, n₂, m)`, or None; likewise.
    """

    axes: tuple[Float[np.ndarray, " n1"], Float[np.ndarray, " n2"]]
    samples: Shaped[np.ndarray, "n1 n2 ..."] | None
    features: Shaped[np.ndarray, "n1 n2 m"] | None

    @property
    def parameters(self) -> Float[np.ndarray, "n 2"]:
        """(α, β) of every node, row n₂·i + j that of node [i, j]."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(-1, 2)

    def feature_map(self) -> GridSpline:
        """Features anywhere on the slice, by a cubic spline through those at the nodes.

        What simulators and `feature_metric` take where the generator itself is slow, or another
        program's; good as far as the grid resolves the phase boundaries."""
        if self.features is None:
            raise ValueError("the grid must hold features, got None: evaluate it with `features`.")
        return GridSpline(self.axes, self.features)
