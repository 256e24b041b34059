"""Metrics of decoders whose output is a probability law: Fisher's, and the expected pullback.

A decoder maps a latent point to the parameters of a law of the data. Laws are given in parameters
without bounds (logits, logarithms), so that any network can give them.
"""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Point, as_point
from jaxgeo.likelihoods import Likelihood
from jaxgeo.metrics.pullback import PullbackMetric


@final
class FisherPullbackMetric(eqx.Module):
    r"""The Fisher information that a decoded law has of the latent point.

    $$ g_{ij}(z) = \mathbb{E}_{x \sim p(\cdot|z)}\big[\partial_i \log p(x|z)\;
       \partial_j \log p(x|z)\big] $$

    A latent step is as long as the laws at its ends can be told apart by one sample: the
    right measure for Bernoulli, categorical and count data, where distances between means say
    little, and for Gaussians of varying deviation.

    **Arguments:**

    - `decoder`: point `(d,)` to the parameters of `likelihood`, an array or a tuple of them,
      twice differentiable. Any callable; modules are pytrees of traced parameters.
    - `likelihood`: a law of `jaxgeo.likelihoods`, or one of your own with their methods.

    **Returns:** `metric(z)`, `(d, d)`, symmetric.

    **Fails:** nothing here; where the law does not tell two directions apart, solvers report
    `metric_not_positive_definite`.

    **Cost:** d forward derivatives of `decoder`.

    **Example:** one Bernoulli variable of probability ½.

    >>> from jaxgeo.likelihoods import Bernoulli
    >>> FisherPullbackMetric(lambda z: 2 * z, Bernoulli())(jnp.zeros(1)).item()
    1.0

    **Reference:** Arvanitidis, González-Duque, Pouplin, Kalatzis & Hauberg (2022), *Pulling back
    information geometry*, eq. 8.
    """

    decoder: Any
    likelihood: Likelihood

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        parameters, push = jax.linearize(lambda y: self.decoder(y), z)

        def root(e: Array) -> Array:
            return jnp.ravel(self.likelihood.fisher_root(parameters, push(e)))

        rows = jax.vmap(root)(jnp.eye(z.size, dtype=z.dtype))
        return jnp.dot(rows, rows.T, precision=HIGHEST)


class _Moments(eqx.Module):
    """Mean and standard deviation of what is decoded, as one vector."""

    decoder: Any
    likelihood: Likelihood

    def __call__(self, z: Point) -> Float[Array, " m"]:
        parameters = self.decoder(z)
        both = self.likelihood.mean(parameters), self.likelihood.deviation(parameters)
        return jnp.concatenate([jnp.ravel(moment) for moment in both])


def expected_pullback_metric(decoder: Any, likelihood: Likelihood) -> PullbackMetric:
    r"""The expected pullback metric of a decoder that draws, $J_\mu^\top J_\mu + J_\sigma^\top
    J_\sigma$.

    For x = μ(z) + σ(z) ⊙ ε with one draw of ε for all z, the expectation of the random metric
    $J_x^\top J_x$. Where σ grows off the data, so does the metric, and geodesics keep to them.

    **Arguments:** `decoder`, point `(d,)` to the parameters of `likelihood`; `likelihood`, a law
    of `jaxgeo.likelihoods`.

    **Returns:** a `PullbackMetric`, of the map from z to (μ, σ), with its cheap acceleration.

    **Fails, cost:** as `PullbackMetric`.

    **Example:**

    >>> from jaxgeo.likelihoods import Gaussian
    >>> metric = expected_pullback_metric(lambda z: (3 * z, jnp.log(4 * z)), Gaussian())
    >>> round(metric(jnp.ones(1)).item(), 6)
    25.0

    **Reference:** Arvanitidis, Hansen & Hauberg (2018), *Latent space oddity*, eq. 10.
    """
    return PullbackMetric(_Moments(decoder, likelihood))
