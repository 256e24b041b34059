"""Geodesics between two points by relaxing the energy of a polyline: global and robust.

The energy of N segments with the metric at their midpoints, Q = Σ uᵢᵀ G(mᵢ) uᵢ, is symmetric under
reversal and of second order in 1/N. Each iteration minimises its model with G and its derivative
ν frozen, which has a closed solution (the recursion of GEORCE, which has the metric at left points
and is therefore of first order and not symmetric). That solution is a descent direction, so a line
search by Armijo's rule makes the method globally convergent.
"""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import HIGHEST, cholesky, cholesky_solve, solve_spd
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Scalar
from jaxgeo.geodesics.solution import first_failure, metric_result

SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant."""

SMALLEST_STEP = 2.0**-30
"""Below it the line search gives up."""


@final
class Relaxation(eqx.Module):
    r"""Relax the energy of a polyline from the straight line; of second order in 1/`n_segments`.

    $$ \min_x \; \sum_{i} u_i^\top G\!\left(x_i + \tfrac12 u_i\right) u_i,
       \qquad u_i = x_{i+1} - x_i $$

    Robust and cheap in high dimension; `Shooting`, the default, starts from it and is accurate.

    - `n_segments`: N, static.
    - `max_iterations`: metric sweeps, line search included.
    - `rtol`: converged when the next correction is below `rtol` times the length of the curve,
      both in the metric; the square root of the dtype's epsilon if not given.

    **Fails:** `not_converged`, `line_search_failed`, `metric_not_positive_definite` and
    `nonfinite`, the last two if the metric is so on the straight line already.

    **Cost:** one evaluation and one reverse sweep of the metric at N midpoints per iteration,
    N Cholesky factors; 5 to 30 iterations.

    **Reference:** Rygaard & Hauberg (2025), *GEORCE*, algorithm 1, with midpoints.
    """

    n_segments: int = eqx.field(static=True, default=64)
    max_iterations: int | Int[Array, ""] = 200
    rtol: float | Float[Array, ""] | None = None


class Diagnostics(NamedTuple):
    """How a boundary-value solver ended."""

    result: Any
    iterations: Int[Array, ""]
    residual: Scalar


class _State(NamedTuple):
    x: Float[Array, "n d"]  # the accepted curve
    energy: Scalar
    direction: Float[Array, "n d"]  # of the points, zero at both ends
    decrement: Scalar  # Σ pᵢᵀGᵢpᵢ = −½ of the energy's derivative along the direction
    step: Scalar
    iterations: Int[Array, ""]
    result: Any
    running: Bool[Array, ""]


def straight_line(z0: Float[Array, " d"], z1: Float[Array, " d"], n: int) -> Float[Array, "n d"]:
    """n + 1 equally spaced points, the two ends exact."""
    t = jnp.linspace(0, 1, n + 1, dtype=z0.dtype)[:, None]
    return z0[None, :] * (1 - t) + z1[None, :] * t


def _sweep(metric: Metric, x: Float[Array, "n d"]) -> tuple[Array, Array, Array]:
    """Steps u, metric G at the midpoints, and ν = ∂(uᵀGu) with u fixed."""

    def one(middle: Array, u: Array) -> tuple[Array, Array]:
        g, pull = jax.vjp(metric, middle)
        (nu,) = pull(jnp.outer(u, u).astype(g.dtype))
        return g, nu

    u = jnp.diff(x, axis=0)
    g, nu = jax.vmap(one)((x[1:] + x[:-1]) / 2, u)
    return u, g, nu


def _direction(u: Array, factor: Array, g: Array, nu: Array) -> tuple[Array, Array]:
    """The minimiser of the frozen model, as steps of the points, and Σ pᵢᵀGᵢpᵢ of its change p.

    `factor` holds the Cholesky factors of `g`. Running sums are products with a triangle of ones,
    which compiles in a third of the time of `cumsum`.
    """
    n, d = u.shape
    eye = jnp.broadcast_to(jnp.eye(d, dtype=u.dtype), (n, d, d))
    inverse = jax.vmap(cholesky_solve)(factor, eye)
    force = (nu[1:] + nu[:-1]) / 2  # at the inner points: half from either neighbour
    after = jnp.dot(jnp.asarray(np.triu(np.ones((n, n - 1))), u.dtype), force, precision=HIGHEST)
    weighted = jnp.einsum("nij,nj->ni", inverse, after, precision=HIGHEST)
    shift = jnp.sum(weighted, axis=0) + 2 * jnp.sum(u, axis=0)
    multiplier = -solve_spd(jnp.sum(inverse, axis=0), shift)
    pull = jnp.einsum("nij,j->ni", inverse, multiplier, precision=HIGHEST)
    change = -(pull + weighted) / 2 - u
    before = np.tri(n + 1, n, -1)
    before[-1] = 0  # the changes sum to zero, and rounding must not move the end
    return jnp.dot(jnp.asarray(before, u.dtype), change, precision=HIGHEST), _quadratic(g, change)


def _quadratic(g: Array, u: Array) -> Scalar:
    return jnp.einsum("nij,ni,nj->", g, u, u, precision=HIGHEST)


def _iterate(metric: Metric, rtol: Array, max_iterations: Array, state: _State) -> _State:
    eps = jnp.finfo(state.x.dtype).eps
    x = state.x + state.step * state.direction
    u, g, nu = _sweep(metric, x)
    factor = cholesky(g)
    health = first_failure(
        metric_result(g, factor),
        RESULTS.where(jnp.all(jnp.isfinite(nu)), RESULTS.successful, RESULTS.nonfinite),
    )
    energy = _quadratic(g, u)
    promised = 2 * SUFFICIENT_DECREASE * state.step * state.decrement
    # the slack is the energy's own rounding: without it float32 stops short of what it resolves
    bound = state.energy - promised + 16 * eps * jnp.abs(energy)
    accept = (health == RESULTS.successful) & (energy <= bound)
    first = state.iterations == 0

    direction, decrement = _direction(u, factor, g, nu)
    converged = accept & (decrement <= rtol**2 * energy)
    step = jnp.where(accept, jnp.minimum(1, 2 * state.step), state.step / 2)
    failed = ~accept & (first | (step < SMALLEST_STEP))
    exhausted = state.iterations + 1 >= max_iterations
    why = RESULTS.where(health == RESULTS.successful, RESULTS.line_search_failed, health)
    result = RESULTS.where(
        converged, RESULTS.successful, RESULTS.where(failed, why, RESULTS.not_converged)
    )
    return _State(
        x=jnp.where(accept, x, state.x),
        energy=jnp.where(accept, energy, state.energy),
        direction=jnp.where(accept, direction, state.direction),
        decrement=jnp.where(accept, decrement, state.decrement),
        step=step,
        iterations=state.iterations + 1,
        result=result,
        running=~(converged | failed | exhausted),
    )


def relax(
    metric: Metric,
    x: Float[Array, "n d"],
    rtol: Scalar,
    max_iterations: Int[Array, ""],
) -> tuple[Float[Array, "n d"], Diagnostics]:
    """Relax the polyline `x` with its ends fixed; the curve and how it ended."""
    inf = jnp.full((), jnp.inf, x.dtype)
    start = _State(
        x=x,
        energy=inf,
        direction=jnp.zeros_like(x),
        decrement=jnp.zeros((), x.dtype),
        step=jnp.ones((), x.dtype),
        iterations=jnp.zeros((), jnp.int32),
        result=RESULTS.not_converged,
        running=jnp.ones((), bool),
    )

    def body(state: _State) -> _State:
        return _iterate(metric, rtol, max_iterations, state)

    end = jax.lax.while_loop(lambda state: state.running, body, start)
    nothing = end.energy == 0
    residual = jnp.sqrt(end.decrement / jnp.where(nothing, 1, end.energy))
    return end.x, Diagnostics(end.result, end.iterations, residual)


def default_rtol(rtol: ArrayLike | None, dtype: Any, power: float = 0.5) -> Array:
    """`rtol`, or a power of the dtype's epsilon; an array, so that no new value retraces."""
    return jnp.asarray(float(jnp.finfo(dtype).eps) ** power if rtol is None else rtol, dtype)
