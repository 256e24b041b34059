"""What a metric measures at one point: products, norms, volume."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgeo._linalg import logdet_spd, quadratic_form, safe_sqrt, unit_of
from jaxgeo._typing import Metric, Scalar, as_point, matrix_at
from jaxgeo.metrics import KernelMetric


def inner(metric: Metric, z: ArrayLike, u: ArrayLike, v: ArrayLike) -> Scalar:
    r"""The inner product of two tangent vectors, $g(z)_{ij}u^iv^j$.

    **Arguments:** `metric`; `z`, a point `(d,)`; `u`, `v`, tangent vectors `(d,)` at it.

    **Returns:** a number. **Fails:** `ValueError` on shapes and dtypes, here and below. **Cost:**
    one metric evaluation.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> e = jnp.array([1.0, 0.0])
    >>> inner(half_plane_metric, jnp.array([0.0, 2.0]), e, e).item()
    0.25
    """
    z = as_point(z, "z")
    u, v = as_point(u, "u", z), as_point(v, "v", z)
    return quadratic_form(matrix_at(metric, z), u, v)


def norm(metric: Metric, z: ArrayLike, v: ArrayLike) -> Scalar:
    r"""The length of a tangent vector, $\sqrt{g(z)_{ij}v^iv^j}$.

    Its derivative at v = 0, where there is none, is 0 and not NaN.

    **Arguments:** `metric`; `z`, a point `(d,)`; `v`, a tangent vector `(d,)` at it.

    **Returns:** a number; NaN where v is of negative square. **Cost:** one metric evaluation.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> norm(half_plane_metric, jnp.array([0.0, 2.0]), jnp.array([0.0, 4.0])).item()
    2.0
    """
    z = as_point(z, "z")
    v = as_point(v, "v", z)
    unit = unit_of(v)
    return unit * safe_sqrt(quadratic_form(matrix_at(metric, z), v / unit, v / unit))


def log_volume_density(metric: Metric, z: ArrayLike) -> Scalar:
    r"""The logarithm of the Riemannian volume density, $\tfrac12\log\det g(z)$.

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** a number; NaN where the metric is not positive definite. **Cost:** one metric
    evaluation, one Cholesky.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> log_volume_density(half_plane_metric, jnp.array([0.0, 1.0])).item()
    0.0
    """
    z = as_point(z, "z")
    if isinstance(metric, KernelMetric):
        return -logdet_spd(metric.cometric(z)) / 2
    return logdet_spd(matrix_at(metric, z)) / 2


def volume_density(metric: Metric, z: ArrayLike) -> Scalar:
    r"""The Riemannian volume density, $\sqrt{\det g(z)}$; for an immersion its magnification.

    `log_volume_density` neither over- nor underflows.

    **Arguments:** `metric`; `z`, a point `(d,)`.

    **Returns:** a number; NaN where the metric is not positive definite. **Cost:** one metric
    evaluation, one Cholesky.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> round(volume_density(half_plane_metric, jnp.array([0.0, 2.0])).item(), 6)
    0.25
    """
    return jnp.exp(log_volume_density(metric, z))
