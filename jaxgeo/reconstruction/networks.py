"""The networks of a curved exponential family, and of a Fisher metric."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, solve_lower
from jaxgeo._typing import Point, Scalar, Vector
from jaxgeo.reconstruction.summaries import standardisation

MEMBERS = 4
"""Networks of an `Ensemble`, whose errors by chance are half as large as those of one."""


class Perceptron(nnx.Module):
    """Dense layers with GELU between them, of (x − center) / spread; the last one starts at zero
    if `still`."""

    def __init__(
        self,
        center: Float[np.ndarray, " m"],
        spread: Float[np.ndarray, " m"],
        sizes: tuple[int, ...],
        *,
        dtype,
        rngs: nnx.Rngs,
        still: bool = False,
    ):
        self.center = nnx.Variable(jnp.asarray(center, dtype))
        self.spread = nnx.Variable(jnp.asarray(spread, dtype))
        he = nnx.initializers.he_normal()
        last = nnx.initializers.zeros_init() if still else nnx.initializers.lecun_normal()
        inits = [he] * (len(sizes) - 1) + [last]
        self.layers = nnx.List(
            [
                nnx.Linear(m, n, kernel_init=init, param_dtype=dtype, rngs=rngs)
                for (m, n), init in zip(
                    itertools.pairwise((len(center), *sizes)), inits, strict=True
                )
            ]
        )

    def standardised(self, x: Float[Array, " m"]) -> Float[Array, " m"]:
        return (x - self.center[...]) / self.spread[...]

    def __call__(self, x: Float[Array, " m"]) -> Float[Array, " n"]:
        *hidden, last = self.layers
        x = self.standardised(x)
        for layer in hidden:
            x = jax.nn.gelu(layer(x))
        return last(x)


class Ensemble(nnx.Module):
    """The mean of `MEMBERS` perceptrons, three layers of 64 units, of a point standardised as if
    uniform over the domain. Each is trained to be right by itself: errors that the chance of its
    start and its steps leaves average out."""

    def __init__(self, domain: Float[np.ndarray, "d 2"], outputs: int, **options):
        center, deviation = domain.mean(axis=1), np.ptp(domain, axis=1) / 12**0.5
        sizes = (64, 64, 64, outputs)
        self.members = nnx.List(
            [Perceptron(center, deviation, sizes, **options) for _ in range(MEMBERS)]
        )

    def each(self, t: Point) -> Float[Array, "members outputs"]:
        return jnp.stack([member(t) for member in self.members])

    def __call__(self, t: Point) -> Float[Array, " outputs"]:
        return jnp.mean(self.each(t), axis=0)


class CurvedFamily(nnx.Module):
    r"""$p(x|t) = h(x) \exp(\langle f(x), \eta(t)\rangle - A(t))$ with $f$ and $\eta$ in R^k, all
    three networks, of the features $\varphi$ of a sample and of the point t. A is of its own: no
    function of η need be convex, so η may jump, as natural coordinates do where phases coexist."""

    def __init__(
        self,
        features: Float[np.ndarray, "n m"],
        domain: Float[np.ndarray, "d 2"],
        *,
        statistics: int,
        width: int,
        depth: int,
        dtype,
        rngs: nnx.Rngs,
    ):
        center, spread = standardisation(features)
        self.linear = nnx.Linear(
            len(center), statistics, use_bias=False, param_dtype=dtype, rngs=rngs
        )
        sizes = (*depth * (width,), statistics)
        self.bent = Perceptron(center, spread, sizes, dtype=dtype, rngs=rngs)
        self.chart = Ensemble(domain, statistics + 1, dtype=dtype, rngs=rngs)

    def statistic(self, features: Float[Array, " m"]) -> Float[Array, " k"]:
        return self.linear(self.bent.standardised(features)) + self.bent(features)

    def coordinates(self, t: Point) -> tuple[Float[Array, " k"], Scalar]:
        """(η(t), A(t))."""
        both = self.chart(t)
        return both[:-1], both[-1]

    def log_weight(self, f: Float[Array, " k"], t: Point) -> Scalar:
        """⟨f, η(t)⟩ − A(t): log p(x|t) up to a function of x."""
        eta, normalizer = self.coordinates(t)
        return jnp.dot(f, eta, precision=HIGHEST) - normalizer

    def score(self, f: Float[Array, " k"], t: Point) -> Vector:
        """∂/∂t log p(x|t) of a sample with the statistic f."""
        return jax.grad(self.log_weight, argnums=1)(f, t)


class InformationMetric(nnx.Module):
    r"""A Fisher metric as a network: $g(t)^{-1} = M^\top M$ with M lower triangular,

    $M = D(t)\, U(t)\, M_0$, D diagonal and positive, U of unit diagonal, both 1 before training:
    positive definite by construction, and as smooth as its GELUs."""

    def __init__(
        self,
        domain: Float[np.ndarray, "d 2"],
        typical: Float[np.ndarray, "d d"],
        *,
        dtype,
        rngs: nnx.Rngs,
    ):
        d = len(domain)
        whitener = np.linalg.inv(np.linalg.cholesky(typical))
        self.whitener = nnx.Variable(jnp.asarray(whitener, dtype))
        self.entries = Ensemble(domain, d * (d + 1) // 2, dtype=dtype, rngs=rngs, still=True)

    def roots(self, t: Point) -> Float[Array, "members d d"]:
        """M(t), with which a score M s has unit covariance, of each member."""
        return jax.vmap(self._root)(self.entries.each(t))

    def _root(self, raw: Float[Array, " entries"]) -> Float[Array, "d d"]:
        d = len(self.whitener[...])
        unit = jnp.eye(d, dtype=raw.dtype).at[jnp.tril_indices(d, -1)].set(raw[d:])
        lower = jnp.exp(raw[:d])[:, None] * unit
        return jnp.dot(lower, self.whitener[...], precision=HIGHEST)

    def __call__(self, t: Point) -> Float[Array, "d d"]:
        inverse = solve_lower(self._root(self.entries(t)), jnp.eye(len(t), dtype=t.dtype))
        return jnp.dot(inverse, inverse.T, precision=HIGHEST)
