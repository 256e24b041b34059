"""Algebra of positive definite matrices against LAPACK, in and beyond the sizes written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgeo._linalg import (
    UNROLLED,
    cholesky,
    logdet_spd,
    quadratic_form,
    safe_sqrt,
    solve_lower,
    solve_spd,
)

SIZES = range(1, UNROLLED + 2)


def positive_definite(seed, d):
    """Eigenvalues between 0.1 and 10."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (q * 10 ** rng.uniform(-1, 1, d)) @ q.T, rng.normal(size=(d, 3))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES))
def test_factor_solution_and_determinant(seed, d):
    matrix, b = (jnp.asarray(a) for a in positive_definite(seed, d))
    np.testing.assert_allclose(cholesky(matrix), np.linalg.cholesky(matrix), atol=1e-13)
    factor = jnp.asarray(np.linalg.cholesky(matrix))
    np.testing.assert_allclose(factor @ solve_lower(factor, b), b, atol=1e-12)
    solution = np.linalg.solve(matrix, b)
    np.testing.assert_allclose(solve_spd(matrix, b), solution, atol=1e-11)
    np.testing.assert_allclose(solve_spd(matrix, b[:, 0]), solution[:, 0], atol=1e-11)
    np.testing.assert_allclose(logdet_spd(matrix), np.linalg.slogdet(matrix)[1], atol=1e-12)
    np.testing.assert_allclose(
        quadratic_form(matrix, b[:, 0], b[:, 1]), b[:, 0] @ matrix @ b[:, 1], atol=1e-12
    )


@pytest.mark.parametrize("d", SIZES)
def test_what_is_not_positive_definite_is_nan(d):
    for value in (0.0, -1.0):
        matrix = jnp.eye(d).at[-1, -1].set(value)
        assert np.isnan(cholesky(matrix)).any()
        assert np.isnan(logdet_spd(matrix))
        assert np.isnan(solve_spd(matrix, jnp.ones(d))).any()


@pytest.mark.parametrize("d", SIZES)
def test_batches_dtypes_and_derivatives(d):
    pairs = [positive_definite(seed, d) for seed in range(5)]
    matrices, b = (jnp.asarray(np.stack(column)) for column in zip(*pairs, strict=True))
    np.testing.assert_allclose(cholesky(matrices), jax.vmap(cholesky)(matrices), rtol=1e-13)
    assert cholesky(matrices.astype(jnp.float32)).dtype == jnp.float32

    def value(matrix):
        return jnp.sum(solve_spd(matrix, b[0]) ** 2) + logdet_spd(matrix)

    change = jnp.asarray(positive_definite(9, d)[0])
    slope = jnp.sum(jax.grad(value)(matrices[0]) * change)
    step = 1e-5
    beside = [value(matrices[0] + sign * step * change) for sign in (1, -1)]
    np.testing.assert_allclose(slope, (beside[0] - beside[1]) / (2 * step), rtol=1e-6)


def test_square_root_has_a_derivative_at_zero():
    assert jax.grad(lambda x: safe_sqrt(x))(0.0) == 0
    assert jax.grad(lambda x: safe_sqrt(x))(4.0) == 0.25
    assert np.isnan(safe_sqrt(jnp.array(-1.0)))
