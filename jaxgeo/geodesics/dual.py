"""Geodesics of the α-connections of a potential, between the exponential and the mixture one."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import frozen, solve_spd
from jaxgeo._results import RESULTS
from jaxgeo._typing import Point, Potential, Vector, as_point
from jaxgeo.geodesics.flows import flow, geodesic_field
from jaxgeo.geodesics.relaxation import default_rtol
from jaxgeo.geodesics.shooting import follow, shoot
from jaxgeo.geodesics.solution import first_failure
from jaxgeo.geometry.connection import geodesic_acceleration
from jaxgeo.geometry.duality import expectation_parameters, mixture_geodesic
from jaxgeo.metrics import HessianMetric

SEGMENTS = 64
"""Of the multiple shooting."""

NEWTON_STEPS = 30
"""At most, steps that were cut included."""


def alpha_geodesic(
    potential: Potential,
    a: ArrayLike,
    b: ArrayLike,
    ts: ArrayLike,
    alpha: ArrayLike,
    *,
    throw: bool = True,
) -> Float[Array, "n d"]:
    r"""The geodesic of the α-connection between two points.

    $$ \ddot\theta = -\tfrac{1 - \alpha}{2}\,g^{-1}\,\nabla^3\psi[\dot\theta, \dot\theta, \cdot] $$

    α = 1 is the exponential geodesic, −1 the mixture one, and 0 that of Levi-Civita, which alone
    is the shortest and of constant speed. `exponential_geodesic` and `mixture_geodesic` are
    cheaper for ±1, and `geodesic_bvp` says more for 0.

    **Arguments:**

    - `potential`: ψ, three times differentiable and strictly convex.
    - `a`, `b`: natural parameters `(d,)`.
    - `ts`: `(n,)` times in [0, 1], 0 at `a` and 1 at `b`.
    - `alpha`: one number; traced, so that a new one does not retrace.
    - `throw`: raise on failure; otherwise a failure gives NaN.

    **Returns:** natural parameters `(n, d)`. Differentiable in `a`, `b`, `alpha` and ψ by the
    implicit function theorem.

    **Fails:** `ValueError` on shapes; `not_converged`; as `mixture_geodesic` does.

    **Cost:** a mixture geodesic of 65 points and one Newton iteration of `Shooting` or a few.

    **Example:**

    >>> from jaxgeo.problems import log_sum_exp
    >>> a, b = jnp.array([0.0]), jnp.array([1.3862944])
    >>> round(alpha_geodesic(log_sum_exp, a, b, jnp.array([0.5]), -1.0).item(), 4)
    0.619

    **Reference:** Amari & Nagaoka (2000), section 2.3.
    """
    a = as_point(a, "a")
    b = as_point(b, "b", a)
    if np.ndim(ts) != 1:
        raise ValueError(f"`ts` must have shape (n,), got {np.shape(ts)}.")
    if np.ndim(alpha) != 0:
        raise ValueError(f"`alpha` must be one number, got {alpha}.")
    times, alpha = jnp.asarray(ts, a.dtype), jnp.asarray(alpha, a.dtype)
    return _solve(potential, a, b, times, alpha, throw)


@eqx.filter_jit
def _solve(
    potential: Potential, a: Array, b: Array, ts: Array, alpha: Array, throw: bool
) -> Float[Array, "n d"]:
    def held(alpha: Array, z: Point, v: Vector) -> Vector:
        return (1 - alpha) * geodesic_acceleration(HessianMetric(potential), z, v)

    acceleration = eqx.filter_closure_convert(functools.partial(held, alpha), a, a)
    start = jax.lax.stop_gradient(_start(potential, a, b, alpha))
    still = frozen(acceleration)
    rtol = default_rtol(None, a.dtype)
    limit = jnp.asarray(NEWTON_STEPS, jnp.int32)
    g = jax.vmap(HessianMetric(potential))(start[:, : a.size])
    x, _, found = shoot(g, still, start, rtol, limit)
    x = follow(jax.lax.stop_gradient(x), acceleration, a, b)
    finite = jnp.all(jnp.isfinite(start))
    result = first_failure(
        RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite), found.result
    )
    if throw:
        x = result.error_if(x, result != RESULTS.successful)
    x = jnp.where(result == RESULTS.successful, x, jnp.nan)
    return jax.vmap(functools.partial(_at, acceleration, x))(ts)


def _start(potential: Potential, a: Array, b: Array, alpha: Array) -> Float[Array, "n two_d"]:
    """A blend of the two flat geodesics, exact where α is ±1."""
    ts = jnp.linspace(0, 1, SEGMENTS + 1, dtype=a.dtype)
    line = a[None, :] + ts[:, None] * (b - a)[None, :]
    bent = mixture_geodesic(potential, a, b, ts, throw=False)
    change = expectation_parameters(potential, b) - expectation_parameters(potential, a)
    rate = jax.vmap(lambda z: solve_spd(HessianMetric(potential)(z), change))(bent)
    share = (1 + alpha) / 2
    points = share * line + (1 - share) * bent
    points = points.at[0].set(a).at[-1].set(b)
    return jnp.concatenate([points, share * (b - a)[None, :] + (1 - share) * rate], axis=1)


def _at(acceleration: Any, x: Float[Array, "n two_d"], t: Array) -> Point:
    """The point at time t: one Runge–Kutta step from the node before."""
    i = jnp.clip(jnp.floor(t * SEGMENTS).astype(jnp.int32), 0, SEGMENTS - 1)
    field = functools.partial(geodesic_field, acceleration)
    inside = (t >= 0) & (t <= 1)
    point = flow(field, x[i], t - i / SEGMENTS)[: x.shape[1] // 2]
    return jnp.where(inside, point, jnp.nan)
