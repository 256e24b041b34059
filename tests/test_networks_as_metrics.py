"""A flax network is a potential like any other: geodesics of it, the dual ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxgeo as jg
from jaxgeo.reconstruction import ConvexPotential, LearnedChart

A, B = jnp.array([0.2, -0.3]), jnp.array([0.9, 0.4])


def network(seed):
    points = jax.random.normal(jax.random.key(0), (50, 2))
    return ConvexPotential(points, scale=20.0, width=8, sharpness=1.0, rngs=nnx.Rngs(seed))


def metric_of(seed, charted):
    metric = jg.HessianMetric(network(seed))
    if not charted:
        return metric
    return jg.ReparametrizedMetric(
        metric, LearnedChart(jnp.array([[-1.0, 1.0], [-1.0, 1.0]]), rngs=nnx.Rngs(0))
    )


@pytest.mark.parametrize("charted", [False, True])
def test_geodesic_of_a_network(charted):
    metric = metric_of(0, charted)
    solution = jg.geodesic_bvp(metric, A, B)
    assert bool(solution.result == jg.RESULTS.successful)
    forward = jg.geodesic_ivp(metric, A, solution.velocities[0], ts=jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(forward.points[-1], B, atol=1e-5)
    assert forward.stats["speed_drift"] < 1e-6


def test_an_updated_network_does_not_retrace():
    metric = metric_of(2, charted=False)
    first = jg.geodesic_bvp(metric_of(1, charted=False), A, B).points
    with jax.no_tracing():
        second = jg.geodesic_bvp(metric, A, B).points
    assert not np.allclose(first, second)


def test_mixture_geodesic_of_a_network_is_straight_in_its_gradient():
    potential = network(3)
    points = jg.mixture_geodesic(potential, A, B, jnp.linspace(0, 1, 9))
    gradients = jax.vmap(jax.grad(lambda x: potential(x)))(points)
    np.testing.assert_allclose(np.diff(gradients, n=2, axis=0), 0, atol=1e-6)
