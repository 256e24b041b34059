"""Where the rows of a file belong: (α, β) from a record or file names, and the grid of them."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxgeo._files import load_array

UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, csv.Error,
)  # fmt: skip
"""What parsing raises of files that are no records."""

NAMES = r"alpha_(?P<alpha>[-+.\deE]+)_beta_(?P<beta>[-+.\deE]+)\.npy"
"""Of files like `alpha_0.125_beta_-0.5.npy`."""


def read_record(path: Path) -> tuple[Float[np.ndarray, "n 2"], list[str] | None]:
    """Parameters row by row, and the names of their files if the record has any."""
    files = None
    if path.suffix == ".npy":
        parameters = load_array(path)
        if not np.issubdtype(parameters.dtype, np.floating):
            parameters = parameters.astype(np.float64)
    elif path.suffix in (".csv", ".json"):
        try:
            with open(path, newline="", encoding="utf-8-sig") as stream:
                rows = json.load(stream) if path.suffix == ".json" else _csv_rows(stream)
            parameters, files = _parsed(rows)
        except UNREADABLE as error:
            raise ValueError(
                f"{str(path)!r} is no record of α and β, row by row: {error!r}"
            ) from error
    else:
        raise ValueError(f"a record must be .npy, .csv or .json, got {str(path)!r}.")
    if parameters.ndim != 2 or parameters.shape[1] != 2 or not len(parameters):
        raise ValueError(f"{str(path)!r} must have shape (n, 2), got {parameters.shape}.")
    return parameters, files


def _csv_rows(stream: Any) -> list:
    """Objects if the first line has the names `alpha` and `beta`, else lists."""
    lines = [[cell.strip() for cell in line] for line in csv.reader(stream) if line]
    if not lines or not {"alpha", "beta"} <= set(lines[0]):
        return lines
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def _parsed(rows: list) -> tuple[np.ndarray, list[str] | None]:
    """Parameters, and files if the rows name any, from pairs or from objects."""
    if not rows or not isinstance(rows[0], dict):
        return np.array([[float(value) for value in row] for row in rows]), None
    parameters = np.array([[float(row["alpha"]), float(row["beta"])] for row in rows])
    return parameters, [str(row["file"]) for row in rows] if "file" in rows[0] else None


def read_names(directory: Path, pattern: str) -> tuple[Float[np.ndarray, "n 2"], list[str]]:
    """Parameters from the names of files, and these names, sorted as text."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"`pattern` is no regular expression: {error}") from error
    if not {"alpha", "beta"} <= expression.groupindex.keys():
        raise ValueError(f"`pattern` must have groups named alpha and beta, got {pattern!r}.")
    parameters, files = [], []
    for name in sorted(path.name for path in directory.iterdir()):
        found = expression.fullmatch(name)
        if found:
            try:
                parameters.append([float(found["alpha"]), float(found["beta"])])
            except ValueError as error:
                raise ValueError(f"{str(directory / name)!r} is no name: {error}") from error
            files.append(name)
    if not files:
        raise ValueError(
            f"{str(directory)!r} holds no record, and no file whose name matches {pattern!r}."
        )
    return np.array(parameters), files


def tensor_grid(
    source: Path, parameters: Float[np.ndarray, "n 2"]
) -> tuple[tuple[np.ndarray, np.ndarray], Int[np.ndarray, " n"]]:
    """The axes of a full grid and the row of each of its nodes; `ValueError` if it is not full."""
    if not np.isfinite(parameters).all():
        row = int(np.argmin(np.isfinite(parameters).all(axis=1)))
        at = tuple(parameters[row].tolist())
        raise ValueError(f"{str(source)!r}: (α, β) must be finite, got {at} in row {row}.")
    (alpha, i), (beta, j) = (np.unique(column, return_inverse=True) for column in parameters.T)
    node = i * len(beta) + j
    present, times = np.unique(node, return_counts=True)
    complaints = []
    missing = len(alpha) * len(beta) - len(present)
    for count, what, first in (
        # node k is the first missing one where the k-th that is present is a later one
        (missing, "missing", np.argmax(np.append(present, -1) != np.arange(len(present) + 1))),
        (int((times > 1).sum()), "given more than once", present[np.argmax(times > 1)]),
    ):
        if count:
            at = float(alpha[first // len(beta)]), float(beta[first % len(beta)])
            complaints.append(f"{count} nodes {what}, the first {at}")
    if complaints:
        raise ValueError(
            f"{str(source)!r}: {len(parameters)} rows with {len(alpha)} values of α and "
            f"{len(beta)} of β are no full grid: {'; '.join(complaints)}."
        )
    return (alpha, beta), np.argsort(node)
