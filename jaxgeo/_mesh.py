"""Rows of arrays over the devices of a mesh, in one process or in several.

What has a row for every sample is laid over the devices, and XLA inserts the sums between them.
What is small every process computes for itself, and where its last bits could decide what happens
next, that of the first process counts: processes that disagree would wait for each other for ever.
"""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

Value = TypeVar("Value")

GATHERED = 1 << 24
"""Bytes of each process that are sent to all others at once: they pass through every device."""


def automatic(mesh: Mesh | None) -> Mesh | None:
    """The mesh with axes along which XLA decides, or a `ValueError` if it cannot be used."""
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh or None, got {mesh!r}")
    owners = {device.process_index for device in mesh.devices.flat}
    if owners != {jax.process_index()} and owners != set(range(jax.process_count())):
        raise ValueError(
            f"mesh must hold devices of all {jax.process_count()} processes, or of this one "
            f"({jax.process_index()}) alone; got those of {sorted(owners)}"
        )
    return Mesh(mesh.devices, mesh.axis_names)


def spans_processes(mesh: Mesh | None) -> bool:
    return mesh is not None and mesh.is_multi_process


def is_first(mesh: Mesh | None) -> bool:
    """Whether this process shows progress and writes files for all of the mesh."""
    return not spans_processes(mesh) or jax.process_index() == 0


def own_devices(mesh: Mesh) -> Mesh:
    """The devices of this process, in a row."""
    return Mesh([d for d in mesh.devices.flat if d.process_index == jax.process_index()], "own")


def rows_over(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def spread(mesh: Mesh, count: int, rows: Callable[[slice], np.ndarray]) -> jax.Array:
    """`count` rows, the same number on each device, the last ones zeros: only those of this
    process's devices are asked for."""
    total = count + -count % mesh.size
    empty = rows(slice(0, 0))

    def part(index: Any) -> np.ndarray:
        begin, end, _ = index[0].indices(total)
        found = rows(slice(min(begin, count), min(end, count)))
        missing = end - begin - len(found)
        return np.pad(found, [(0, missing)] + [(0, 0)] * (found.ndim - 1))

    shape = (total, *empty.shape[1:])
    return jax.make_array_from_callback(shape, rows_over(mesh), part, dtype=empty.dtype)


class Rows(eqx.Module):
    """Rows of a pytree of arrays (n, ...), laid over all devices of a mesh."""

    arrays: PyTree
    count: int = eqx.field(static=True)
    """n: the rows after them are zeros, which make the devices' shares equal."""
    mesh: Mesh = eqx.field(static=True)

    @classmethod
    def of(cls, mesh: Mesh | None, arrays: PyTree) -> Any:
        """The rows over the mesh, from arrays that every process has; as they are without one."""
        if mesh is None:
            return arrays
        held = jax.tree.map(_canonical, arrays)
        count = len(jax.tree.leaves(held)[0])
        return cls(jax.tree.map(lambda a: spread(mesh, count, lambda s: a[s]), held), count, mesh)

    def take(self, chosen: Any) -> PyTree:
        """Rows by number or slice, shared out anew. Under `jit`."""
        rows = jax.tree.map(lambda a: a[chosen], self.arrays)
        return jax.lax.with_sharding_constraint(rows, rows_over(self.mesh))


def _canonical(array: Any) -> np.ndarray:
    held = np.asarray(array)
    return held.astype(jax.dtypes.canonicalize_dtype(held.dtype), copy=False)


def number_of(data: PyTree) -> int:
    """How many rows there are, over a mesh or not."""
    return data.count if isinstance(data, Rows) else len(jax.tree.leaves(data)[0])


def take(data: PyTree, chosen: Any) -> PyTree:
    """Some of the rows, over a mesh or not."""
    if isinstance(data, Rows):
        return data.take(chosen)
    return jax.tree.map(lambda leaf: leaf[chosen], data)


def all_rows(data: PyTree) -> PyTree:
    """What may be laid over a mesh as plain arrays without padding. Under `jit`."""
    return data.take(slice(data.count)) if isinstance(data, Rows) else data


def on_all(data: PyTree, tree: PyTree) -> PyTree:
    """`tree` wholly on each device of the mesh over which `data` is laid. Under `jit`."""
    if not isinstance(data, Rows):
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(data.mesh, PartitionSpec()))


def everywhere(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """Arrays wholly on each device, those of the first process."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())

    def put(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, whole, lambda index: array[index])

    return jax.tree.map(put, of_first(mesh, jax.tree.map(to_host, tree)))


def at_home(tree: PyTree) -> PyTree:
    """Arrays of a mesh as arrays of this process's default device."""
    return jax.tree.map(lambda array: jnp.asarray(to_host(array)), tree)


def to_host(array: Any) -> np.ndarray:
    """All rows of an array, wherever they are."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def share(mesh: Mesh | None, n: int) -> np.ndarray:
    """The numbers of this process's part of n rows: as many for each, the last ones twice or more
    often where n does not divide. `joined` undoes it."""
    if not spans_processes(mesh):
        return np.arange(n)
    each = -(-n // jax.process_count())
    return np.minimum(np.arange(each) + each * jax.process_index(), n - 1)


def joined(mesh: Mesh | None, rows: np.ndarray, n: int) -> np.ndarray:
    """All n rows from the `share` of every process."""
    if not spans_processes(mesh):
        return rows
    rows = np.ascontiguousarray(rows)
    step = max(1, GATHERED // max(1, rows[:1].nbytes))
    parts = [gathered(rows[k : k + step]) for k in range(0, len(rows), step)]
    return np.concatenate(parts, axis=1).reshape(-1, *rows.shape[1:])[:n]


def gathered(array: np.ndarray) -> np.ndarray:
    """(processes, ...): an array of every process, of one shape, to the last bit."""
    plain = np.frombuffer(array.tobytes(), np.uint8)
    every = np.asarray(multihost_utils.process_allgather(plain))
    return np.stack([np.frombuffer(a.tobytes(), array.dtype).reshape(array.shape) for a in every])


def of_first(mesh: Mesh | None, value: Value) -> Value:
    """What the first process has, in every process."""
    if not spans_processes(mesh):
        return value
    message = pickle.dumps(value) if is_first(mesh) else b""
    length = gathered(np.array(len(message)))[0]
    padded = np.frombuffer(message.ljust(length, b"\0"), np.uint8)
    return pickle.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def by_first(mesh: Mesh | None, f: Callable[[], Value]) -> Value:
    """`f()`, done by the first process alone; its value, or its error, in every process."""
    if not spans_processes(mesh):
        return f()
    value, error = None, None
    if is_first(mesh):
        try:
            value = f()
        except (ValueError, OSError) as raised:
            error = raised
    value, error = of_first(mesh, (value, error))
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def agreed(mesh: Mesh | None, f: Callable[[], Value]) -> Value:
    """`f()` of every process, with the arrays of the first.

    **Fails:** `LinAlgError` everywhere if in one process."""
    if not spans_processes(mesh):
        return f()
    try:
        value, refusal = f(), None
    except np.linalg.LinAlgError as error:
        value, refusal = None, str(error)
    if not gathered(np.array(refusal is None)).all():
        raise np.linalg.LinAlgError(of_first(mesh, refusal) or "refused by another process")
    arrays, rest = eqx.partition(value, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    first = of_first(mesh, [np.asarray(leaf) for leaf in leaves])
    kinds = (jnp.asarray if isinstance(leaf, jax.Array) else np.asarray for leaf in leaves)
    kept = [kind(leaf) for kind, leaf in zip(kinds, first, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, kept), rest)


def check_alike(mesh: Mesh | None, mark: str) -> None:
    """`ValueError` everywhere if processes call for different things."""
    if spans_processes(mesh):
        marks = gathered(np.frombuffer(mark.encode(), np.uint8))
        if not (marks == marks[0]).all():
            other = np.flatnonzero((marks != marks[0]).any(axis=1)).tolist()
            raise ValueError(
                "every process of a mesh must be given the same samples, parameters, key and "
                f"settings; those of processes {other} differ from those of process 0"
            )


def devices_for(mesh: Mesh | None, rows: int) -> Any:
    """Where this process's part of a batch goes: over its devices, if they divide it; else None,
    the default device."""
    if mesh is None:
        return None
    own = own_devices(mesh)
    return rows_over(own) if rows % own.size == 0 else None
