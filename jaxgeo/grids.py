"""Any function of a point at every node of a tensor grid, in chunks, on one device or many."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxgeo._typing import Point

CHUNK = 1024
"""Nodes that are evaluated at once if nobody says otherwise."""


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
    - `chunk_size`: nodes evaluated at once, on each device; bounds the memory. 1024 if not given.
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
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"`chunk_size` must be at least 1, got {chunk_size}.")
    return _evaluate(f, arrays, chunk_size or CHUNK, mesh)


def as_axes(axes: Sequence[ArrayLike]) -> tuple[Array, ...]:
    """`axes` as vectors of floats of one dtype; `ValueError` if they are not."""
    arrays = tuple(jnp.asarray(axis) for axis in axes)
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


@eqx.filter_jit
def _evaluate(
    f: Callable[[Point], PyTree], axes: tuple[Array, ...], chunk_size: int, mesh: Mesh | None
) -> PyTree:
    shape = tuple(axis.size for axis in axes)
    nodes = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    n = nodes.shape[0]

    def chunks(g: Any, block: Float[Array, "n d"]) -> PyTree:
        return jax.lax.map(g, block, batch_size=min(chunk_size, block.shape[0]))

    if mesh is None:
        values = chunks(f, nodes)
    else:
        # shard_map's specs decide the sharding, so no axis of the mesh may be explicit already
        mesh = Mesh(mesh.devices, mesh.axis_names)
        missing = -n % math.prod(mesh.shape.values())
        # repeat the last node rather than invent one at which `f` may not be defined
        nodes = jnp.concatenate([nodes, jnp.broadcast_to(nodes[-1], (missing, len(axes)))])
        parameters, static = eqx.partition(f, eqx.is_array)
        spread = PartitionSpec(mesh.axis_names)
        values = jax.shard_map(
            lambda p, block: chunks(eqx.combine(p, static), block),
            mesh=mesh,
            in_specs=(PartitionSpec(), spread),
            out_specs=spread,
        )(parameters, nodes)
    return jax.tree.map(lambda leaf: leaf[:n].reshape(shape + np.shape(leaf)[1:]), values)
