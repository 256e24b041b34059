"""The directory of a run: files of the whole grid, filled chunk by chunk, each with a checksum."""

import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxgeo._files import (
    claim,
    fingerprint,
    is_occupied,
    load_array,
    npy_header,
    writable_directory,
    write_npy,
    writing,
)

SAMPLES, FEATURES, PARAMETERS = "samples.npy", "features.npy", "parameters.npy"
"""What `save_slice` writes and `load_slice` reads: one row a node, in one order in all three."""


def identity(
    f: Callable[..., PyTree], *args: PyTree, nodes: np.ndarray
) -> tuple[str, dict[str, jax.ShapeDtypeStruct]]:
    """By what a run of f knows its own chunks, and what f makes of these arguments.

    The program is that of one chunk, without addresses, which change from process to process."""
    program, out, _ = eqx.filter_make_jaxpr(f)(*args)
    arrays = [*jax.tree.leaves(eqx.filter(args, eqx.is_array)), *program.consts]
    keys = (jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a
            for a in arrays)  # fmt: skip
    text = re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr))
    return fingerprint(nodes, *map(np.asarray, keys), program=text), out


class Chunks:
    """Files of n rows each, such as `samples.npy`, written `chunk_size` rows at a time.

    A chunk is done when its checksum stands in `chunks.npy`, which is replaced as a whole after
    the rows are on the disk: whatever stops the run, and whatever befalls the files, rows that
    differ from what was written are written again. A slice's `parameters.npy` comes last, so that
    no reader takes the files of an unfinished run for whole.
    """

    def __init__(
        self,
        directory: Path,
        mark: str,
        rows: Mapping[str, jax.ShapeDtypeStruct],
        n: int,
        chunk_size: int,
        *,
        parameters: np.ndarray | None = None,
        kind: str = "slice",
    ) -> None:
        for name, row in rows.items():
            if np.dtype(row.dtype).kind not in "biuf":
                raise ValueError(f"{name} cannot be kept in files in dtype {row.dtype}.")
        writable_directory(directory)
        if is_occupied(directory) and not (directory / f"{kind}.sha256").exists():
            raise ValueError(f"{str(directory)!r} is not empty, and holds no run of a {kind}.")
        claim(directory, mark, kind)
        self._directory, self._parameters = directory, parameters
        self._n, self._size = n, chunk_size
        self._shapes = {
            f"{name}.npy": ((n, *row.shape), np.dtype(row.dtype)) for name, row in rows.items()
        }
        self._headers = {name: _reserve(directory / name, *s) for name, s in self._shapes.items()}
        self._sums = self._known_sums()
        for k in np.flatnonzero(self._sums >= 0):
            stored = (self._read(name, int(k)) for name in self._shapes)
            if _checksum(stored) != self._sums[k]:
                self._sums[k] = -1
        if self.missing:
            (directory / PARAMETERS).unlink(missing_ok=True)

    @property
    def missing(self) -> list[int]:
        """The numbers of the chunks that are to be computed."""
        return np.flatnonzero(self._sums < 0).tolist()

    def _known_sums(self) -> np.ndarray:
        count = -(-self._n // self._size)
        try:
            sums = load_array(self._directory / "chunks.npy")
        except ValueError:
            return np.full(count, -1)
        return sums if sums.shape == (count,) else np.full(count, -1)

    def _place(self, name: str, k: int) -> tuple[int, int]:
        """Where the bytes of chunk k begin, and how many there are."""
        (n, *shape), dtype = self._shapes[name]
        row = math.prod(shape) * dtype.itemsize
        first = k * self._size
        return self._headers[name] + first * row, min(self._size, n - first) * row

    def _read(self, name: str, k: int) -> bytes:
        start, count = self._place(name, k)
        with open(self._directory / name, "rb") as stream:
            stream.seek(start)
            return stream.read(count)

    def write(self, k: int, values: dict[str, np.ndarray]) -> None:
        """Put the rows of chunk k on the disk, then say so."""
        blocks = {f"{name}.npy": rows.tobytes() for name, rows in values.items()}
        for name, block in blocks.items():
            # not through a memory map, in which a full disk is a crash and no `OSError`
            with (
                writing(self._directory / name),
                open(self._directory / name, "r+b") as stream,
            ):
                stream.seek(self._place(name, k)[0])
                stream.write(block)
                stream.flush()
                os.fsync(stream.fileno())
        self._sums[k] = _checksum(blocks[name] for name in self._shapes)
        write_npy(self._directory / "chunks.npy", self._sums)

    def finish(self) -> dict[str, np.ndarray]:
        """Memory maps of the finished files."""
        if self._parameters is not None:
            write_npy(self._directory / PARAMETERS, self._parameters)
        return {
            name.removesuffix(".npy"): load_array(self._directory / name, in_memory=False)
            for name in self._shapes
        }


def _checksum(blocks: Iterator[bytes]) -> int:
    total = 0
    for block in blocks:
        total = zlib.crc32(block, total)
    return total


def _reserve(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Make the .npy file as long as it will be and keep what it holds; the header's length."""
    header = npy_header(shape, dtype)
    with writing(path):
        path.touch()
        with open(path, "r+b") as file:
            file.write(header)
            file.truncate(len(header) + math.prod(shape) * dtype.itemsize)
    return len(header)
