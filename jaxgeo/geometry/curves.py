"""Curves as rows of points `(n, d)`: length, energy, and a parametrisation of constant speed.

The energy is ½∫g(γ', γ')dt over t ∈ [0, 1]. Both integrals use the midpoint rule on every segment,
so that length² ≤ 2·energy holds exactly, with equality at constant speed, and both are of second
order in the spacing for points of a smooth curve.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import quadratic_form, safe_sqrt, unit_of
from jaxgeo._typing import Metric, Scalar, as_array, as_count, matrix_at


def _as_curve(points: ArrayLike) -> Float[Array, "n d"]:
    curve = as_array(points, "points")
    if curve.ndim != 2 or curve.shape[0] < 2 or curve.shape[1] == 0:
        raise ValueError(f"`points` must have shape (n, d) with n ≥ 2, got {curve.shape}.")
    if not jnp.issubdtype(curve.dtype, jnp.floating):
        raise ValueError(f"`points` must hold floats, got dtype {curve.dtype}.")
    return curve


def _squared_steps(metric: Metric, curve: Float[Array, "n d"]) -> Float[Array, " n_minus_1"]:
    """Δᵀ g(midpoint) Δ of every segment."""
    return _squares(metric, (curve[1:] + curve[:-1]) / 2, jnp.diff(curve, axis=0))


def _squares(metric: Metric, places: Array, steps: Array) -> Float[Array, " n"]:
    return jax.vmap(lambda z, u: quadratic_form(matrix_at(metric, z), u, u))(places, steps)


def _lengths(metric: Metric, curve: Float[Array, "n d"]) -> Float[Array, " n_minus_1"]:
    """√(Δᵀ g(midpoint) Δ) of every segment, of steps so small or large that squares of them have
    no number as well."""
    middle, step = (curve[1:] + curve[:-1]) / 2, jnp.diff(curve, axis=0)
    unit = unit_of(step)
    return unit * safe_sqrt(_squares(metric, middle, step / unit))


def length(metric: Metric, points: ArrayLike) -> Scalar:
    r"""The length of a curve, $\int\sqrt{g(\gamma',\gamma')}\,dt$, by the midpoint rule.

    $$ L = \sum_i \sqrt{\Delta_i^\top g(m_i)\,\Delta_i} $$

    **Arguments:** `metric`; `points`, `(n, d)` in order along the curve, n ≥ 2.

    **Returns:** a number, whatever the speed of the points; of second order in the spacing.

    **Fails:** `ValueError` on a wrong shape or dtype; NaN where the metric is indefinite.

    **Cost:** n − 1 metric evaluations, batched.

    **Example:**

    >>> from jaxgeo.problems import euclidean_metric
    >>> length(euclidean_metric, jnp.array([[0.0, 0.0], [3.0, 4.0]])).item()
    5.0
    """
    return jnp.sum(_lengths(metric, _as_curve(points)))


def energy(metric: Metric, points: ArrayLike) -> Scalar:
    r"""The energy of a curve at equal steps of t ∈ [0, 1], $\tfrac12\int g(\gamma',\gamma')\,dt$.

    $$ E = \tfrac12(n-1)\sum_i \Delta_i^\top g(m_i)\,\Delta_i \;\ge\; L^2/2 $$

    **Arguments:** `metric`; `points`, `(n, d)` at t = 0, 1/(n−1), …, 1, n ≥ 2.

    **Returns:** a number, by the midpoint rule; of second order in the spacing.

    **Fails:** `ValueError` on a wrong shape or dtype.

    **Cost:** n − 1 metric evaluations, batched.

    **Example:**

    >>> from jaxgeo.problems import euclidean_metric
    >>> energy(euclidean_metric, jnp.array([[0.0, 0.0], [3.0, 4.0]])).item()
    12.5
    """
    curve = _as_curve(points)
    return (curve.shape[0] - 1) * jnp.sum(_squared_steps(metric, curve)) / 2


def resample(metric: Metric, points: ArrayLike, n: int) -> Float[Array, "n d"]:
    r"""`n` points of the same polyline, at equal steps of length.

    **Arguments:** `metric`; `points`, `(m, d)`, m ≥ 2; `n` ≥ 2, the new number of points.

    **Returns:** `(n, d)`, first and last as given. Within one segment the speed is taken as
    constant, so steps are equal to second order in the spacing.

    **Fails:** `ValueError` on a wrong shape or n < 2.

    **Cost:** m − 1 metric evaluations, batched.

    **Example:**

    >>> from jaxgeo.problems import euclidean_metric
    >>> resample(euclidean_metric, jnp.array([[0.0], [0.5], [4.0]]), 3).ravel().tolist()
    [0.0, 2.0, 4.0]
    """
    curve = _as_curve(points)
    n = as_count(n, "n", 2)
    steps = _lengths(metric, curve)
    total = jnp.sum(steps)
    # a curve that stays at one point has no length to divide: any parameter will do
    steps = jnp.where(total == 0, jnp.ones_like(steps), steps)
    s = jnp.concatenate([jnp.zeros(1, curve.dtype), jnp.cumsum(steps)])
    wanted = jnp.linspace(0, 1, n, dtype=curve.dtype) * s[-1]
    inner = jax.vmap(lambda x: jnp.interp(wanted[1:-1], s, x), in_axes=1, out_axes=1)(curve)
    return jnp.concatenate([curve[:1], inner, curve[-1:]])  # the ends to the last bit
