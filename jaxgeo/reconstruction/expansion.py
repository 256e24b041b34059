"""The polynomial of three or more smooth coordinates that samples ask for, and its statistic.

Moments and scatter are linear in the coefficients of a `PolynomialPotential`, so they solve linear
equations, and what the samples leave open of them is known. The statistic that belongs to it is
found from the same equations: few samples are near each other in many dimensions, so that pairs
say little there.
"""

import functools
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from jaxgeo._batching import each
from jaxgeo.reconstruction.charts import Jets
from jaxgeo.reconstruction.convexity import nearest, with_eigenvalues
from jaxgeo.reconstruction.jackknife import groups
from jaxgeo.reconstruction.polynomials import PolynomialPotential
from jaxgeo.reconstruction.profile import evident_penalty

SAMPLES_PER_COEFFICIENT = 48
"""No polynomial with more coefficients than so many samples each is tried."""
CHUNK = 512
"""Samples whose equations are written down at once."""
EVIDENCE = 10
"""Updates of the ridge of every degree towards the greatest evidence."""
FLOOR = 1e-2
"""The metrics that set weights are at least this much of their mean."""
LEAST = 0.01
"""Of a sample's metric that sets its weight, the potential's is to be at least this much."""
PLANES, ROUNDS = 64, 20
"""Samples that convexity is newly asked of in a round; rounds at most."""
JITTER = 1e-9
"""Of the diagonal of the equations: what rounding leaves of directions that no sample fixes."""


def bounded(metric: np.ndarray) -> np.ndarray:
    """Metrics (n, d, d) with eigenvalues of at least `FLOOR` of their mean's size."""
    unit = np.sqrt(np.diagonal(metric.mean(axis=0)))
    return with_eigenvalues(lambda values: np.maximum(values, FLOOR), metric, unit)


@eqx.filter_jit
def _slopes(potential: PolynomialPotential, t: Float[Array, "n d"]) -> Float[Array, "n M d"]:
    return jax.vmap(jax.jacfwd(potential.columns))(t)


@eqx.filter_jit
def _bends(potential: PolynomialPotential, t: Float[Array, "n d"]) -> Float[Array, "n M d d"]:
    return jax.vmap(jax.jacfwd(jax.jacfwd(potential.columns)))(t)


class Equations:
    r"""The normal equations of the coefficients c, by samples' parameters and statistics.

    In frames in which the metric is the identity, $\nabla_t A - J^\top f$ has mean 0 and
    covariance $g(t)$ of A; both are linear in c."""

    def __init__(self, potential: PolynomialPotential, jets: Jets, metric: np.ndarray):
        self.potential, self.jets = potential, jets
        self.frames = np.linalg.inv(np.linalg.cholesky(metric))

    def _parameters(self):
        for begin in range(0, len(self.jets.t), CHUNK):
            rows = slice(begin, begin + CHUNK)
            yield rows, jnp.asarray(self.jets.t[rows], self.potential.domain.dtype)

    def chunks(self, scatter: bool):
        """Rows, their J f in frames, gradients (k, d, M) in frames, Hessians (k, d, d, M)."""
        for rows, t in self._parameters():
            pull = self.frames[rows] @ self.jets.jacobian[rows].transpose(0, 2, 1)
            gradient = self._gradients(t)
            found: list[Any] = [rows, pull, self.frames[rows] @ gradient]
            if scatter:
                found.append(self._hessians(rows, t, gradient))
            yield found

    def _gradients(self, t) -> np.ndarray:
        return np.asarray(_slopes(self.potential, t), np.float64).transpose(0, 2, 1)

    def _hessians(self, rows, t, gradient) -> np.ndarray:
        hessian = np.asarray(_bends(self.potential, t), np.float64).transpose(0, 2, 3, 1)
        mean = np.linalg.solve(self.jets.jacobian[rows].transpose(0, 2, 1), gradient)
        hessian = hessian - np.einsum("nkab,nkm->nabm", self.jets.second[rows], mean)
        hessian = np.einsum("nia,nabm->nibm", self.frames[rows], hessian)
        return np.einsum("njb,nibm->nijm", self.frames[rows], hessian)

    def by_means(self, values: np.ndarray) -> np.ndarray:
        """The c (M, ...) of least squares of the means alone, of values (n, d, ...)."""
        matrix: Any = 0.0
        moments: Any = 0.0
        for rows, pull, gradient in self.chunks(scatter=False):
            flat = gradient.reshape(-1, gradient.shape[-1])
            seen = pull @ values[rows].reshape(*pull.shape[:2], -1)
            matrix = matrix + flat.T @ flat
            moments = moments + flat.T @ seen.reshape(len(flat), -1)
        return Solved(matrix).solve(moments).reshape(len(moments), *values.shape[2:])

    def score_matching(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""The A (r, d) of the statistic $f = A^\top\varphi$, and its deviations
        (GROUPS, r, d) without each group of samples (`jackknife.py`).

        A and the coefficients of ψ, linear both, minimise

        $$ E\bigl[\tfrac12 (f - \nabla\psi)^\top M (f - \nabla\psi)
           + \nabla\cdot M (f - \nabla\psi)\bigr],
           \quad M = J W g^{-1} W J^\top, \quad W_{ii}^2 = 1 - s_i^2, $$

        with the parameters scaled by the domain to s in [−1, 1]. That is least at the true
        posterior (Hyvärinen 2005, JMLR 6, 695; with a weight that vanishes where the prior ends,
        Liu, Kanamori & Williams 2022, JMLR 23, 212), is least in A, whatever the coordinates. So
        the mean of f is to be a gradient, which says most about A where d > 1. By parts the
        divergence of M f is $-\mathrm{tr}\,M\,\partial E[f|\eta]/\partial\eta$, with the mean of
        φ by regression; that of M ∇ψ has mean 0."""
        n, d = self.jets.t.shape
        lower, upper = np.asarray(self.potential.domain, np.float64).T
        inside = np.sqrt(np.maximum(1 - (2 * (self.jets.t - lower) / (upper - lower) - 1) ** 2, 0))
        frames = self.frames * inside[:, None, :]

        def sums(rows):
            t = jnp.asarray(self.jets.t[rows], self.potential.domain.dtype)
            columns = np.c_[np.ones(len(rows)), each(self.potential.columns, t)]
            columns = columns.astype(np.float64)
            gradient = frames[rows] @ self._gradients(t)
            pull = frames[rows] @ self.jets.jacobian[rows].transpose(0, 2, 1)
            flat = gradient.reshape(-1, gradient.shape[-1])
            slopes = gradient.transpose(0, 2, 1) @ pull
            return [
                columns.T @ columns,
                columns.T @ features[rows],
                slopes.sum(axis=0),
                flat.T @ flat,
                np.tensordot(slopes, features[rows], axes=(0, 0)).reshape(flat.shape[1], -1),
                scatter_by(pull.transpose(0, 2, 1) @ pull, features[rows]),
            ]

        def solved(regression, moments, slopes, normal, cross, scatter):
            means = Solved(regression).solve(moments)[1:]
            rest = scatter - cross.T @ Solved(normal).solve(cross)
            rest = rest / (1 - len(normal) / (d * regression[0, 0]))
            return Solved(rest).solve((slopes.T @ means).reshape(-1, 1)).reshape(d, -1).T

        parts = [
            totals(map(sums, np.array_split(rows, -(-len(rows) // CHUNK)))) for rows in groups(n)
        ]
        every = totals(parts)
        found = solved(*every)
        without = [solved(*(a - b for a, b in zip(every, group, strict=True))) for group in parts]
        return found, np.stack(without) - found

    def by_scatter(self, values, doubts) -> tuple[np.ndarray, np.ndarray]:
        """The c of both, residuals being those from the means alone, kept small by the evidence,
        convex at every sample; and draws (K, M) of what is left open, with `doubts` (n, d, K) of
        the values."""
        i, j = np.triu_indices(values.shape[1])
        root = np.where(i == j, 0.5, 1.0) ** 0.5
        every = np.concatenate([values[:, :, None], doubts], axis=2)
        by_means = self.by_means(every)
        matrix: Any = 0.0
        moments: Any = 0.0
        for rows, pull, gradient, hessian in self.chunks(scatter=True):
            flat = gradient.reshape(-1, gradient.shape[-1])
            seen = pull @ every[rows]
            rest = seen - gradient @ by_means
            # to first order in the doubts
            products = rest[:, i] * rest[:, j, :1] + rest[:, i, :1] * rest[:, j]
            products[:, :, 0] /= 2
            bends = (hessian[:, i, j] * root[:, None]).reshape(-1, flat.shape[-1])
            matrix = matrix + flat.T @ flat + bends.T @ bends
            moments = moments + flat.T @ seen.reshape(len(flat), -1)
            moments = moments + bends.T @ (products * root[:, None]).reshape(len(bends), -1)
        solved = Solved(matrix + self.evident_ridge(matrix, moments[:, 0]))
        found, shifts = np.split(solved.solve(moments), [1], axis=1)
        noise = np.random.default_rng(1).normal(size=shifts.shape)
        convex = self.convex(found[:, 0], solved)
        return convex, (convex[:, None] + shifts + solved.color(noise)).T

    def evident_ridge(self, matrix: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """The diagonal (M, M) that keeps coefficients small, as strong for each degree as makes
        the evidence greatest (MacKay 1992, Neural Comput. 4, 415). Degree 0 is free: a size that
        so few coefficients have in common is not known from them."""
        groups = self.potential.degrees()
        found = Solved(matrix).solve(moments[:, None])[:, 0]
        squares = np.maximum(np.bincount(groups, found**2), 1e-12)
        penalty = (groups > 0) * (np.bincount(groups) / squares)[groups]
        for _ in range(EVIDENCE):
            information = matrix + np.diag(penalty)
            found = Solved(information).solve(moments[:, None])[:, 0]
            penalty = evident_penalty(penalty, found, information, groups)
        return np.diag(penalty)

    def convex(self, coefficients: np.ndarray, solved: "Solved") -> np.ndarray:
        """The c nearest to the coefficients, in standard errors, for which the metric of every
        sample is at least `LEAST` of the one that sets its weight: by cutting planes.

        **Fails:** `LinAlgError` if there are none, or not in `ROUNDS`."""
        white = solved.color(np.eye(len(coefficients)))
        planes, found = np.zeros((0, len(coefficients))), coefficients
        for _ in range(ROUNDS):
            potential = self.potential.with_coefficients(found)
            metrics = [
                np.asarray(each(potential.metric, t), np.float64) for _, t in self._parameters()
            ]
            seen = self.frames @ np.concatenate(metrics) @ self.frames.transpose(0, 2, 1)
            lowest, vectors = np.linalg.eigh(seen)
            rows = np.argsort(lowest[:, 0])[:PLANES]
            rows = rows[lowest[rows, 0] < LEAST]
            if len(rows) == 0:
                return found
            t = jnp.asarray(self.jets.t[rows], self.potential.domain.dtype)
            v = vectors[rows, :, 0]
            hessian = self._hessians(rows, t, self._gradients(t))
            planes = np.concatenate([planes, np.einsum("ni,nijm,nj->nm", v, hessian, v)])
            found = coefficients + white @ nearest(
                planes @ white, 2 * LEAST - planes @ coefficients
            )
        raise np.linalg.LinAlgError(f"not convex at {len(rows)} samples after {ROUNDS} rounds")

    def losses(self, coefficients: np.ndarray, values: np.ndarray) -> np.ndarray:
        """χ² of every sample's statistic about its mean."""
        found: list[np.ndarray] = []
        for rows, pull, gradient in self.chunks(scatter=False):
            rest = np.einsum("nak,nk->na", pull, values[rows]) - gradient @ coefficients
            found.append(np.sum(rest**2, axis=1))
        return np.concatenate(found)


def totals(parts: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    """The sums of each entry of the lists."""
    return functools.reduce(lambda a, b: [x + y for x, y in zip(a, b, strict=True)], parts)


def scatter_by(weights: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Σ M ⊗ r rᵀ (d r, d r) over samples with weights M (n, d, d) and residuals r (n, r)."""
    d, r = weights.shape[1], rest.shape[1]
    found = np.empty((d, r, d, r))
    for k in range(d):
        for m in range(k, d):
            found[k, :, m] = found[m, :, k] = (rest * weights[:, k, [m]]).T @ rest
    return found.reshape(d * r, d * r)


class Solved:
    """A positive definite matrix, factored in units of its own diagonal."""

    def __init__(self, matrix: np.ndarray):
        self.unit = 1 / np.sqrt(np.diagonal(matrix))
        scaled = matrix * np.outer(self.unit, self.unit)
        self.factor = cho_factor(scaled + JITTER * np.eye(len(matrix)), lower=True)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """For (m, k)."""
        return self.unit[:, None] * cho_solve(self.factor, self.unit[:, None] * b)

    def color(self, noise: np.ndarray) -> np.ndarray:
        """White noise (m, k), with the inverse for covariance."""
        lower = np.tril(self.factor[0])
        return self.unit[:, None] * solve_triangular(lower, noise, trans="T", lower=True)
