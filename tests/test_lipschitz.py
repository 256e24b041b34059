"""Lipschitz constants against dense singular values, and their growth against known powers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter

from jaxgeo._results import RESULTS
from jaxgeo.phases import growth_exponent, lipschitz_constant

AGREE = 1e-10


class Network(eqx.Module):
    """Two layers of sines and hyperbolic tangents."""

    first: jax.Array
    second: jax.Array

    def __call__(self, z):
        return jnp.tanh(self.second @ jnp.sin(self.first @ z))


def network(d, m, seed=0, dtype=float):
    r = np.random.default_rng(seed)
    first, second = r.normal(size=(m + 3, d)), r.normal(size=(m, m + 3)) / m**0.5
    return Network(jnp.asarray(first, dtype), jnp.asarray(second, dtype))


def dense(f, z):
    return jnp.linalg.svd(jax.jacfwd(f)(z), full_matrices=False)


@pytest.mark.parametrize(("d", "m"), [(1, 4), (2, 9), (9, 3), (40, 40), (90, 60)])
def test_dense_singular_values(d, m):
    f, z = network(d, m), jnp.asarray(np.random.default_rng(1).normal(size=d))
    found = lipschitz_constant(f, z)
    _, values, rows = dense(f, z)
    np.testing.assert_allclose(found.value, values[0], rtol=AGREE)
    np.testing.assert_allclose(abs(found.direction @ rows[0]), 1, rtol=AGREE)
    assert found.iterations <= min(d, m)
    assert found.result == RESULTS.successful


def test_equal_singular_values_and_none():
    rotation = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0])
    found = lipschitz_constant(lambda z: 3 * rotation @ z, jnp.ones(6))
    np.testing.assert_allclose(found.value, 3, rtol=AGREE)
    np.testing.assert_allclose(jnp.linalg.norm(found.direction), 1)
    still = lipschitz_constant(lambda z: 0 * rotation @ z, jnp.ones(6))
    assert still.value == 0
    assert still.result == RESULTS.successful


def test_a_crowd_of_large_singular_values_takes_no_more_steps_than_there_are():
    # the small ones are found first, and come back again and again unless kept out
    values = np.sqrt(1 - 0.9 * 0.75 ** np.arange(40))
    left, right = (
        np.linalg.qr(np.random.default_rng(seed).normal(size=(40, 40)))[0] for seed in (0, 1)
    )
    matrix = jnp.asarray((left * values) @ right.T)
    found = lipschitz_constant(lambda z: matrix @ z, jnp.ones(40))
    np.testing.assert_allclose(found.value, values[-1], rtol=AGREE)
    assert 30 < found.iterations <= 40


def test_vmap_jit_and_traces():
    f = network(5, 7)
    points = jnp.asarray(np.random.default_rng(2).normal(size=(6, 5)))
    one = lambda z: lipschitz_constant(f, z, throw=False).value  # noqa: E731
    values = jax.jit(jax.vmap(one))(points)
    np.testing.assert_allclose(values, [dense(f, z)[1][0] for z in points], rtol=AGREE)
    counter = TraceCounter(f)
    lipschitz_constant(counter, points[0])
    traced = counter.count
    lipschitz_constant(counter, points[1])
    assert counter.count == traced


def test_derivatives_in_the_point_and_in_parameters():
    f, z = network(5, 7), jnp.linspace(-1, 1, 5)

    def ours(f, z):
        return lipschitz_constant(f, z).value

    def theirs(f, z):
        return dense(f, z)[1][0]

    for mine, other in zip(
        jax.tree.leaves(jax.grad(ours, (0, 1))(f, z)),
        jax.tree.leaves(jax.grad(theirs, (0, 1))(f, z)),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, atol=1e-9)
    forward = jax.jvp(lambda z: ours(f, z), (z,), (jnp.ones(5),))[1]
    np.testing.assert_allclose(forward, jnp.sum(jax.grad(theirs, 1)(f, z)), atol=1e-9)


def test_float32_stays():
    f, z = network(40, 40, dtype=jnp.float32), jnp.ones(40, jnp.float32)
    found = lipschitz_constant(f, z)
    assert found.value.dtype == found.direction.dtype == jnp.float32
    np.testing.assert_allclose(found.value, dense(f, z)[1][0], rtol=1e-5)


def test_failures_by_their_code():
    f, z = network(40, 40), jnp.ones(40)
    few = lipschitz_constant(f, z, max_iterations=4, throw=False)
    assert few.result == RESULTS.not_converged
    value = dense(f, z)[1][0]
    assert 0.5 * value < few.value < (1 - 1e-9) * value
    with pytest.raises(eqx.EquinoxRuntimeError):
        lipschitz_constant(f, z, max_iterations=4)
    broken = lipschitz_constant(jnp.sqrt, -jnp.ones(3), throw=False)
    assert broken.result == RESULTS.nonfinite
    with pytest.raises(ValueError, match="a vector of dtype float64"):
        lipschitz_constant(jnp.sum, z)
    with pytest.raises(ValueError, match="got 0 and None"):
        lipschitz_constant(f, z, max_iterations=0)


POINT, ASIDE = jnp.array([0.5, -0.2]), jnp.array([3.0, 0.0])


class Profile(eqx.Module):
    """a |x|ᵖ + b x + c tanh(x/ε) in the distance x from the line z₀ = ½."""

    weights: jax.Array
    power: jax.Array
    width: jax.Array

    def __call__(self, z):
        x = z[0] - 0.5
        shapes = jnp.stack([jnp.abs(x) ** self.power, x, jnp.tanh(x / self.width)])
        return jnp.stack([self.weights @ shapes, 1e-3 * z[1]])


def growth(weights, distances, power=1.0, width=1.0):
    profile = Profile(jnp.array(weights), jnp.array(power), jnp.array(width))
    return growth_exponent(profile, POINT, ASIDE, distances)


@pytest.mark.parametrize("power", [0.3, 0.75, 1.0, -0.5])
def test_powers(power):
    found = growth([1.0, 0.0, 0.0], jnp.logspace(-5, -1, 9), power)
    # x is 0.5 + r less 0.5, so r to 1e-11
    np.testing.assert_allclose(found.exponent, 1 - power, atol=1e-9)
    np.testing.assert_allclose(found.slopes, 1 - power, atol=1e-9)
    assert found.error < 1e-9


def test_a_mixture_of_powers_is_within_its_error():
    found = growth([1.0, 2.0, 0.0], jnp.logspace(-5, -1, 9), 0.5)
    assert 1e-3 < abs(found.exponent - 0.5) < 2 * found.error


def test_a_smoothed_jump_saturates():
    width = 1e-3
    inside = growth([0.0, 0.0, 1.0], jnp.logspace(-7, -5, 9), width=width)
    np.testing.assert_allclose(inside.constants, 1 / width, rtol=1e-3)
    assert abs(inside.exponent) < 1e-4
    across = growth([0.0, 0.0, 1.0], jnp.logspace(-6, -2.5, 9), width=width)
    assert across.error > 0.2  # no power law
    assert abs(across.slopes[-1]) > 1 > 1e-3 > abs(across.slopes[0])


def test_growth_that_cannot_be_measured():
    distances = jnp.logspace(-3, -1, 5)
    flat = growth_exponent(jnp.round, jnp.zeros(1), jnp.ones(1), distances, throw=False)
    assert flat.result == RESULTS.nonfinite
    assert np.isnan(flat.exponent)
    with pytest.raises(eqx.EquinoxRuntimeError):
        growth_exponent(jnp.round, jnp.zeros(1), jnp.ones(1), distances)
    with pytest.raises(ValueError, match="four or more positive"):
        growth([1.0, 0.0, 0.0], distances - 1e-3)
    with pytest.raises(ValueError, match="must differ"):
        growth([1.0, 0.0, 0.0], jnp.ones(5))
    with pytest.raises(ValueError, match="must not be zero"):
        growth_exponent(jnp.abs, POINT, jnp.zeros(2), distances)
