"""What came of a hostile call."""

import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

import jaxgeo as jg

REFUSED, CODE, RIGHT, FAILURE = "refused", "code", "right", "failure"
SLOW = 120.0
"""Seconds after which a call that is compiled and run counts as hanging."""
PACKAGE = str(Path(jg.__file__).parent)


class OwnError(Exception):
    """Raised by a function that a case hands over: it has to come out as it is."""


class Case(NamedTuple):
    """One hostile call.

    - `call`: to be made without arguments.
    - `oracle`: of its value, `None` if that is right, or what is wrong with it. Values whose code
      says that they failed, or that are NaN, do not come before it.
    - `what`: the input in words, for the report of a failure.
    - `must_fail`: whether any answer would be wrong.
    """

    call: Callable[[], Any]
    oracle: Callable[[Any], str | None]
    what: str
    must_fail: bool = False


def outcome(case: Case) -> tuple[str, str]:
    """How the case ended, and why if that is a failure."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = case.call()
            value = jax.block_until_ready(value)
    except OwnError:
        return REFUSED, ""
    except Exception as error:
        return _of_error(error)
    seconds = time.perf_counter() - start
    if seconds > SLOW:
        return FAILURE, f"took {seconds:.0f} s"
    if failed(value):
        return CODE, ""
    if case.must_fail:
        return FAILURE, f"was answered: {_short(value)}"
    wrong = case.oracle(value)
    return (RIGHT, "") if wrong is None else (FAILURE, wrong)


def failed(value: Any) -> bool:
    """Whether a value says itself that it is none: by its code, or by NaN or infinity."""
    result = getattr(value, "result", None)
    if result is not None:
        return bool(result != jg.RESULTS.successful)
    leaves = [
        np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(value, eqx.is_inexact_array))
    ]
    return any(not np.isfinite(leaf.astype(np.float64)).all() for leaf in leaves)


def _of_error(error: Exception) -> tuple[str, str]:
    if isinstance(error, eqx.EquinoxRuntimeError):
        return CODE, ""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip()
    ours = frame.filename.startswith(PACKAGE)
    told = any(mark in text for mark in (" got ", "got:", "'", "`", '"'))
    if isinstance(error, ValueError | TypeError) and ours and told:
        return REFUSED, ""
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return FAILURE, f"{type(error).__name__} at {place}: {text.splitlines()[0] if text else ''}"[
        :300
    ]


def _short(value: Any) -> str:
    return repr(value).replace("\n", " ")[:160]
