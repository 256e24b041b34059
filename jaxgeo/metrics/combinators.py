"""Metrics made of other metrics."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import (
    Chart,
    Metric,
    Point,
    Potential,
    as_array,
    as_point,
    matrix_at,
    vector_at,
)


@final
class ReparametrizedMetric(eqx.Module):
    r"""A metric in other coordinates: $g(z) = J^\top g_\eta(\eta(z))\,J$, J the Jacobian of η(z).

    Takes the Fisher metric of natural coordinates η to the parameters z that one controls, say
    (β, h) to (T, H). `geodesic_acceleration` goes through the acceleration of `metric`, so a
    cheap formula for that one is still used.

    **Arguments:**

    - `metric`: metric in the coordinates η, `(k,)` to `(k, k)`.
    - `chart`: η as a function of z, `(d,)` to `(k,)`; k > d makes a curved subfamily.

    **Returns:** `metric(z)`, `(d, d)`, symmetric.

    **Fails:** nothing here; where J is singular, solvers report `metric_not_positive_definite`.

    **Cost:** d forward derivatives of `chart`, one evaluation of `metric`.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from jaxgeo.problems import poisson_metric
    >>> ReparametrizedMetric(poisson_metric, jnp.exp)(jnp.log(jnp.array([3.0]))).item()
    3.0

    **Reference:** Amari & Nagaoka (2000), eq. 2.8.
    """

    metric: Metric
    chart: Chart

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        jacobian = jax.jacfwd(lambda y: vector_at(self.chart, y, "chart"))(z)
        g = matrix_at(self.metric, self.chart(z))
        lowered = jnp.dot(g, jacobian, precision=HIGHEST)
        g = jnp.dot(jacobian.T, lowered, precision=HIGHEST)
        return (g + g.T) / 2


@final
class RegularizedMetric(eqx.Module):
    r"""A metric with a floor, $g + \epsilon I$.

    For a metric that is degenerate by nature. Its geodesics are those of another metric: the
    regularisation is named here because nothing in jaxgeo adds it silently.

    **Arguments:**

    - `metric`: the metric to be regularised.
    - `eps`: ε > 0, in the units of `metric`; traced, so a new value does not retrace.

    **Returns:** `metric(z)`, `(d, d)`.

    **Fails:** `ValueError` if `eps` is not one number.

    **Cost:** that of `metric`.

    **Example:**

    >>> import jax.numpy as jnp
    >>> RegularizedMetric(lambda z: jnp.zeros((2, 2)), 0.5)(jnp.zeros(2)).diagonal().tolist()
    [0.5, 0.5]
    """

    metric: Metric
    eps: Float[Array, ""]

    def __init__(self, metric: Metric, eps: ArrayLike) -> None:
        self.metric = metric
        self.eps = as_array(eps, "eps")
        if self.eps.ndim != 0 or not jnp.issubdtype(self.eps.dtype, jnp.floating):
            raise ValueError(f"`eps` must be one floating-point number, got {eps}.")

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        return matrix_at(self.metric, z) + self.eps.astype(z.dtype) * jnp.eye(
            z.size, dtype=z.dtype
        )


@final
class ConformalMetric(eqx.Module):
    r"""A metric with another scale at every point, $e^{2w(z)}\,g(z)$.

    Angles stay. A large w makes a region expensive to cross, say where there are no data.

    **Arguments:**

    - `metric`: g.
    - `log_scale`: w, a function of the point; the factor of lengths is $e^w$.

    **Returns:** `metric(z)`, `(d, d)`.

    **Fails:** nothing here.

    **Cost:** that of `metric` and of w.

    **Example:** the half-plane is conformally flat.

    >>> import jax.numpy as jnp
    >>> from jaxgeo.problems import euclidean_metric
    >>> ConformalMetric(euclidean_metric, lambda z: -jnp.log(z[1]))(jnp.array([0.0, 2.0]))[0, 0].item()
    0.25

    **Reference:** Lee (2018), *Introduction to Riemannian Manifolds*, ch. 3.
    """  # noqa: E501

    metric: Metric
    log_scale: Potential

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        return jnp.exp(2 * self.log_scale(z)) * matrix_at(self.metric, z)


@final
class SumMetric(eqx.Module):
    r"""The sum of metrics in one chart, $\sum_k g_k(z)$.

    The Fisher information of independent observations, or the pullback by several maps at once.

    **Arguments:** `metrics`, one or more of the same points.

    **Returns:** `metric(z)`, `(d, d)`.

    **Fails:** `ValueError` if there are none.

    **Cost:** that of all of them.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from jaxgeo.problems import euclidean_metric
    >>> SumMetric([euclidean_metric, euclidean_metric])(jnp.zeros(1)).item()
    2.0
    """

    metrics: tuple[Metric, ...]

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = tuple(metrics)
        if not self.metrics:
            raise ValueError("`metrics` must hold at least one metric, got none.")

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        first, *others = (matrix_at(metric, z) for metric in self.metrics)
        return sum(others, start=first)


@final
class ProductMetric(eqx.Module):
    r"""The metric of a product of manifolds, $g_1(z_1) \oplus g_2(z_2) \oplus \dots$

    Squared distances add, and geodesics are those of the factors.

    **Arguments:**

    - `metrics`: one for each factor.
    - `dims`: how many of the coordinates belong to each, in order; static.

    **Returns:** `metric(z)`, `(d, d)`, block diagonal, d the sum of `dims`.

    **Fails:** `ValueError` if `dims` and `metrics` do not match each other or the point.

    **Cost:** that of all of them.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from jaxgeo.problems import euclidean_metric, half_plane_metric
    >>> g = ProductMetric([euclidean_metric, half_plane_metric], (1, 2))
    >>> g(jnp.array([7.0, 0.0, 2.0])).diagonal().tolist()
    [1.0, 0.25, 0.25]

    **Reference:** Lee (2018), ch. 2, eq. 2.12.
    """

    metrics: tuple[Metric, ...]
    dims: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, metrics: Sequence[Metric], dims: Sequence[int]) -> None:
        self.metrics, self.dims = tuple(metrics), tuple(dims)
        if len(self.metrics) != len(self.dims) or not self.dims or min(self.dims) < 1:
            raise ValueError(
                f"`dims` must hold a number ≥ 1 for each of the {len(self.metrics)} metrics, "
                f"got {dims}."
            )

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        if z.size != sum(self.dims):
            raise ValueError(f"`dims` {self.dims} do not add up to the {z.size} coordinates of z.")
        cuts = [sum(self.dims[: k + 1]) for k in range(len(self.dims) - 1)]
        parts = jnp.split(z, cuts)
        blocks = [
            matrix_at(metric, part) for metric, part in zip(self.metrics, parts, strict=True)
        ]
        return jax.scipy.linalg.block_diag(*blocks)
