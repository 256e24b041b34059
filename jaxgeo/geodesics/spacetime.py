r"""Geodesics in the spacetime of a diffusion model, without its metric: for high dimension.

The symmetrised divergence ⟨Δη, Δμ⟩ of neighbours is their squared distance to second order, and
takes one divergence of the denoiser at each. The polyline is sought in y = x/α and log ρ,
ρ = σ/α: there every curve keeps to t > 0, and where noise is small the metric is hyperbolic,
(|dy|² + 2d dρ²)/ρ².
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxgeo._linalg import HIGHEST, frozen, safe_sqrt
from jaxgeo._results import RESULTS
from jaxgeo._typing import Point, Scalar, as_point
from jaxgeo.diffusion.samplers import Denoiser
from jaxgeo.diffusion.schedules import VariancePreserving
from jaxgeo.geodesics.solution import GeodesicSolution, first_failure
from jaxgeo.metrics import SpacetimeMetric

MEMORY = 20
"""Steps that L-BFGS remembers, and after which the coordinates are made anew."""


def spacetime_geodesic(
    denoiser: Denoiser,
    schedule: VariancePreserving,
    a: ArrayLike,
    b: ArrayLike,
    *,
    divergence: Callable[[Array, Array], Array] | None = None,
    n_points: int = 33,
    start: ArrayLike | None = None,
    max_iterations: int = 500,
    rtol: ArrayLike = 1e-3,
    throw: bool = True,
) -> GeodesicSolution:
    r"""The geodesic between two noisy data, among all denoising posteriors $p(x_0 | x_t)$.

    $$ \min \; \tfrac12(n - 1) \sum_i \langle \eta_{i+1} - \eta_i,\; \mu_{i+1} - \mu_i\rangle $$

    over the inner points of a polyline, with η and μ of `SpacetimeMetric`. In few dimensions
    `geodesic_bvp` with that metric is more accurate, and looks for several curves; this one goes
    downhill from one start, by L-BFGS in coordinates in which all steps of the polyline would
    cost the same if each block of the metric were a multiple of the identity.

    **Arguments:**

    - `denoiser`, `schedule`, `divergence`: as of `SpacetimeMetric`.
    - `a`, `b`: the ends (x, t), `(d + 1,)`, 0 < t ≤ 1.
    - `n_points`: of the polyline, with the ends.
    - `start`: `(n_points, d + 1)`, a curve from `a` to `b` near which to seek; if not given, the
      geodesic of data without any structure, which rises to noise about as large as a and b are
      apart.
    - `max_iterations`: of L-BFGS.
    - `rtol`: greatest `stats["correction"]` of a geodesic.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `GeodesicSolution` at equal steps of time in [0, 1], of second order in
    1/(n − 1), its velocities by differences. Of the statistics, `energy` and `length` are those
    of the divergences, `speed_drift` is that of the steps' lengths, `residual` is not measured (it
    would take the metric) and comes as `correction`: its square is the share of the energy that
    a metric as above, constant along each segment, would let the curve lose. Energy and length
    differentiate in `a`, `b` and what `denoiser` and `schedule` hold, by the envelope theorem and
    so to the accuracy of `correction`; the points do not.

    **Fails:** `ValueError` on shapes and times. `nonfinite`; `metric_not_positive_definite`, if
    ⟨Δη, Δμ⟩ ≤ 0 of two neighbours, which going downhill finds wherever there are any: of denoisers
    that are learned nearly always, see `SpacetimeMetric`;
    `left_domain`, if the curve rises above t = 1; `not_converged`.

    **Cost:** one or two gradients an iteration of n divergences, point by point: some 5 d calls of
    the denoiser each, or some 5 of `divergence`. 20 to 300 iterations. Compiles once per shape and
    structure.

    **Example:** N(0, 1), whose spacetime is a hyperbolic plane: straight up to more noise.

    >>> from jaxgeo.diffusion import VariancePreserving
    >>> schedule = VariancePreserving()
    >>> ends = jnp.array([0.0, 0.1]), jnp.array([0.0, 0.9])
    >>> denoiser = lambda x, t: schedule.alpha(t) * x
    >>> found = spacetime_geodesic(denoiser, schedule, *ends, n_points=65)
    >>> exact = 2**0.5 * jnp.log(schedule.sigma(0.9) / schedule.sigma(0.1))
    >>> round((found.stats["length"] / exact).item(), 3)
    1.0

    **Reference:** Karczewski et al. (2025), arXiv 2505.17517; Liu & Nocedal (1989), *Math.
    Program.* 45, 503.
    """
    a = as_point(a, "a")
    b = as_point(b, "b", a)
    for name, end in (("a", a), ("b", b)):
        if end.size < 2:
            raise ValueError(f"`{name}` must be (x, t) of shape (d + 1,), d ≥ 1, got {end.shape}.")
        if not isinstance(end, jax.core.Tracer):
            point = np.asarray(end)
            if not (np.all(np.isfinite(point)) and 0 < point[-1] <= 1):
                raise ValueError(f"`{name}` must be finite with its time in (0, 1], got {point}.")
    if n_points < 3:
        raise ValueError(f"`n_points` must be at least 3, got {n_points}.")
    curve = None if start is None else jnp.asarray(start, a.dtype)
    if curve is not None and curve.shape != (n_points, a.size):
        raise ValueError(f"`start` must have shape {(n_points, a.size)}, got {curve.shape}.")
    limits = jnp.asarray(max_iterations, jnp.int32), jnp.asarray(rtol, a.dtype)
    metric = SpacetimeMetric(denoiser, schedule, divergence)
    return _solve(metric, a, b, curve, n_points, *limits, throw)


@eqx.filter_jit
def _solve(
    metric: SpacetimeMetric,
    a: Point,
    b: Point,
    start: Float[Array, "n d_plus_1"] | None,
    n_points: int,
    max_iterations: Int[Array, ""],
    rtol: Scalar,
    throw: bool,
) -> GeodesicSolution:
    still, w0, w1 = frozen((metric, a, b))
    w0, w1 = _unfold(still, w0), _unfold(still, w1)
    if start is None:
        curve = _arc(w0, w1, n_points)
    else:
        inner = jax.vmap(lambda z: _unfold(still, z))(frozen(start)[1:-1])
        curve = jnp.concatenate([w0[None, :], inner, w1[None, :]])
    found = _descend(still, curve, max_iterations, rtol)
    inner = jax.vmap(lambda w: _fold(still, w))(found.curve[1:-1])
    points = jnp.concatenate([a[None, :], inner, b[None, :]])
    ts = jnp.linspace(0, 1, n_points, dtype=a.dtype)
    # what is left of no distance is rounding
    squares = jnp.where(jnp.all(a == b), 0, _squares(metric, points))
    steps = safe_sqrt(squares)
    energy, length = (n_points - 1) / 2 * jnp.sum(squares), jnp.sum(steps)
    pace = jax.lax.stop_gradient(steps)
    stats = {
        "energy": energy,
        "length": length,
        "excess_energy": jax.lax.stop_gradient(energy - length**2 / 2),
        "speed_drift": jnp.max(jnp.abs(pace - pace[0])) / jnp.where(pace[0] == 0, 1, pace[0]),
        "correction": found.correction,
        "iterations": found.iterations,
    }
    solution = GeodesicSolution(
        ts, points, _velocities(points), _judge(a, b, points, squares, found, rtol), stats
    )
    if throw:
        solution = solution.result.error_if(solution, solution.result != RESULTS.successful)
    return solution


def _unfold(metric: SpacetimeMetric, z: Point) -> Point:
    """(y, log ρ) of (x, t)."""
    y = z[:-1] / metric.schedule.alpha(z[-1])
    return jnp.append(y, jnp.log(metric.schedule.noise_ratio(z[-1])))


def _fold(metric: SpacetimeMetric, w: Point) -> Point:
    """(x, t) of (y, log ρ)."""
    t = metric.schedule.time(jnp.exp(w[-1]))
    return jnp.append(metric.schedule.alpha(t) * w[:-1], t)


def _arc(w0: Point, w1: Point, n: int) -> Float[Array, "n d_plus_1"]:
    """The geodesic of (|dy|² + 2d dρ²)/ρ², at constant speed: 1/ρ and y/ρ on a hyperboloid."""
    first, last, ts = jnp.exp(w0[-1]), jnp.exp(w1[-1]), jnp.linspace(0, 1, n, dtype=w0.dtype)
    apart = jnp.sum((w1 - w0)[:-1] ** 2) / (2 * (w0.size - 1)) + (last - first) ** 2
    length = 2 * jnp.arcsinh(jnp.sqrt(apart / (4 * first * last)))
    near = length < 1e-3
    length = jnp.where(near, 1, length)

    def weight(t: Array) -> Array:
        return jnp.where(near, t, jnp.sinh(t * length) / jnp.sinh(length))

    behind, ahead = weight(1 - ts) / first, weight(ts) / last
    share = (ahead / (behind + ahead))[:, None]
    y = (1 - share) * w0[None, :-1] + share * w1[None, :-1]
    return jnp.concatenate([y, -jnp.log(behind + ahead)[:, None]], axis=1)


def _squares(metric: SpacetimeMetric, points: Float[Array, "n d_plus_1"]) -> Float[Array, " m"]:
    """⟨Δη, Δμ⟩ of every segment."""
    # one by one and kept nowhere: of all points together, derivatives no longer fit the cache
    mu = jax.lax.map(jax.checkpoint(lambda z: metric.expectation(z)), points)
    eta = jax.vmap(metric.natural)(points)
    return jnp.sum(jnp.diff(eta, axis=0) * jnp.diff(mu, axis=0), axis=1)


def _roots(metric: SpacetimeMetric, curve: Float[Array, "n d_plus_1"]) -> Float[Array, "2 m m"]:
    """R of R Rᵀ = K⁻¹, K the energy's Hessian if the metric were a|dy|² + b(d log ρ)²; of both.

    With a the mean of its own eigenvalues in y, which the divergence knows.
    """
    n, d = len(curve), curve.shape[1] - 1

    def both(w: Point) -> tuple[Point, Point]:
        z = _fold(metric, w)
        return metric.natural(z), metric.expectation(z)

    def sizes(w: Point) -> Float[Array, " 2"]:
        up = jnp.zeros_like(w).at[-1].set(1)
        (_, mu), (d_eta, d_mu) = jax.jvp(both, (w,), (up,))
        variance = mu[-1] - jnp.dot(mu[:-1], mu[:-1], precision=HIGHEST)
        return jnp.stack([variance * jnp.exp(-4 * w[-1]) / d, jnp.dot(d_eta, d_mu)])

    g = jnp.abs(jax.vmap(sizes)(curve))  # of a denoiser that is learned either may be negative
    g = (g[1:] + g[:-1]) / 2
    steps = jnp.asarray(np.eye(n - 1, n - 2) - np.eye(n - 1, n - 2, -1), curve.dtype)
    k = (n - 1) * jnp.einsum("mi,mk,mj->kij", steps, g, steps, precision=HIGHEST)
    eye = jnp.broadcast_to(jnp.eye(n - 2, dtype=curve.dtype), k.shape)
    factors = jnp.linalg.cholesky(k)
    return jax.scipy.linalg.solve_triangular(factors, eye, lower=True).transpose(0, 2, 1)


class _Descent(NamedTuple):
    """A polyline in (y, log ρ) on its way down."""

    curve: Float[Array, "n d_plus_1"]
    iterations: Int[Array, ""]
    correction: Scalar


def _descend(
    metric: SpacetimeMetric, curve: Array, max_iterations: Int[Array, ""], rtol: Scalar
) -> _Descent:
    n = len(curve)
    optimizer = optax.lbfgs(memory_size=MEMORY)

    def afresh(now: _Descent) -> _Descent:
        """Some steps, in coordinates that are made for the curve."""
        roots = _roots(metric, now.curve)

        def moved(v: Array) -> Array:
            v = v.astype(curve.dtype)  # the line search asks in double precision
            y = jnp.dot(roots[0], v[:, :-1], precision=HIGHEST)
            s = jnp.dot(roots[1], v[:, -1:], precision=HIGHEST)
            return now.curve.at[1:-1].add(jnp.concatenate([y, s], axis=1))

        def energy(v: Array) -> Scalar:
            points = jax.vmap(lambda w: _fold(metric, w))(moved(v))
            return (n - 1) / 2 * jnp.sum(_squares(metric, points))

        value_and_gradient = optax.value_and_grad_from_state(energy)

        def step(carry: tuple[Array, Any, Scalar, Array]) -> tuple[Array, Any, Scalar, Array]:
            v, state, _, count = carry
            value, gradient = value_and_gradient(v, state=state)
            size = jnp.sqrt(jnp.sum(gradient**2) / jnp.where(value == 0, 1, 2 * value))
            updates, state = optimizer.update(
                gradient, state, v, value=value, grad=gradient, value_fn=energy
            )
            v = jnp.where(size > rtol, optax.apply_updates(v, updates), v)
            return v, state, size, count + 1

        def going(carry: tuple[Array, Any, Scalar, Array]) -> Array:
            _, _, size, count = carry
            room = (count < MEMORY) & (now.iterations + count < max_iterations)
            return room & (size > rtol)

        v = jnp.zeros_like(curve[1:-1])
        infinite = jnp.full((), jnp.inf, curve.dtype)
        begin = (v, optimizer.init(v), infinite, jnp.zeros((), jnp.int32))
        v, _, size, count = jax.lax.while_loop(going, step, begin)
        # only what is measured in new coordinates counts: the old ones may be of another curve
        return _Descent(moved(v), now.iterations + count, jnp.where(count == 1, size, jnp.inf))

    zero = jnp.zeros((), jnp.int32)
    start = _Descent(curve, zero, jnp.full((), jnp.inf, curve.dtype))
    return jax.lax.while_loop(
        lambda now: (now.correction > rtol) & (now.iterations < max_iterations), afresh, start
    )


def _velocities(points: Float[Array, "n d_plus_1"]) -> Float[Array, "n d_plus_1"]:
    """Of second order, at the ends too."""
    steps = jnp.diff(points, axis=0)
    inner = (steps[1:] + steps[:-1]) / 2
    first, last = 1.5 * steps[0] - 0.5 * steps[1], 1.5 * steps[-1] - 0.5 * steps[-2]
    return (len(points) - 1) * jnp.concatenate([first[None, :], inner, last[None, :]])


def _judge(
    a: Point, b: Point, points: Array, squares: Array, found: _Descent, rtol: Scalar
) -> Any:
    same = jnp.all(a == b)  # and then there is no distance, which rounding may make negative
    finite = jnp.all(jnp.isfinite(points)) & jnp.all(jnp.isfinite(squares))

    def unless(well: Array, failure: Any) -> Any:
        return RESULTS.where(well, RESULTS.successful, failure)

    return first_failure(
        unless(finite, RESULTS.nonfinite),
        unless(same | jnp.all(squares > 0), RESULTS.metric_not_positive_definite),
        unless(jnp.all(points[:, -1] <= 1), RESULTS.left_domain),
        unless(same | (found.correction <= rtol), RESULTS.not_converged),
    )
