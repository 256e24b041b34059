"""Natural coordinates that are learned, for families that do not come with any."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxgeo._typing import Point


class LearnedChart(nnx.Module):
    r"""Coordinates $\eta(t) = u + N(u)$, with $u$ the point scaled to $[-1, 1]^d$ over the domain.

    $N$ is a small network that starts at zero, so the chart starts as the identity and bends as
    far as the samples ask for (method: curved families have no natural coordinates of their own;
    any analytic two-dimensional metric is a Hessian metric in some chart, none need be in d ≥ 3).
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
