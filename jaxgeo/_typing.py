"""The types that every part of jaxgeo speaks: a metric and a potential are plain callables."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

Point = Float[Array, " d"]
"""A point of the manifold in one chart. Batches are made by `jax.vmap`, never by extra axes."""

Vector = Float[Array, " d"]
"""A tangent vector, in the coordinates of the point it belongs to."""

Scalar = Float[Array, ""]

Metric = Callable[[Point], Float[Array, "d d"]]
"""Any callable from a point to a symmetric positive definite matrix."""

Potential = Callable[[Point], Scalar]
"""Any callable from a point to a number: a log-partition function, whose Hessian is a metric."""

Chart = Callable[[Point], Float[Array, " k"]]
"""A change of coordinates, from the point's own to others."""


def as_array(x: ArrayLike, name: str) -> Array:
    """`x` as an array of numbers; `ValueError` if it is none."""
    if isinstance(x, np.ndarray) and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{name}` must be an array of numbers, got {x!r:.200}.") from error


def check_finite(x: Array | None, name: str) -> None:
    """`ValueError` if a concrete array holds what is not finite, quoting it and its place."""
    if x is None or isinstance(x, jax.core.Tracer):
        return
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(f"`{name}` must be finite, got {x[where]} at {where}.")


def as_count(n: Any, name: str, least: int = 1) -> int:
    """`n` as a Python integer; `ValueError` unless it is a whole number from `least` on."""
    try:
        count = operator.index(n)
    except TypeError as error:
        raise ValueError(f"`{name}` must be a whole number, got {n!r:.200}.") from error
    if count < least:
        raise ValueError(f"`{name}` must be at least {least}, got {count}.")
    return count


def as_limit(n: Any, name: str) -> Int[Array, ""]:
    """`n` as an array of one integer, which may be traced; `ValueError` if it is none."""
    number = as_array(n, name)
    if number.ndim != 0 or not jnp.issubdtype(number.dtype, jnp.integer):
        raise ValueError(f"`{name}` must be a whole number, got {n!r:.200}.")
    return jnp.asarray(number, jnp.int32)


def as_number(x: ArrayLike, name: str, dtype: Any) -> Scalar:
    """`x` as an array of one real number of `dtype`; `ValueError` if it is none."""
    number = as_array(x, name)
    if number.ndim != 0:
        raise ValueError(f"`{name}` must be one number, got shape {number.shape}.")
    if jnp.iscomplexobj(number):
        raise ValueError(f"`{name}` must be real, got {x!r:.200}.")
    return jnp.asarray(number, dtype)


def as_point(x: ArrayLike, name: str, like: Array | None = None) -> Array:
    """`x` as one array `(d,)` of floats; `ValueError` if it is not one, or differs from `like`."""
    array = as_array(x, name)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"`{name}` must hold floats, got dtype {array.dtype}: {x}.")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"`{name}` must have shape (d,), got {array.shape}. Batch with `jax.vmap`."
        )
    if like is not None and (array.shape, array.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"`{name}` must have shape {like.shape} and dtype {like.dtype} like the first point, "
            f"got shape {array.shape} and dtype {array.dtype}."
        )
    return jnp.asarray(array, array.dtype)  # drops weak types, which would retrace


def as_points(x: ArrayLike, name: str, like: Array | None = None) -> Float[Array, "n d"]:
    """`x` as one array `(n, d)` of points like `like`; `ValueError` if it is not one."""
    rows = as_array(x, name)
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(f"`{name}` must have shape (n, d), n ≥ 1, got {rows.shape}.")
    first = as_point(rows[0], f"{name}[0]", like)
    return jnp.asarray(rows, first.dtype)


def number_at(potential: Potential, z: Array) -> Scalar:
    """`potential(z)`; `ValueError` unless it is one number of the dtype of `z: (d,)`."""
    value = potential(z)
    if getattr(value, "shape", None) != () or getattr(value, "dtype", None) != z.dtype:
        raise ValueError(
            f"`potential` must return one number of dtype {z.dtype} at a point of shape "
            f"{z.shape}, got {_described(value)}."
        )
    return jnp.asarray(value)


def _described(value: Any) -> str:
    """What a function returned, in a few words."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"shape {value.shape} and dtype {value.dtype}"
    return f"{value!r:.200}"


def vector_at(chart: Chart, z: Array, name: str) -> Float[Array, " k"]:
    """`chart(z)`; `ValueError` unless it is one vector."""
    value = chart(z)
    if len(getattr(value, "shape", ())) != 1:
        raise ValueError(
            f"`{name}` must return a vector at a point of shape {z.shape}, got "
            f"{_described(value)}."
        )
    return jnp.asarray(value)


def matrix_at(metric: Metric, z: Array) -> Float[Array, "d d"]:
    """`metric(z)`; `ValueError` unless it is a `(d, d)` array of the dtype of `z: (d,)`."""
    g = metric(z)
    expected = (z.size, z.size)
    if getattr(g, "shape", None) != expected:
        raise ValueError(
            f"`metric` must return shape {expected} at a point of shape {z.shape}, "
            f"got {_described(g)}."
        )
    if g.dtype != z.dtype:
        raise ValueError(
            f"`metric` returned dtype {g.dtype} at a point of dtype {z.dtype}: give the points "
            "and the metric's parameters the same precision."
        )
    return jnp.asarray(g)


def check_metric(metric: Metric, z: Array) -> None:
    """`ValueError` unless `metric` maps `z: (d,)` to a `(d, d)` array of the dtype of `z`, which
    no solver takes in half precision."""
    if jnp.finfo(z.dtype).bits < 32:
        raise ValueError(f"points must be float32 or float64 for a solver, got dtype {z.dtype}.")
    if not callable(metric):
        raise ValueError(f"`metric` must be a callable, got {metric!r:.200}.")
    jax.eval_shape(lambda point: matrix_at(metric, point), z)
