"""Nested windows about a phase boundary, as deep as floats go."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from jaxgeo._typing import as_point
from jaxgeo.grids import on_grid
from jaxgeo.phases.bisection import CHUNK, Label, boundary_point


class ZoomLevel(NamedTuple):
    """One window of a series.

    - `axes`: two vectors `(n,)`, of the dtype of the points.
    - `labels`: `(n, n)`, at the nodes of these axes.
    - `seen`: whether there is more than one label, so that the boundary runs through the window
      where the grid can see it.
    """

    axes: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
    labels: Int[np.ndarray, "n n"]
    seen: bool


def zoom_series(
    label: Label,
    start: ArrayLike,
    end: ArrayLike,
    *,
    width: float | None = None,
    factor: float = 10.0,
    levels: int | None = None,
    n: int = 64,
    chunk_size: int = CHUNK,
) -> list[ZoomLevel]:
    r"""Labels on ever smaller squares about a point of a phase boundary.

    $$ w_k = w_0 / \text{factor}^k, \qquad \frac{w_k}{n - 1} \ge
       \mathrm{ulp}\bigl(\max_i |z_i| + w_k / 2\bigr) $$

    with z the place where the label changes on the segment, found to the last bit by
    `boundary_point`, so that it is the centre of all squares alike. The series stops with the
    last level of which that holds, the spacing of its nodes no less than that of the floats of
    the dtype at the window's largest coordinate: nodes nearer to each other would be one number.
    At the last levels nodes are rounded to floats, hence not at equal steps.

    Where boundaries are fractal a window looks like that before it; where they are smooth, it is
    halved by a line. `box_dimension` of each level's labels tells which.

    **Arguments:**

    - `label`: any callable from a point `(2,)` to an integer.
    - `start`, `end`: `(2,)`, in different phases.
    - `width`: w₀, the distance of `start` and `end` if not given.
    - `factor`: greater than 1.
    - `levels`: how many at most; as many as the dtype resolves if not given.
    - `n`: nodes along each side, 2 or more.
    - `chunk_size`: nodes evaluated side by side.

    **Returns:** one `ZoomLevel` or more, the widest first.

    **Fails:** `ValueError` on shapes and options, and if even w₀ is too small for `n` nodes.
    Raises as `boundary_point` does if the ends have one label.

    **Cost:** n² labels a level, and those of `boundary_point`. Compiles once for all levels.

    **Example:** a circle of radius 1 in float64, to windows 2e-15 wide.

    >>> disc = lambda z: z[0] ** 2 + z[1] ** 2 < 1
    >>> series = zoom_series(disc, jnp.zeros(2), jnp.array([1.6, 1.2]), n=16)
    >>> len(series), all(level.seen for level in series)
    (16, True)
    """
    start = as_point(start, "start")
    if start.size != 2:
        raise ValueError(f"`start` must have shape (2,), got {start.shape}.")
    end = as_point(end, "end", start)
    if not factor > 1:
        raise ValueError(f"`factor` must be greater than 1, got {factor}.")
    if n < 2 or (levels is not None and levels < 1):
        raise ValueError(f"`n` must be at least 2 and `levels` 1, got {n} and {levels}.")
    centre = np.asarray(boundary_point(label, start, end).before).astype(float)
    size = float(np.linalg.norm(np.asarray(end - start).astype(float))) if width is None else width
    found: list[ZoomLevel] = []
    while levels is None or len(found) < levels:
        window = size / factor ** len(found)
        if not window / (n - 1) >= resolution(
            float(np.abs(centre).max()) + window / 2, start.dtype
        ):
            break
        offsets = np.linspace(-window / 2, window / 2, n)
        x, y = ((c + offsets).astype(start.dtype) for c in centre)
        labels = np.asarray(on_grid(label, (x, y), chunk_size=chunk_size)).astype(int)
        found.append(ZoomLevel((x, y), labels, bool(np.any(labels != labels[0, 0]))))
    if not found:
        raise ValueError(
            f"`width` must give {n} nodes of dtype {start.dtype} a side about {centre}, "
            f"got {size}."
        )
    return found


def resolution(size: float, dtype: np.dtype) -> float:
    """The distance of neighbouring floats at a number of this size."""
    precision = jnp.finfo(dtype)
    exponent = max(np.frexp(float(size))[1] - 1, int(precision.minexp))
    return float(np.ldexp(1.0, exponent - int(precision.nmant)))
