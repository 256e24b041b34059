"""The Lipschitz constant of a generator at a point, and how it grows towards a boundary."""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxgeo._linalg import HIGHEST, frozen, safe_sqrt
from jaxgeo._results import RESULTS
from jaxgeo._typing import Point, Scalar, Vector, as_point, as_points
from jaxgeo.geodesics.solution import worst
from jaxgeo.phases.slopes import fit_slope

Generator = Callable[[Point], Float[Array, " m"]]
"""Any callable from a point to what it stands for, as one vector."""


@final
class LipschitzConstant(eqx.Module):
    """The largest stretch of a map at a point.

    - `value`: the largest singular value of the Jacobian; a lower bound of it if `not_converged`.
    - `direction`: `(d,)`, the right singular vector, a unit vector of either sign.
    - `iterations`: products with the Jacobian and with its transpose.
    - `result`: a `RESULTS` member.
    """

    value: Scalar
    direction: Vector
    iterations: Int[Array, ""]
    result: Any


def lipschitz_constant(
    f: Generator,
    z: ArrayLike,
    *,
    rtol: float | None = None,
    max_iterations: int = 128,
    throw: bool = True,
) -> LipschitzConstant:
    r"""The local Lipschitz constant of a map: the largest singular value of its Jacobian.

    $$ \sigma(z) = \max_{|v| = 1} |J(z)\, v|, \qquad J = \partial f / \partial z $$

    By Golub–Kahan–Lanczos bidiagonalisation with full reorthogonalisation: the Jacobian itself is
    never formed, so d and m may be those of images. For the metric that f pulls back it is the
    root of the largest eigenvalue; it diverges where f jumps.

    **Arguments:**

    - `f`: any callable from a point `(d,)` to a vector `(m,)`.
    - `z`: `(d,)`, float32 or float64.
    - `rtol`: converged when |JᵀJv − σ²v| ≤ rtol σ². The error of σ² is no more than that next to
      some singular value, and of second order in it where the largest stands apart. The dtype's
      epsilon to the power 2/3 if not given: 4e-11, 2e-5 in float32.
    - `max_iterations`: at most; min(d, m) of them are always enough.
    - `throw`: raise on failure; otherwise see `result`.

    **Returns:** `LipschitzConstant`. `value` has derivatives in z and in the parameters of f,
    forward and backward, dσ = uᵀ dJ v, of first order only and where σ is simple; `direction`
    has none, and is zero where the Jacobian is.

    **Fails:** `ValueError` on shapes and dtypes. `not_converged`, `nonfinite`.

    **Cost:** one `jvp` and one `vjp` of f an iteration, 10 to 60 of them, and the singular values
    of a bidiagonal matrix of size `max_iterations`. Memory for that many vectors `(d,)`. Compiles
    once per shape and structure.

    **Example:**

    >>> shear = lambda z: jnp.stack([z[0] + z[1], z[1]])
    >>> golden = lipschitz_constant(shear, jnp.zeros(2)).value
    >>> round(golden.item(), 4)
    1.618

    **Reference:** Golub & Kahan (1965), *SIAM J. Numer. Anal.* 2, 205; Simon & Zha (2000), *SIAM
    J. Sci. Comput.* 21, 2257, that reorthogonalising one side is enough.
    """
    z = as_point(z, "z")
    if max_iterations < 1 or (rtol is not None and not rtol > 0):
        raise ValueError(
            "`max_iterations` must be at least 1 and `rtol` positive, "
            f"got {max_iterations} and {rtol}."
        )
    limit = float(jnp.finfo(z.dtype).eps) ** (2 / 3) if rtol is None else rtol
    found = _lipschitz(f, z, jnp.asarray(limit, z.dtype), max_iterations)
    return found.result.error_if(found, found.result != RESULTS.successful) if throw else found


@eqx.filter_jit
def _lipschitz(f: Generator, z: Array, rtol: Array, max_iterations: int) -> LipschitzConstant:
    out = jax.eval_shape(lambda point: f(point), z)
    if getattr(out, "ndim", None) != 1 or out.dtype != z.dtype:
        raise ValueError(f"`f` must return a vector of dtype {z.dtype}, got {out}.")
    # closures may hold traced values: hoist them, so that derivatives can be taken in them
    f = eqx.filter_closure_convert(f, z)
    size = min(max_iterations, z.size, out.size)
    v, residual, iterations = _bidiagonalise(frozen(f), jax.lax.stop_gradient(z), rtol, size)
    # with v held fixed, |J v| has the derivative of σ: what v moves by is orthogonal to JᵀJv
    image = jax.jvp(f, (z,), (v,))[1]
    value = safe_sqrt(jnp.dot(image, image, precision=HIGHEST))
    result = RESULTS.where(residual <= rtol, RESULTS.successful, RESULTS.not_converged)
    result = RESULTS.where(jnp.isfinite(value), result, RESULTS.nonfinite)
    return LipschitzConstant(value, v, iterations, result)


class _State(NamedTuple):
    right: Float[Array, "k+1 d"]  # Lanczos vectors, orthonormal
    left: Float[Array, " m"]
    bidiagonal: Float[Array, "k k"]  # J right = left bidiagonal
    beta: Scalar
    top: Float[Array, " k"]  # of right, the singular vector of the largest singular value
    residual: Scalar
    k: Int[Array, ""]


def _bidiagonalise(
    f: Generator, z: Array, rtol: Array, size: int
) -> tuple[Vector, Scalar, Int[Array, ""]]:
    """The right singular vector, its relative residual, and the iterations it took."""
    image, forward = jax.linearize(f, z)
    transpose = jax.linear_transpose(forward, z)

    # a direction that is special to nobody; in the row space, so that m iterations are enough
    start = transpose(jax.random.normal(jax.random.key(0), image.shape, z.dtype))[0]

    def running(state: _State) -> Array:
        # not (residual > rtol): NaN ends the loop
        return (state.residual > rtol) & (state.k < size)

    def step(state: _State) -> _State:
        k = state.k
        v = state.right[k]
        left, alpha = _unit(forward(v) - state.beta * state.left)
        w = transpose(left)[0] - alpha * v
        for _ in range(2):  # once leaves what the first subtraction rounds
            inner = jnp.dot(state.right, w, precision=HIGHEST)
            w = w - jnp.dot(inner, state.right, precision=HIGHEST)
        w, beta = _unit(w)
        matrix = state.bidiagonal.at[k, k].set(alpha)
        matrix = matrix.at[k - 1, k].set(jnp.where(k > 0, state.beta, matrix[k - 1, k]))
        p, sigma, q = jnp.linalg.svd(matrix)
        # JᵀJv − σ²v = σ β p_k w
        residual = beta * jnp.abs(p[k, 0]) / jnp.where(sigma[0] > 0, sigma[0], 1)
        right = state.right.at[k + 1].set(w)
        return _State(right, left, matrix, beta, q[0], residual, k + 1)

    rows = jnp.zeros((size + 1, z.size), z.dtype).at[0].set(_unit(start)[0])
    zero = jnp.zeros((), z.dtype)
    begin = _State(
        right=rows,
        left=jnp.zeros_like(image),
        bidiagonal=jnp.zeros((size, size), z.dtype),
        beta=zero,
        top=jnp.zeros(size, z.dtype),
        residual=jnp.full_like(zero, jnp.inf),
        k=jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(running, step, begin)
    v = jnp.dot(end.top, end.right[:-1], precision=HIGHEST)
    return _unit(v)[0], end.residual, end.k


def _unit(v: Array) -> tuple[Array, Scalar]:
    size = jnp.linalg.norm(v)
    return v / jnp.where(size > 0, size, 1), size


class GrowthExponent(NamedTuple):
    """The power with which a Lipschitz constant diverges, and what it was read off.

    - `exponent`: γ, by least squares; NaN unless `result` is `successful`.
    - `error`: of it, one standard deviation.
    - `distances`, `constants`: `(n,)`, r and L(r).
    - `slopes`: `(n − 1,)`, local exponents, between one distance and the next.
    - `result`: a `RESULTS` member.
    """

    exponent: float
    error: float
    distances: Float[Array, " n"]
    constants: Float[Array, " n"]
    slopes: Float[np.ndarray, " n-1"]
    result: Any


def growth_exponent(
    f: Generator,
    point: ArrayLike,
    direction: ArrayLike,
    distances: ArrayLike,
    *,
    rtol: float | None = None,
    max_iterations: int = 128,
    throw: bool = True,
) -> GrowthExponent:
    r"""How fast the Lipschitz constant of a map grows towards a point, such as on a boundary.

    $$ L\Bigl(z + r \frac{u}{|u|}\Bigr) \sim r^{-\gamma}, \qquad r \to 0 $$

    γ = 0 where f is smooth; f is Hölder continuous with exponent 1 − γ if γ < 1; a jump smoothed
    over a width ε saturates, L ~ 1/ε, for distances below it: `slopes` show where.

    **Arguments:**

    - `f`: any callable from a point `(d,)` to a vector `(m,)`.
    - `point`: z, `(d,)`, as `boundary_point` finds it.
    - `direction`: u, `(d,)`, not zero, off the boundary.
    - `distances`: r, `(n,)`, four or more, positive, no two the same.
    - `rtol`, `max_iterations`: of `lipschitz_constant`.
    - `throw`: raise on failure; otherwise see `result`.

    **Returns:** `GrowthExponent`. The error is that of the fit and half of the difference between
    the exponents nearer by and further off, in squares. Without derivatives.

    **Fails:** `ValueError` on shapes, dtypes and distances. The first failure of
    `lipschitz_constant`; `nonfinite` also where the constant is zero.

    **Cost:** n Lipschitz constants, side by side. Compiles once per shape and structure.

    **Example:** the cube root has an infinite slope at zero, with γ = 2/3.

    >>> r = jnp.logspace(-6, -1, 6)
    >>> round(growth_exponent(jnp.cbrt, jnp.zeros(1), jnp.ones(1), r).exponent, 4)
    0.6667
    """
    z = as_point(point, "point")
    u = as_point(direction, "direction", z)
    r = as_point(distances, "distances")
    if r.size < 4 or r.dtype != z.dtype or not np.all(np.asarray(r) > 0):
        raise ValueError(f"`distances` must be four or more positive {z.dtype}, got {r}.")
    if len(np.unique(np.asarray(r))) < r.size:
        raise ValueError(f"`distances` must differ, got {r}.")
    if not np.any(np.asarray(u)):
        raise ValueError(f"`direction` must not be zero, got {u}.")
    places = as_points(z[None] + r[:, None] * (u / jnp.linalg.norm(u))[None], "distances", z)
    found = _constants(f, places, rtol, max_iterations)
    result = worst(found.result)
    flat = ~jnp.all(found.value > 0)
    result = RESULTS.where((result == RESULTS.successful) & flat, RESULTS.nonfinite, result)
    if throw:
        result = result.error_if(result, result != RESULTS.successful)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = -np.log(np.asarray(r, float)), np.log(np.asarray(found.value, float))
        slopes = np.diff(y) / np.diff(x)
    exponent, error = float("nan"), float("nan")
    if bool(result == RESULTS.successful):
        order = np.argsort(x)
        exponent, error = fit_slope(x[order], y[order])
    return GrowthExponent(exponent, error, r, found.value, slopes, result)


@eqx.filter_jit
def _constants(
    f: Generator, places: Array, rtol: float | None, max_iterations: int
) -> LipschitzConstant:
    def one(z: Array) -> LipschitzConstant:
        return lipschitz_constant(f, z, rtol=rtol, max_iterations=max_iterations, throw=False)

    return jax.vmap(one)(places)
