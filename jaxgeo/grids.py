"""Functions to their values at the nodes of tensor grids, on one device or many; and back."""

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Point, as_array, as_count, as_point

CHUNK = 4096
"""Nodes that are evaluated at once if nobody says otherwise: with fewer, XLA leaves what is not a
matrix product to one thread of a CPU."""

MOST_NODES = 2**31 - 2**20
"""Numbers of nodes are 32-bit integers; the last chunk may go beyond the grid."""


def on_grid(
    f: Callable[[Point], PyTree],
    axes: Sequence[ArrayLike],
    *,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
) -> PyTree:
    r"""`f` at every node of the tensor grid of `axes`, compiled once per structure.

    Node (i₁, …, i_d) is the point (axes[0][i₁], …, axes[d−1][i_d]).

    **Arguments:**

    - `f`: a function of one point `(d,)`, with any pytree of arrays as value. Parameters in a
      module are traced: an updated network does not retrace, a new `lambda` does.
    - `axes`: d arrays `(n₁,)`, …, `(n_d,)` of one dtype.
    - `chunk_size`: how many nodes are evaluated at once, on each device; bounds the memory.
      4096 if not given: of a decoder whose activations are a megabyte a point, take fewer.
    - `mesh`: nodes are spread evenly over all devices of this mesh; their number need not divide.

    **Returns:** the value of `f` with every leaf of shape `(n₁, …, n_d, …)`.

    **Fails:** `ValueError` on axes that are not vectors of one dtype, or `chunk_size` < 1.

    **Cost:** one evaluation of `f` a node.

    **Example:**

    >>> import jax.numpy as jnp
    >>> on_grid(jnp.sum, (jnp.arange(2.0), jnp.arange(3.0)))[1].tolist()
    [1.0, 2.0, 3.0]
    """
    arrays = as_axes(axes)
    if chunk_size is not None:
        chunk_size = as_count(chunk_size, "chunk_size")
    if math.prod(axis.size for axis in arrays) > MOST_NODES:
        raise ValueError(
            f"a grid has at most {MOST_NODES} nodes, got {[axis.size for axis in arrays]}."
        )
    return _evaluate(f, arrays, chunk_size or CHUNK, mesh)


def as_axes(axes: Sequence[ArrayLike]) -> tuple[Array, ...]:
    """`axes` as vectors of floats of one dtype; `ValueError` if they are not."""
    arrays = tuple(as_array(axis, f"axes[{k}]") for k, axis in enumerate(axes))
    if not arrays:
        raise ValueError("`axes` must hold at least one array, got none.")
    for k, axis in enumerate(arrays):
        if axis.ndim != 1 or axis.size == 0:
            raise ValueError(f"`axes[{k}]` must have shape (n,), got {axis.shape}.")
        if not jnp.issubdtype(axis.dtype, jnp.floating):
            raise ValueError(f"`axes[{k}]` must hold floats, got dtype {axis.dtype}.")
    if len({axis.dtype for axis in arrays}) > 1:
        raise ValueError(f"`axes` must have one dtype, got {[str(a.dtype) for a in arrays]}.")
    return tuple(jnp.asarray(axis, axis.dtype) for axis in arrays)


def as_table(values: ArrayLike) -> np.ndarray:
    """Values at nodes in float64; `ValueError` if they are no real numbers."""
    try:
        table = np.asarray(values)
        if np.iscomplexobj(table):
            raise TypeError(f"dtype {table.dtype}")
        return table.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`values` must be real numbers, got {values!r:.200}.") from error


def increasing_axes(axes: Sequence[ArrayLike], least: int) -> tuple[Array, ...]:
    """As `as_axes`, of `least` or more increasing finite numbers each."""
    arrays = as_axes(axes)
    for k, axis in enumerate(arrays):
        if axis.size < least or not (np.isfinite(axis).all() and (np.diff(axis) > 0).all()):
            raise ValueError(
                f"`axes[{k}]` must be {least} or more increasing finite numbers, got {axis}."
            )
    return arrays


@eqx.filter_jit
def _evaluate(
    f: Callable[[Point], PyTree], axes: tuple[Array, ...], chunk_size: int, mesh: Mesh | None
) -> PyTree:
    shape = tuple(axis.size for axis in axes)
    n = math.prod(shape)
    parts = 1 if mesh is None else mesh.size
    count = -(-n // (parts * chunk_size))  # of chunks that a device takes
    size = -(-n // (parts * count))

    def chunk(f: Any, axes: tuple[Array, ...], number: Int[Array, ""]) -> PyTree:
        # nodes are made as they are needed; the last one stands in for those there are not,
        # rather than one at which `f` may not be defined
        node = jnp.minimum(number * size + jnp.arange(size, dtype=number.dtype), n - 1)
        coordinates = [
            axis[i] for axis, i in zip(axes, jnp.unravel_index(node, shape), strict=True)
        ]
        return jax.vmap(f)(jnp.stack(coordinates, axis=-1))

    def all_chunks(f: Any, axes: tuple[Array, ...], first: Int[Array, ""]) -> PyTree:
        numbers = first + jnp.arange(count, dtype=first.dtype)
        values = jax.lax.map(lambda number: chunk(f, axes, number), numbers)
        return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), values)

    first = jnp.zeros((), jnp.int32)
    if mesh is None:
        values = all_chunks(f, axes, first)
    else:
        # shard_map's specs decide the sharding, so no axis of the mesh may be explicit already
        mesh = Mesh(mesh.devices, mesh.axis_names)
        parameters, static = eqx.partition(f, eqx.is_array)
        values = jax.shard_map(
            lambda p, axes: all_chunks(
                eqx.combine(p, static), axes, count * jax.lax.axis_index(mesh.axis_names)
            ),
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(mesh.axis_names),
        )(parameters, axes)
    return jax.tree.map(lambda leaf: leaf[:n].reshape(shape + leaf.shape[1:]), values)


@final
class GridSpline(eqx.Module):
    r"""A smooth function from its values at the nodes of a grid: the way back from `on_grid`.

    The cubic spline through all values, twice differentiable, of fourth order in the spacing.
    Outside the grid its outermost polynomials go on, and soon mean nothing.

    - `axes`: d increasing vectors `(n₁,)`, …, `(n_d,)` of one dtype, four nodes or more each.
    - `values`: `(n₁, …, n_d, …)`, finite: numbers, or arrays of any shape.

    **Returns:** `spline(z)`, from `(d,)` to an array of the values' shape and the axes' dtype.

    **Fails:** `ValueError` on shapes, axes that do not increase, and values that are not finite.

    **Cost:** d searches, 4^d products an entry; memory for the values once. Not differentiable in
    `values`.

    **Example:**

    >>> import jax.numpy as jnp
    >>> axis = jnp.linspace(0.0, 1.0, 9)
    >>> sine = GridSpline((axis,), jnp.sin(axis))
    >>> round(sine(jnp.array([0.3])).item(), 4)
    0.2955

    **Reference:** de Boor (1978), *A Practical Guide to Splines*, ch. X.
    """

    knots: tuple[Float[Array, " n"], ...]
    coefficients: Float[Array, "..."]

    def __init__(self, axes: Sequence[ArrayLike], values: ArrayLike) -> None:
        from scipy.interpolate import make_interp_spline

        arrays = increasing_axes(axes, 4)
        table = as_table(values)
        shape = tuple(axis.size for axis in arrays)
        if table.shape[: len(shape)] != shape:
            raise ValueError(f"`values` must have shape {shape} + (...), got {table.shape}.")
        if not np.all(np.isfinite(table)):
            node = np.argwhere(~np.isfinite(table))[0][: len(shape)]
            place = [float(axis[i]) for axis, i in zip(arrays, node, strict=True)]
            raise ValueError(f"`values` must be finite, got {table[tuple(node)]} at {place}.")
        knots = []
        for k, axis in enumerate(arrays):
            spline = make_interp_spline(np.asarray(axis, np.float64), np.moveaxis(table, k, 0))
            knots.append(jnp.asarray(spline.t, axis.dtype))
            table = np.moveaxis(spline.c, 0, k)
        self.knots, self.coefficients = tuple(knots), jnp.asarray(table, arrays[0].dtype)

    def __call__(self, z: Point) -> Array:
        z = as_point(z, "z")
        if z.shape != (len(self.knots),):
            raise ValueError(f"a point must have shape ({len(self.knots)},), got {z.shape}.")
        first, weights = zip(*map(_cubic_splines, self.knots, z), strict=True)
        rest = self.coefficients.shape[z.size :]
        starts = (*first, *(jnp.zeros_like(first[0]) for _ in rest))
        out = jax.lax.dynamic_slice(self.coefficients, starts, (4,) * z.size + rest)
        for weight in weights:
            out = jnp.tensordot(weight, out, 1, precision=HIGHEST)
        return out


def _cubic_splines(knots: Float[Array, " n"], x: Array) -> tuple[Array, Float[Array, " 4"]]:
    """The number of the first cubic B-spline that lives at x, and the values of all four."""
    cell = jnp.clip(jnp.searchsorted(knots, x, side="right") - 1, 3, knots.size - 5)
    near = jax.lax.dynamic_slice(knots, (cell - 3,), (8,))
    values = jnp.ones(1, knots.dtype)
    for k in (1, 2, 3):
        # of degree k from those of degree k − 1, between knots 4 − k … 3 and 4 … 3 + k
        low, high = near[4 - k : 4], near[4 : 4 + k]
        share = values / (high - low)
        rising, falling = (x - low) * share, (high - x) * share
        values = jnp.pad(falling, (0, 1)) + jnp.pad(rising, (1, 0))
    return cell - 3, values
