"""Dual coordinates, divergence and the two flat geodesics of a potential."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo.geometry import (
    bregman_divergence,
    conjugate_potential,
    expectation_parameters,
    exponential_geodesic,
    inner,
    mixture_geodesic,
    natural_parameters,
    symmetrized_divergence,
)
from jaxgeo.metrics import HessianMetric
from jaxgeo.problems import categorical_probabilities, log_sum_exp

EXACT = 1e-12
A, B = jnp.array([0.3, -1.0, 2.0]), jnp.array([-4.0, 1.0, 0.5])


def gamma_potential(theta):
    """ψ(θ) = log Γ(θ₀ + 1) − (θ₀ + 1) log(−θ₁), defined for θ₀ > −1 and θ₁ < 0 only."""
    shape = theta[0] + 1
    return jax.scipy.special.gammaln(shape) - shape * jnp.log(-theta[1])


@pytest.mark.parametrize("theta", [A, B, 8 * A], ids=str)
def test_parameters_go_there_and_back(theta):
    eta = expectation_parameters(log_sum_exp, theta)
    np.testing.assert_allclose(eta, categorical_probabilities(theta)[:-1], rtol=EXACT)
    np.testing.assert_allclose(natural_parameters(log_sum_exp, eta), theta, atol=1e-8)


def test_a_potential_with_a_boundary_needs_a_start():
    theta = jnp.array([4.0, -0.3])
    eta = expectation_parameters(gamma_potential, theta)
    found = natural_parameters(gamma_potential, eta, start=jnp.array([0.0, -1.0]))
    np.testing.assert_allclose(found, theta, rtol=1e-9)
    nowhere = natural_parameters(gamma_potential, eta, throw=False)
    assert jnp.all(jnp.isnan(nowhere))


def test_expectations_out_of_range_are_an_error_or_nan():
    impossible = jnp.array([0.7, 0.7])
    assert jnp.all(jnp.isnan(natural_parameters(log_sum_exp, impossible, throw=False)))
    with pytest.raises(Exception, match=r"used up its iterations|not positive definite|lowered"):
        natural_parameters(log_sum_exp, impossible)


def test_divergence_is_kl_in_this_order_and_half_the_squared_length_nearby():
    p, q = categorical_probabilities(A), categorical_probabilities(B)
    divergence = bregman_divergence(log_sum_exp, A, B)
    np.testing.assert_allclose(divergence, jnp.sum(q * jnp.log(q / p)), rtol=EXACT)
    step = 1e-3 * jnp.ones(3)
    squared = inner(HessianMetric(log_sum_exp), A, step, step)
    np.testing.assert_allclose(
        bregman_divergence(log_sum_exp, A + step, A), squared / 2, rtol=1e-2
    )


def test_geodesics_are_straight_in_their_own_coordinates():
    ts = jnp.linspace(0, 1, 11)
    mixture = mixture_geodesic(log_sum_exp, A, B, ts)
    eta = jax.vmap(lambda theta: expectation_parameters(log_sum_exp, theta))(mixture)
    np.testing.assert_allclose(jnp.diff(eta, 2, axis=0), np.zeros((9, 3)), atol=1e-10)
    np.testing.assert_allclose(mixture[jnp.array([0, -1])], jnp.stack([A, B]), atol=1e-8)
    exponential = exponential_geodesic(A, B, ts)
    np.testing.assert_allclose(jnp.diff(exponential, 2, axis=0), np.zeros((9, 3)), atol=EXACT)
    # of the two and the straight line of the other's coordinates, no two are the same curve
    assert jnp.max(jnp.abs(mixture - exponential)) > 0.1


def test_derivatives_follow_the_implicit_function_theorem():
    eta, h, e = jnp.array([0.2, 0.5]), 1e-6, jnp.array([0.6, -0.8])

    def scaled(scale, eta):
        return natural_parameters(lambda theta: scale * log_sum_exp(theta), eta)

    d_scale, d_eta = jax.jacrev(scaled, argnums=(0, 1))(2.0, eta)
    along_scale = (scaled(2 + h, eta) - scaled(2 - h, eta)) / (2 * h)
    along_eta = (scaled(2.0, eta + h * e) - scaled(2.0, eta - h * e)) / (2 * h)
    np.testing.assert_allclose(d_scale, along_scale, rtol=1e-6)
    np.testing.assert_allclose(d_eta @ e, along_eta, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(scaled, argnums=1)(2.0, eta), d_eta, rtol=1e-9)
    # g(θ) g*(η) = I
    g = 2 * jax.hessian(log_sum_exp)(scaled(2.0, eta))
    np.testing.assert_allclose(g @ d_eta, np.eye(2), atol=1e-9)


def test_vmap_is_a_loop_and_float32_stays_float32():
    etas = jnp.array([[0.2, 0.5], [0.1, 0.1]], jnp.float32)
    batched = jax.jit(jax.vmap(lambda eta: natural_parameters(log_sum_exp, eta)))(etas)
    assert batched.dtype == jnp.float32
    exact = [jnp.log(eta) - jnp.log(1 - jnp.sum(eta)) for eta in etas]
    np.testing.assert_allclose(batched, exact, atol=1e-5)


def test_bad_arguments_are_quoted():
    with pytest.raises(ValueError, match=r"`eta` must have shape \(d,\), got \(1, 2\)"):
        natural_parameters(log_sum_exp, np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"`b` must have shape \(2,\).* got shape \(3,\)"):
        mixture_geodesic(log_sum_exp, np.ones(2), np.ones(3), np.ones(1))
    with pytest.raises(ValueError, match=r"`ts` must have shape \(n,\), got \(\)"):
        exponential_geodesic(np.ones(2), np.ones(2), 0.5)


def test_the_conjugate_potential_inverts_the_slope_and_the_metric():
    theta = jnp.array([0.4, -0.9])
    eta = expectation_parameters(log_sum_exp, theta)
    p = categorical_probabilities(theta)
    value = conjugate_potential(log_sum_exp, eta)
    np.testing.assert_allclose(value, jnp.sum(p * jnp.log(p)), rtol=1e-10)
    slope = jax.grad(lambda e: conjugate_potential(log_sum_exp, e))(eta)
    np.testing.assert_allclose(slope, theta, rtol=1e-8)
    inverse = jax.hessian(lambda e: conjugate_potential(log_sum_exp, e))(eta)
    np.testing.assert_allclose(inverse @ HessianMetric(log_sum_exp)(theta), np.eye(2), atol=1e-8)


def test_the_symmetrized_divergence_is_the_sum_of_both():
    a, b = jnp.array([0.4, -0.9]), jnp.array([1.0, 0.2])
    both = bregman_divergence(log_sum_exp, a, b)
    both += bregman_divergence(log_sum_exp, b, a)
    np.testing.assert_allclose(symmetrized_divergence(log_sum_exp, a, b), both, rtol=1e-10)
