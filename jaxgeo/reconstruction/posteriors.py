"""The amortised posterior of the parameters given a sample, in Bregman form."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Chart, Point, Potential, Scalar
from jaxgeo.reconstruction.polynomials import log_normalizer


class Statistic(eqx.Module):
    r"""The learned sufficient statistic $f(x) = (\varphi(x) - m) A$ of one sample.

    $A$ is in nats per unit of natural coordinate, so $\mathrm{Cov}[f|\eta]$ is the metric."""

    summary: Callable
    mean: Float[Array, " m"]
    matrix: Float[Array, "m d"]

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " d"]:
        return jnp.dot(self.summary(x) - self.mean, self.matrix, precision=HIGHEST)


class BregmanPosterior(eqx.Module):
    r"""The posterior under the flat prior over `domain`,

    $$ p(t|x) \propto \exp\bigl(\langle f(x), \eta(t)\rangle - \psi(\eta(t))\bigr)
       \propto \exp\bigl(-D_\psi(\eta(t), \hat\eta(x))\bigr), \quad \nabla\psi(\hat\eta(x)) = f(x).
    $$
    """

    potential: Potential
    chart: Chart
    statistic: Callable
    domain: Float[Array, "d 2"]

    def log_weight(self, x: Shaped[Array, "..."], t: Point) -> Scalar:
        """The log posterior up to a constant in t; minus infinity outside the domain."""
        eta = self.chart(t)
        inside = jnp.all((t >= self.domain[:, 0]) & (t <= self.domain[:, 1]))
        weight = jnp.dot(self.statistic(x), eta, precision=HIGHEST)
        weight = weight - log_normalizer(self.potential, self.chart, t)
        return jnp.where(inside, weight, -jnp.inf)

    def on_nodes(self, x: Shaped[Array, "..."], nodes: Float[Array, "m d"]) -> Float[Array, " m"]:
        """The posterior probabilities of the (m, d) `nodes`, which stand for the whole domain."""
        return jax.nn.softmax(jax.vmap(lambda t: self.log_weight(x, t))(nodes))
