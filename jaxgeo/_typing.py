"""The types that every part of jaxgeo speaks: a metric and a potential are plain callables."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

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


def as_point(x: ArrayLike, name: str, like: Array | None = None) -> Array:
    """`x` as one array `(d,)` of floats; `ValueError` if it is not one, or differs from `like`."""
    array = jnp.asarray(x)
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
    if np.ndim(x) != 2 or np.shape(x)[0] == 0:
        raise ValueError(f"`{name}` must have shape (n, d), n ≥ 1, got {np.shape(x)}.")
    rows = jnp.asarray(x)
    first = as_point(rows[0], f"{name}[0]", like)
    return jnp.asarray(rows, first.dtype)


def check_metric(metric: Metric, z: Array) -> None:
    """`ValueError` unless `metric` maps `z: (d,)` to a `(d, d)` array of the dtype of `z`."""
    out = jax.eval_shape(lambda point: metric(point), z)
    expected = (z.size, z.size)
    if getattr(out, "shape", None) != expected:
        raise ValueError(
            f"`metric` must return shape {expected} at a point of shape {z.shape}, got {out}."
        )
    if out.dtype != z.dtype:
        raise ValueError(
            f"`metric` returned dtype {out.dtype} at a point of dtype {z.dtype}: give the points "
            "and the metric's parameters the same precision."
        )
