"""The Levi-Civita connection: Christoffel symbols, and the acceleration that needs none."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, quadratic_form, solve_spd
from jaxgeo._typing import Metric, Point, Vector
from jaxgeo.metrics import HessianMetric, PullbackMetric, ReparametrizedMetric


def christoffel_first(metric: Metric, z: Point) -> Float[Array, "d d d"]:
    r"""Christoffel symbols of the first kind, $\Gamma_{kij}$.

    $$ \Gamma_{kij} = \tfrac12(\partial_i g_{jk} + \partial_j g_{ik} - \partial_k g_{ij}) $$

    For a Hessian metric they are ½∂ₖ∂ᵢ∂ⱼψ. For geodesics use `geodesic_acceleration`.

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** array indexed `[k, i, j]`, symmetric in `i, j`.

    **Cost:** one `jacfwd` of `metric`; O(d³) memory.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> christoffel_first(half_plane_metric, jnp.array([0.0, 2.0]))[1, 0, 0].item()
    0.125

    **Reference:** do Carmo (1992), *Riemannian Geometry*, ch. 2, eq. 10.
    """
    dg = jax.jacfwd(metric)(z)  # [i, j, k] = ∂ₖgᵢⱼ
    di, dk = jnp.swapaxes(dg, 1, 2), jnp.transpose(dg, (2, 0, 1))  # ∂ᵢgₖⱼ and ∂ₖgᵢⱼ at [k, i, j]
    return (di + dg - dk) / 2


def christoffel(metric: Metric, z: Point) -> Float[Array, "d d d"]:
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
    d = z.size
    first = christoffel_first(metric, z).reshape(d, d * d)
    return solve_spd(metric(z), first).reshape(d, d, d)


def geodesic_acceleration(metric: Metric, z: Point, v: Vector) -> Vector:
    r"""The acceleration of the geodesic through z with velocity v, $-\Gamma^k{}_{ij}v^iv^j$.

    $$ g\,a = \tfrac12\,\partial(v^\top g\,v) - (\partial_v g)\,v $$

    The primary form of the connection: everything about geodesics needs only this. Shipped
    metrics have cheaper formulas, chosen by type: −½ g⁻¹∇³ψ[v, v, ·] for `HessianMetric`, a
    Gauss–Newton solve for `PullbackMetric` and `ReparametrizedMetric`.

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
    return _acceleration(metric, z, v)


@functools.singledispatch
def _acceleration(metric: Metric, z: Point, v: Vector) -> Vector:
    g, dg_v = jax.jvp(metric, (z,), (v,))
    gradient = jax.grad(lambda y: quadratic_form(metric(y), v, v))(z)
    return solve_spd(g, gradient / 2 - jnp.dot(dg_v, v, precision=HIGHEST))


@_acceleration.register
def _hessian(metric: HessianMetric, z: Point, v: Vector) -> Vector:
    def second_derivative(y: Point) -> Float[Array, ""]:
        def first_derivative(x: Point) -> Float[Array, ""]:
            return jax.jvp(metric.potential, (x,), (v,))[1]

        return jax.jvp(first_derivative, (y,), (v,))[1]

    return -solve_spd(metric(z), jax.grad(second_derivative)(z)) / 2


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
