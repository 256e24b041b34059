"""A generator at every node of a slice: in chunks, interruptible, in memory or on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int
from tqdm.auto import tqdm

from jaxgeo._typing import Point, as_count
from jaxgeo.grids import increasing_axes
from jaxgeo.slices.grid import SliceGrid
from jaxgeo.slices.storage import Chunks, identity


def evaluate(
    generator: Callable[..., Array],
    plane: Callable[[Point], Array],
    axes: Sequence[ArrayLike],
    *,
    features: Callable[[Array], Array] | None = None,
    keep_samples: bool = True,
    key: Array | None = None,
    chunk_size: int = 64,
    directory: str | Path | None = None,
    progress: bool = True,
) -> SliceGrid:
    r"""Samples x(t) = generator(slice(t)), and their features, at every node of a grid of t.

    One program decodes a chunk of nodes after another; parameters in modules are traced, so that
    an updated network is not compiled again. For a generator that JAX cannot trace, decode the
    latents `jax.vmap(plane)(grid.parameters)` with its own framework, and see `load_slice`.

    **Arguments:**

    - `generator`: a latent array to a sample, an array of any shape and dtype; with `key`, a
      latent array and a key. A module, or a function.
    - `plane`: a point t = (α, β) to a latent array, as a `Slice` does.
    - `axes`: the n₁ values of α and the n₂ values of β, increasing.
    - `features`: a sample to a vector `(m,)`; computed as samples are made.
    - `keep_samples`: False keeps the features only.
    - `key`: of a stochastic generator. Each node has a key of its own, by its number in the grid:
      how the nodes are cut into chunks does not matter (with JAX's default kind of keys).
    - `chunk_size`: how many nodes are decoded, and written, at once; bounds the memory besides the
      result.
    - `directory`: keep the result there, in the files that `load_slice` reads, and return memory
      maps of them. A run that finds chunks of the same run goes on from them; chunks that were
      damaged since are computed again.
    - `progress`: show a progress bar (never when the output is no terminal).

    **Returns:** a `SliceGrid`. Samples in bfloat16, which NumPy's files do not know, are float32.

    **Fails:** `ValueError` on axes, on a generator or features whose value is not one array, or
    not finite, quoting the node; on a `directory` that holds anything but the same run: the same
    slice, axes, key, chunk size, and program with the same arrays, those included that a
    function has closed over. An interrupt (Ctrl-C) loses the current chunk only.

    **Cost:** one decoded sample a node, and one more trace with a `directory`.

    **Example:**

    >>> plane = jg.slices.Slice(*jnp.eye(3))  # √3 (1 − α − β, α, β)/norm
    >>> axes = jnp.arange(2.0), jnp.arange(2.0)
    >>> [[round(x, 4) for x in row] for row in evaluate(jnp.sum, plane, axes).samples.tolist()]
    [[1.7321, 1.7321], [1.7321, 1.0]]
    """
    vectors = tuple(np.asarray(axis) for axis in increasing_axes(axes, 1))
    if len(vectors) != 2:
        raise ValueError(f"`axes` must hold two vectors, got {len(vectors)}.")
    grid = SliceGrid(vectors, None, None)
    parameters = grid.parameters
    n = len(parameters)
    chunk_size = as_count(chunk_size, "chunk_size")
    if features is None and not keep_samples:
        raise ValueError("`keep_samples=False` without `features` would leave nothing to keep.")
    chunk_size = min(chunk_size, n)
    run = (generator, plane, features, key)

    def decoded(k: int) -> dict[str, np.ndarray]:
        numbers = np.arange(k * chunk_size, (k + 1) * chunk_size)
        t = parameters[np.minimum(numbers, n - 1)]  # one size for all: the last node again
        values = _decode(run, keep_samples, jnp.asarray(t), jnp.asarray(numbers))
        rows = {name: np.asarray(value)[: n - k * chunk_size] for name, value in values.items()}
        for name, value in rows.items():
            _check_finite(name, value, t)
        return rows

    store: Chunks | _Memory
    if directory is None:
        store = _Memory(n, chunk_size)
    else:
        first = jnp.asarray(parameters[:chunk_size]), jnp.arange(chunk_size)
        mark, out = identity(_decode_chunk, run, keep_samples, *first, nodes=parameters)
        rows = {name: jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for name, a in out.items()}
        store = Chunks(Path(directory), mark, rows, n, chunk_size, parameters=parameters)
    missing, count = store.missing, -(-n // chunk_size)
    bar = tqdm(
        total=count, initial=count - len(missing), desc="decode", unit="chunk",
        disable=None if progress else True,
    )  # fmt: skip
    with bar:
        for k in missing:
            store.write(k, decoded(k))
            bar.update()
    shape = tuple(axis.size for axis in grid.axes)
    made = {name: a.reshape(*shape, *a.shape[1:]) for name, a in store.finish().items()}
    return SliceGrid(grid.axes, made.get("samples"), made.get("features"))


class _Memory:
    """Like `Chunks`, in memory."""

    def __init__(self, n: int, chunk_size: int) -> None:
        self._n, self._size = n, chunk_size
        self._arrays: dict[str, np.ndarray] = {}
        self.missing = list(range(-(-n // chunk_size)))

    def write(self, k: int, values: dict[str, np.ndarray]) -> None:
        for name, rows in values.items():
            if name not in self._arrays:
                self._arrays[name] = np.empty((self._n, *rows.shape[1:]), rows.dtype)
            self._arrays[name][k * self._size :][: len(rows)] = rows

    def finish(self) -> dict[str, np.ndarray]:
        return self._arrays


def _decode_chunk(
    run: tuple, keep_samples: bool, t: Float[Array, "k 2"], numbers: Int[Array, " k"]
) -> dict[str, Array]:
    """Samples, features, or both, at points of a slice with their numbers in the grid."""
    generator, plane, features, key = run

    def at(t: Point, number: Array) -> dict[str, Array]:
        own = () if key is None else (jax.random.fold_in(key, number),)
        x = _one_array("generator", generator(plane(t), *own))
        values = {"samples": x} if keep_samples else {}
        if features is not None:
            values["features"] = _one_array("features", features(x))
            if values["features"].ndim != 1:
                shape = values["features"].shape
                raise ValueError(f"`features` must return a vector (m,), got shape {shape}.")
        return values

    return jax.vmap(at)(t, numbers)


_decode = eqx.filter_jit(_decode_chunk)


def _one_array(name: str, value: Any) -> Array:
    if not eqx.is_array(value):
        raise ValueError(f"`{name}` must return one array, got {type(value).__name__}.")
    return jnp.asarray(value, jnp.float32 if value.dtype == jnp.bfloat16 else value.dtype)


def _check_finite(name: str, values: np.ndarray, t: np.ndarray) -> None:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{name} must be finite, got {values[row][~np.isfinite(values[row])][0]} at "
            f"(α, β) = {tuple(t[row].tolist())} ({int(bad.sum())} such nodes in the chunk)."
        )
