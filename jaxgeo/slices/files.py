"""Slices that other programs decoded, or are to read: .npy files of samples beside parameters."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from jaxgeo._files import (
    is_occupied,
    load_array,
    npy_header,
    writable_directory,
    write_npy,
    writing,
)
from jaxgeo.slices.grid import SliceGrid
from jaxgeo.slices.records import NAMES, read_names, read_record, tensor_grid
from jaxgeo.slices.storage import FEATURES, PARAMETERS, SAMPLES

_BLOCK = 256
"""Rows of a memory map that are looked at at once."""


def load_slice(
    directory: str | Path,
    *,
    record: str | Path | None = None,
    pattern: str = NAMES,
    embeddings: str | Path | np.ndarray | None = None,
    gather: str | Path | None = None,
) -> SliceGrid:
    r"""A slice that was decoded elsewhere, whatever the order of its nodes.

    The directory holds either of

    - *a record*: (α, β) of every node, row by row, as a `.npy` array `(n, 2)`; as `.csv` with the
      columns `alpha`, `beta` and perhaps `file`, or two columns without a header; or as `.json`, a
      list of pairs or of objects with these names. Samples are the files that it names, or the
      rows of `samples.npy`, `(n, ...)`. It is found by itself if its name is `parameters.npy`.
    - *one file a node*, with α and β in its name.

    Python objects (pickles) are never loaded.

    **Arguments:**

    - `directory`: where the samples are.
    - `record`: the file of the record, in `directory` unless it is an absolute path.
    - `pattern`: a regular expression with groups `alpha` and `beta` that a whole file name
      matches, where there is no record; other files are passed over.
    - `embeddings`: features `(n, m)`, an array or a .npy file, in the order of the record, or else
      of the file names sorted as text. `features.npy` is found by itself.
    - `gather`: a new .npy file in which samples are put in order and then memory-mapped, where
      they are too many for memory. Those of `samples.npy` are memory-mapped in any case if they
      are in order already: α outside, β inside, both increasing.

    **Returns:** a `SliceGrid`.

    **Fails:** `ValueError`, naming the file, on what cannot be read or is cut short, on arrays
    of other shapes or dtypes than the rest, on numbers that are not finite; and on nodes that are
    no full tensor grid, counting the missing and the repeated ones. Values of α that belong
    together must be equal to the last digit.

    **Cost:** one pass over all files.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{str(directory)!r} is no directory.")
    if record is None and (directory / PARAMETERS).exists():
        record = PARAMETERS
    files: list[str] | None
    if record is None:
        source = directory
        parameters, files = read_names(directory, pattern)
    else:
        source = directory / record
        parameters, files = read_record(source)
    axes, order = tensor_grid(source, parameters)

    samples, features = None, None
    if files is not None:
        samples = _of_files([directory / files[row] for row in order], gather)
    elif (directory / SAMPLES).exists():
        samples = _of_table(directory / SAMPLES, order, gather)
    if isinstance(embeddings, np.ndarray):
        if embeddings.dtype.kind not in "biuf":
            raise ValueError(f"`embeddings` must hold real numbers, got dtype {embeddings.dtype}.")
        features = _sorted("`embeddings`", embeddings, order, None)
    elif embeddings is not None or (directory / FEATURES).exists():
        features = _of_table(directory / (embeddings or FEATURES), order, None)
    if features is not None and features.ndim != 2:
        raise ValueError(f"embeddings must have shape ({len(order)}, m), got {features.shape}.")
    if samples is None and features is None:
        raise ValueError(f"{str(directory)!r} holds neither {SAMPLES!r} nor {FEATURES!r}.")
    shape = tuple(axis.size for axis in axes)
    return SliceGrid(
        axes,
        None if samples is None else samples.reshape(*shape, *samples.shape[1:]),
        None if features is None else features.reshape(*shape, -1),
    )


def save_slice(grid: SliceGrid, directory: str | Path) -> None:
    """Write a slice as `load_slice` reads it, which gives back the same numbers to the last bit.

    `parameters.npy`, `(n, 2)`, `samples.npy`, `(n, ...)`, and `features.npy`, `(n, m)`, one row a
    node: plain arrays that any framework reads.

    **Arguments:** `grid`; `directory`, a new or an empty one.

    **Fails:** `ValueError` on a directory that is not empty or cannot be written to, and on a grid
    that holds nothing, whose arrays do not fit its axes, or whose dtype .npy files do not know.
    """
    shape = tuple(axis.size for axis in grid.axes)
    arrays = {SAMPLES: grid.samples, FEATURES: grid.features}
    given = {name: array for name, array in arrays.items() if array is not None}
    if not given:
        raise ValueError("`grid` must hold samples or features, got neither.")
    for name, array in given.items():
        if array.shape[:2] != shape or (name == FEATURES and array.ndim != 3):
            raise ValueError(f"{name!r} must fit axes of {shape} nodes, got shape {array.shape}.")
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
            raise ValueError(f"{name!r} cannot be written in dtype {array.dtype}.")
    directory = writable_directory(directory)
    if is_occupied(directory):
        raise ValueError(f"{str(directory)!r} is not empty.")
    for name, array in given.items():
        write_npy(directory / name, array.reshape(-1, *array.shape[2:]))
    write_npy(directory / PARAMETERS, grid.parameters)


def _check_finite(source: str, values: np.ndarray) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"{source} must be finite, got {values[~finite][0]}.")


def _of_files(paths: list[Path], gather: str | Path | None) -> Shaped[np.ndarray, "n ..."]:
    """One array a file, all alike."""
    first = load_array(paths[0])

    def row(k: int) -> np.ndarray:
        array = load_array(paths[k])
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            raise ValueError(
                f"{str(paths[k])!r} must have shape {first.shape} and dtype {first.dtype} like "
                f"{str(paths[0])!r}, got shape {array.shape} and dtype {array.dtype}."
            )
        _check_finite(repr(str(paths[k])), array)
        return array

    return _gathered(row, (len(paths), *first.shape), first.dtype, gather)


def _of_table(
    path: Path, order: Int[np.ndarray, " n"], gather: str | Path | None
) -> Shaped[np.ndarray, "n ..."]:
    return _sorted(repr(str(path)), load_array(path, in_memory=False), order, gather)


def _sorted(
    source: str, table: np.ndarray, order: Int[np.ndarray, " n"], gather: str | Path | None
) -> Shaped[np.ndarray, "n ..."]:
    """The rows of a table in `order`: the table itself if they are so already."""
    if table.ndim == 0 or len(table) != len(order):
        raise ValueError(
            f"{source} must have {len(order)} rows, one for each node, got shape {table.shape}."
        )
    for start in range(0, len(table), _BLOCK):
        _check_finite(source, table[start : start + _BLOCK])
    if np.array_equal(order, np.arange(len(order))):
        return table
    return _gathered(lambda k: table[order[k]], table.shape, table.dtype, gather)


def _gathered(
    row: Callable[[int], np.ndarray],
    shape: tuple[int, ...],
    dtype: np.dtype,
    destination: str | Path | None,
) -> Shaped[np.ndarray, "n ..."]:
    """Row after row in one array: in memory, or in a new file that is memory-mapped."""
    if destination is None:
        rows = np.empty(shape, dtype)
        for k in range(len(rows)):
            rows[k] = row(k)
        return rows
    path = Path(destination)
    if path.exists():
        raise ValueError(f"{str(path)!r} exists already.")
    partial = path.with_suffix(".partial")
    with writing(path):
        with open(partial, "wb") as stream:
            stream.write(npy_header(shape, dtype))
            for k in range(shape[0]):
                stream.write(np.ascontiguousarray(row(k)).tobytes())
        os.replace(partial, path)
    return load_array(path, in_memory=False)
