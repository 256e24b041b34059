"""The types that every part of jaxgeo speaks: a metric and a potential are plain callables."""

from collections.abc import Callable

from jaxtyping import Array, Float

Point = Float[Array, " d"]
"""A point of the manifold in one chart. Batches are made by `jax.vmap`, never by extra axes."""

Vector = Float[Array, " d"]
"""A tangent vector, in the coordinates of the point it belongs to."""

Scalar = Float[Array, ""]

Metric = Callable[[Point], Float[Array, "d d"]]
"""Any callable from a point to a symmetric positive definite matrix."""

Potential = Callable[[Point], Scalar]
"""Any callable from a point to a number: a log-partition function, say, whose Hessian is a metric."""

Chart = Callable[[Point], Float[Array, " k"]]
"""A change of coordinates, from the point's own to others."""
