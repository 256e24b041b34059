r"""Curvature, with the sign that makes spheres positive.

$R(\partial_k, \partial_l)\,\partial_j = R^i{}_{jkl}\,\partial_i$.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, quadratic_form, solve_spd
from jaxgeo._typing import Metric, Point, Scalar, as_point, matrix_at
from jaxgeo.geometry.connection import christoffel, third_derivative
from jaxgeo.metrics import HessianMetric


def riemann(metric: Metric, z: ArrayLike) -> Float[Array, "d d d d"]:
    r"""The Riemann curvature tensor, $R^i{}_{jkl}$.

    $$ R^i{}_{jkl} = \partial_k\Gamma^i{}_{lj} - \partial_l\Gamma^i{}_{kj}
       + \Gamma^i{}_{km}\Gamma^m{}_{lj} - \Gamma^i{}_{lm}\Gamma^m{}_{kj} $$

    For a `HessianMetric` the fourth derivatives of ψ cancel, and third ones are enough:

    $$ R_{ijkl} = \tfrac14\,g^{mn}\,(\psi_{ilm}\psi_{jkn} - \psi_{ikm}\psi_{jln}) $$

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** array indexed `[i, j, k, l]`, antisymmetric in `k, l`; NaN where the metric is not
    positive definite.

    **Cost:** one `jacfwd` of `christoffel`, or a third derivative of ψ; O(d⁴) memory.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> round(riemann(half_plane_metric, jnp.array([0.0, 2.0]))[0, 1, 0, 1].item(), 6)
    -0.25

    **Reference:** Lee (2018), *Introduction to Riemannian Manifolds*, prop. 7.4; for Hessian
    metrics Shima (2007), *The Geometry of Hessian Structures*, prop. 2.3.
    """
    z = as_point(z, "z")
    if isinstance(metric, HessianMetric):
        return _hessian_riemann(metric, z)
    gamma = christoffel(metric, z)
    derivative = jax.jacfwd(christoffel, argnums=1)(metric, z)  # [i, l, j, k] = ∂ₖΓⁱₗⱼ
    product = jnp.einsum("ikm,mlj->ijkl", gamma, gamma, precision=HIGHEST)
    half = jnp.transpose(derivative, (0, 2, 3, 1)) + product
    return half - jnp.swapaxes(half, 2, 3)


def _hessian_riemann(metric: HessianMetric, z: Point) -> Float[Array, "d d d d"]:
    d = z.size
    third = third_derivative(metric.potential, z)
    raised = solve_spd(metric(z), third.reshape(d, d * d)).reshape(d, d, d)  # [i, j, k] = ψⁱⱼₖ
    product = jnp.einsum("ilm,mjk->ijkl", raised, raised, precision=HIGHEST)
    return (product - jnp.swapaxes(product, 2, 3)) / 4


def ricci(metric: Metric, z: ArrayLike) -> Float[Array, "d d"]:
    r"""The Ricci tensor, $R_{jl} = R^i{}_{jil}$.

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** array `[j, l]`, symmetric; (d − 1)K g at constant curvature K.

    **Cost:** that of `riemann`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> round(ricci(half_plane_metric, jnp.array([0.0, 2.0]))[1, 1].item(), 6)
    -0.25
    """
    return jnp.trace(riemann(metric, z), axis1=0, axis2=2)


def scalar_curvature(metric: Metric, z: ArrayLike) -> Scalar:
    r"""The scalar curvature, $g^{jl}R_{jl}$: twice the Gaussian curvature of a surface.

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** a number; d(d − 1)K at constant curvature K.

    **Cost:** that of `riemann`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> round(scalar_curvature(half_plane_metric, jnp.array([0.0, 2.0])).item(), 6)
    -2.0
    """
    z = as_point(z, "z")
    return jnp.trace(solve_spd(matrix_at(metric, z), ricci(metric, z)))


def sectional_curvature(metric: Metric, z: ArrayLike, u: ArrayLike, v: ArrayLike) -> Scalar:
    r"""The Gaussian curvature of the geodesic surface spanned by u and v.

    $$ K = \frac{g(R(u,v)v,\,u)}{g(u,u)\,g(v,v) - g(u,v)^2} $$

    **Arguments:** `metric`; `z`, a point `(d,)`; `u`, `v`, tangent vectors `(d,)`.

    **Returns:** a number; NaN where u and v are parallel.

    **Cost:** that of `riemann`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> e = jnp.eye(2)
    >>> round(sectional_curvature(half_plane_metric, jnp.array([0.0, 2.0]), e[0], e[1]).item(), 6)
    -1.0
    """
    z = as_point(z, "z")
    u, v = as_point(u, "u", z), as_point(v, "v", z)
    g = matrix_at(metric, z)
    turned = jnp.einsum("ijkl,j,k,l->i", riemann(metric, z), v, u, v, precision=HIGHEST)
    area = quadratic_form(g, u, u) * quadratic_form(g, v, v) - quadratic_form(g, u, v) ** 2
    return quadratic_form(g, u, turned) / area
