"""Curvature: constant on every problem, and the symmetries of Riemann's tensor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import name, wavy

from jaxgeo import problems
from jaxgeo.geometry import (
    inner,
    log_volume_density,
    norm,
    ricci,
    riemann,
    scalar_curvature,
    sectional_curvature,
    volume_density,
)
from jaxgeo.metrics import HessianMetric

EXACT = 1e-9  # second derivatives of metrics of size up to 10


@pytest.mark.parametrize("problem", problems.PROBLEMS, ids=name)
def test_every_problem_has_its_constant_curvature(problem):
    z, g = jnp.asarray(problem.pairs[0, 0]), problem.metric(jnp.asarray(problem.pairs[0, 0]))
    expected = problem.curvature * (
        jnp.einsum("ik,jl->ijkl", g, g) - jnp.einsum("il,jk->ijkl", g, g)
    )
    tensor = jax.jit(lambda z: riemann(problem.metric, z))(z)
    lowered = jnp.einsum("im,mjkl->ijkl", g, tensor)
    np.testing.assert_allclose(lowered, expected, atol=EXACT)


def test_contractions_on_the_sphere():
    z, e = jnp.array([0.7, 0.3]), jnp.eye(2)
    metric = problems.sphere_metric

    @jax.jit
    def contract(z):
        section = sectional_curvature(metric, z, e[0], e[0] + 2 * e[1])
        return ricci(metric, z), scalar_curvature(metric, z), section

    contracted, scalar, sectional = contract(z)
    np.testing.assert_allclose(contracted, metric(z), atol=EXACT)
    np.testing.assert_allclose(scalar, 2, atol=EXACT)
    np.testing.assert_allclose(sectional, 1, atol=EXACT)


def test_symmetries_and_bianchi_identity():
    metric, z = wavy(3), jnp.array([0.4, -0.7, 0.2])
    tensor = jnp.einsum("im,mjkl->ijkl", metric(z), jax.jit(riemann)(metric, z))
    zero = np.zeros((3,) * 4)
    np.testing.assert_allclose(tensor + jnp.transpose(tensor, (0, 1, 3, 2)), zero, atol=EXACT)
    np.testing.assert_allclose(tensor + jnp.transpose(tensor, (1, 0, 2, 3)), zero, atol=EXACT)
    np.testing.assert_allclose(tensor - jnp.transpose(tensor, (2, 3, 0, 1)), zero, atol=EXACT)
    cyclic = tensor + jnp.transpose(tensor, (0, 2, 3, 1)) + jnp.transpose(tensor, (0, 3, 1, 2))
    np.testing.assert_allclose(cyclic, zero, atol=EXACT)


def test_products_norms_and_volumes():
    z, u = jnp.array([0.0, 2.0]), jnp.array([3.0, 4.0])
    metric = problems.half_plane_metric
    np.testing.assert_allclose(inner(metric, z, u, jnp.array([1.0, 0])), 0.75)
    np.testing.assert_allclose(norm(metric, z, u), 2.5)
    np.testing.assert_allclose(volume_density(metric, z), 0.25)
    np.testing.assert_allclose(log_volume_density(metric, z), np.log(0.25))


def test_norm_has_a_derivative_at_zero():
    slope = jax.grad(lambda v: norm(problems.half_plane_metric, jnp.array([0.0, 1.0]), v))
    np.testing.assert_array_equal(slope(jnp.zeros(2)), np.zeros(2))


def test_curvature_of_a_hessian_metric_needs_third_derivatives_only():
    def potential(z):
        return jnp.sum(jnp.exp(z)) + jnp.sum(z**2) + jnp.sin(z[0] * z[1]) / 4 + z[2] ** 4

    z, metric = jnp.array([0.3, -0.5, 0.8]), HessianMetric(potential)
    np.testing.assert_allclose(riemann(metric, z), riemann(lambda x: metric(x), z), atol=1e-11)
