"""A metric known at the nodes of a grid, as a smooth one everywhere on it."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Point, as_point
from jaxgeo.grids import GridSpline, as_axes, as_table


@final
class InterpolatedMetric(eqx.Module):
    r"""A metric between the nodes of a grid, from its values there: smooth, and positive.

    $$ g = L D L^\top, \qquad L_{ii} = 1, \; D = \operatorname{diag} e^{s_i} $$

    with the entries of L below the diagonal, and the sᵢ, cubic splines: positive definite
    everywhere, however steeply g varies from node to node. For metrics that cost much at a point,
    as the pullback by a sampler of many steps, or that another program has written to a file.

    - `axes`: d increasing vectors `(n₁,)`, …, `(n_d,)`, four nodes or more each.
    - `values`: `(n₁, …, n_d, d, d)`, as `on_grid(metric, axes)` gives it.

    **Returns:** `metric(z)`, `(d, d)`: `values` at the nodes, of fourth order in the spacing
    between them. Outside the grid the outermost polynomials go on, and soon mean nothing: give
    solvers the `domain`.

    **Fails:** `ValueError` on shapes, axes that do not increase, and values that are not positive
    definite, quoting the first.

    **Cost:** that of a `GridSpline` of d(d + 1)/2 entries. Not differentiable in `values`.

    **Example:**

    >>> axis = jnp.linspace(1.0, 2.0, 9)
    >>> half_plane = lambda z: jnp.eye(2) / z[1] ** 2
    >>> metric = InterpolatedMetric((axis, axis), jg.on_grid(half_plane, (axis, axis)))
    >>> metric(jnp.array([1.3, 1.6]))[0, 0].round(3).item()
    0.391
    """

    entries: GridSpline
    """log D, then L below its diagonal."""

    def __init__(self, axes: Sequence[ArrayLike], values: ArrayLike) -> None:
        arrays = as_axes(axes)
        g = as_table(values)
        shape = (*(axis.size for axis in arrays), len(arrays), len(arrays))
        if g.shape != shape:
            raise ValueError(f"`values` must have shape {shape}, got {g.shape}.")
        self.entries = GridSpline(arrays, _factors(arrays, g))

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        d = z.size
        diagonal, below = jnp.split(self.entries(z), [d])
        factor = jnp.eye(d, dtype=z.dtype).at[jnp.tril_indices(d, -1)].set(below)
        g = jnp.dot(factor * jnp.exp(diagonal)[None, :], factor.T, precision=HIGHEST)
        return (g + g.T) / 2


def _factors(nodes: Sequence[Array], g: np.ndarray) -> np.ndarray:
    """log D, then L below its diagonal, of every g = L D Lᵀ: `(…, d(d + 1)/2)`."""
    d = g.shape[-1]
    good = np.isfinite(g).all(axis=(-2, -1))
    lowest = np.linalg.eigvalsh(np.where(good[..., None, None], g, -np.eye(d)))[..., 0]
    if not np.all(lowest > 0):
        worst = np.unravel_index(int(np.argmax(lowest <= 0)), lowest.shape)
        place = [float(axis[i]) for axis, i in zip(nodes, worst, strict=True)]
        raise ValueError(
            f"`values` must be positive definite, got {g[worst].tolist()} at {place}."
        )
    factor = np.linalg.cholesky(g)
    scale = np.diagonal(factor, axis1=-2, axis2=-1)
    unit = factor / scale[..., None, :]
    return np.concatenate([2 * np.log(scale), unit[(..., *np.tril_indices(d, -1))]], axis=-1)
