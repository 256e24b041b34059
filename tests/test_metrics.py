"""Shipped metrics against closed forms."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import wavy

from jaxgeo import problems
from jaxgeo.geometry import sectional_curvature
from jaxgeo.metrics import (
    ConformalMetric,
    HessianMetric,
    ProductMetric,
    PullbackMetric,
    RegularizedMetric,
    ReparametrizedMetric,
    SumMetric,
)

EXACT = 1e-12
THETA = jnp.array([0.3, -1.0, 2.0])


def test_hessian_metric_is_the_categorical_metric_and_symmetric_to_the_last_bit():
    g = HessianMetric(problems.log_sum_exp)(THETA)
    np.testing.assert_allclose(g, problems.categorical_metric(THETA), atol=EXACT)
    assert jnp.all(g == g.T)


def test_hessian_metric_of_a_network_carries_its_parameters():
    class Quadratic(nnx.Module):
        def __init__(self) -> None:
            self.scale = nnx.Param(jnp.array(2.0))

        def __call__(self, z):
            return self.scale[...] * jnp.dot(z, z)

    metric = HessianMetric(Quadratic())
    np.testing.assert_allclose(metric(THETA), 4 * np.eye(3), atol=EXACT)
    trace = jax.grad(lambda m: jnp.trace(m(THETA)))(metric)
    np.testing.assert_allclose(jax.tree.leaves(trace), [6.0])


@pytest.mark.parametrize("ambient", [None, problems.euclidean_metric])
def test_pullback_of_the_embedding_is_the_sphere(ambient):
    z = jnp.array([0.7, 2.0])
    g = PullbackMetric(problems.sphere_embedding, ambient)(z)
    np.testing.assert_allclose(g, problems.sphere_metric(z), atol=EXACT)


def test_reparametrized_metric_is_the_same_metric_in_other_coordinates():
    # Poisson rates in the coordinates 2√z are Euclidean
    flat = ReparametrizedMetric(problems.poisson_metric, lambda w: (w / 2) ** 2)
    np.testing.assert_allclose(flat(jnp.array([0.5, 3.0])), np.eye(2), atol=EXACT)


def test_a_chart_of_more_coordinates_makes_a_subfamily():
    g = ReparametrizedMetric(wavy(3), lambda t: jnp.append(t, jnp.sum(t**2)))(
        jnp.array([0.1, 1.0])
    )
    assert g.shape == (2, 2)
    assert jnp.all(jnp.linalg.eigvalsh(g) > 0)


def test_regularized_metric_adds_eps_and_keeps_the_dtype():
    z = jnp.array([1.0, 2.0], jnp.float32)
    metric = RegularizedMetric(problems.poisson_metric, 0.25)
    np.testing.assert_allclose(metric(z), np.diag([1.25, 0.75]))
    assert metric(z).dtype == jnp.float32


@pytest.mark.parametrize("eps", [np.ones(2), 1])
def test_regularized_metric_refuses_what_is_not_one_float(eps):
    with pytest.raises(ValueError, match=r"`eps` must be one floating-point number, got"):
        RegularizedMetric(problems.poisson_metric, eps)


def test_conformal_sum_and_product_metrics():
    z = jnp.array([0.3, 2.0])
    half_plane = ConformalMetric(problems.euclidean_metric, lambda x: -jnp.log(x[1]))
    np.testing.assert_allclose(half_plane(z), problems.half_plane_metric(z), rtol=EXACT)
    both = SumMetric([half_plane, problems.euclidean_metric])(z)
    np.testing.assert_allclose(both, 1.25 * np.eye(2), rtol=EXACT)
    product = ProductMetric([problems.poisson_metric, half_plane], (1, 2))
    np.testing.assert_allclose(product(jnp.array([4.0, *z])), np.eye(3) / 4, rtol=EXACT)
    # the sectional curvature of a plane that mixes the factors is zero
    e = jnp.eye(3)
    mixed = sectional_curvature(product, jnp.array([4.0, *z]), e[0], e[1])
    np.testing.assert_allclose(mixed, 0, atol=EXACT)
    own = sectional_curvature(product, jnp.array([4.0, *z]), e[1], e[2])
    np.testing.assert_allclose(own, -1, rtol=1e-10)


def test_combinators_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="at least one metric, got none"):
        SumMetric([])
    with pytest.raises(ValueError, match=r"for each of the 1 metrics, got \(1, 2\)"):
        ProductMetric([problems.poisson_metric], (1, 2))
    with pytest.raises(ValueError, match="do not add up to the 3 coordinates"):
        ProductMetric([problems.poisson_metric], (2,))(THETA)
