r"""The dually flat geometry of a potential: two affine coordinates, divergence, two geodesics.

θ are the natural parameters, in which ψ is given and exponential geodesics are straight; η = ∇ψ(θ)
the expectation parameters, in which mixture geodesics are straight. (method.md and many papers
write η for θ and μ for η.)
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import HIGHEST, instantiate, partial_jvp, solve_spd
from jaxgeo._results import RESULTS
from jaxgeo._typing import Point, Potential, Scalar, as_array, as_point, number_at
from jaxgeo.metrics import HessianMetric

MAX_ITERATIONS = 100
"""Of Newton's method, steps that were cut included."""


def expectation_parameters(potential: Potential, theta: ArrayLike) -> Point:
    r"""The expectation parameters of natural ones, $\eta = \nabla\psi(\theta)$.

    **Arguments:** `potential`, ψ; `theta`, natural parameters `(d,)`.

    **Returns:** η, `(d,)`: the mean of the sufficient statistics. **Cost:** one gradient.

    **Example:**

    >>> from jaxgeo.problems import log_sum_exp
    >>> round(expectation_parameters(log_sum_exp, jnp.zeros(3))[0].item(), 4)
    0.25

    **Reference:** Amari & Nagaoka (2000), eq. 3.32.
    """
    return _slope(potential)(as_point(theta, "theta"))


def bregman_divergence(potential: Potential, theta: ArrayLike, theta_ref: ArrayLike) -> Scalar:
    r"""$D(\theta, \theta') = \psi(\theta) - \psi(\theta') - \langle\nabla\psi(\theta'), \theta - \theta'\rangle$.

    For an exponential family, KL(p(·|θ') ‖ p(·|θ)): mind the order. For neighbours it is half the
    squared length of their difference.

    **Arguments:** `potential`, ψ; `theta`, `theta_ref` (θ'), natural parameters `(d,)`.

    **Returns:** a number ≥ 0 where ψ is convex; its relative error grows as θ nears θ'.

    **Cost:** one evaluation and one gradient of ψ.

    **Example:**

    >>> from jaxgeo.problems import log_sum_exp
    >>> d = bregman_divergence(log_sum_exp, jnp.array([1.0]), jnp.array([0.0]))
    >>> round(d.item(), 4)
    0.1201

    **Reference:** Amari & Nagaoka (2000), eq. 3.44.
    """  # noqa: E501
    theta = as_point(theta, "theta")
    theta_ref = as_point(theta_ref, "theta_ref", theta)
    value, slope = jax.value_and_grad(functools.partial(number_at, potential))(theta_ref)
    return potential(theta) - value - jnp.dot(slope, theta - theta_ref, precision=HIGHEST)


def natural_parameters(
    potential: Potential,
    eta: ArrayLike,
    *,
    start: ArrayLike | None = None,
    throw: bool = True,
) -> Point:
    r"""The natural parameters of expectation ones: θ with $\nabla\psi(\theta) = \eta$.

    $$ \theta = \arg\min_\theta \; \psi(\theta) - \langle\eta, \theta\rangle $$

    by Newton's method with Armijo's line search, which converges from anywhere in the domain of
    a smooth, strictly convex ψ.

    **Arguments:**

    - `potential`: ψ.
    - `eta`: expectation parameters `(d,)`, in the range of ∇ψ.
    - `start`: where to start, `(d,)`; zeros if not given. Must be in the domain of ψ.
    - `throw`: raise on failure; otherwise a failure gives NaN.

    **Returns:** θ, `(d,)`. Differentiable in `eta` and ψ by the implicit function theorem.

    **Fails:** `not_converged` (`eta` is outside the range of ∇ψ), `line_search_failed`,
    `metric_not_positive_definite` (ψ is not strictly convex at `start`).

    **Cost:** one Hessian, gradient and value of ψ per iteration, typically 5 to 10.

    **Example:**

    >>> from jaxgeo.problems import log_sum_exp
    >>> round(natural_parameters(log_sum_exp, jnp.array([0.8]))[0].item(), 4)
    1.3863

    **Reference:** Boyd & Vandenberghe (2004), *Convex Optimization*, section 9.5.
    """
    eta = as_point(eta, "eta")
    theta = jnp.zeros_like(eta) if start is None else as_point(start, "start", eta)
    theta, result = _invert(potential, eta, theta)
    if throw:
        theta = result.error_if(theta, result != RESULTS.successful)
    return theta


def conjugate_potential(
    potential: Potential,
    eta: ArrayLike,
    *,
    start: ArrayLike | None = None,
    throw: bool = True,
) -> Scalar:
    r"""The Legendre transform of a potential, $\psi^*(\eta) = \max_\theta \langle\eta, \theta\rangle - \psi(\theta)$.

    For an exponential family the negative entropy relative to the base measure. Its gradient is
    the inverse of ∇ψ, its Hessian the inverse of the metric.

    **Arguments:** as `natural_parameters`.

    **Returns:** a number. Differentiable; its gradient is θ, without a derivative of the search.

    **Fails, cost:** as `natural_parameters`.

    **Example:** minus the entropy of a fair coin.

    >>> from jaxgeo.problems import log_sum_exp
    >>> round(conjugate_potential(log_sum_exp, jnp.array([0.5])).item(), 4)
    -0.6931

    **Reference:** Amari & Nagaoka (2000), eq. 3.36.
    """  # noqa: E501
    eta = as_point(eta, "eta")
    theta = natural_parameters(potential, eta, start=start, throw=throw)
    return jnp.dot(eta, theta, precision=HIGHEST) - potential(theta)


def symmetrized_divergence(potential: Potential, a: ArrayLike, b: ArrayLike) -> Scalar:
    r"""$D(a, b) + D(b, a) = \langle b - a,\ \nabla\psi(b) - \nabla\psi(a)\rangle$.

    For an exponential family Jeffreys' divergence. For neighbours it is their squared distance, to
    second order and from gradients only.

    **Arguments:** `potential`, ψ; `a`, `b`, natural parameters `(d,)`.

    **Returns:** a number ≥ 0 where ψ is convex. **Cost:** two gradients of ψ.

    **Example:**

    >>> from jaxgeo.problems import log_sum_exp
    >>> d = symmetrized_divergence(log_sum_exp, jnp.array([1.0]), jnp.array([0.0]))
    >>> round(d.item(), 4)
    0.2311

    **Reference:** Amari & Nagaoka (2000), section 3.4.
    """
    a = as_point(a, "a")
    b = as_point(b, "b", a)
    slope = _slope(potential)
    return jnp.dot(b - a, slope(b) - slope(a), precision=HIGHEST)


def exponential_geodesic(a: ArrayLike, b: ArrayLike, ts: ArrayLike) -> Float[Array, "n d"]:
    r"""The exponential geodesic, straight in natural parameters: $(1 - t)\,a + t\,b$.

    **Arguments:** `a`, `b`, natural parameters `(d,)`; `ts`, `(n,)` times, 0 at `a` and 1 at `b`.

    **Returns:** natural parameters `(n, d)`.

    **Example:**

    >>> exponential_geodesic(jnp.zeros(1), jnp.ones(1), jnp.array([0.25])).item()
    0.25
    """
    a = as_point(a, "a")
    b = as_point(b, "b", a)
    return _straight(a, b, _as_times(ts, a))


def mixture_geodesic(
    potential: Potential, a: ArrayLike, b: ArrayLike, ts: ArrayLike, *, throw: bool = True
) -> Float[Array, "n d"]:
    r"""The mixture geodesic, straight in expectation parameters.

    $$ \nabla\psi(\theta(t)) = (1 - t)\,\nabla\psi(a) + t\,\nabla\psi(b) $$

    Neither this nor the exponential geodesic is the Levi-Civita one of `geodesic_bvp`; that one is
    the shortest. Minimising an energy whose metric is not differentiated gives this one.

    **Arguments:** `potential`, ψ; `a`, `b`, natural parameters `(d,)`; `ts`, `(n,)` times, 0 at
    `a` and 1 at `b`; `throw`: raise on failure, otherwise NaN from the first failure on.

    **Returns:** natural parameters `(n, d)`. Differentiable, by the implicit function theorem.

    **Fails:** as `natural_parameters`; each time starts from the solution at the one before.

    **Cost:** n times that of `natural_parameters`, in one compiled scan.

    **Example:**

    >>> from jaxgeo.problems import log_sum_exp
    >>> a, b = jnp.array([0.0]), jnp.array([1.3862944])
    >>> round(mixture_geodesic(log_sum_exp, a, b, jnp.array([0.5])).item(), 4)
    0.619

    **Reference:** Amari & Nagaoka (2000), section 3.3.
    """
    a = as_point(a, "a")
    b = as_point(b, "b", a)
    times = _as_times(ts, a)
    slope = _slope(potential)
    etas = _straight(slope(a), slope(b), times)

    def advance(theta: Array, eta: Array) -> tuple[Array, tuple[Array, Any]]:
        theta, result = _invert(potential, eta, theta)
        return theta, (theta, result)

    _, (thetas, results) = jax.lax.scan(advance, a, etas)
    if throw:
        worst = jnp.argmax(results != RESULTS.successful)
        failure = jax.tree.map(lambda code: code[worst], results)
        thetas = failure.error_if(thetas, failure != RESULTS.successful)
    return thetas


def _slope(potential: Potential) -> Any:
    """∇ψ."""
    return jax.grad(functools.partial(number_at, potential))


def _as_times(ts: ArrayLike, like: Array) -> Array:
    times = as_array(ts, "ts")
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"`ts` must have shape (n,), got {times.shape}.")
    if jnp.iscomplexobj(times):
        raise ValueError(f"`ts` must be real, got dtype {times.dtype}.")
    return jnp.asarray(times, like.dtype)


def _straight(a: Array, b: Array, ts: Array) -> Array:
    t = ts[:, None]
    return (1 - t) * a[None, :] + t * b[None, :]


class _State(NamedTuple):
    theta: Float[Array, " d"]
    value: Scalar
    step: Float[Array, " d"]  # Newton's, from theta
    decrement: Scalar  # −slope·step ≥ 0
    size: Scalar
    iterations: Int[Array, ""]
    result: Any
    running: Bool[Array, ""]


def _invert(potential: Potential, eta: Array, start: Array) -> tuple[Array, Any]:
    """θ with ∇ψ(θ) = η, NaN where none was found, and how the search ended."""
    slope = eqx.filter_closure_convert(_slope(potential), start)
    dynamic, static = eqx.partition(potential, eqx.is_inexact_array)
    frozen = eqx.combine(jax.lax.stop_gradient(dynamic), static)
    theta, result = _minimise(frozen, jax.lax.stop_gradient(eta), jax.lax.stop_gradient(start))
    theta = jnp.where(result == RESULTS.successful, theta, jnp.nan)
    return _implicit(theta, slope, eta), result


@eqx.filter_custom_jvp
def _implicit(theta: Float[Array, " d"], slope: Any, eta: Float[Array, " d"]) -> Array:
    """`theta` unchanged, with its derivatives by the implicit function theorem."""
    return theta


@_implicit.def_jvp
def _implicit_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    theta, slope, eta = primals
    _, d_slope, d_eta = tangents
    theta = _implicit(theta, slope, eta)  # so that higher derivatives see θ move too
    drift = partial_jvp(lambda function: function(theta), slope, d_slope)
    d_eta = instantiate(d_eta, eta)
    hessian = jax.jacfwd(slope)(theta)
    return theta, solve_spd((hessian + hessian.T) / 2, d_eta - drift)


def _minimise(potential: Potential, eta: Array, start: Array) -> tuple[Array, Any]:
    eps = jnp.finfo(start.dtype).eps

    def body(state: _State) -> _State:
        theta = state.theta + state.size * state.step
        value, slope = jax.value_and_grad(potential)(theta)
        excess = slope - eta
        newton = -solve_spd(HessianMetric(potential)(theta), excess)
        value = value - jnp.dot(eta, theta, precision=HIGHEST)
        decrement = -jnp.dot(excess, newton, precision=HIGHEST)
        healthy = jnp.all(jnp.isfinite(newton)) & jnp.isfinite(value)
        # below this the value only rounds, and Newton's step is to be trusted without it
        noise = 16 * eps * (jnp.abs(value) + jnp.abs(jnp.dot(eta, theta, precision=HIGHEST)))
        accept = healthy & (value <= state.value - 1e-4 * state.size * state.decrement + noise)
        # the step is relative to θ, so the test is met whatever the scale of ψ
        reach = jnp.max(jnp.abs(newton)) <= jnp.sqrt(eps) * (1 + jnp.max(jnp.abs(theta)))
        converged = accept & reach
        size = jnp.where(accept, jnp.ones_like(state.size), state.size / 2)
        first = state.iterations == 0
        failed = ~accept & (first | (size < 2.0**-40))
        why = RESULTS.where(
            first, RESULTS.metric_not_positive_definite, RESULTS.line_search_failed
        )
        return _State(
            # Newton's last step squares the error that is left
            theta=jnp.where(accept, jnp.where(converged, theta + newton, theta), state.theta),
            value=jnp.where(accept, value, state.value),
            step=jnp.where(accept, newton, state.step),
            decrement=jnp.where(accept, decrement, state.decrement),
            size=size,
            iterations=state.iterations + 1,
            result=RESULTS.where(
                converged, RESULTS.successful, RESULTS.where(failed, why, RESULTS.not_converged)
            ),
            running=~(converged | failed | (state.iterations + 1 >= MAX_ITERATIONS)),
        )

    zero = jnp.zeros((), start.dtype)
    state = _State(
        theta=start,
        value=jnp.full((), jnp.inf, start.dtype),
        step=jnp.zeros_like(start),
        decrement=zero,
        size=jnp.ones((), start.dtype),
        iterations=jnp.zeros((), jnp.int32),
        result=RESULTS.not_converged,
        running=jnp.ones((), bool),
    )
    end = jax.lax.while_loop(lambda state: state.running, body, state)
    return end.theta, end.result
