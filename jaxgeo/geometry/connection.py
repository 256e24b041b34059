"""The Levi-Civita connection: Christoffel symbols, and the acceleration that needs none."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, quadratic_form, solve_spd
from jaxgeo._typing import (
    Metric,
    Point,
    Potential,
    Vector,
    as_number,
    as_point,
    matrix_at,
    number_at,
)
from jaxgeo.metrics import HessianMetric, KernelMetric, PullbackMetric, ReparametrizedMetric


def christoffel_first(metric: Metric, z: ArrayLike) -> Float[Array, "d d d"]:
    r"""Christoffel symbols of the first kind, $\Gamma_{kij}$.

    $$ \Gamma_{kij} = \tfrac12(\partial_i g_{jk} + \partial_j g_{ik} - \partial_k g_{ij}) $$

    For a `HessianMetric` they are ½∂ₖ∂ᵢ∂ⱼψ, and are computed so. For geodesics use
    `geodesic_acceleration`.

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** array indexed `[k, i, j]`, symmetric in `i, j`.

    **Cost:** one `jacfwd` of `metric`; O(d³) memory.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> christoffel_first(half_plane_metric, jnp.array([0.0, 2.0]))[1, 0, 0].item()
    0.125

    **Reference:** do Carmo (1992), *Riemannian Geometry*, ch. 2, eq. 10.
    """
    z = as_point(z, "z")
    if isinstance(metric, HessianMetric):
        return third_derivative(metric.potential, z) / 2
    dg = jax.jacfwd(functools.partial(matrix_at, metric))(z)  # [i, j, k] = ∂ₖgᵢⱼ
    di, dk = jnp.swapaxes(dg, 1, 2), jnp.transpose(dg, (2, 0, 1))  # ∂ᵢgₖⱼ and ∂ₖgᵢⱼ at [k, i, j]
    return (di + dg - dk) / 2


def christoffel(metric: Metric, z: ArrayLike) -> Float[Array, "d d d"]:
    r"""Christoffel symbols of the second kind, $\Gamma^k{}_{ij}$.

    $$ \Gamma^k{}_{ij} = g^{kl}\,\Gamma_{lij} $$

    For inspection, curvature and parallel transport; for geodesics `geodesic_acceleration` needs
    neither the d³ tensor nor d derivatives.

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** array indexed `[k, i, j]`, symmetric in `i, j`; NaN where the metric is not
    positive definite.

    **Cost:** one `jacfwd` of `metric`, one Cholesky; O(d³) memory.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> christoffel(half_plane_metric, jnp.array([0.0, 2.0]))[1, 0, 0].item()
    0.5

    **Reference:** do Carmo (1992), ch. 2, eq. 10.
    """
    z = as_point(z, "z")
    d = z.size
    first = christoffel_first(metric, z).reshape(d, d * d)
    return solve_spd(matrix_at(metric, z), first).reshape(d, d, d)


def third_derivative(potential: Potential, z: Point) -> Float[Array, "d d d"]:
    """∂ᵢ∂ⱼ∂ₖψ, symmetric but for rounding."""
    return jax.jacfwd(jax.jacfwd(jax.grad(functools.partial(number_at, potential))))(z)


def alpha_christoffel(
    potential: Potential, theta: ArrayLike, alpha: ArrayLike
) -> Float[Array, "d d d"]:
    r"""Christoffel symbols of the α-connection of a potential, in natural coordinates.

    $$ \Gamma^{(\alpha)k}{}_{ij} = \tfrac{1 - \alpha}{2}\, g^{kl}\,\partial_l\partial_i\partial_j\psi $$

    α = 0 is Levi-Civita's; α = 1 (exponential) vanishes, and α = −1 (mixture) is flat as well, its
    affine coordinates being η = ∇ψ. The ±α connections are dual in the metric ∇²ψ.

    **Arguments:** `potential`, ψ; `theta`, natural parameters `(d,)`; `alpha`, one number.

    **Returns:** array indexed `[k, i, j]`, symmetric in `i, j`; NaN where ψ is not convex.

    **Cost:** one third derivative of ψ, one Cholesky; O(d³) memory.

    **Example:**

    >>> from jaxgeo.problems import log_sum_exp
    >>> round(alpha_christoffel(log_sum_exp, jnp.array([0.5]), -1.0).item(), 4)
    -0.2449

    **Reference:** Amari & Nagaoka (2000), eq. 2.36 and section 3.3.
    """  # noqa: E501
    theta = as_point(theta, "theta")
    d = theta.size
    first = (1 - as_number(alpha, "alpha", theta.dtype)) / 2 * third_derivative(potential, theta)
    raised = solve_spd(HessianMetric(potential)(theta), first.reshape(d, d * d))
    return raised.reshape(d, d, d)


def covariant_derivative(
    metric: Metric, field: Callable[[Point], Vector], z: ArrayLike
) -> Float[Array, "d d"]:
    r"""The covariant derivative of a vector field, $\nabla_i V^k$.

    $$ \nabla_i V^k = \partial_i V^k + \Gamma^k{}_{ij} V^j $$

    Along one direction `u` it is the product with `u`; for a vector carried along a curve there is
    `parallel_transport`.

    **Arguments:** `metric`; `field`, point `(d,)` to tangent vector `(d,)`; `z`, a point `(d,)`.

    **Returns:** array indexed `[k, i]`, the derivative last.

    **Cost:** one `jacfwd` of `field`, d derivatives of one acceleration; O(d²) memory.

    **Example:** a unit field that runs along the half-plane's horocycles turns.

    >>> from jaxgeo.problems import half_plane_metric
    >>> field = lambda z: jnp.array([z[1], 0.0])
    >>> covariant_derivative(half_plane_metric, field, jnp.array([0.0, 2.0]))[1, 0].item()
    1.0

    **Reference:** do Carmo (1992), ch. 2, prop. 2.2.
    """
    z = as_point(z, "z")
    value = as_point(field(z), "field", z)
    derivative = jax.jacfwd(field)(z)
    # the acceleration −Γ(v, v) is quadratic in v, so its derivative in v is −2Γ(v, ·)
    turn = jax.jacfwd(lambda v: geodesic_acceleration(metric, z, v))(value)
    return derivative - turn / 2


def geodesic_acceleration(metric: Metric, z: ArrayLike, v: ArrayLike) -> Vector:
    r"""The acceleration of the geodesic through z with velocity v, $-\Gamma^k{}_{ij}v^iv^j$.

    $$ g\,a = \tfrac12\,\partial(v^\top g\,v) - (\partial_v g)\,v $$

    The primary form of the connection: everything about geodesics needs only this. Shipped
    metrics have cheaper formulas, chosen by type: −½ g⁻¹∇³ψ[v, v, ·] for `HessianMetric`, a
    Gauss–Newton solve for `PullbackMetric` and `ReparametrizedMetric`, Hamilton's equations for
    `KernelMetric`.

    **Arguments:** `metric`; `z`, a point `(d,)`; `v`, a tangent vector `(d,)`.

    **Returns:** array `(d,)`; NaN where the metric is not positive definite.

    **Cost:** one jvp and one gradient of `metric`, one Cholesky: about 4 metric evaluations.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> z, v = jnp.array([0.0, 2.0]), jnp.array([1.0, 0.0])
    >>> geodesic_acceleration(half_plane_metric, z, v)[1].item()
    -0.5

    **Reference:** Arvanitidis, Hansen & Hauberg (2018), *Latent space oddity*, eq. 7, without its
    d³ tensor.
    """
    z = as_point(z, "z")
    return _acceleration(metric, z, as_point(v, "v", z))


@functools.singledispatch
def _acceleration(metric: Metric, z: Point, v: Vector) -> Vector:
    g, dg_v = jax.jvp(functools.partial(matrix_at, metric), (z,), (v,))
    gradient = jax.grad(lambda y: quadratic_form(metric(y), v, v))(z)
    return solve_spd(g, gradient / 2 - jnp.dot(dg_v, v, precision=HIGHEST))


@_acceleration.register
def _hessian(metric: HessianMetric, z: Point, v: Vector) -> Vector:
    def second_derivative(y: Point) -> Float[Array, ""]:
        def first_derivative(x: Point) -> Float[Array, ""]:
            return jax.jvp(metric.potential, (x,), (v,))[1]

        return jax.jvp(first_derivative, (y,), (v,))[1]

    return -solve_spd(metric(z), jax.grad(second_derivative)(z)) / 2


@_acceleration.register
def _kernel(metric: KernelMetric, z: Point, v: Vector) -> Vector:
    # Hamilton's equations of ½ pᵀg⁻¹p, which know g⁻¹ and need not invert it
    inverse, moved = jax.jvp(metric.cometric, (z,), (v,))
    p = solve_spd(inverse, v)
    force = -jax.grad(lambda y: quadratic_form(metric.cometric(y), p, p))(z) / 2
    turn = jnp.dot(moved, p, precision=HIGHEST)
    return turn + jnp.dot(inverse, force, precision=HIGHEST)


def _second_derivative(f, z: Point, v: Vector):
    """f(z), Jv and D²f[v, v]."""
    (value, jv), (_, second) = jax.jvp(lambda y: jax.jvp(f, (y,), (v,)), (z,), (v,))
    return value, jv, second


@_acceleration.register
def _pullback(metric: PullbackMetric, z: Point, v: Vector) -> Vector:
    value, jv, second = _second_derivative(metric.f, z, v)
    jacobian = jax.jacfwd(metric.f)(z)
    if metric.ambient is None:
        g = jnp.dot(jacobian.T, jacobian, precision=HIGHEST)
        return -solve_spd(g, jnp.dot(jacobian.T, second, precision=HIGHEST))
    return _project(jacobian, metric.ambient, value, jv, second)


@_acceleration.register
def _reparametrized(metric: ReparametrizedMetric, z: Point, v: Vector) -> Vector:
    value, jv, second = _second_derivative(metric.chart, z, v)
    jacobian = jax.jacfwd(metric.chart)(z)
    if value.size == z.size:  # a change of coordinates: the solve need not square J
        return jnp.linalg.solve(jacobian, _acceleration(metric.metric, value, jv) - second)
    return _project(jacobian, metric.metric, value, jv, second)


def _project(jacobian, ambient: Metric, value, jv, second) -> Vector:
    """The tangential part of the ambient covariant acceleration."""
    lowered = jnp.dot(ambient(value), jacobian, precision=HIGHEST)
    g = jnp.dot(jacobian.T, lowered, precision=HIGHEST)
    normal = _acceleration(ambient, value, jv) - second
    return solve_spd(g, jnp.dot(lowered.T, normal, precision=HIGHEST))
