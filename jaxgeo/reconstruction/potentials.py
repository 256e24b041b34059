"""Networks for the log-partition function: smooth, and convex by construction."""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Point, Scalar

_dot = functools.partial(jnp.dot, precision=HIGHEST)


@jax.custom_jvp
def _unit(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """softplus(x) to a rounding of 1; each derivative costs one exponential (those of logaddexp
    cost several, and Hessians on grids a third more)."""
    return jnp.maximum(x, 0) + jnp.log(1 + jnp.exp(-jnp.abs(x)))


@jax.custom_jvp
def _slope(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The derivative of `_unit`, 1/(1 + e⁻ˣ)."""
    small = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, jnp.ones_like(x), small) / (1 + small)


@_unit.defjvp
def _(primals, tangents):
    return _unit(*primals), _slope(*primals) * tangents[0]


@_slope.defjvp
def _(primals, tangents):
    slope = _slope(*primals)
    return slope, slope * (1 - slope) * tangents[0]


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
        places = _places(points, jnp.asarray(sharpness, points.dtype), rngs.params(), width, depth)
        center, spread, weights, biases, positive, last = places
        self.center, self.spread = nnx.Variable(center), nnx.Variable(spread)
        self.scale = nnx.Variable(jnp.asarray(scale, points.dtype))
        self.weights, self.biases = nnx.Param(weights), nnx.Param(biases)
        self.positive, self.last = nnx.Param(positive), nnx.Param(last)
        self.linear = nnx.Param(jnp.zeros_like(center))
        self.quadratic = nnx.Param(jnp.asarray(-6.0, points.dtype))

    def __call__(self, eta: Point) -> Scalar:
        x = (eta - self.center[...]) / self.spread[...]
        weights, biases, positive = self.weights[...], self.biases[...], self.positive[...]
        h = _unit(x @ weights[0] + biases[0])
        for k in range(len(positive)):  # a loop of JAX's would be slower
            h = _unit(h @ jax.nn.softplus(positive[k]) + x @ weights[k + 1] + biases[k + 1])
        bowl = 0.5 * jax.nn.softplus(self.quadratic[...]) * jnp.sum(x**2)
        return self.scale[...] * (
            h @ jax.nn.softplus(self.last[...]) + x @ self.linear[...] + bowl
        )

    def hessian(self, eta: Point) -> Float[Array, "d d"]:
        r"""The Hessian at a point as a sum of squares, one of every unit,

        $$ \nabla^2\psi = \frac{s}{w\, w^\top} \Bigl[ \sum_k \sum_u
           \frac{\partial\psi}{\partial h_{ku}}\, \sigma''(a_{ku})\,
           \nabla a_{ku} \nabla a_{ku}^\top + \mathrm{softplus}(q)\, 1 \Bigr], $$

        with $a$ what a unit is given: no term is negative, so nothing cancels and floats leave it
        positive definite too. Two matrix products a layer besides the d of $\nabla a$, where
        derivatives of derivatives take 2 + 2d."""
        x = (eta - self.center[...]) / self.spread[...]
        weights, biases = self.weights[...], self.biases[...]
        positive = jax.nn.softplus(self.positive[...])
        inputs, tangents = [x @ weights[0] + biases[0]], [weights[0]]
        for k, mixing in enumerate(positive, 1):
            a, slope = inputs[-1], _slope(inputs[-1])
            inputs.append(_dot(_unit(a), mixing) + x @ weights[k] + biases[k])
            tangents.append(_dot(slope[None, :] * tangents[-1], mixing) + weights[k])
        i, j = np.triu_indices(x.size)
        weight = jax.nn.softplus(self.last[...])  # ∂ψ/∂h of the layer
        squares = jnp.zeros((i.size, weight.size), x.dtype)
        for k in reversed(range(len(weights))):
            slope = _slope(inputs[k])
            bend = weight * slope * (1 - slope)
            squares = squares + bend[None, :] * tangents[k][i] * tangents[k][j]
            if k > 0:
                weight = _dot(positive[k - 1], weight * slope)
        # of all layers at once: sums over units are dear
        upper = _dot(squares, jnp.ones_like(weight))
        bowl = jax.nn.softplus(self.quadratic[...]) * jnp.eye(x.size, dtype=x.dtype)
        place = np.zeros((x.size, x.size), int)
        place[i, j] = place[j, i] = np.arange(i.size)
        spread = self.spread[...]
        return self.scale[...] * (upper[place] + bowl) / (spread[None, :] * spread[:, None])


class MeanPotential(eqx.Module):
    r"""The mean of K networks trained from different beginnings,

    $$ \psi(\eta) = \tfrac1K \sum_k \psi_k(\eta), \quad
       \nabla^2\psi = \tfrac1K \sum_k \nabla^2\psi_k: $$

    convex like each of them, without most of what each has of its own.

    **Arguments:** `of` takes `ConvexPotential`s of one width and depth.

    **Fails:** `ValueError` from `of` if there is none, or if they differ in size.

    **Cost:** that of all of them, side by side.

    **Reference:** Lakshminarayanan, Pritzel & Blundell (2017), arXiv 1612.01474."""

    networks: ConvexPotential
    """Each array with a first axis for the networks."""

    @classmethod
    def of(cls, networks: Sequence[ConvexPotential]) -> "MeanPotential":
        if not networks:
            raise ValueError("a mean needs at least one network, got none")
        return cls(jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks))

    def __call__(self, eta: Point) -> Scalar:
        return jnp.mean(jax.vmap(lambda network: network(eta))(self.networks))

    def hessian(self, eta: Point) -> Float[Array, "d d"]:
        """The mean of the networks' own."""
        return jnp.mean(jax.vmap(lambda network: network.hessian(eta))(self.networks), axis=0)


@functools.partial(jax.jit, static_argnames=("width", "depth"))
def _places(points, sharpness, key, width, depth):
    """Standardisation, and the first weights of a `ConvexPotential`; compiled as one program."""
    d = points.shape[1]
    keys = jax.random.split(key, 3)
    center, spread = jnp.mean(points, axis=0), jnp.std(points, axis=0)
    x = (points - center[None, :]) / spread[None, :]
    weights = sharpness * jax.random.normal(keys[0], (depth, d, width), x.dtype) / d**0.5
    bends = x[jax.random.randint(keys[1], (depth, width), 0, len(points))]
    biases = -jnp.einsum("ldw,lwd->lw", weights, bends)
    mean_of_units = jnp.log(jnp.expm1(jnp.asarray(1 / width, x.dtype)))  # softplus(.) = 1/width
    noise = 0.5 * jax.random.normal(keys[2], (depth - 1, width, width), x.dtype)
    last = jnp.full((width,), mean_of_units)
    return center, spread, weights, biases, mean_of_units + noise, last
