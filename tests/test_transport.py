"""Parallel transport, Jacobi fields and conjugate points: closed forms, identities, failures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import wavy

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import (
    GeodesicSolution,
    conjugate_time,
    exp,
    geodesic_ivp,
    jacobi_field,
    parallel_transport,
)
from jaxgeo.geometry import norm

EXACT = 1e-9
Z, V = jnp.array([0.2, 1.0]), jnp.array([0.8, -0.3])
EQUATOR = jnp.array([np.pi / 2, 0.0])


@functools.cache
def sphere(speed: float) -> GeodesicSolution:
    return geodesic_ivp(problems.sphere_metric, EQUATOR, jnp.array([0.0, speed]))


@functools.cache
def tangled() -> GeodesicSolution:
    return geodesic_ivp(wavy(2), Z, V)


def test_transport_keeps_products_and_the_tangent():
    metric, solution = wavy(2), tangled()
    carry = jax.jit(functools.partial(parallel_transport, metric, solution))
    u, w = carry(jnp.array([1.0, 0.5])), carry(jnp.array([-0.2, 2.0]))
    g = jax.vmap(metric)(solution.points)
    products = jnp.einsum("nij,ni,nj->n", g, u, w)
    np.testing.assert_allclose(products, jnp.full(products.size, products[0]), rtol=EXACT)
    np.testing.assert_allclose(carry(V), solution.velocities, rtol=1e-8)


def test_transport_along_a_circle_of_latitude_leg_by_leg():
    # round a triangle of three right angles a vector comes back turned by its area, π/2
    quarter = np.pi / 2
    legs = [
        ([quarter, 0.0], [0.0, quarter]),
        ([quarter, quarter], [-quarter + 0.1, 0.0]),
    ]
    w = jnp.array([1.0, 0.0])
    for z, v in legs:
        solution = geodesic_ivp(problems.sphere_metric, jnp.array(z), jnp.array(v))
        w = parallel_transport(problems.sphere_metric, solution, w)[-1]
    # still pointing along its meridian: southwards
    np.testing.assert_allclose(w, [1, 0], atol=EXACT)
    east = parallel_transport(problems.sphere_metric, solution, jnp.array([0.0, 1.0]))[-1]
    np.testing.assert_allclose(east[1] * np.sin(0.1), 1, rtol=1e-8)


def test_jacobi_fields_of_constant_curvature():
    field = jacobi_field(problems.sphere_metric, sphere(2.0), jnp.zeros(2), jnp.array([1.0, 0]))
    t = 2 * sphere(2.0).ts
    np.testing.assert_allclose(field.values[:, 0], np.sin(t) / 2, atol=EXACT)
    np.testing.assert_allclose(field.derivatives[:, 0], np.cos(t), atol=EXACT)
    start = jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0])
    vertical = geodesic_ivp(problems.half_plane_metric, *start)
    field = jacobi_field(problems.half_plane_metric, vertical, jnp.array([1.0, 0.0]), jnp.zeros(2))
    sizes = jax.vmap(functools.partial(norm, problems.half_plane_metric))(
        vertical.points, field.values
    )
    np.testing.assert_allclose(sizes, np.cosh(vertical.ts), rtol=EXACT)


def test_a_jacobi_field_is_the_derivative_of_the_exponential():
    metric, e, h = wavy(2), jnp.array([0.3, 0.7]), 1e-5
    field = jacobi_field(metric, tangled(), jnp.zeros(2), e)
    end = jax.jit(lambda v: exp(metric, Z, v))
    difference = (end(V + h * e) - end(V - h * e)) / (2 * h)
    np.testing.assert_allclose(field.values[-1], difference, rtol=1e-7)


def test_conjugate_points_of_spheres():
    time = conjugate_time(problems.sphere_metric, sphere(4.0))
    np.testing.assert_allclose(time, np.pi / 4, rtol=EXACT)
    assert conjugate_time(problems.sphere_metric, sphere(2.0)) == jnp.inf

    def three_sphere(z):  # stereographic: conjugate points of multiplicity two
        return 4 * jnp.eye(3) / (1 + jnp.dot(z, z)) ** 2

    start = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 4.0, 0.0])
    solution = geodesic_ivp(three_sphere, *start)
    np.testing.assert_allclose(conjugate_time(three_sphere, solution), np.pi / 4, rtol=1e-8)


def test_none_where_the_curvature_is_negative():
    start = jnp.array([0.0, 1.0]), jnp.array([2.0, 2.0])
    solution = geodesic_ivp(problems.half_plane_metric, *start)
    assert conjugate_time(problems.half_plane_metric, solution) == jnp.inf


def test_a_curve_that_is_no_geodesic_is_refused():
    line = jnp.linspace(jnp.array([0.0, 1.0]), jnp.array([3.0, 1.0]), 65)
    false = GeodesicSolution(
        jnp.linspace(0, 1, 65), line, jnp.gradient(line, 1 / 64, axis=0), RESULTS.successful, {}
    )
    metric = problems.half_plane_metric
    with pytest.raises(Exception, match="speed along the computed geodesic is not constant"):
        parallel_transport(metric, false, V)
    assert jnp.all(jnp.isnan(parallel_transport(metric, false, V, throw=False)))
    assert jnp.isnan(conjugate_time(metric, false, throw=False))


def test_bad_arguments_are_quoted():
    one = geodesic_ivp(problems.half_plane_metric, Z, V, ts=np.ones(1))
    with pytest.raises(ValueError, match="must have at least 2 points, got 1"):
        parallel_transport(problems.half_plane_metric, one, V)
    with pytest.raises(ValueError, match=r"`v` must have shape \(2,\)"):
        parallel_transport(problems.half_plane_metric, tangled(), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"`dj0` must have shape \(2,\)"):
        jacobi_field(problems.half_plane_metric, tangled(), V, jnp.zeros(3))


def test_float32_stays_float32():
    start = jnp.array([0.0, 1.0], jnp.float32), jnp.array([0.0, 1.0], jnp.float32)
    solution = geodesic_ivp(problems.half_plane_metric, *start)
    carried = parallel_transport(problems.half_plane_metric, solution, start[1])
    assert carried.dtype == jnp.float32
    np.testing.assert_allclose(carried[-1], [0, np.e], rtol=1e-5)
