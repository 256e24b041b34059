"""The connection: identities, closed forms, and one formula against another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import wavy

from jaxgeo import problems
from jaxgeo.geometry import (
    alpha_christoffel,
    christoffel,
    christoffel_first,
    covariant_derivative,
    geodesic_acceleration,
)
from jaxgeo.metrics import HessianMetric, PullbackMetric, RegularizedMetric, ReparametrizedMetric

EXACT = 1e-11
Z = jnp.array([0.4, -0.7, 0.2])
V = jnp.array([1.0, 0.5, -2.0])


def embedding(z):
    """A curved immersion of the plane of three dimensions in five."""
    return jnp.concatenate([jnp.sin(z) + z, jnp.stack([z[0] * z[1], jnp.exp(z[2])])])


def chart(z):
    """A curved change of three coordinates."""
    return z + 0.2 * jnp.sin(jnp.roll(z, 1))


METRICS = {
    "generic": wavy(3),
    "hessian": HessianMetric(problems.log_sum_exp),
    "pullback": PullbackMetric(embedding),
    "pullback_ambient": PullbackMetric(embedding, wavy(5)),
    "reparametrized": ReparametrizedMetric(HessianMetric(problems.log_sum_exp), chart),
    "subfamily": ReparametrizedMetric(wavy(5), embedding),
    "regularized": RegularizedMetric(wavy(3), 0.1),
}


def test_half_plane_in_closed_form():
    y = 2.0
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 1] = expected[0, 1, 0] = expected[1, 1, 1] = -1 / y
    expected[1, 0, 0] = 1 / y
    z = jnp.array([0.3, y])
    np.testing.assert_allclose(christoffel(problems.half_plane_metric, z), expected, atol=EXACT)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_acceleration_is_minus_christoffel_of_the_velocity(metric):
    def both(z, v):
        by_symbols = -jnp.einsum("kij,i,j->k", christoffel(metric, z), v, v)
        return geodesic_acceleration(metric, z, v), by_symbols

    acceleration, expected = jax.jit(both)(Z, V)
    np.testing.assert_allclose(acceleration, expected, atol=EXACT)


def test_hessian_christoffel_is_half_the_third_derivative():
    third = jax.jacfwd(jax.hessian(problems.log_sum_exp))(Z)
    first = christoffel_first(HessianMetric(problems.log_sum_exp), Z)
    np.testing.assert_allclose(first, third / 2, atol=EXACT)


@jax.jit
def connection(metric, z):
    """Γ, g and ∂g."""
    return christoffel(metric, z), metric(z), jax.jacfwd(metric)(z)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(0, 3))
def test_metric_is_parallel_and_the_connection_free_of_torsion(z, seed):
    metric, z = wavy(3, seed), jnp.array(z)
    gamma, g, dg = connection(metric, z)
    np.testing.assert_allclose(gamma, jnp.swapaxes(gamma, 1, 2), atol=EXACT)
    moved = jnp.einsum("lki,lj->ijk", gamma, g) + jnp.einsum("lkj,il->ijk", gamma, g)
    np.testing.assert_allclose(dg - moved, np.zeros((3, 3, 3)), atol=EXACT)


def test_vmap_is_a_loop_and_jit_is_eager():
    metric = METRICS["generic"]
    zs = jnp.stack([Z, -Z])
    batched = jax.jit(jax.vmap(lambda z: geodesic_acceleration(metric, z, V)))(zs)
    looped = jnp.stack([geodesic_acceleration(metric, z, V) for z in zs])
    np.testing.assert_allclose(batched, looped, atol=EXACT)


@pytest.mark.parametrize("key", ["hessian", "pullback"])
def test_float32_stays_float32(key):
    z = jax.ShapeDtypeStruct((3,), jnp.float32)
    a = jax.eval_shape(lambda z, v: geodesic_acceleration(METRICS[key], z, v), z, z)
    assert a.dtype == jnp.float32


def test_an_indefinite_metric_gives_nan_and_not_a_number():
    def indefinite(z):
        return jnp.diag(jnp.array([1.0, 1.0, -1.0])) * z[0]

    assert jnp.all(jnp.isnan(geodesic_acceleration(indefinite, Z, V)))
    assert jnp.all(jnp.isnan(jax.jit(lambda z: christoffel(indefinite, z))(Z)))


def test_alpha_connections_are_dual_in_pairs():
    # ∂ₖgᵢⱼ = Γ⁽ᵅ⁾ₖᵢⱼ + Γ⁽⁻ᵅ⁾ₖⱼᵢ, and the mean of both is Levi-Civita's
    theta, alpha = jnp.array([0.3, -0.7]), 0.6
    metric = HessianMetric(problems.log_sum_exp)
    one = alpha_christoffel(problems.log_sum_exp, theta, alpha)
    other = alpha_christoffel(problems.log_sum_exp, theta, -alpha)
    np.testing.assert_allclose((one + other) / 2, christoffel(metric, theta), atol=1e-14)
    lowered = jnp.einsum("lk,kij->lij", metric(theta), one + jnp.swapaxes(other, 1, 2))
    np.testing.assert_allclose(lowered, jax.jacfwd(metric)(theta), atol=1e-14)


def test_christoffels_of_a_hessian_metric_are_those_of_its_matrix():
    theta, metric = jnp.array([0.3, -0.7]), HessianMetric(problems.log_sum_exp)
    np.testing.assert_allclose(
        christoffel(metric, theta), christoffel(lambda z: metric(z), theta), atol=1e-13
    )


def test_the_covariant_derivative_is_metric():
    metric, z = wavy(3), jnp.array([0.2, -0.4, 0.7])

    def u(x):
        return jnp.stack([jnp.sin(x[1]), x[0] * x[2], 1 + x[1] ** 2])

    def v(x):
        return jnp.stack([x[2], jnp.cos(x[0]), x[0] + x[1]])

    slope = jax.grad(lambda x: u(x) @ metric(x) @ v(x))(z)
    du, dv = covariant_derivative(metric, u, z), covariant_derivative(metric, v, z)
    g = metric(z)
    expected = jnp.einsum("ki,kl,l->i", du, g, v(z)) + jnp.einsum("ki,kl,l->i", dv, g, u(z))
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
