"""Files: arrays in, reports out, and whose unfinished work a directory holds; what cannot be
read or written is a `ValueError`."""

import contextlib
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jax.sharding import Mesh

from jaxgeo import _mesh

UNREADABLE = (OSError, ValueError, EOFError, MemoryError, ArithmeticError, SyntaxError, TokenError)
"""What NumPy raises of files that are no .npy files, or of which a part is missing."""


def load_array(path: str | Path, *, in_memory: bool = True) -> np.ndarray:
    """The array of numbers in a .npy file, or a map of it. Pickled objects are never loaded."""
    try:
        # mapped in any case: what the header promises is compared with the file, not allocated
        with np.errstate(over="raise"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise ValueError(f"{str(path)!r} is not a .npy file that can be read: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{str(path)!r} is an .npz archive; one .npy array is needed")
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise ValueError(f"{str(path)!r} holds no numbers but dtype {array.dtype}")
    if np.iscomplexobj(array):
        raise ValueError(f"{str(path)!r} holds complex numbers, dtype {array.dtype}")
    if array.dtype.itemsize > 8:
        raise ValueError(f"{str(path)!r} holds longer numbers than float64, dtype {array.dtype}")
    if in_memory:
        return np.array(array, array.dtype.newbyteorder("="), order="K")
    if not array.dtype.isnative:
        raise ValueError(f"{str(path)!r} is in the byte order of other machines: {array.dtype}")
    return array


def load_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of numbers in an .npz archive. Pickled objects are never loaded."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise ValueError("it is one .npy array")
            arrays = {key: archive[key] for key in archive.files}
    except (*UNREADABLE, KeyError, AttributeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is no .npz archive that can be read: {error}") from error
    for key, array in arrays.items():
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
            raise ValueError(f"{str(path)!r} holds no numbers but dtype {array.dtype} as {key!r}")
    return arrays


def writable_directory(path: str | Path) -> Path:
    """`path` as a directory that exists and can be written to, or a `ValueError`."""
    path = Path(path)
    probe = path / f".jaxgeo-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to the directory {str(path)!r}: {error}") from error
    return path


def is_occupied(directory: Path) -> bool:
    """Whether a directory holds anything but what a killed process left half written."""
    return any(
        not (path.name.startswith(".jaxgeo-") or path.suffix == ".partial")
        for path in directory.iterdir()
    )


def below(directory: str | Path | None, name: str) -> Path | None:
    """A directory in a directory, or None where there is none."""
    return None if directory is None else Path(directory) / name


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong while a file is written, say a full disk, as a `ValueError` of its name."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {error}") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is there whole or not at all. NaN becomes null."""
    partial = path.with_suffix(".partial")
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
    with writing(path):
        partial.write_text(text)
        os.replace(partial, path)


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write a .npy file so that it is there whole or not at all."""
    partial = path.with_suffix(".partial")
    with writing(path):
        with open(partial, "wb") as stream:
            np.save(stream, array, allow_pickle=False)
        os.replace(partial, path)


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What a .npy file begins with, before the numbers in the order of the last index."""
    stream = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape,
    }  # fmt: skip
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write an .npz archive so that it is there whole or not at all."""
    partial = path.with_suffix(".partial")
    with writing(path):
        with open(partial, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        os.replace(partial, path)


def plain(value: Any) -> Any:
    """What JSON can hold: lists for arrays, null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def fingerprint(*arrays: np.ndarray, **settings: Any) -> str:
    """A digest of data and settings, by which a checkpoint knows the fit it belongs to."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for array in arrays:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def claim(directory: Path | None, mark: str, kind: str = "fit", mesh: Mesh | None = None) -> None:
    """Make the checkpoint directory this fit's own, or refuse one that is another fit's. All
    processes of a mesh are to call, for the same fit; the first one sees to the directory."""
    _mesh.check_alike(mesh, mark)
    if directory is not None:
        _mesh.by_first(mesh, lambda: _claim(directory, mark, kind))


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").strip()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


def _claim(directory: Path, mark: str, kind: str) -> None:
    writable_directory(directory)
    file = directory / f"{kind}.sha256"
    if not file.exists():
        states = [path for path in directory.rglob("*") if path.is_dir() and path.name.isdigit()]
        if states:
            raise ValueError(
                f"{str(directory)!r} holds a checkpoint, {str(states[0])!r}, but no {file.name!r} "
                f"that says which {kind} it belongs to: give another directory, or remove this one"
            )
        partial = file.with_suffix(".partial")
        partial.write_text(mark + "\n")
        os.replace(partial, file)
    elif _content(file) != mark:
        raise ValueError(
            f"the checkpoint in {str(directory)!r} belongs to a {kind} of other data or settings: "
            "give another directory, or remove this one"
        )
