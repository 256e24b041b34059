"""Geodesics between two points by relaxing the energy of a polyline: global and robust.

The energy of N segments with the metric at their midpoints, Q = Σ uᵢᵀ G(mᵢ) uᵢ, is symmetric under
reversal and of second order in 1/N. It is minimised by Newton's method in a trust region, whose
linear systems are solved by conjugate gradients (Steihaug) preconditioned by the Hessian 2DᵀGD
that Q would have if the metric were constant. That is the closed solution behind GEORCE; the rest
of the Hessian is a compact perturbation of it, so a few products with the Hessian solve the system
whatever N, no matrix beyond G is formed, and the rate is quadratic.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import HIGHEST, cholesky, cholesky_solve, quadratic_form, solve_spd
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Scalar, as_number
from jaxgeo.geodesics.solution import first_failure, metric_result

SMALLEST_STEP = 1e-8
"""In a line search, relative to the curve: below it the search gives up."""

SHORTER = 1e-3
"""Relative difference of energies from which one curve is shorter than another."""

EXPLORE = 10
"""Iterations after which a curve must be shorter than its rival to be worth more."""

RESOLVED = 0.1
"""Greatest relative drift of the speed along a polyline that follows its curve."""

SETTLED = 0.1
"""Residual below which the promise of a step inside the trust region is believed."""

CONJUGATE_GRADIENTS = 64
"""Steps at most in one linear system; some ten are typical."""


@final
class Relaxation(eqx.Module):
    r"""Relax the energy of a polyline; of second order in 1/`n_segments`.

    $$ \min_x \; \sum_{i} u_i^\top G\!\left(x_i + \tfrac12 u_i\right) u_i,
       \qquad u_i = x_{i+1} - x_i $$

    Robust, quadratically convergent, and matrix-free but for the metric itself. `Shooting`, the
    default, starts from it and is accurate.

    - `n_segments`: N, static.
    - `max_iterations`: Newton steps, refused ones included.
    - `rtol`: converged when the step of the frozen metric is below `rtol` times the length of the
      curve, both in the metric; the square root of the dtype's epsilon if not given.
    - `n_starts`: curves that are relaxed, static: the straight line, and arcs on either side of it
      in pairs. The shortest result is returned; a curve that will not become shorter than the
      best one before it is given up. 1 is the straight line alone.

    **Fails:** `not_converged`, `line_search_failed`, `metric_not_positive_definite` and
    `nonfinite`, the last two if the metric is so on every start already.

    **Cost:** per iteration and start, some 5 to 20 products with the Hessian, of about four metric
    evaluations at N midpoints each, and N Cholesky factors; 5 to 30 iterations.

    **Reference:** Steihaug (1983), *SIAM J. Numer. Anal.* 20, 626; Rygaard & Hauberg (2025),
    *GEORCE*, for the preconditioner.
    """

    n_segments: int = eqx.field(static=True, default=64)
    max_iterations: int | Int[Array, ""] = 100
    rtol: float | Float[Array, ""] | None = None
    n_starts: int = eqx.field(static=True, default=3)


class Diagnostics(NamedTuple):
    """How a boundary-value solver ended."""

    result: Any
    iterations: Int[Array, ""]


class Sweep(NamedTuple):
    """What the metric says along a curve of N segments."""

    g: Float[Array, "n d d"]  # at the midpoints
    squares: Float[Array, " n"]  # uᵀGu
    ahead: Float[Array, "n d"]  # −∂Q/∂x of each segment at its first point
    behind: Float[Array, "n d"]  # ∂Q/∂x of each segment at its last point

    @property
    def energy(self) -> Scalar:
        """Q."""
        return jnp.sum(self.squares)

    @property
    def gradient(self) -> Float[Array, "n_plus_1 d"]:
        """∂Q/∂x, zero at the ends."""
        return jnp.pad(self.behind[:-1] - self.ahead[1:], ((1, 1), (0, 0)))


def no_sweep(x: Float[Array, "n_plus_1 d"]) -> Sweep:
    """What a curve has before it is swept."""
    zero = jnp.zeros_like(x[1:])
    return Sweep(zero[:, :, None] * zero[:, None, :], zero[:, 0], zero, zero)


def _sweep(metric: Metric, x: Float[Array, "n_plus_1 d"]) -> Sweep:
    def one(middle: Array, u: Array) -> tuple[Array, Array]:
        g, pull = jax.vjp(metric, middle)
        (nu,) = pull((u[:, None] * u[None, :]).astype(g.dtype))
        return g, nu  # ν = ∂(uᵀGu) with u fixed

    u = jnp.diff(x, axis=0)
    g, nu = jax.vmap(one)((x[1:] + x[:-1]) / 2, u)
    lowered = jnp.einsum("nij,nj->ni", g, u, precision=HIGHEST)
    return Sweep(g, jnp.sum(lowered * u, axis=1), 2 * lowered - nu / 2, 2 * lowered + nu / 2)


class _Model(NamedTuple):
    """The Hessian 2DᵀGD of the energy at constant metric, and its inverse."""

    g: Float[Array, "n d d"]
    inverse: Float[Array, "n d d"]

    def product(self, p: Array, q: Array) -> Scalar:
        lowered = jnp.einsum("nij,nj->ni", self.g, jnp.diff(p, axis=0), precision=HIGHEST)
        return 2 * jnp.sum(lowered * jnp.diff(q, axis=0))

    def solve(self, force: Float[Array, "n_plus_1 d"]) -> Float[Array, "n_plus_1 d"]:
        """Running sums are products with a triangle of ones: faster to compile than `cumsum`."""
        n = self.g.shape[0]
        before = jnp.asarray(np.tri(n, n), force.dtype)
        tension = -jnp.dot(before, force[:-1], precision=HIGHEST)
        weighted = jnp.einsum("nij,nj->ni", self.inverse, tension, precision=HIGHEST)
        shift = solve_spd(jnp.sum(self.inverse, axis=0), jnp.sum(weighted, axis=0))
        pull = jnp.einsum("nij,j->ni", self.inverse, shift, precision=HIGHEST)
        inner = jnp.dot(before, weighted - pull, precision=HIGHEST)[:-1] / 2
        return jnp.pad(inner, ((1, 1), (0, 0)))


def _model(g: Array, factor: Array) -> _Model:
    eye = jnp.broadcast_to(jnp.eye(g.shape[-1], dtype=g.dtype), g.shape)
    return _Model(g, jax.vmap(cholesky_solve)(factor, eye))


class _Search(NamedTuple):
    """Conjugate gradients on their way to a step."""

    step: Float[Array, "n d"]
    turned: Float[Array, "n d"]  # the Hessian times the step
    residual: Float[Array, "n d"]
    direction: Float[Array, "n d"]
    size: Scalar  # of the residual, squared, in the model's dual norm
    length: Int[Array, ""]  # of the search so far
    on_boundary: Bool[Array, ""]
    running: Bool[Array, ""]


def _newton_step(
    hessian: Callable[[Array], Array],
    model: _Model,
    gradient: Float[Array, "n d"],
    radius: Scalar,
    tolerance: Scalar,
    wanted: Bool[Array, ""],
) -> tuple[Array, Scalar, Bool[Array, ""]]:
    """Steihaug's step in the trust region, the decrease it promises, whether it is at the edge."""

    def body(state: _Search) -> _Search:
        p, d = state.step, state.direction
        turned = hessian(d)
        curvature = jnp.vdot(d, turned, precision=HIGHEST)
        dd, pd = model.product(d, d), model.product(p, d)
        room = radius**2 - model.product(p, p)
        to_edge = (jnp.sqrt(pd**2 + dd * jnp.maximum(room, 0)) - pd) / dd
        inside = curvature > 0
        ideal = state.size / jnp.where(inside, curvature, 1)
        inside &= ideal < to_edge
        move = jnp.where(inside, ideal, to_edge)
        residual = state.residual + move * turned
        conditioned = model.solve(residual)
        size = jnp.vdot(residual, conditioned, precision=HIGHEST)
        length = state.length + 1
        go_on = inside & (size > tolerance**2 * first) & (length < CONJUGATE_GRADIENTS)
        return _Search(
            step=p + move * d,
            turned=state.turned + move * turned,
            residual=residual,
            direction=size / state.size * d - conditioned,
            size=size,
            length=length,
            on_boundary=~inside,
            running=go_on & jnp.isfinite(size),
        )

    zero = jnp.zeros_like(gradient)
    conditioned = model.solve(gradient)
    first = jnp.vdot(gradient, conditioned, precision=HIGHEST)
    start = _Search(
        step=zero,
        turned=zero,
        residual=gradient,
        direction=-conditioned,
        size=first,
        length=jnp.zeros((), jnp.int32),
        on_boundary=jnp.zeros((), bool),
        running=wanted & (first > 0),
    )
    end = jax.lax.while_loop(lambda state: state.running, body, start)
    promised = -jnp.vdot(end.step, gradient + end.turned / 2, precision=HIGHEST)
    return end.step, promised, end.on_boundary


class _State(NamedTuple):
    x: Float[Array, "n d"]  # the accepted curve
    sweep: Sweep  # along it
    step: Float[Array, "n d"]  # from it
    size: Scalar  # of the step, in the metric
    radius: Scalar  # of the trust region
    promised: Scalar  # decrease of the energy by it
    on_boundary: Bool[Array, ""]
    residual: Scalar  # of the frozen metric's step, over the length, both in the metric
    iterations: Int[Array, ""]
    result: Any
    running: Bool[Array, ""]


def _iterate(metric: Metric, rtol: Array, max_iterations: Array, state: _State) -> _State:
    eps = jnp.finfo(state.x.dtype).eps
    first = state.iterations == 0
    x = state.x + state.step

    def sweep(x: Array) -> tuple[Array, Sweep]:
        swept = _sweep(metric, x)
        return swept.gradient, swept

    gradient, hessian, new = jax.linearize(sweep, x, has_aux=True)
    factor = cholesky(new.g)
    model = _model(new.g, factor)
    finite = jnp.all(jnp.isfinite(gradient))
    health = first_failure(
        metric_result(new.g, factor),
        RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite),
    )
    # the slack is the energy's own rounding: without it float32 stops short of what it resolves
    slack = 16 * eps * jnp.abs(state.sweep.energy)
    ratio = (state.sweep.energy - new.energy + slack) / (state.promised + slack)
    accept = (health == RESULTS.successful) & (first | (ratio > 1e-4))

    energy = jnp.where(new.energy == 0, 1, new.energy)
    correction = jnp.vdot(gradient, model.solve(gradient), precision=HIGHEST) / 2
    residual = jnp.sqrt(correction / energy)
    converged = accept & (residual <= rtol)
    radius = jnp.where(ratio < 0.25, state.size / 4, state.radius)
    radius = jnp.where((ratio > 0.75) & state.on_boundary, 2 * state.radius, radius)
    radius = jnp.where(first, jnp.sqrt(energy), radius)
    step, promised, on_boundary = _newton_step(
        hessian,
        model,
        gradient,
        radius,
        jnp.minimum(0.1, residual),  # the error falls to its square: the rate is quadratic
        accept & ~converged,
    )
    # a refused step is cut, which needs no new direction
    cut = 0.25
    step = jnp.where(accept, step, cut * state.step)
    size = jnp.where(accept, jnp.sqrt(model.product(step, step)), cut * state.size)
    failed = ~accept & (first | (size < SMALLEST_STEP * jnp.sqrt(state.sweep.energy)))
    iterations = state.iterations + 1
    why = RESULTS.where(first, health, RESULTS.line_search_failed)
    result = RESULTS.where(failed, why, RESULTS.not_converged)

    def choose(ours: Any, theirs: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(accept, a, b), ours, theirs)

    return _State(
        x=choose(x, state.x),
        sweep=choose(new, state.sweep),
        step=step,
        size=size,
        radius=jnp.where(accept, radius, size),
        promised=jnp.where(accept, promised, cut * state.promised),
        on_boundary=jnp.where(accept, on_boundary, True),
        residual=choose(residual, state.residual),
        iterations=iterations,
        result=RESULTS.where(converged, RESULTS.successful, result),
        running=~(converged | failed | (iterations >= max_iterations)),
    )


def relax(
    metric: Metric,
    curve: Float[Array, "n_plus_1 d"],
    rtol: Scalar,
    max_iterations: Int[Array, ""],
    rival: Scalar,
) -> tuple[Float[Array, "n_plus_1 d"], Sweep, Diagnostics]:
    """Relax a polyline with its ends fixed; the curve, the metric along it, how it ended.

    It is given up when its energy will not fall below `rival`: as far as its next step promises,
    or after `EXPLORE` iterations.
    """
    inf = jnp.full((), jnp.inf, curve.dtype)
    start = _State(
        x=curve,
        sweep=no_sweep(curve),
        step=jnp.zeros_like(curve),
        size=inf,
        radius=inf,
        promised=jnp.zeros_like(inf),
        on_boundary=jnp.zeros((), bool),
        residual=inf,
        iterations=jnp.zeros((), jnp.int32),
        result=RESULTS.not_converged,
        running=jnp.ones((), bool),
    )

    def body(state: _State) -> _State:
        new = _iterate(metric, rtol, max_iterations, state)
        energy = new.sweep.energy
        settled = ~new.on_boundary & (new.residual < SETTLED)
        hopeless = settled & (energy - 2 * new.promised > (1 - SHORTER) * rival)
        hopeless |= (new.iterations >= EXPLORE) & (energy > rival)
        return new._replace(running=new.running & ~hopeless)

    end = jax.lax.while_loop(lambda state: state.running, body, start)
    return end.x, end.sweep, Diagnostics(end.result, end.iterations)


def checked_energy(
    x: Float[Array, "n_plus_1 d"], sweep: Sweep, g: Float[Array, "n_plus_1 d d"]
) -> Scalar:
    """Q by Simpson's rule on every segment, with the metric `g` at the points as well.

    Infinite where points and midpoints tell different stories: between coarse points a polyline
    can step over what it would have to cross.
    """
    u = jnp.diff(x, axis=0)
    square = jax.vmap(quadratic_form)
    middle = sweep.energy
    ends = jnp.sum(square(g[:-1], u, u) + square(g[1:], u, u)) / 2
    return jnp.where(jnp.abs(ends - middle) <= middle / 2, (ends + 2 * middle) / 3, jnp.inf)


def legendre(sweep: Sweep, g: Float[Array, "n_plus_1 d d"]) -> Float[Array, "n_plus_1 d"]:
    """dγ/dt at the points of a relaxed polyline, by the discrete Legendre transform.

    The momentum at a point, −∂Q/∂xᵢ of the segment ahead, is ∂Q/∂xᵢ of the one behind where the
    energy is stationary; their mean is of second order, at the ends too.
    """
    inner = (sweep.ahead[1:] + sweep.behind[:-1]) / 2
    momenta = jnp.concatenate([sweep.ahead[:1], inner, sweep.behind[-1:]])
    return (len(inner) + 1) / 2 * jax.vmap(solve_spd)(g, momenta)


def default_rtol(rtol: ArrayLike | None, dtype: Any, power: float = 0.5) -> Array:
    """`rtol`, or a power of the dtype's epsilon; an array, so that no new value retraces."""
    return as_number(float(jnp.finfo(dtype).eps) ** power if rtol is None else rtol, "rtol", dtype)
