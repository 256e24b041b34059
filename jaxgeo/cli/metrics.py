"""Metrics that a user names on the command line: Python's, or those of files."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

import jaxgeo as jg
from jaxgeo._files import load_npz

MetricName = Annotated[
    str,
    typer.Argument(
        metavar="METRIC",
        help="A callable from a point (d,) to a matrix (d, d), as module:name or file.py:name; "
        "or a metric.npz that `jaxgeo reconstruct` or `jaxgeo grid` has written.",
    ),
]
Single = Annotated[
    bool, typer.Option("--float32", help="Compute in single precision; double if not given.")
]


class Named(NamedTuple):
    """A metric; the box in which a file knows it, `(d, 2)`, or None."""

    metric: Any
    domain: np.ndarray | None


def load_metric(name: str) -> Named:
    """The metric of that name, in the precision that JAX has by default now."""
    if name.endswith(".npz"):
        return _tabulated(Path(name))
    place, colon, attribute = name.rpartition(":")
    if not colon:
        raise ValueError(f"a metric is module:name, file.py:name or FILE.npz, got {name!r}")
    found: Any = _module(place)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{place!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name!r} is no callable but a {type(found).__name__}")
    return Named(found, None)


def _module(place: str) -> ModuleType:
    """A module by its name, as seen from the working directory, or by its file."""
    sys.path.insert(0, "")
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None  # of a name that ends in .py
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (ImportError, OSError) as error:
        raise ValueError(f"cannot import {place!r}: {error}") from error
    finally:
        sys.path.remove("")


def _tabulated(path: Path) -> Named:
    arrays = load_npz(path)
    d = sum(key.startswith("axis_") for key in arrays)
    wanted = [*(f"axis_{k}" for k in range(d)), "metric"]
    if d == 0 or not set(wanted) <= set(arrays):
        raise ValueError(f"{str(path)!r} needs axis_0, axis_1, … and metric; has {list(arrays)}")
    axes = [np.asarray(arrays[key], np.float64) for key in wanted[:-1]]
    try:
        metric = jg.InterpolatedMetric(axes, arrays["metric"])
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
    return Named(metric, np.array([[axis[0], axis[-1]] for axis in axes]))
