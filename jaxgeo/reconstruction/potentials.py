"""Networks for the log-partition function: smooth, and convex by construction."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxgeo._typing import Point, Scalar


class ConvexPotential(nnx.Module):
    r"""An input-convex network: a smooth potential whose Hessian is positive definite everywhere.

    $$ h_1 = \sigma(W_1 x + b_1), \quad
       h_{k+1} = \sigma\bigl(\mathrm{softplus}(U_k) h_k + W_{k+1} x + b_{k+1}\bigr), $$
    $$ \psi(\eta) = s \bigl[\mathrm{softplus}(a)^\top h_n + c^\top x
       + \tfrac12 \mathrm{softplus}(q) \|x\|^2\bigr], \quad x = (\eta - m) / w, $$

    with $\sigma$ the softplus. Every $h_k$ is convex in $\eta$ because $\sigma$ is convex and
    increasing and the weights on $h$ are positive (Amos, Xu, Kolter 2017); softplus instead of a
    rectifier makes the Hessian smooth, and the last term keeps it positive definite where the
    units saturate.

    The units bend on hyperplanes through given `points`: at a phase boundary the log-partition
    has a crease, and a network whose creases start away from the data finds it slowly.

    **Arguments:**

    - `points`: (m, d) natural coordinates that the potential is to be fitted on. They fix the
      standardisation $m, w$ and the places where the units bend.
    - `scale`: $s$, the natural size of the potential (a log-partition function is extensive).
    - `width`, `depth`: units in a layer, number of layers.
    - `sharpness`: how fast a unit bends, in inverse standard deviations of `points`.
    - `rngs`: flax random streams (`nnx.Rngs(key)`).
    """

    def __init__(
        self,
        points: Float[Array, "m d"],
        *,
        scale: float | Float[Array, ""] = 1.0,
        width: int = 64,
        depth: int = 3,
        sharpness: float = 4.0,
        rngs: nnx.Rngs,
    ):
        m, d = points.shape
        dtype = points.dtype
        self.center = nnx.Variable(jnp.mean(points, axis=0))
        self.spread = nnx.Variable(jnp.std(points, axis=0))
        self.scale = nnx.Variable(jnp.asarray(scale, dtype))
        x = (points - self.center[...][None, :]) / self.spread[...][None, :]
        weights, biases = [], []
        for _ in range(depth):
            key = rngs.params()
            weight = sharpness * jax.random.normal(key, (d, width), dtype) / d**0.5
            at = x[jax.random.randint(rngs.params(), (width,), 0, m)]
            weights.append(weight)
            biases.append(-jnp.sum(weight * at.T, axis=0))
        mean_of_units = jnp.log(jnp.expm1(jnp.asarray(1 / width, dtype)))  # softplus(.) = 1/width
        self.weights = nnx.Param(jnp.stack(weights))
        self.biases = nnx.Param(jnp.stack(biases))
        noise = 0.5 * jax.random.normal(rngs.params(), (depth - 1, width, width), dtype)
        self.positive = nnx.Param(mean_of_units + noise)
        self.last = nnx.Param(jnp.full((width,), mean_of_units))
        self.linear = nnx.Param(jnp.zeros((d,), dtype))
        self.quadratic = nnx.Param(jnp.asarray(-6.0, dtype))

    def __call__(self, eta: Point) -> Scalar:
        x = (eta - self.center[...]) / self.spread[...]
        first = jax.nn.softplus(x @ self.weights[0] + self.biases[0])

        def layer(h, parameters):
            positive, weight, bias = parameters
            return jax.nn.softplus(h @ jax.nn.softplus(positive) + x @ weight + bias), None

        rest = (self.positive[...], self.weights[1:], self.biases[1:])
        h, _ = jax.lax.scan(layer, first, rest)
        bowl = 0.5 * jax.nn.softplus(self.quadratic[...]) * jnp.sum(x**2)
        return self.scale[...] * (
            h @ jax.nn.softplus(self.last[...]) + x @ self.linear[...] + bowl
        )
