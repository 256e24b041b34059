"""Natural coordinates: the parameters themselves, or learned."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxgeo._typing import Point


def identity(t: Point) -> Point:
    """The parameters themselves as natural coordinates."""
    return t


class LearnedChart(nnx.Module):
    r"""For families without natural coordinates: $\eta(t) = u + N(u)$.

    $u$ is the point scaled to $[-1, 1]^d$ over the domain, and $N$ a small network that starts at
    zero, so the chart starts as the identity and bends as far as the samples ask for. Any analytic
    two-dimensional metric is a Hessian metric in some chart; in d ≥ 3 none need be.
    """

    def __init__(self, domain: Float[Array, "d 2"], *, width: int = 32, rngs: nnx.Rngs):
        dtype = domain.dtype
        d = domain.shape[0]
        self.center = nnx.Variable(jnp.mean(domain, axis=1))
        self.halfwidth = nnx.Variable((domain[:, 1] - domain[:, 0]) / 2)
        self.first = nnx.Linear(d, width, rngs=rngs, param_dtype=dtype)
        self.second = nnx.Linear(width, width, rngs=rngs, param_dtype=dtype)
        self.last = nnx.Linear(
            width, d, rngs=rngs, param_dtype=dtype, kernel_init=nnx.initializers.zeros_init()
        )

    def __call__(self, t: Point) -> Point:
        u = (t - self.center[...]) / self.halfwidth[...]
        return u + self.last(jax.nn.tanh(self.second(jax.nn.tanh(self.first(u)))))
