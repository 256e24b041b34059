"""Metrics made of other metrics."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Chart, Metric, Point


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
        jacobian = jax.jacfwd(self.chart)(z)
        lowered = jnp.dot(self.metric(self.chart(z)), jacobian, precision=HIGHEST)
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
        self.eps = jnp.asarray(eps)
        if self.eps.ndim != 0 or not jnp.issubdtype(self.eps.dtype, jnp.floating):
            raise ValueError(f"`eps` must be one floating-point number, got {eps}.")

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        return self.metric(z) + self.eps.astype(z.dtype) * jnp.eye(z.size, dtype=z.dtype)
