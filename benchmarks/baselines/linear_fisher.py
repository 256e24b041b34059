"""The linear Fisher information of a learned summary: a metric without a potential."""

import itertools
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from baselines.data import (
    Baseline,
    prepare,
)
from baselines.statistic import REGRESSION, regressor
from jaxgeo._typing import Chart, Point, Scalar
from jaxgeo.reconstruction import Schedule
from jaxgeo.training import minimize

SMOOTHING = Schedule(steps=6_000, learning_rate=3e-3, batch_size=512)


class MeanAndCovariance(nnx.Module):
    """Smooth E[s|t] and a Cholesky factor of Cov[s|t], of a point of the unit cube."""

    def __init__(self, d: int, outputs: int, *, width: int, rngs: nnx.Rngs):
        self.outputs = outputs
        sizes = (d, width, width, outputs + outputs * (outputs + 1) // 2)
        self.layers = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in itertools.pairwise(sizes)])

    def __call__(self, unit: Point) -> tuple[Array, Array]:
        h = 4 * unit - 2
        for layer in list(self.layers)[:-1]:
            h = jax.nn.silu(layer(h))
        h = self.layers[-1](h)
        k = self.outputs
        lower = jnp.zeros((k, k), h.dtype).at[jnp.tril_indices(k)].set(h[k:])
        diagonal = jax.nn.softplus(jnp.diagonal(lower)) + 1e-4
        return h[:k], jnp.tril(lower, -1) + jnp.diag(diagonal)


def _gaussian_mismatch(model: MeanAndCovariance, batch, constants: None) -> Scalar:
    """−log N(s; m(t), L Lᵀ) up to a constant."""
    unit, statistics = batch

    def one(u: Point, s: Array) -> Scalar:
        mean, factor = model(u)
        white = jax.scipy.linalg.solve_triangular(factor, s - mean, lower=True)
        return 0.5 * jnp.sum(white**2) + jnp.sum(jnp.log(jnp.diagonal(factor)))

    return jnp.mean(jax.vmap(one)(unit, statistics))


class LinearFisherMetric(eqx.Module):
    r"""$g(t) = M^\top \mathrm{Cov}[s|t]^{-1} M$, $M = \partial E[s|t] / \partial t$."""

    model: MeanAndCovariance
    bounds: Float[Array, "d 2"]

    def __call__(self, t: Point) -> Float[Array, "d d"]:
        def mean_and_factor(t):
            lower, upper = self.bounds[:, 0], self.bounds[:, 1]
            return self.model((t - lower) / (upper - lower))

        slope, _ = jax.jacfwd(mean_and_factor)(t)
        _, factor = mean_and_factor(t)
        white = jax.scipy.linalg.solve_triangular(factor, slope, lower=True)
        return white.T @ white


def linear_fisher(
    samples: Any,
    parameters: Any,
    *,
    key: jax.Array,
    domain: Any,
    chart: Chart,
    progress: bool = False,
    features: int = 32,
    width: int = 64,
    regression: Schedule = REGRESSION,
    moments: Schedule = SMOOTHING,
) -> Baseline:
    r"""Linear Fisher information of the regressor's output (Kanitscheider et al. 2015).

    $$ g(t) = \frac{\partial E[s|t]}{\partial t}^\top \mathrm{Cov}[s|t]^{-1}
       \frac{\partial E[s|t]}{\partial t}, $$

    with $s(x) \approx E[t|x]$ a regressor's output, and its mean and covariance smooth functions
    of t by the Gaussian likelihood, on samples that the regressor was not taught on. A lower bound
    of the Fisher information, unchanged by any linear map of s; it needs no exponential family,
    and has no potential. "Measuring Fisher information accurately in correlated neural
    populations", PLoS Comput. Biol. 11, e1004218.

    **Changed:** the paper's two-point differences became derivatives of a smooth regression, and
    its population of neurons the output of a network.
    """
    start = time.perf_counter()
    keys = jax.random.split(key, 5)
    data = prepare(samples, parameters, domain, chart, keys[0])
    s, rows, facts = regressor(data.t, data, keys[1:3], features, regression, progress)
    s = (s - s.mean(axis=0)) / s.std(axis=0)
    columns = (jnp.asarray(data.unit[rows]), jnp.asarray(s))
    cut = len(s) - len(data.held_out)
    model = MeanAndCovariance(data.unit.shape[1], s.shape[1], width=width, rngs=nnx.Rngs(keys[3]))
    model, trace = minimize(
        _gaussian_mismatch, model, tuple(a[:cut] for a in columns),
        tuple(a[cut:] for a in columns), key=keys[4], schedule=moments,
        label="mean and covariance", progress=progress,
    )  # fmt: skip
    metric = LinearFisherMetric(model, jnp.asarray(data.bounds, jnp.float32))
    seconds = time.perf_counter() - start
    likelihood = (float(trace.training_loss[-1]), float(trace.held_out_loss.min()))
    settings = facts | {"statistics": s.shape[1], "gaussian_score": likelihood}
    settings["tuned"] = "nothing but the number of steps"
    return Baseline(None, chart, metric, seconds, settings)
