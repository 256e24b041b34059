"""Geodesics between two points by Newton's method on multiple shooting: accurate and quadratic.

Unknown are position and velocity x = (z, v) at N + 1 times. One step of an explicit Runge–Kutta
method of order 8 carries each to the next, and Newton's method closes the gaps. Its derivatives
cost most: a method of order 4 gives them, and they are kept while a step shrinks the gaps a
hundredfold. The same linear system gives the derivatives of the curve by the implicit function
theorem.
"""

import functools
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import HIGHEST, cholesky, instantiate, negative_eigenvalues, partial_jvp
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Scalar
from jaxgeo.geodesics.flows import flow, geodesic_field
from jaxgeo.geodesics.relaxation import Diagnostics, Relaxation

KEEP = 0.01
"""Derivatives that have shrunk the gaps to so much of them are used again."""


@final
class Shooting(eqx.Module):
    """Relax a polyline roughly, then close it to a geodesic by multiple shooting. The default.

    - `relaxation`: the solver that starts it, and the number of segments.
    - `max_iterations`: of Newton's method, steps that were cut included.
    - `rtol`: Newton's method stops after a correction below `rtol` times the length of the curve,
      both in the metric; being quadratic, it is then far more accurate. The square root of the
      dtype's epsilon if not given.

    **Fails:** as `Relaxation` does on a bad metric; `not_converged` if the gaps do not close: the
    relaxed curve is then returned, and its residual says how far from a geodesic it is.
    `conjugate_point`: a geodesic, but no minimum; `not_resolved`: too few segments.

    **Cost:** 13 N accelerations per iteration, typically 2 to 5 of them, and N (4 + 8d) for the
    derivatives, typically once or twice: for d beyond some dozens use `Relaxation` alone.

    **Reference:** Stoer & Bulirsch (2002), *Introduction to Numerical Analysis*, section 7.3.5.
    """

    relaxation: Relaxation = Relaxation()
    max_iterations: int | Int[Array, ""] = 20
    rtol: float | Float[Array, ""] | None = None


def gaps(acceleration: Any, x: Float[Array, "n two_d"]) -> Float[Array, "n_minus_1 two_d"]:
    """What is missing between the end of each segment's step and the next node."""
    h = 1 / (x.shape[0] - 1)
    field = functools.partial(geodesic_field, acceleration)
    return jax.vmap(lambda y: flow(field, y, h))(x[:-1]) - x[1:]


def derivatives(
    acceleration: Any, x: Float[Array, "n two_d"], order: int
) -> Float[Array, "n_minus_1 two_d two_d"]:
    """The derivative of each segment's step, by a method of order 4 or 8."""
    h = 1 / (x.shape[0] - 1)
    field = functools.partial(geodesic_field, acceleration)
    return jax.vmap(jax.jacfwd(lambda y: flow(field, y, h, order)))(x[:-1])


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
    delta = constant + jnp.einsum("nij,j->ni", linear, dv0, precision=HIGHEST)
    return delta.at[-1, :d].set(dz1)  # to the last bit


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
    return x, close_gaps(derivatives(acceleration, x, 8), missing, dz0, dz1)


def passes_conjugate_point(
    metric: Metric, x: Float[Array, "n two_d"], matrices: Float[Array, "n_minus_1 two_d two_d"]
) -> Bool[Array, ""]:
    """Whether some neighbour that leaves with another velocity comes back on the way.

    The neighbours' places D and momenta P span a Lagrangian subspace, so DᵀP is symmetric; where
    D loses rank its eigenvalues cross zero upwards, and nowhere else (Morse's index).
    """
    d = x.shape[1] // 2
    eye = jnp.eye(d, dtype=x.dtype)
    start = jnp.concatenate([jnp.zeros_like(eye), eye])

    def advance(carry: Array, matrix: Array) -> tuple[Array, Array]:
        carry = jnp.dot(matrix, carry, precision=HIGHEST)
        return carry, carry

    if d == 1:
        return jnp.zeros((), bool)
    if d == 2:  # conjugate points are simple, and the sign of the determinant tells
        _, spreads = jax.lax.scan(advance, start, matrices)
        D = spreads[:, :2]
        return jnp.any(D[:, 0, 0] * D[:, 1, 1] - D[:, 0, 1] * D[:, 1, 0] < 0)

    def index(y: Array, spread: Array) -> Array:
        def momentum(y: Array) -> Array:
            return jnp.dot(metric(y[:d]), y[d:], precision=HIGHEST)

        push = jax.vmap(lambda dy: jax.jvp(momentum, (y,), (dy,))[1], in_axes=1, out_axes=1)
        lagrangian = jnp.dot(spread[:d].T, push(spread), precision=HIGHEST)
        return negative_eigenvalues(lagrangian + lagrangian.T)

    _, spreads = jax.lax.scan(advance, start, matrices)
    return jnp.any(jnp.diff(jax.vmap(index)(x[1:], spreads)) < 0)


class _State(NamedTuple):
    x: Float[Array, "n two_d"]  # the best nodes so far
    size: Scalar  # of their gaps
    matrices: Float[Array, "n_minus_1 two_d two_d"]  # the derivatives of the segments' steps
    correction: Float[Array, "n two_d"]  # Newton's, from x
    step: Scalar
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]
    running: Bool[Array, ""]


class _Ruler(NamedTuple):
    """Measures changes of the nodes in the metric, relative to the curve: whatever the chart."""

    factors: Float[Array, "n d d"]  # Lᵀ of the metric at the nodes
    length: Scalar
    floor: Scalar  # what rounding of the coordinates alone amounts to

    def __call__(self, change: Float[Array, "m two_d"]) -> Scalar:
        """The greatest, of places over the length and velocities over the speed."""
        n, d = self.factors.shape[:2]
        parts = change.reshape(-1, 2, d)
        lengths = jnp.einsum(
            "nij,nkj->nki", self.factors[n - len(parts) :], parts, precision=HIGHEST
        )
        return jnp.sqrt(jnp.max(jnp.sum(lengths**2, axis=2))) / self.length


def _ruler(g: Float[Array, "n d d"], x: Float[Array, "n two_d"]) -> _Ruler:
    d = x.shape[1] // 2
    factors = jnp.swapaxes(cholesky(g), 1, 2)
    ruler = _Ruler(factors, jnp.ones((), x.dtype), jnp.zeros((), x.dtype))
    speed = ruler(x.at[:, :d].set(0))
    length = jnp.where(speed == 0, 1, speed)
    coordinates = ruler(jnp.abs(x).at[:, d:].set(0)) / length
    return _Ruler(factors, length, 64 * jnp.finfo(x.dtype).eps * (1 + coordinates))


def _newton(
    acceleration: Any, ruler: _Ruler, rtol: Array, max_iterations: Array, state: _State
) -> _State:
    x = state.x + state.step * state.correction
    missing = gaps(acceleration, x)
    size = ruler(missing)
    accept = jnp.isfinite(size) & ((size < state.size) | (size <= ruler.floor))
    stale = accept & (size > KEEP * state.size) | (state.iterations == 0)
    matrices = jax.lax.cond(stale, lambda: derivatives(acceleration, x, 4), lambda: state.matrices)
    accept &= jnp.all(jnp.isfinite(matrices))

    still = jnp.zeros(x.shape[1] // 2, x.dtype)
    correction = close_gaps(matrices, missing, still, still)
    converged = accept & (ruler(correction) <= jnp.maximum(rtol, ruler.floor))
    step = jnp.where(accept, jnp.ones_like(state.step), state.step / 4)
    iterations = state.iterations + 1
    failed = ~accept & ((state.iterations == 0) | (step < 1e-6))
    # the last correction is applied as well: it leaves a hundredth of the error, or its square
    accepted = jnp.where(converged, x + correction, x)
    return _State(
        x=jnp.where(accept, accepted, state.x),
        size=jnp.where(accept, size, state.size),
        matrices=jnp.where(accept, matrices, state.matrices),
        correction=jnp.where(accept, correction, state.correction),
        step=step,
        iterations=iterations,
        converged=converged,
        running=~(converged | failed | (iterations >= max_iterations)),
    )


def shoot(
    g: Float[Array, "n d d"],
    acceleration: Any,
    start: Float[Array, "n two_d"],
    rtol: Scalar,
    max_iterations: Int[Array, ""],
) -> tuple[Float[Array, "n two_d"], Float[Array, "n_minus_1 two_d two_d"], Diagnostics]:
    """Newton's method from the nodes `start`; where it fails, `start`.

    `g` is the metric at the nodes, by which errors are measured. Also returned are the derivatives
    of the segments' steps.
    """
    n, d = start.shape[0], start.shape[1] // 2
    ruler = _ruler(g, start)
    inf = jnp.full((), jnp.inf, start.dtype)
    state = _State(
        x=start,
        size=inf,
        matrices=jnp.zeros((n - 1, 2 * d, 2 * d), start.dtype),
        correction=jnp.zeros_like(start),
        step=jnp.ones((), start.dtype),
        iterations=jnp.zeros((), jnp.int32),
        converged=jnp.zeros((), bool),
        running=jnp.ones((), bool),
    )

    def body(state: _State) -> _State:
        return _newton(acceleration, ruler, rtol, max_iterations, state)

    end = jax.lax.while_loop(lambda state: state.running, body, state)
    x = jnp.where(end.converged, end.x, start)
    result = RESULTS.where(end.converged, RESULTS.successful, RESULTS.not_converged)
    return x, end.matrices, Diagnostics(result, end.iterations)
