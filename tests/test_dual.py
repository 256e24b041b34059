"""α-geodesics against the flat ones, the Levi-Civita one, and the equation they solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo import problems
from jaxgeo.geodesics import alpha_geodesic, geodesic_bvp
from jaxgeo.geometry import alpha_christoffel, exponential_geodesic, mixture_geodesic
from jaxgeo.metrics import HessianMetric

POTENTIAL = problems.log_sum_exp
A, B = jnp.array([0.3, -0.8]), jnp.array([1.5, 1.1])
TS = jnp.linspace(0, 1, 7)
curve = jax.jit(lambda alpha, a, b: alpha_geodesic(POTENTIAL, a, b, TS, alpha))


def test_one_zero_and_minus_one_are_the_known_geodesics():
    straight = exponential_geodesic(A, B, TS)
    np.testing.assert_allclose(curve(1.0, A, B), straight, atol=1e-12)
    np.testing.assert_allclose(curve(-1.0, A, B), mixture_geodesic(POTENTIAL, A, B, TS), atol=1e-9)
    solution = geodesic_bvp(HessianMetric(POTENTIAL), A, B)
    shortest = jax.vmap(solution.evaluate)(TS)
    np.testing.assert_allclose(curve(0.0, A, B), shortest, atol=1e-7)


def test_the_curve_solves_the_equation_of_its_connection():
    alpha, h = 0.4, 1e-3
    ts = jnp.array([0.5 - h, 0.5, 0.5 + h])
    before, z, after = alpha_geodesic(POTENTIAL, A, B, ts, alpha)
    v, acceleration = (after - before) / (2 * h), (after - 2 * z + before) / h**2
    gamma = alpha_christoffel(POTENTIAL, z, alpha)
    np.testing.assert_allclose(acceleration, -jnp.einsum("kij,i,j->k", gamma, v, v), atol=1e-5)


def test_derivatives_against_differences():
    h, e = 1e-5, jnp.array([0.6, 0.8])

    def middle(alpha, a):
        return curve(alpha, a, B)[3]

    d_alpha, d_a = jax.jit(jax.jacrev(middle, argnums=(0, 1)))(0.3, A)
    by_alpha = (middle(0.3 + h, A) - middle(0.3 - h, A)) / (2 * h)
    np.testing.assert_allclose(d_alpha, by_alpha, rtol=1e-6)
    by_a = (middle(0.3, A + h * e) - middle(0.3, A - h * e)) / (2 * h)
    np.testing.assert_allclose(d_a @ e, by_a, rtol=1e-6)


def test_no_answer_beyond_the_domain_and_no_silence():
    bad = alpha_geodesic(lambda z: -jnp.dot(z, z), A, B, TS, 0.0, throw=False)
    assert jnp.all(jnp.isnan(bad))
    with pytest.raises(Exception, match=r"[Nn]on-?finite|NaN"):
        alpha_geodesic(lambda z: -jnp.dot(z, z), A, B, TS, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": jnp.zeros(3)}, r"`b` must have shape \(2,\)"),
        ({"ts": jnp.zeros((2, 2))}, r"`ts` must have shape \(n,\), got \(2, 2\)"),
        ({"alpha": jnp.zeros(2)}, "`alpha` must be one number"),
    ],
)
def test_bad_arguments_are_quoted(change, message):
    arguments = {"potential": POTENTIAL, "a": A, "b": B, "ts": TS, "alpha": 0.0} | change
    with pytest.raises(ValueError, match=message):
        alpha_geodesic(**arguments)
