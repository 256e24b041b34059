"""Hamiltonian flow on a manifold: the generalised leapfrog, and its tempering."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, cholesky, logdet_spd, quadratic_form, solve_lower, solve_spd
from jaxgeo._typing import Metric, Point, Scalar, Vector
from jaxgeo.likelihoods import LOG_2PI
from jaxgeo.metrics import KernelMetric

Tempering = Literal["quadratic", "constant"]

FIXED_POINT_STEPS = 64
"""Iterations of an implicit half step at most; each gains a factor of the order of the step."""


def momentum(metric: Metric, z: Point, noise: Float[Array, " d"]) -> Vector:
    r"""A draw of $p \sim N(0, g(z))$ from white `noise`, differentiable in the metric.

    **Arguments:** `metric`; `z`, `(d,)`; `noise`, standard normal, `(d,)`.

    **Returns:** a covector, `(d,)`. **Cost:** one Cholesky factor, of g or of g⁻¹.

    **Example:**

    >>> momentum(lambda z: 4 * jnp.eye(1), jnp.zeros(1), jnp.ones(1)).item()
    2.0
    """
    if isinstance(metric, KernelMetric):
        factor = cholesky(metric.cometric(z))
        return jax.scipy.linalg.solve_triangular(factor.T, noise, lower=False)
    return jnp.dot(cholesky(metric(z)), noise, precision=HIGHEST)


def kinetic_energy(metric: Metric, z: Point, p: Vector) -> Scalar:
    r"""$\tfrac12 p^\top g(z)^{-1} p + \tfrac12 \log\det g(z) + \tfrac d2 \log 2\pi$, which is
    $-\log N(p; 0, g(z))$.

    **Arguments:** `metric`; `z`, `(d,)`; `p`, a momentum, `(d,)`.

    **Returns:** a number; NaN where the metric is not positive definite. **Cost:** one Cholesky.

    **Example:**

    >>> round(kinetic_energy(lambda z: jnp.eye(1), jnp.zeros(1), jnp.ones(1)).item(), 6)
    1.418939
    """
    constant = z.size * LOG_2PI / 2
    if isinstance(metric, KernelMetric):
        inverse = metric.cometric(z)
        return (quadratic_form(inverse, p, p) - logdet_spd(inverse)) / 2 + constant
    factor = cholesky(metric(z))
    whitened = solve_lower(factor, p)
    return jnp.sum(whitened**2) / 2 + jnp.sum(jnp.log(jnp.diagonal(factor))) + constant


def hamiltonian(
    potential_energy: Callable[[Point], Scalar], metric: Metric, z: Point, p: Vector
) -> Scalar:
    r"""$H(z, p) = U(z) + \tfrac12 p^\top g(z)^{-1} p + \tfrac12\log\big((2\pi)^d \det g(z)\big)$.

    With $U = -\log p(x, z)$, the negative logarithm of the joint density of x, z and a momentum
    $p \sim N(0, g(z))$.

    **Arguments:** `potential_energy`, U, point to number; `metric`; `z`, `(d,)`; `p`, `(d,)`.

    **Returns:** a number.

    **Example:**

    >>> H = lambda p: hamiltonian(jnp.sum, lambda z: jnp.eye(2), jnp.zeros(2), p)
    >>> round(H(jnp.array([3.0, 4.0])).item(), 4)
    14.3379

    **Reference:** Girolami & Calderhead (2011), eq. 13.
    """
    return potential_energy(z) + kinetic_energy(metric, z, p)


FIXED_POINT_ERROR = 1e-4
"""Greatest `fixed_point_error` of a flow that is one: beyond it, it neither keeps volume nor can
be reversed."""


class Flow(NamedTuple):
    """Where Hamilton's flow has led.

    - `position`, `momentum`: `(d,)` both.
    - `fixed_point_error`: the greatest change, relative to the size of the point, that one more
      iteration of any implicit half step would have made. Of the order of rounding, or the step
      was too long for a fixed point to exist, and this is not the flow.
    """

    position: Point
    momentum: Vector
    fixed_point_error: Scalar


def leapfrog(
    potential_energy: Callable[[Point], Scalar],
    metric: Metric,
    z: Point,
    p: Vector,
    *,
    step_size: float | Array,
    n_steps: int = 1,
    scales: Float[Array, " n_steps"] | None = None,
) -> Flow:
    r"""`n_steps` of the generalised leapfrog: of order 2, reversible, of unit Jacobian.

    $$ p_{1/2} = p - \tfrac\epsilon2\,\partial_z H(z, p_{1/2}), \quad
       z' = z + \tfrac\epsilon2\big(g(z)^{-1} + g(z')^{-1}\big)\,p_{1/2}, \quad
       p' = p_{1/2} - \tfrac\epsilon2\,\partial_z H(z', p_{1/2}) $$

    The first two are implicit: each is solved to rounding by fixed-point iteration, with the
    metric's part of ∂H alone, since U does not depend on p. With a constant metric they are
    explicit, and this is the ordinary leapfrog.

    **Arguments:**

    - `potential_energy`: U, point to number.
    - `metric`: any.
    - `z`, `p`: `(d,)` both, the start.
    - `step_size`: ε, in the units of the flow's time.
    - `n_steps`: how many, static.
    - `scales`: `(n_steps,)`, factors of the momentum after every step (tempering); their product
      to the power d is the Jacobian of the flow.

    **Returns:** `Flow`. Differentiable in everything, through the implicit steps by the implicit
    function theorem.

    **Fails:** where ε is too long for the fixed points to exist, `fixed_point_error` says so.

    **Cost:** `n_steps` + 1 gradients of U, and some ten of the metric a step.

    **Example:** a quarter of a turn of a harmonic oscillator.

    >>> U = lambda z: jnp.sum(z**2) / 2
    >>> start = jnp.array([1.0]), jnp.array([0.0])
    >>> end = leapfrog(U, lambda z: jnp.eye(1), *start, step_size=jnp.pi / 200, n_steps=100)
    >>> round(end.momentum.item(), 4)
    -1.0

    **Reference:** Girolami & Calderhead (2011), eqs. 16-18; Leimkuhler & Reich (2004), ch. 4.
    """
    h = jnp.asarray(step_size, z.dtype) / 2
    slope = jax.grad(potential_energy)
    steps = jnp.ones(n_steps, z.dtype) if scales is None else scales
    if steps.shape != (n_steps,):
        raise ValueError(f"`scales` must have shape ({n_steps},), got {steps.shape}.")

    def force(z: Point, p: Vector) -> Vector:
        return jax.grad(lambda y: kinetic_energy(metric, y, p))(z)

    def step(
        carry: tuple[Point, Vector, Vector, Scalar], scale: Scalar
    ) -> tuple[tuple[Point, Vector, Vector, Scalar], None]:
        z, p, du, error = carry
        half, kicked = _fixed_point(lambda q: p - h * (du + force(z, q)), p)
        along = velocity(metric, z, half)
        moved, drifted = _fixed_point(
            lambda y: z + h * (along + velocity(metric, y, half)), z + 2 * h * along
        )
        du = slope(moved)
        p = half - h * (du + force(moved, half))
        return (moved, scale * p, du, jnp.maximum(error, jnp.maximum(kicked, drifted))), None

    start = z, p, slope(z), jnp.zeros((), z.dtype)
    (z, p, _, error), _ = jax.lax.scan(step, start, steps)
    return Flow(z, p, error)


def velocity(metric: Metric, z: Point, p: Vector) -> Vector:
    """g(z)⁻¹ p, the tangent vector of a momentum."""
    if isinstance(metric, KernelMetric):
        return jnp.dot(metric.cometric(z), p, precision=HIGHEST)
    return solve_spd(metric(z), p)


def _fixed_point(f: Callable[[Array], Array], start: Array) -> tuple[Array, Scalar]:
    """y = f(y) by iteration, with its derivatives by the implicit function theorem, and the
    relative change that one more iteration would make."""
    tol = 16 * jnp.finfo(start.dtype).eps

    def change(y: Array, moved: Array) -> Array:
        return jnp.max(jnp.abs(moved - y)) / (1 + jnp.max(jnp.abs(y)))

    def solve(residual: Callable[[Array], Array], start: Array) -> Array:
        def more(state: tuple[Array, Array, Array]) -> Array:
            _, by, count = state
            return (by > tol) & (count < FIXED_POINT_STEPS)

        def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            y, _, count = state
            moved = y - residual(y)
            return moved, change(y, moved), count + 1

        begin = start, jnp.full((), jnp.inf, start.dtype), jnp.zeros((), jnp.int32)
        y, by, _ = jax.lax.while_loop(more, again, begin)
        # where there is none to be found, the explicit step, so that derivatives stay finite
        return jnp.where(by < FIXED_POINT_ERROR, y, start)

    def linear_solve(linear: Callable[[Array], Array], b: Array) -> Array:
        return jnp.linalg.solve(jax.jacobian(linear)(b), b)

    y = jax.lax.custom_root(lambda y: y - f(y), jax.lax.stop_gradient(start), solve, linear_solve)
    return y, jax.lax.stop_gradient(change(y, f(y)))


def inverse_temperatures(
    initial: float | Array, n_steps: int, kind: Tempering = "quadratic"
) -> Float[Array, " n"]:
    r"""The inverse temperatures $\beta_0, \dots, \beta_K$ of a tempered flow.

    $$ \frac1{\sqrt{\beta_k}} = \Big(1 - \frac1{\sqrt{\beta_0}}\Big)\frac{k^2}{K^2} +
       \frac1{\sqrt{\beta_0}} \quad\text{("quadratic")}, \qquad
       \beta_k = \beta_0 \quad\text{("constant")} $$

    The momentum starts $1/\sqrt{\beta_0}$ as large as its law says, and after step k is scaled
    by $\sqrt{\beta_{k-1}/\beta_k}$.

    **Arguments:** `initial`, β₀ in (0, 1]; `n_steps`, K; `kind`.

    **Returns:** `(K + 1,)`.

    **Example:**

    >>> [round(beta, 4) for beta in inverse_temperatures(0.3, 3).tolist()]
    [0.3, 0.3326, 0.4699, 1.0]

    **Reference:** Caterini, Doucet & Sejdinovic (2018), *Hamiltonian variational auto-encoder*,
    section 3.1.
    """
    if kind not in get_args(Tempering):
        raise ValueError(f"`kind` must be one of {get_args(Tempering)}, got {kind!r}.")
    first = 1 / jnp.sqrt(initial)
    if kind == "constant":
        return jnp.full(n_steps + 1, first**-2)
    k = jnp.arange(n_steps + 1, dtype=first.dtype) / n_steps
    return ((1 - first) * k**2 + first) ** -2
