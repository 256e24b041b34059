"""A metric learned from data in the space of the data."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._typing import Point, as_array, as_point, check_finite
from jaxgeo.metrics.kernel import _positive


@final
class LocallyAdaptiveMetric(eqx.Module):
    r"""The inverse of the local variance of data along every coordinate, diagonal.

    $$ g(x) = \operatorname{diag}\Big(\sum_n w_n(x)\,(x_n - x)^2 + \rho\Big)^{-1}, \qquad
       w_n(x) = e^{-|x_n - x|^2 / 2\sigma^2} $$

    Dear, 1/ρ, far from the data, so that geodesics keep to them. As the ambient metric of a
    `PullbackMetric` it makes latent geodesics decode to what looks like data.

    **Arguments:**

    - `data`: $x_n$, `(N, m)`.
    - `bandwidth`: σ > 0, in the units of x.
    - `floor`: ρ > 0, in those of x². What a step costs off the data is $1/\rho$.

    **Returns:** `metric(x)`, `(m, m)`, diagonal.

    **Fails:** `ValueError` on shapes and on concrete numbers that are not positive.

    **Cost:** O(N m), and the (m, m) matrix, of which all but the diagonal is zero.

    **Example:**

    >>> data = jnp.array([[-1.0, 0.0], [1.0, 0.0]])
    >>> metric = LocallyAdaptiveMetric(data, bandwidth=1.0, floor=0.1)
    >>> metric(jnp.zeros(2)).diagonal().round(3).tolist()
    [0.762, 10.0]

    **Reference:** Arvanitidis, Hansen & Hauberg (2016), *A locally adaptive normal distribution*,
    eq. 4; as ambient metric: Arvanitidis, Hauberg & Schölkopf (2021), *Geometrically enriched
    latent spaces*, section 3.
    """

    data: Float[Array, "N m"]
    bandwidth: Float[Array, ""]
    floor: Float[Array, ""]

    def __init__(self, data: ArrayLike, *, bandwidth: ArrayLike, floor: ArrayLike) -> None:
        self.data = as_array(data, "data")
        if self.data.ndim != 2 or 0 in self.data.shape:
            raise ValueError(f"`data` must have shape (N, m), got {self.data.shape}.")
        if not jnp.issubdtype(self.data.dtype, jnp.floating):
            raise ValueError(f"`data` must hold floats, got dtype {self.data.dtype}.")
        check_finite(self.data, "data")
        self.bandwidth = _positive(bandwidth, "bandwidth", self.data.dtype)
        self.floor = _positive(floor, "floor", self.data.dtype)

    def __call__(self, x: Point) -> Float[Array, "m m"]:
        x = as_point(x, "x", self.data[0])
        squares = (self.data - x[None, :]) ** 2
        weights = jnp.exp(-jnp.sum(squares, axis=1) / (2 * self.bandwidth**2))
        return jnp.diag(1 / (jnp.sum(weights[:, None] * squares, axis=0) + self.floor))
