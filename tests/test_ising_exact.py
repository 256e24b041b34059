"""Exact Ising log-partitions against one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo.systems import ising

ROUNDING = 1e-12  # sums of 2¹⁶ terms of order one in float64
DIFFERENCES = 1e-4  # error of the central differences that make the Hessian, relative
POINTS = [(1.0, 0.3), (2.0, 0.01), (2.3, 0.0), (2.6, -0.2), (5.0, 2.0)]


value = jax.jit(ising.log_partition_per_site, static_argnums=(1, 2, 3))
gradient_of = jax.jit(jax.grad(ising.log_partition_per_site), static_argnums=(1, 2, 3))
hessian_of = jax.jit(jax.hessian(ising.log_partition_per_site), static_argnums=(1, 2, 3))
metric_of = jax.jit(ising.exact_metric, static_argnums=(1, 2, 3))
kaufman = jax.jit(ising.kaufman_log_partition_per_site, static_argnums=1)
kaufman_slope = jax.jit(jax.grad(ising.kaufman_log_partition_per_site), static_argnums=1)
kaufman_curvature = jax.jit(
    jax.grad(jax.grad(ising.kaufman_log_partition_per_site)), static_argnums=1
)


def natural(t):
    return ising.natural_coordinates(jnp.array(t))


@pytest.mark.parametrize("t", POINTS)
def test_renormalisation_is_exact_where_nothing_is_cut(t):
    exact = value(natural(t), 4, "enumeration", 8)
    assert abs(value(natural(t), 4, "trg", 16) - exact) < ROUNDING


@pytest.mark.parametrize("t", POINTS)
def test_derivatives_are_those_of_enumeration_where_nothing_is_cut(t):
    exact_gradient = gradient_of(natural(t), 2, "enumeration", 8)
    exact_hessian = hessian_of(natural(t), 2, "enumeration", 8)
    gradient = gradient_of(natural(t), 2, "trg", 16)
    hessian = hessian_of(natural(t), 2, "trg", 16)
    np.testing.assert_allclose(gradient, exact_gradient, atol=1e-9)
    np.testing.assert_allclose(hessian, exact_hessian, rtol=DIFFERENCES, atol=DIFFERENCES)


# errors of χ = 8 measured on 64×64; the largest are at the critical temperature
@pytest.mark.parametrize(("temperature", "level", "slope", "curvature"), [
    (1.0, 1e-10, 1e-8, 1e-3),
    (1.8, 2e-6, 1e-4, 1e-3),
    (2.2692, 1e-4, 6e-3, 3e-2),
    (2.6, 6e-5, 1e-3, 5e-3),
    (5.0, 1e-6, 3e-5, 1e-3),
])  # fmt: skip
def test_renormalisation_against_kaufman_on_64x64(temperature, level, slope, curvature):
    beta = jnp.array(1 / temperature)
    eta = jnp.array([1 / temperature, 0.0])
    assert abs(value(eta, 64, "trg", 8) - kaufman(beta, 64)) < level
    gradient = gradient_of(eta, 64, "trg", 8)
    assert abs(gradient[0] - kaufman_slope(beta, 64)) < slope
    assert abs(gradient[1]) < 1e-9
    expected = kaufman_curvature(beta, 64) / temperature**4
    metric = metric_of(jnp.array([temperature, 0.0]), 64, "trg", 8) / 64**2
    np.testing.assert_allclose(metric[0, 0], expected, rtol=curvature)


def test_larger_bond_dimension_is_more_exact():
    eta = jnp.array([1 / 2.3, 0.0])
    exact = ising.kaufman_log_partition_per_site(eta[0], 16)
    errors = [abs(value(eta, 16, "trg", bond) - exact) for bond in (4, 6, 8)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("beta", [0.1, 0.4406868, 1.0])
def test_kaufman_is_enumeration_for_odd_and_even_sides(size, beta):
    exact = ising.brute_force_log_partition(jnp.array([beta, 0.0]), (size, size)) / size**2
    assert abs(kaufman(jnp.array(beta), size) - exact) < ROUNDING


def test_kaufman_derivatives_are_the_fluctuations_of_the_energy():
    eta = jnp.array([0.45, 0.0])
    exact = jax.hessian(ising.brute_force_log_partition)(eta)[0, 0] / 16
    assert abs(kaufman_curvature(eta[0], 4) - exact) < 1e-10


def test_large_lattices_tend_to_onsager():
    for temperature in (1.2, 2.0, 3.0, 5.0):
        beta = jnp.array(1 / temperature)
        finite = ising.kaufman_log_partition_per_site(beta, 1024)
        two_phases = np.log(2) / 1024**2 if temperature < ising.CRITICAL_TEMPERATURE else 0
        bulk = ising.onsager_log_partition_per_site(beta)
        assert abs(finite - two_phases - bulk) < ROUNDING


def test_onsager_at_the_critical_temperature():
    # log Z / site = ½ log 2 + 2 G/π with Catalan's constant G
    beta = jnp.array(1 / ising.CRITICAL_TEMPERATURE)
    exact = np.log(2) / 2 + 2 * 0.9159655941772190 / np.pi
    assert abs(ising.onsager_log_partition_per_site(beta) - exact) < ROUNDING


def test_onsager_energy_by_derivative():
    # U = −coth 2β [1 + (2/π)(2 tanh² 2β − 1) K(k)]; at T_c it is −√2
    energy = -jax.grad(ising.onsager_log_partition_per_site)(
        jnp.array(1 / ising.CRITICAL_TEMPERATURE + 1e-9)
    )
    assert abs(energy + np.sqrt(2)) < 1e-6


def test_specific_heat_peak_is_a_maximum_and_tends_to_the_critical_temperature():
    peaks = [ising.specific_heat_peak(size) for size in (16, 32, 64)]
    shifts = np.array(peaks) - ising.CRITICAL_TEMPERATURE
    assert np.all(shifts > 0)
    # the shift scales as 1/L
    np.testing.assert_allclose(shifts[:-1] / shifts[1:], 2, rtol=0.2)


def test_metric_in_temperature_and_field_is_the_covariance_of_the_score():
    t = jnp.array([2.5, 0.3])
    shape = (2, 2)
    eta = ising.natural_coordinates(t)
    exact = jax.hessian(ising.brute_force_log_partition)(eta, shape)
    jacobian = jax.jacfwd(ising.natural_coordinates)(t)
    expected = jacobian.T @ exact @ jacobian
    np.testing.assert_allclose(ising.exact_metric(t, 2, "enumeration"), expected, rtol=1e-10)
    np.testing.assert_allclose(metric_of(t, 2, "trg", 16), expected, rtol=DIFFERENCES)


def test_metric_is_that_of_the_samples():
    t = jnp.array([3.0, 0.2])
    spins = ising.sample(jax.random.key(0), jnp.tile(t[None], (4096, 1)), size=16)
    drawn = np.cov(np.asarray(ising.sufficient_statistics(spins)).T)
    jacobian = np.asarray(jax.jacfwd(ising.natural_coordinates)(t))
    # a variance from 4,096 samples is good to √(2/4096) = 2.2 %
    expected = jacobian.T @ drawn @ jacobian
    np.testing.assert_allclose(metric_of(t, 16, "trg", 8), expected, rtol=0.11)


@pytest.mark.parametrize("temperature", [1.0, 1.8, 2.4, 3.2])
@pytest.mark.parametrize("field", [0.05, 0.6, 2.0])
def test_metric_is_positive_definite_in_a_field(temperature, field):
    metric = metric_of(jnp.array([temperature, field]), 64, "trg", 8)
    assert np.all(np.linalg.eigvalsh(metric) > 0)


def test_flip_symmetry():
    for h in (0.001, 0.3):
        up = value(jnp.array([0.4, h]), 16, "trg", 8)
        down = value(jnp.array([0.4, -h]), 16, "trg", 8)
        assert abs(up - down) < 1e-10


def test_coordinates_are_inverse_and_free_energy_is_scaled():
    t = jnp.array([2.5, -0.7])
    np.testing.assert_allclose(ising.temperature_and_field(natural([2.5, -0.7])), t, rtol=1e-14)
    psi = value(natural([2.5, -0.7]), 8, "trg", 8)
    np.testing.assert_allclose(ising.free_energy_per_site(t, 8), -2.5 * psi, rtol=ROUNDING)


def test_float32_stays_float32():
    eta = jnp.array([0.3, 0.1], jnp.float32)
    single, gradient = value(eta, 16, "trg", 8), gradient_of(eta, 16, "trg", 8)
    assert single.dtype == gradient.dtype == jnp.float32
    exact = value(eta.astype(jnp.float64), 16, "trg", 8)
    assert abs(single - exact) < 1e-4


def test_bad_arguments_are_refused_with_their_value():
    eta = jnp.array([0.4, 0.0])
    with pytest.raises(ValueError, match="power of 2, got 12"):
        ising.log_partition_per_site(eta, 12)
    with pytest.raises(ValueError, match="'series'"):
        ising.log_partition_per_site(eta, 4, "series")
    with pytest.raises(ValueError, match="got 1"):
        ising.log_partition_per_site(eta, 4, bond_dimension=1)
    with pytest.raises(ValueError, match=r"\(5, 5\)"):
        ising.brute_force_log_partition(eta, (5, 5))
    with pytest.raises(ValueError, match="got 1"):
        ising.kaufman_log_partition_per_site(eta[0], 1)
    with pytest.raises(NotImplementedError, match="not three"):
        jax.jacfwd(jax.hessian(ising.log_partition_per_site))(eta, 4)
