"""The metric of a Riemannian Hamiltonian VAE: kernels about centroids, over a floor."""

import warnings
from typing import Literal, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, cholesky, solve_lower
from jaxgeo._typing import Metric, Point, Scalar, as_array, as_number, as_point, check_finite

Normalize = Literal["sum", "mean"]
Kernel = Literal["gaussian", "cauchy"]

ON_SUPPORT = 0.01
"""Least coverage of a point at which the kernels, not the floor, say what the metric is."""


@final
class KernelMetric(eqx.Module):
    r"""The inverse of a sum of kernels, $g = \big(\sum_i M_i\,k(|z-c_i|/T) + \lambda I\big)^{-1}$.

    with $M_i = L_i L_i^\top$ and $k(r) = e^{-r^2}$. Small where the centroids are, so that
    geodesics keep to them, and $I/\lambda$ away from them: flat, without a slope that would lead
    a curve back. There `coverage` vanishes; start such curves from `graph_path`, or take the
    "cauchy" kernel, $k(r) = 1/(1+r^2)$, whose slope does not vanish.

    **Arguments:**

    - `centroids`: $c_i$, `(N, d)`.
    - `factors`: $L_i$, lower triangular, `(N, d, d)`; identities if not given.
    - `temperature`: T > 0, in the units of z.
    - `regularization`: λ > 0, in the units of $M_i$.
    - `normalize`: "sum" (Chadebec et al. 2020), or "mean", divided by N (AutoEncoderToolkit.jl),
      which takes from the contrast between centroids and the rest a factor of up to N.
    - `kernel`: "gaussian" or "cauchy".

    **Returns:** `metric(z)`, `(d, d)`, symmetric, no eigenvalue above 1/λ.

    **Fails:** `ValueError` on shapes, and on numbers that are concrete and not positive.
    `geodesic_bvp` and its kin warn (`OffSupportWarning`) at ends that no kernel reaches.

    **Cost:** N kernels, one product `(N,) (N, d²)`, one Cholesky factor of `cometric`, which
    `log_volume_density` and `geodesic_acceleration` share. A batch of n points takes
    O(n d² + n N) memory.

    **Example:** at one centroid, with M = I: 1/(1 + λ).

    >>> metric = KernelMetric(jnp.zeros((1, 2)), temperature=0.5, regularization=0.25)
    >>> round(metric(jnp.zeros(2))[0, 0].item(), 6)
    0.8

    **Reference:** Chadebec, Mantoux & Allassonnière (2020), *Geometry-aware Hamiltonian
    variational auto-encoder*, eq. 6.
    """

    centroids: Float[Array, "N d"]
    factors: Float[Array, "N d d"] | None
    temperature: Float[Array, ""]
    regularization: Float[Array, ""]
    normalize: Normalize = eqx.field(static=True)
    kernel: Kernel = eqx.field(static=True)

    def __init__(
        self,
        centroids: ArrayLike,
        factors: ArrayLike | None = None,
        *,
        temperature: ArrayLike,
        regularization: ArrayLike,
        normalize: Normalize = "sum",
        kernel: Kernel = "gaussian",
    ) -> None:
        self.centroids = as_array(centroids, "centroids")
        if self.centroids.ndim != 2 or 0 in self.centroids.shape:
            raise ValueError(f"`centroids` must have shape (N, d), got {self.centroids.shape}.")
        n, d = self.centroids.shape
        dtype = self.centroids.dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"`centroids` must hold floats, got dtype {dtype}.")
        self.factors = None if factors is None else as_array(factors, "factors").astype(dtype)
        if self.factors is not None and self.factors.shape != (n, d, d):
            raise ValueError(f"`factors` must have shape {(n, d, d)}, got {self.factors.shape}.")
        check_finite(self.centroids, "centroids")
        check_finite(self.factors, "factors")
        self.temperature = _positive(temperature, "temperature", dtype)
        self.regularization = _positive(regularization, "regularization", dtype)
        self.normalize, self.kernel = normalize, kernel
        for name, kinds in (("normalize", Normalize), ("kernel", Kernel)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"`{name}` must be one of {get_args(kinds)}, got {getattr(self, name)!r}."
                )

    def _kernels(self, z: Point) -> Float[Array, "d d"]:
        """Σ Mᵢ k(|z − cᵢ|/T), or the mean."""
        n, d = self.centroids.shape
        squares = jnp.sum((z[None, :] - self.centroids) ** 2, axis=1) / self.temperature**2
        k = jnp.exp(-squares) if self.kernel == "gaussian" else 1 / (1 + squares)
        k = k / n if self.normalize == "mean" else k
        if self.factors is None:
            return jnp.sum(k) * jnp.eye(d, dtype=z.dtype)
        products = jnp.einsum("nik,njk->nij", self.factors, self.factors, precision=HIGHEST)
        return jnp.dot(k, products.reshape(n, d * d), precision=HIGHEST).reshape(d, d)

    def cometric(self, z: Point) -> Float[Array, "d d"]:
        """g⁻¹, which needs no inversion."""
        z = as_point(z, "z", self.centroids[0])
        return self._kernels(z) + self.regularization * jnp.eye(z.size, dtype=z.dtype)

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        inverse = solve_lower(cholesky(self.cometric(z)), jnp.eye(z.size, dtype=z.dtype))
        return jnp.dot(inverse.T, inverse, precision=HIGHEST)

    def coverage(self, z: Point) -> Scalar:
        """The share of the kernels in the trace of g⁻¹: 0 off the support, nearly 1 on it."""
        trace = jnp.trace(self._kernels(z))
        return trace / (trace + z.size * self.regularization)


class OffSupportWarning(UserWarning):
    """A point lies where a kernel metric is its floor, and knows nothing of the data."""


def warn_off_support(metric: Metric, *points: Array) -> None:
    """Warn of concrete points at which a `KernelMetric` is nothing but its floor.

    **Arguments:** `metric`, of any kind, others than `KernelMetric` pass; `points`, `(d,)` or
    `(n, d)` arrays; traced ones pass.

    **Returns:** nothing; warns with `OffSupportWarning`, which names the point and its coverage.
    """
    if not isinstance(metric, KernelMetric):
        return
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((metric, points))):
        return
    for point in points:
        rows = jnp.atleast_2d(point)
        covered = np.asarray(jax.vmap(metric.coverage)(rows))
        if covered.min() < ON_SUPPORT:
            worst = int(covered.argmin())
            warnings.warn(
                f"no kernel of the metric reaches the point {np.asarray(rows[worst])}: coverage "
                f"{covered[worst]:.1e}, less than {ON_SUPPORT}. The metric is flat there, and "
                "knows nothing of data; raise the temperature, or start from `graph_path`.",
                OffSupportWarning,
                stacklevel=3,
            )


def _positive(value: ArrayLike, name: str, dtype: jnp.dtype) -> Float[Array, ""]:
    number = as_number(value, name, dtype)
    if not isinstance(number, jax.core.Tracer) and not number > 0:
        raise ValueError(f"`{name}` must be positive, got {value}.")
    check_finite(number, name)
    return number
