"""A metric known at the nodes of a grid, as a smooth one everywhere on it."""

import math
from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Point
from jaxgeo.grids import as_axes


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

    **Cost:** d searches and d(d + 1)/2 · 4^d products. Not differentiable in `values`.

    **Example:**

    >>> axis = jnp.linspace(1.0, 2.0, 9)
    >>> half_plane = lambda z: jnp.eye(2) / z[1] ** 2
    >>> metric = InterpolatedMetric((axis, axis), jg.on_grid(half_plane, (axis, axis)))
    >>> metric(jnp.array([1.3, 1.6]))[0, 0].round(3).item()
    0.391
    """

    breaks: tuple[Float[Array, " n"], ...]
    coefficients: Float[Array, "..."]

    def __init__(self, axes: Sequence[ArrayLike], values: ArrayLike) -> None:
        self.breaks = as_axes(axes)
        d = len(self.breaks)
        nodes = [np.asarray(axis, np.float64) for axis in self.breaks]
        for k, axis in enumerate(nodes):
            if axis.size < 4 or not np.all(np.diff(axis) > 0):
                raise ValueError(f"`axes[{k}]` must be four or more increasing numbers: {axis}.")
        g = np.asarray(values, np.float64)
        shape = (*(axis.size for axis in nodes), d, d)
        if g.shape != shape:
            raise ValueError(f"`values` must have shape {shape}, got {g.shape}.")
        pieces = _polynomials(nodes, _factors(nodes, g))
        self.coefficients = jnp.asarray(pieces, self.breaks[0].dtype)

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        d = z.size
        cells, powers = [], []
        for x, edges in zip(z, self.breaks, strict=True):
            cell = jnp.clip(jnp.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)
            u = x - edges[cell]
            cells.append(cell)
            powers.append(jnp.stack([u**3, u**2, u, jnp.ones_like(u)]))
        entries = self.coefficients[tuple(cells)]
        for power in powers:
            entries = jnp.tensordot(power, entries, 1, precision=HIGHEST)
        below, diagonal = entries[d:], jnp.exp(entries[:d])
        factor = jnp.eye(d, dtype=z.dtype).at[jnp.tril_indices(d, -1)].set(below)
        g = jnp.dot(factor * diagonal[None, :], factor.T, precision=HIGHEST)
        return (g + g.T) / 2


def _factors(nodes: Sequence[np.ndarray], g: np.ndarray) -> np.ndarray:
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


def _polynomials(nodes: Sequence[np.ndarray], entries: np.ndarray) -> np.ndarray:
    """Cubic splines of `entries`: coefficients (cells₁, …, cells_d, 4, …, 4, entries)."""
    from scipy.interpolate import make_interp_spline

    d = len(nodes)
    for axis, x in enumerate(nodes):
        spline = make_interp_spline(x, np.moveaxis(entries, axis, 0), k=3)
        taylor = np.stack([spline(x[:-1], nu=k) / math.factorial(k) for k in (3, 2, 1, 0)])
        # (4, cells, rest of the grid …, powers so far …, entries)
        entries = np.moveaxis(taylor, (1, 0), (axis, d + axis))
    return entries
