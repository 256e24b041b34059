"""Geodesics between two points by Newton's method on multiple shooting: accurate and quadratic.

Unknown are position and velocity x = (z, v) at N + 1 times. One step of an explicit Runge–Kutta
method of order 8 carries each to the next, and Newton's method closes the gaps. The same linear
system gives the derivatives of the curve by the implicit function theorem.
"""

from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import HIGHEST, instantiate, partial_jvp
from jaxgeo._results import RESULTS
from jaxgeo._typing import Scalar
from jaxgeo.geodesics.relaxation import Diagnostics, Relaxation


@final
class Shooting(eqx.Module):
    """Relax a polyline roughly, then close it to a geodesic by multiple shooting. The default.

    - `relaxation`: the solver that starts it, and the number of segments.
    - `max_iterations`: of Newton's method, steps that were cut included.
    - `rtol`: Newton's method stops after a correction below `rtol` times the size of the curve,
      in the coordinates of the chart; being quadratic, it is then far more accurate. The square
      root of the dtype's epsilon if not given.

    **Fails:** as `Relaxation` does on a bad metric; `not_converged` if the gaps do not close. The
    relaxed curve is then returned, and its residual says how far from a geodesic it is.

    **Cost:** 12 N (1 + 2d) accelerations per iteration, typically 2 to 4 of them: for d beyond
    some dozens use `Relaxation` alone.

    **Reference:** Stoer & Bulirsch (2002), *Introduction to Numerical Analysis*, section 7.3.5.
    """

    relaxation: Relaxation = Relaxation()
    max_iterations: int | Int[Array, ""] = 20
    rtol: float | Float[Array, ""] | None = None


def _stages() -> tuple[np.ndarray, np.ndarray]:
    """The matrix (13, 13) and weights of Dopri8's solution of order 8."""
    tableau = diffrax.Dopri8.tableau
    n = 13  # the tableau's 14th stage is there for the error estimate only
    matrix = np.zeros((n, n))
    for i, row in enumerate(tableau.a_lower[: n - 1]):
        matrix[i + 1, : i + 1] = row
    return matrix, np.asarray(tableau.b_sol)[:n]


def flow(acceleration: Any, x: Float[Array, " two_d"], h: float) -> Float[Array, " two_d"]:
    """Position and velocity, stacked, one Runge–Kutta step of size `h` later."""
    matrix, weights = (jnp.asarray(c, x.dtype) for c in _stages())
    d = x.size // 2

    def stage(slopes: Array, row_and_place: tuple[Array, Array]) -> tuple[Array, None]:
        row, place = row_and_place
        z, v = jnp.split(x + h * jnp.dot(row, slopes, precision=HIGHEST), 2)
        slope = jnp.concatenate([v, acceleration(z, v)])
        return slopes.at[place].set(slope), None

    # a scan, so that the acceleration is compiled once and not 13 times
    empty = jnp.zeros((weights.size, 2 * d), x.dtype)
    slopes, _ = jax.lax.scan(stage, empty, (matrix, jnp.arange(weights.size)))
    return x + h * jnp.dot(weights, slopes, precision=HIGHEST)


def gaps(acceleration: Any, x: Float[Array, "n two_d"]) -> Float[Array, "n_minus_1 two_d"]:
    """What is missing between the end of each segment's step and the next node."""
    h = 1 / (x.shape[0] - 1)
    return jax.vmap(lambda y: flow(acceleration, y, h))(x[:-1]) - x[1:]


def linearised_gaps(
    acceleration: Any, x: Float[Array, "n two_d"]
) -> tuple[Float[Array, "n_minus_1 two_d"], Float[Array, "n_minus_1 two_d two_d"]]:
    """The gaps, and the derivative of each segment's step."""
    h = 1 / (x.shape[0] - 1)

    def step(y: Array) -> tuple[Array, Array]:
        end = flow(acceleration, y, h)
        return end, end

    matrices, ends = jax.vmap(jax.jacfwd(step, has_aux=True))(x[:-1])
    return ends - x[1:], matrices


def close_gaps(
    matrices: Float[Array, "n two_d two_d"],
    missing: Float[Array, "n two_d"],
    dz0: Float[Array, " d"],
    dz1: Float[Array, " d"],
) -> Float[Array, "n_plus_1 two_d"]:
    """Solve δᵢ₊₁ = Aᵢδᵢ + rᵢ with the positions of δ₀ and δ_N given, for all δ.

    Every δᵢ is affine in the unknown initial velocity, so one small system is left.
    """
    d = dz0.size
    zero = jnp.zeros((d, d), dz0.dtype)
    start = (
        jnp.concatenate([zero, jnp.eye(d, dtype=dz0.dtype)]),
        jnp.concatenate([dz0, jnp.zeros_like(dz0)]),
    )

    def advance(carry: tuple[Array, Array], segment: tuple[Array, Array]) -> Any:
        matrix, gap = segment
        linear = jnp.dot(matrix, carry[0], precision=HIGHEST)
        constant = jnp.dot(matrix, carry[1], precision=HIGHEST) + gap
        return (linear, constant), (linear, constant)

    _, (linear, constant) = jax.lax.scan(advance, start, (matrices, missing))
    linear = jnp.concatenate([start[0][None], linear])
    constant = jnp.concatenate([start[1][None], constant])
    dv0 = jnp.linalg.solve(linear[-1, :d], dz1 - constant[-1, :d])
    return constant + jnp.einsum("nij,j->ni", linear, dv0, precision=HIGHEST)


@eqx.filter_custom_jvp
def follow(
    x: Float[Array, "n two_d"],
    acceleration: Any,
    z0: Float[Array, " d"],
    z1: Float[Array, " d"],
) -> Float[Array, "n two_d"]:
    """The solution `x` unchanged, with its derivatives by the implicit function theorem.

    The gaps stay closed when ends and metric move: ∂(gaps)·dx = −∂(gaps)/∂(metric), a linear
    system whose solution can be transposed (reverse mode) and differentiated again.
    """
    return x


@follow.def_jvp
def _follow_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, acceleration, z0, z1 = primals
    _, d_acceleration, dz0, dz1 = tangents
    x = follow(x, acceleration, z0, z1)  # so that higher derivatives see x move too
    missing = partial_jvp(lambda function: gaps(function, x), acceleration, d_acceleration)
    dz0, dz1 = instantiate((dz0, dz1), (z0, z1))
    return x, close_gaps(linearised_gaps(acceleration, x)[1], missing, dz0, dz1)


class _State(NamedTuple):
    x: Float[Array, "n two_d"]  # the best nodes so far
    size: Scalar  # of their gaps
    correction: Float[Array, "n two_d"]  # Newton's, from x
    residual: Scalar  # its relative size
    first_residual: Scalar  # that of the nodes it started from
    step: Scalar
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]
    running: Bool[Array, ""]


def _newton(
    acceleration: Any, rtol: Array, floor: Array, max_iterations: Array, state: _State
) -> _State:
    x = state.x + state.step * state.correction
    missing, matrices = linearised_gaps(acceleration, x)
    size = jnp.max(jnp.abs(missing))
    accept = jnp.isfinite(size) & jnp.all(jnp.isfinite(matrices))
    accept &= (size < state.size) | (size <= floor)

    still = jnp.zeros(x.shape[1] // 2, x.dtype)
    correction = close_gaps(matrices, missing, still, still)
    extent = jnp.max(jnp.abs(x[:, still.size :])) + floor / rtol
    residual = jnp.max(jnp.abs(correction)) / jnp.where(extent == 0, 1, extent)
    converged = accept & (residual <= rtol)
    step = jnp.where(accept, jnp.ones_like(state.step), state.step / 4)
    iterations = state.iterations + 1
    failed = ~accept & ((state.iterations == 0) | (step < 1e-6))
    # the last correction is applied as well: it squares the error that it leaves
    accepted = jnp.where(converged, x + correction, x)
    return _State(
        x=jnp.where(accept, accepted, state.x),
        size=jnp.where(accept, size, state.size),
        correction=jnp.where(accept, correction, state.correction),
        residual=jnp.where(accept, residual, state.residual),
        first_residual=jnp.where(state.iterations == 0, residual, state.first_residual),
        step=step,
        iterations=iterations,
        converged=converged,
        running=~(converged | failed | (iterations >= max_iterations)),
    )


def shoot(
    acceleration: Any,
    start: Float[Array, "n two_d"],
    rtol: Scalar,
    max_iterations: Int[Array, ""],
) -> tuple[Float[Array, "n two_d"], Diagnostics]:
    """Newton's method from the nodes `start`; where it fails, `start` and its residual."""
    d = start.shape[1] // 2
    # what rounding of the coordinates alone makes of the gaps
    floor = 64 * jnp.finfo(start.dtype).eps * jnp.max(jnp.abs(start[:, :d]))
    inf = jnp.full((), jnp.inf, start.dtype)
    state = _State(
        x=start,
        size=inf,
        correction=jnp.zeros_like(start),
        residual=inf,
        first_residual=inf,
        step=jnp.ones((), start.dtype),
        iterations=jnp.zeros((), jnp.int32),
        converged=jnp.zeros((), bool),
        running=jnp.ones((), bool),
    )

    def body(state: _State) -> _State:
        return _newton(acceleration, rtol, floor, max_iterations, state)

    end = jax.lax.while_loop(lambda state: state.running, body, state)
    x = jnp.where(end.converged, end.x, start)
    residual = jnp.where(end.converged, end.residual, end.first_residual)
    result = RESULTS.where(end.converged, RESULTS.successful, RESULTS.not_converged)
    return x, Diagnostics(result, end.iterations, residual)
