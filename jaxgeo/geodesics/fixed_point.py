"""Geodesics between two points as the fixed point of a Gaussian process: simple, and local.

A curve is the posterior mean of a Gaussian process that was told its ends and its accelerations at
N times. Those of a geodesic are what the geodesic equation says at its own places and velocities;
so what the equation says becomes the next observation, until nothing changes. Places and
velocities are linear in the accelerations, by two N × N matrices that depend on the times alone:
an iteration costs N accelerations and two products.
"""

import functools
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.polynomial.hermite_e import hermeval

from jaxgeo._linalg import HIGHEST, cholesky
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Scalar
from jaxgeo.geodesics.relaxation import Diagnostics
from jaxgeo.geodesics.solution import first_failure, metric_result

NOISE = 1e-13
"""Variance of an observed acceleration's error, relative to its prior variance: rounding's share.
Without it the kernel's matrix is singular to double precision where many times are close."""

CORNERS = 1e-2
"""Modes of a given curve that are kept, relative to the smoothest."""

CUT = 1 / 3
"""What is left of a step that was refused."""

DRIFT = 1e-4
"""Greatest relative drift of the speed of a curve that is resolved."""

SMALLEST_STEP = 1e-3
"""Below it no step is expected to help: the fixed point repels."""


@final
class FixedPoint(eqx.Module):
    r"""Iterate the accelerations of a Gaussian process to those of a geodesic.

    $$ c''_n \leftarrow c''_n + \alpha\,\bigl(f(\mu(t_n), \mu'(t_n)) - c''_n\bigr), \qquad
       \mu = \mathrm{E}\bigl[c \mid c(0) = z_0,\ c(1) = z_1,\ c''(t_n) = c''_n\bigr] $$

    with f the `geodesic_acceleration`, at equal steps $t_n$ of [0, 1], and c a Gaussian process
    around the straight line with the kernel $\exp(-(t - s)^2 / 2\lambda^2)$. Its amplitude, a
    matrix for all coordinates, cancels from the mean. The first step is whole; a step by which the
    residual, summed in squares, would grow is cut to a third, and after one that succeeds the
    next is thrice as long again.

    The simplest solver, for geodesics near the straight line: it needs the acceleration and no
    derivative of it. The rate is linear, and it diverges where the metric varies by orders of
    magnitude on the way; `Shooting`, the default, does not. It starts from the straight line, or
    from the `start` of `geodesic_bvp`, and finds one geodesic: `stats["shorter_found"]` is always
    false, and no conjugate point is looked for. Lengths are good to 1e-8 on the problems of
    `jaxgeo.problems` on which it converges.

    - `n_nodes`: N, static, both ends included.
    - `length_scale`: λ, static; the curve's duration is 1. Some 5 to 10 steps between nodes.
    - `max_iterations`: steps, refused ones included.
    - `rtol`: converged when $\max_n |f - c''_n|$ is below `rtol` times the speed, both in the
      metric along the first curve; the square root of the dtype's epsilon if not given.

    **Fails:** `not_converged`, `metric_not_positive_definite` and `nonfinite`, the last two where
    the first curve meets them; `not_resolved` if the speed drifts by more than 1e-4.

    **Cost:** N accelerations per iteration, 10 to 100 of them.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> ends = jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0])
    >>> solution = jg.geodesic_bvp(half_plane_metric, *ends, solver=FixedPoint())
    >>> round(solution.stats["length"].item(), 4)
    0.6931

    **Reference:** Arvanitidis, Hauberg, Hennig & Schober (2019), *AISTATS*, "Fast and robust
    shortest paths on manifolds learned from data". Derivatives are not theirs: by the implicit
    function theorem, as for the other solvers.
    """

    n_nodes: int = eqx.field(static=True, default=33)
    length_scale: float = eqx.field(static=True, default=0.2)
    max_iterations: int | Int[Array, ""] = 200
    rtol: float | Float[Array, ""] | None = None


@functools.cache
def posterior(n: int, length_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (n, n) from accelerations at n equal steps to places and velocities there.

    Added to the straight line and its velocity they give the posterior mean.
    """
    times, ends = np.linspace(0, 1, n), np.array([0.0, 1.0])

    def kernel(s: np.ndarray, t: np.ndarray, order: int, order_t: int) -> np.ndarray:
        """∂ˢ∂ᵗ of the kernel, by Hermite's polynomials."""
        r = (s[:, None] - t[None, :]) / length_scale
        hermite = hermeval(r, np.eye(order + order_t + 1)[-1])
        return (-1) ** order * hermite * np.exp(-(r**2) / 2) / length_scale ** (order + order_t)

    seen = np.block(
        [
            [kernel(times, times, 2, 2), kernel(times, ends, 2, 0)],
            [kernel(ends, times, 0, 2), kernel(ends, ends, 0, 0)],
        ]
    )
    scale = np.diag(seen) ** -0.5
    seen = seen * scale[:, None] * scale[None, :]
    seen[:n, :n] += NOISE * np.eye(n)

    def mean(order: int) -> np.ndarray:
        asked = np.hstack([kernel(times, times, order, 2), kernel(times, ends, order, 0)])
        return (np.linalg.solve(seen, (asked * scale).T).T * scale)[:, :n]

    places = mean(0)
    places[[0, -1]] = 0  # the ends are exact
    return places, mean(1)


class _Mean(NamedTuple):
    """The posterior mean at the nodes, as a function of the accelerations there."""

    line: Float[Array, "n d"]
    chord: Float[Array, "1 d"]
    places: Float[Array, "n n"]
    slopes: Float[Array, "n n"]

    def __call__(self, accelerations: Array) -> tuple[Array, Array]:
        """Places and velocities."""
        z = self.line + jnp.dot(self.places, accelerations, precision=HIGHEST)
        return z, self.chord + jnp.dot(self.slopes, accelerations, precision=HIGHEST)


def _mean(ends: tuple[Array, Array], solver: FixedPoint) -> _Mean:
    z0, z1 = ends[0][None], ends[1][None]
    matrices = posterior(solver.n_nodes, solver.length_scale)
    t = jnp.linspace(0, 1, solver.n_nodes, dtype=z0.dtype)[:, None]
    line = jnp.concatenate([((1 - t) * z0 + t * z1)[:-1], z1])
    return _Mean(line, z1 - z0, *(jnp.asarray(matrix, z0.dtype) for matrix in matrices))


class _State(NamedTuple):
    accelerations: Float[Array, "n d"]
    missing: Float[Array, "n d"]  # f − c''
    size: Scalar  # of it, squared
    step: Scalar
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]
    running: Bool[Array, ""]


def _step(
    acceleration: Any,
    mean: _Mean,
    factors: Float[Array, "n d d"],
    limit: Scalar,
    max_iterations: Array,
    state: _State,
) -> _State:
    first = state.iterations == 0
    a = state.accelerations + state.step * state.missing
    missing = jax.vmap(acceleration)(*mean(a)) - a
    sizes = _squares(factors, missing)
    size = jnp.sum(sizes)
    accept = jnp.isfinite(size) & ((size < state.size) | (size <= limit))
    converged = accept & (jnp.max(sizes) <= limit)
    step = jnp.where(accept, jnp.minimum(1, state.step / CUT), state.step * CUT)
    step = jnp.where(first, jnp.ones_like(step), step)
    failed = ~accept & (first | (step < SMALLEST_STEP))
    iterations = state.iterations + 1
    return _State(
        accelerations=jnp.where(accept, a, state.accelerations),
        missing=jnp.where(accept, missing, state.missing),
        size=jnp.where(accept, size, state.size),
        step=step,
        iterations=iterations,
        converged=converged,
        running=~(converged | failed | (iterations >= max_iterations)),
    )


def _squares(factors: Float[Array, "n d d"], u: Float[Array, "n d"]) -> Float[Array, " n"]:
    """uᵀgu at every node, from g = LLᵀ."""
    return jnp.sum(jnp.einsum("nij,ni->nj", factors, u, precision=HIGHEST) ** 2, axis=1)


def iterate(
    metric: Metric,
    acceleration: Any,
    ends: tuple[Float[Array, " d"], Float[Array, " d"]],
    curve: Float[Array, "n d"] | None,
    solver: FixedPoint,
) -> tuple[Float[Array, "n two_d"], Diagnostics]:
    """The nodes (z, v) of the fixed point, from the straight line or another curve."""
    mean = _mean(ends, solver)
    still = jnp.zeros_like(mean.line)
    begin = still
    if curve is not None:  # in least squares: a polyline's corners are none of the curve's
        inverse = np.linalg.pinv(posterior(solver.n_nodes, solver.length_scale)[0], rcond=CORNERS)
        begin = jnp.dot(jnp.asarray(inverse, still.dtype), curve - mean.line, precision=HIGHEST)
    z, v = mean(begin)
    g = jax.vmap(metric)(z)
    factors = cholesky(g)
    limit = jnp.asarray(solver.rtol) ** 2 * jnp.max(_squares(factors, v))

    def body(state: _State) -> _State:
        max_iterations = jnp.asarray(solver.max_iterations)
        return _step(acceleration, mean, factors, limit, max_iterations, state)

    no = jnp.zeros((), bool)
    start = _State(
        accelerations=begin,
        missing=still,
        size=jnp.full((), jnp.inf, still.dtype),
        step=jnp.zeros((), still.dtype),
        iterations=jnp.zeros((), jnp.int32),
        converged=no,
        running=~no,
    )
    end = jax.lax.while_loop(lambda state: state.running, body, start)
    seen = jnp.isfinite(end.size)
    stuck = RESULTS.where(seen, RESULTS.not_converged, RESULTS.nonfinite)
    stuck = first_failure(metric_result(g, factors), stuck)
    # the last correction is applied as well
    a = end.accelerations + jnp.where(end.converged, end.missing, 0)
    result = RESULTS.where(end.converged, RESULTS.successful, stuck)
    return jnp.concatenate(mean(a), axis=1), Diagnostics(result, end.iterations)
