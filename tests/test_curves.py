"""Length, energy, and the parametrisation of constant speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo.geometry import energy, length, resample
from jaxgeo.problems import euclidean_metric, half_plane_metric

SEMICIRCLE = np.pi / 2  # Euclidean length of a quarter of the unit circle


def quarter(n, power=1.0):
    """n points of a quarter circle about the origin, unevenly spaced for power ≠ 1."""
    angle = SEMICIRCLE * jnp.linspace(0, 1, n) ** power
    return jnp.stack([jnp.cos(angle), 0.2 + jnp.sin(angle)], axis=1)


def test_length_converges_at_second_order():
    # about the circle y = 0.2 + sin, ∫dϑ/(0.2 + sin ϑ) by a fine rule
    measure = jax.jit(lambda n: length(half_plane_metric, quarter(n)), static_argnums=0)
    errors = jnp.array([measure(n) - measure(20_001) for n in (51, 101, 201)])
    orders = jnp.log2(jnp.abs(errors[:-1] / errors[1:]))
    np.testing.assert_allclose(orders, 2, atol=0.1)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_length_squared_is_at_most_twice_the_energy(power):
    points = quarter(101, power)
    squared, double = length(euclidean_metric, points) ** 2, 2 * energy(euclidean_metric, points)
    assert squared <= double * (1 + 1e-14)
    if power == 1:
        np.testing.assert_allclose(squared, double, rtol=1e-12)
    else:
        assert squared < 0.9 * double


def test_energy_carries_one_half():
    points = jnp.linspace(0, 3, 7)[:, None]
    np.testing.assert_allclose(energy(euclidean_metric, points), 4.5)


def test_resampled_points_keep_ends_and_shape_and_have_constant_speed():
    points = quarter(401, 2.0)
    new = resample(half_plane_metric, points, 101)
    np.testing.assert_array_equal(new[jnp.array([0, -1])], points[jnp.array([0, -1])])
    chords = jnp.stack([new[:-1], new[1:]], axis=1)
    steps = jax.jit(jax.vmap(lambda chord: length(half_plane_metric, chord)))(chords)
    np.testing.assert_allclose(steps, jnp.mean(steps), rtol=1e-3)
    total = length(half_plane_metric, points)
    np.testing.assert_allclose(length(half_plane_metric, new), total, rtol=1e-3)


def test_a_curve_that_stays_where_it_is():
    points = jnp.ones((5, 2))
    np.testing.assert_array_equal(resample(half_plane_metric, points, 3), np.ones((3, 2)))
    slope = jax.grad(lambda p: length(half_plane_metric, p))(points)
    assert jnp.all(jnp.isfinite(slope))


def test_float32_stays_float32():
    points = quarter(11).astype(jnp.float32)
    assert length(half_plane_metric, points).dtype == jnp.float32
    assert resample(half_plane_metric, points, 5).dtype == jnp.float32


def test_bad_arguments_are_quoted():
    with pytest.raises(ValueError, match=r"\(n, d\) with n ≥ 2, got \(3,\)"):
        length(euclidean_metric, np.ones(3))
    with pytest.raises(ValueError, match=r"\(n, d\) with n ≥ 2, got \(1, 2\)"):
        energy(euclidean_metric, np.ones((1, 2)))
    with pytest.raises(ValueError, match="floats, got dtype int"):
        energy(euclidean_metric, np.ones((4, 2), int))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        resample(euclidean_metric, np.ones((4, 2)), 1)
