"""One Runge–Kutta step: what shooting, transport and the judge of solutions share."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST


def _dopri8() -> tuple[np.ndarray, np.ndarray]:
    """The matrix (13, 13) and weights of Dopri8's solution of order 8."""
    tableau = diffrax.Dopri8.tableau
    n = 13  # the tableau's 14th stage is there for the error estimate only
    matrix = np.zeros((n, n))
    for i, row in enumerate(tableau.a_lower[: n - 1]):
        matrix[i + 1, : i + 1] = row
    return matrix, np.asarray(tableau.b_sol)[:n]


TABLEAUS = {4: (np.diag([0.5, 0.5, 1.0], -1), np.array([1, 2, 2, 1]) / 6), 8: _dopri8()}
"""Matrix and weights of Kutta's method of order 4, and of Prince and Dormand's of order 8."""


def flow(field: Any, y: Float[Array, " n"], h: ArrayLike, order: int = 8) -> Float[Array, " n"]:
    """The solution of dy/dt = field(y) one Runge–Kutta step of size `h` later."""
    matrix, weights = (jnp.asarray(c, y.dtype) for c in TABLEAUS[order])

    def stage(slopes: Array, row_and_place: tuple[Array, Array]) -> tuple[Array, None]:
        row, place = row_and_place
        slope = field(y + h * jnp.dot(row, slopes, precision=HIGHEST))
        return slopes.at[place].set(slope), None

    # a scan, so that the field is compiled once and not at every stage
    empty = jnp.zeros((weights.size, y.size), y.dtype)
    slopes, _ = jax.lax.scan(stage, empty, (matrix, jnp.arange(weights.size)))
    return y + h * jnp.dot(weights, slopes, precision=HIGHEST)


def geodesic_field(acceleration: Any, x: Float[Array, " two_d"]) -> Float[Array, " two_d"]:
    """The geodesic equation as a first-order system for x = (z, v)."""
    z, v = jnp.split(x, 2)
    return jnp.concatenate([v, acceleration(z, v)])
