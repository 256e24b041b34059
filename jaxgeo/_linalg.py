"""Linear algebra of symmetric positive definite matrices, and norms with honest derivatives."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

HIGHEST = jax.lax.Precision.HIGHEST
"""Metrics are contracted at this precision, lest accelerators round to bfloat16 or TF32."""


UNROLLED = 4
"""Up to this size a factorisation is written out: twenty times faster in batches than LAPACK, and
never waiting for the thread pool it runs on, as jaxlib 0.10 and 0.11 do for large batches."""


def cholesky(matrix: Float[Array, "*n d d"]) -> Float[Array, "*n d d"]:
    """The lower factor L of a matrix L Lᵀ; with NaNs where it is not positive definite."""
    d = matrix.shape[-1]
    if d > UNROLLED:
        return jnp.linalg.cholesky(matrix)
    rows: list[list[Array]] = []
    for i in range(d):
        row: list[Array] = []
        for j, above in enumerate(rows):
            rest = matrix[..., i, j]
            for k in range(j):
                rest = rest - row[k] * above[k]
            row.append(rest / above[j])
        pivot = matrix[..., i, i]
        for entry in row:
            pivot = pivot - entry**2
        row.append(jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan)))
        rows.append(row)
    padded = [row + [jnp.zeros_like(row[0])] * (d - len(row)) for row in rows]
    return jnp.stack([jnp.stack(row, axis=-1) for row in padded], axis=-2)


def solve_lower(factor: Float[Array, "d d"], b: Float[Array, "d *m"]) -> Float[Array, "d *m"]:
    """Solve `factor @ x = b` for a lower triangular `factor`."""
    d = factor.shape[-1]
    if d > UNROLLED:
        return jax.scipy.linalg.solve_triangular(factor, b, lower=True)
    x = list(b)
    for i in range(d):
        for k in range(i):
            x[i] = x[i] - factor[i, k] * x[k]
        x[i] = x[i] / factor[i, i]
    return jnp.stack(x)


def cholesky_solve(factor: Float[Array, "d d"], b: Float[Array, "d *m"]) -> Float[Array, "d *m"]:
    """Solve `factor @ factor.T @ x = b` for a lower triangular `factor`."""
    d = factor.shape[-1]
    if d > UNROLLED:
        return jax.scipy.linalg.cho_solve((factor, True), b)
    x = list(solve_lower(factor, b))
    for i in reversed(range(d)):
        for k in range(i + 1, d):
            x[i] = x[i] - factor[k, i] * x[k]
        x[i] = x[i] / factor[i, i]
    return jnp.stack(x)


def negative_eigenvalues(matrix: Float[Array, "d d"]) -> Int[Array, ""]:
    """How many eigenvalues of a symmetric matrix are negative, by Sylvester's law of inertia."""

    def eliminate(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, count = carry
        column, pivot = rest[:, k], rest[k, k]
        rest = rest - column[:, None] * (column / jnp.where(pivot == 0, 1, pivot))[None, :]
        return rest, count + (pivot < 0)

    start = (matrix, jnp.zeros((), jnp.int32))
    return jax.lax.fori_loop(0, matrix.shape[-1], eliminate, start)[1]


def solve_spd(matrix: Float[Array, "d d"], b: Float[Array, "d *m"]) -> Float[Array, "d *m"]:
    """Solve `matrix @ x = b` by Cholesky; NaN where `matrix` is not positive definite."""
    factor = jax.lax.stop_gradient(cholesky(matrix))
    # its derivative is one more solve with the same factor; that of Cholesky itself costs far more
    return jax.lax.custom_linear_solve(
        lambda x: jnp.dot(matrix, x, precision=HIGHEST),
        b,
        lambda _, y: cholesky_solve(factor, y),
        symmetric=True,
    )


def logdet_spd(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
    """log det of a positive definite matrix by Cholesky; NaN where it is not one."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(cholesky(matrix))))


def quadratic_form(
    matrix: Float[Array, "d d"], u: Float[Array, " d"], v: Float[Array, " d"]
) -> Float[Array, ""]:
    """uᵀ matrix v at full precision."""
    return jnp.dot(u, jnp.dot(matrix, v, precision=HIGHEST), precision=HIGHEST)


def safe_sqrt(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """√x whose derivative at 0 is 0 where that of `jnp.sqrt` is infinite; NaN for x < 0."""
    zero = x == 0
    return jnp.where(zero, jnp.zeros_like(x), jnp.sqrt(jnp.where(zero, jnp.ones_like(x), x)))


def unit_of(x: Float[Array, "..."]) -> Float[Array, ""]:
    """A power of two near the greatest |entry|, constant; 1 where that is 0 or not finite.

    Squares of x divided by it, which rounds nothing, neither vanish nor overflow.
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    fraction, _ = jnp.frexp(size)
    return jnp.where((size > 0) & jnp.isfinite(size), size / fraction, 1)


def frozen(tree: PyTree) -> PyTree:
    """`tree` with no derivative flowing through its arrays."""
    dynamic, static = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(dynamic), static)


def instantiate(tangents: PyTree, primals: PyTree) -> PyTree:
    """`tangents` as arrays, zero where they are `None` because nothing moves.

    For the rules of `equinox.filter_custom_jvp`.
    """
    return jax.tree.map(lambda p, t: jnp.zeros_like(p) if t is None else t, primals, tangents)


def partial_jvp(f: Callable[[PyTree], PyTree], primal: PyTree, tangent: PyTree) -> PyTree:
    """The derivative of `f(primal)` along `tangent`, whose leaves are `None` where nothing moves.

    For the rules of `equinox.filter_custom_jvp`.
    """
    moves = jax.tree.map(
        lambda _, t: t is not None, primal, tangent, is_leaf=lambda leaf: leaf is None
    )
    moving, still = eqx.partition(primal, moves)
    moving = jax.tree.map(jnp.asarray, moving)  # a Python number may be differentiated in
    return jax.jvp(lambda p: f(eqx.combine(p, still)), (moving,), (tangent,))[1]
