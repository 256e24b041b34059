"""One Runge–Kutta step of order 8: what shooting, transport and the judge of solutions share."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST


def _stages() -> tuple[np.ndarray, np.ndarray]:
    """The matrix (13, 13) and weights of Dopri8's solution of order 8."""
    tableau = diffrax.Dopri8.tableau
    n = 13  # the tableau's 14th stage is there for the error estimate only
    matrix = np.zeros((n, n))
    for i, row in enumerate(tableau.a_lower[: n - 1]):
        matrix[i + 1, : i + 1] = row
    return matrix, np.asarray(tableau.b_sol)[:n]


def flow(field: Any, y: Float[Array, " n"], h: ArrayLike) -> Float[Array, " n"]:
    """The solution of dy/dt = field(y) one Runge–Kutta step of order 8 and size `h` later."""
    matrix, weights = (jnp.asarray(c, y.dtype) for c in _stages())

    def stage(slopes: Array, row_and_place: tuple[Array, Array]) -> tuple[Array, None]:
        row, place = row_and_place
        slope = field(y + h * jnp.dot(row, slopes, precision=HIGHEST))
        return slopes.at[place].set(slope), None

    # a scan, so that the field is compiled once and not 13 times
    empty = jnp.zeros((weights.size, y.size), y.dtype)
    slopes, _ = jax.lax.scan(stage, empty, (matrix, jnp.arange(weights.size)))
    return y + h * jnp.dot(weights, slopes, precision=HIGHEST)


def geodesic_field(acceleration: Any, x: Float[Array, " two_d"]) -> Float[Array, " two_d"]:
    """The geodesic equation as a first-order system for x = (z, v)."""
    z, v = jnp.split(x, 2)
    return jnp.concatenate([v, acceleration(z, v)])
