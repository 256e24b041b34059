"""What a fit minimises, each the mean over a batch: functions of (model, batch, constants)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, cholesky, cholesky_solve
from jaxgeo._typing import Chart, Point, Potential, Scalar
from jaxgeo.reconstruction.networks import CurvedFamily, InformationMetric
from jaxgeo.reconstruction.polynomials import log_normalizer
from jaxgeo.reconstruction.potentials import ConvexPotential

RIVALS = 256
"""Parameters among which a sample is to find its own: not all of a batch, whose logits would cost
more than the networks."""


def moment_mismatch(
    potential: ConvexPotential, batch: tuple[Array, Array], constants: None = None
) -> Float[Array, ""]:
    r"""Mean of $\|(\nabla\psi(\eta_i) - f_i) \cdot w / s\|^2$ over the rows $(\eta_i, f_i)$.

    Its minimum is $\nabla\psi(\eta) = E[f|\eta]$, the moment equation of an exponential family;
    $w$ and $s$, the potential's own standardisation, make it free of units."""
    eta, statistic = batch
    gradients = jax.vmap(jax.grad(lambda x, psi: psi(x), argnums=0), (0, None))(eta, potential)
    unit = potential.spread[...] / potential.scale[...]
    return jnp.mean(jnp.sum(((gradients - statistic) * unit[None, :]) ** 2, axis=1))


class PosteriorModel(nnx.Module):
    r"""A potential, and the readout $A$ of the statistic $f = A\varphi$, to be refined together.

    The readout moves by $A = A_0 + S\delta$, with $S$ a square root of the covariance that the
    pairs leave it: a unit step in any direction of $\delta$ is one standard error."""

    def __init__(
        self,
        potential: ConvexPotential,
        readout: Float[Array, "r d"],
        spread: Float[Array, "r*d r*d"],
    ):
        self.potential = potential
        self.start = nnx.Variable(readout)
        self.spread = nnx.Variable(spread)
        self.offset = nnx.Param(jnp.zeros(readout.size, readout.dtype))

    def readout(self) -> Float[Array, "r d"]:
        start = self.start[...]
        return start + (self.spread[...] @ self.offset[...]).reshape(start.shape)


def posterior_mismatch(
    model: PosteriorModel, batch: tuple[Array, Array, Array], constants: float | Array
) -> Float[Array, ""]:
    r"""Mean of $-\log p(\eta_i | x_i)$ among $\eta_i$ and as many $\eta_j$ of the prior as rows,

    with $p(\eta|x) \propto \exp(\langle f(x), \eta\rangle - \psi(\eta))$: jointly convex in $f$
    and $\psi$. Unlike the pairs it knows that $E[f|\eta]$ is a gradient, which ties what one
    component of $f$ says to the other. Batches are rows of $(\eta, \varphi, \eta_\text{prior})$;
    `constants` is the weight of $\tfrac12\|\delta\|^2$: one over the number of samples, and over
    that of the pairs that each is in, since what the pairs say of one sample they say together."""
    eta, features, prior = batch
    statistic = features @ model.readout()
    psi, psi_prior = (jax.vmap(lambda x: model.potential(x))(points) for points in (eta, prior))
    own = jnp.sum(statistic * eta, axis=1) - psi
    others = statistic @ prior.T - psi_prior[None, :]
    every = jnp.concatenate([own[:, None], others], axis=1)
    tie = 0.5 * constants * jnp.sum(model.offset[...] ** 2)
    return jnp.mean(jax.nn.logsumexp(every, axis=1) - own) + tie


def dispersion_mismatch(
    potential: ConvexPotential, batch: tuple[Array, Array], constants: None = None
) -> Float[Array, ""]:
    r"""Mean of $\tfrac12 r_i^\top g_i^{-1} r_i + \tfrac12 \log\det g_i$, a normal law's score,

    with $r_i = \nabla\psi(\eta_i) - f_i$ and $g = \nabla^2\psi$: least, over all means and
    covariances, at those of $f$ given $\eta$ (Dawid & Sebastiani 1999), which for an exponential
    family are $\nabla\psi$ and $g$. The scatter of the samples about their mean so informs the
    metric itself and not only its integral, and every direction counts by its own noise."""
    unit = potential.spread[...]

    def score(x: Point, f: Array) -> Float[Array, ""]:
        gradient = jax.grad(lambda x: potential(x))
        residual = (gradient(x) - f) * unit
        factor = cholesky(jax.jacfwd(gradient)(x) * jnp.outer(unit, unit))
        half_logdet = jnp.sum(jnp.log(jnp.diagonal(factor)))
        return 0.5 * residual @ cholesky_solve(factor, residual) + half_logdet

    return jnp.mean(jax.vmap(score)(*batch))


class PairModel(nnx.Module):
    """Everything that pairs of samples can teach: a summary, its linear readout and a chart.

    `chart` and `summary` are None where they are given and so already applied to the data."""

    def __init__(self, matrix: Float[Array, "r d"], chart: Any = None, summary: Any = None):
        self.size = nnx.Variable(jnp.sqrt(jnp.mean(matrix**2)))
        self.matrix = nnx.Param(matrix / self.size[...])
        self.chart = nnx.data(chart)
        self.summary = nnx.data(summary)

    def statistic(self, features: Array, constants: Any) -> Array:
        if self.summary is not None:
            mean, whitening = constants["whitening"]
            features = (jax.vmap(self.summary)(features) - mean[None, :]) @ whitening
        return features @ (self.size[...] * self.matrix[...])

    def coordinates(self, parameters: Array) -> Array:
        return parameters if self.chart is None else jax.vmap(self.chart)(parameters)


def pairwise_mismatch(model: PairModel, pairs: Array, constants: Any) -> Float[Array, ""]:
    r"""Mean of $-\log\sigma(\langle f(x_i) - f(x_j), \eta_i - \eta_j\rangle)$ over index pairs.

    The pairwise conditional likelihood of `statistic.py`, for models that are not linear."""
    inputs, parameters = constants["inputs"], constants["parameters"]
    i, j = pairs[:, 0], pairs[:, 1]
    f = [model.statistic(inputs[k], constants) for k in (i, j)]
    eta = [model.coordinates(parameters[k]) for k in (i, j)]
    return jnp.mean(jax.nn.softplus(-jnp.sum((f[0] - f[1]) * (eta[0] - eta[1]), axis=1)))


def posterior_cross_entropy(
    potential: Potential,
    chart: Chart,
    statistics: Float[Array, "n d"],
    parameters: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
) -> Float[Array, " n"]:
    r"""Nats by which each sample misses its own parameters among candidates from the prior,

    $$ -\log \frac{e^{\ell_i(t_i)}}{e^{\ell_i(t_i)} + \sum_j e^{\ell_i(t_j)}}, \qquad
       \ell_i(t) = \langle f_i, \eta(t)\rangle - \psi(\eta(t)). $$

    log(m + 1) for a posterior that knows nothing; least in the mean for the exact posterior."""
    eta, eta_c = jax.vmap(chart)(parameters), jax.vmap(chart)(candidates)
    psi, psi_c = (
        jax.vmap(lambda t: log_normalizer(potential, chart, t))(points)
        for points in (parameters, candidates)
    )

    def one(row: tuple[Point, Point, Array]) -> Float[Array, ""]:
        f, own, psi_own = row
        logits = (eta_c - own[None, :]) @ f - (psi_c - psi_own)
        return jax.nn.logsumexp(jnp.concatenate([jnp.zeros_like(logits[:1]), logits]))

    return jax.lax.map(one, (statistics, eta, psi), batch_size=64)


def likelihood_mismatch(
    family: CurvedFamily, batch: tuple[Array, Array], constants: None = None
) -> Scalar:
    r"""Mean of $-\log p(t_i | x_i)$ among `RIVALS` consecutive $t_j$ of the batch, over samples
    and the members of the chart: least at the true likelihood ratios, whatever the design of the
    $t_j$ (the normaliser A(t) is learned with the rest)."""
    features, t = batch
    f = jax.vmap(family.statistic)(features)
    charts = jax.vmap(family.chart.each, out_axes=1)(t)
    f, charts = (a.reshape(*a.shape[:-2], -1, RIVALS, a.shape[-1]) for a in (f, charts))
    return jnp.mean(jnp.stack([jax.vmap(nats_missed)(f, chart) for chart in charts]))


def nats_missed(f: Float[Array, "n k"], chart: Float[Array, "n k+1"]) -> Float[Array, " n"]:
    r"""$-\log p(t_i | x_i)$ among all $t_j$, of statistics and a chart's (η(t), A(t))."""
    weights = jnp.dot(f, chart[:, :-1].T, precision=HIGHEST) - chart[None, :, -1]
    return jax.nn.logsumexp(weights, axis=1) - jnp.diagonal(weights)


def information_mismatch(
    metric: InformationMetric, batch: tuple[Array, Array], constants: None = None
) -> Scalar:
    r"""Mean of $\tfrac12 s_i^\top g(t_i)^{-1} s_i + \tfrac12 \log\det g(t_i)$ over samples and the
    members of the ensemble: least at $g(t) = E[s s^\top | t]$, every direction weighed by its own
    size."""
    scores, t = batch

    def one(s, t):
        roots = metric.roots(t)
        white = jnp.dot(roots, s, precision=HIGHEST)
        halves = jnp.log(jnp.diagonal(roots, axis1=1, axis2=2))
        return (0.5 * jnp.sum(white**2) - jnp.sum(halves)) / len(roots)

    return jnp.mean(jax.vmap(one)(scores, t))
