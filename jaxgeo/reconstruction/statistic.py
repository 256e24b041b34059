r"""The sufficient statistic of a family from pairs of its samples: a convex problem.

For an exponential family $p(x|\eta) = h(x) \exp(\langle f(x), \eta\rangle - \psi(\eta))$ and two
samples $x_i \sim p(\cdot|\eta_i)$, $x_j \sim p(\cdot|\eta_j)$, the probability that they belong to
their parameters this way round, given the two samples and the two parameters, is

$$ \frac{p(x_i|\eta_i)\,p(x_j|\eta_j)}{p(x_i|\eta_i)\,p(x_j|\eta_j) + p(x_i|\eta_j)\,p(x_j|\eta_i)}
   = \sigma\bigl(\langle f(x_i) - f(x_j),\, \eta_i - \eta_j\rangle\bigr): $$

the potential, the base measure and the prior of $\eta$ all cancel (the pairwise conditional
likelihood of Liang & Qin 2000). With $f = A\varphi$ linear in the features of a summary this is
logistic regression, with one minimum, and it fixes the *scale* of $f$, hence of the metric:
nothing can collapse, and the potential is found afterwards from $\nabla\psi = E[f|\eta]$.
"""

import functools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from scipy.spatial import cKDTree

from jaxgeo import _mesh
from jaxgeo.reconstruction.samples import Pool

FOLDS = 4
SMALLEST_GROUP = 32
JACKKNIFE_BLOCKS = 16
RIDGES = tuple(10.0**-k for k in range(2, 10))
"""Ridge strengths that are tried, strongest first; held-out pairs choose."""


class Whitening(NamedTuple):
    """Features to uncorrelated directions of unit variance: `(features - mean) @ matrix`."""

    mean: np.ndarray
    matrix: np.ndarray
    penalty: np.ndarray
    """1 / (share of the features' variance) of each direction: what a ridge on the plain features
    becomes in the whitened ones, so that faint directions must earn their use."""


def whiten(features: np.ndarray, *, floor: float = 1e-5) -> Whitening:
    """Whitening of (n, m) features; directions fainter than `floor` of the strongest are dropped.

    The floor is where float32 features are only rounding."""
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features.astype(np.float64) - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = variance > floor**2 * variance[-1]
    variance, directions = variance[kept], directions[:, kept]
    return Whitening(mean, directions / np.sqrt(variance), variance.sum() / variance)


def pairs_at_all_scales(points: np.ndarray, k: int = 2) -> np.ndarray:
    """(p, 2) pairs of (n, d) points at every distance from neighbours to half the domain.

    The points are split at random into 1, 2, 4, ... groups, and each point is paired with its `k`
    nearest in its own group. Pairs too near to tell apart, and too far to mistake, say little;
    which distance says most depends on how much one sample knows, so all are there."""
    n = len(points)
    shuffled = np.random.default_rng(0).permutation(n)
    found = []
    for groups in 2 ** np.arange(max(1, int(np.log2(n / SMALLEST_GROUP)) + 1)):
        for group in range(groups):
            rows = shuffled[group::groups]
            _, near = cKDTree(points[rows]).query(points[rows], min(k, len(rows) - 1) + 1)
            first = np.repeat(rows, near.shape[1] - 1)
            found.append(np.sort(np.stack([first, rows[near[:, 1:].ravel()]], axis=1), axis=1))
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[pairs[:, 0] != pairs[:, 1]]


class Pairs(NamedTuple):
    """Differences of whitened features (p, r) and of natural coordinates (p, d) over pairs."""

    features: Float[Array, "p r"]
    coordinates: Float[Array, "p d"]
    number: int
    """Rows after so many are of no difference and say nothing."""

    @classmethod
    def between(cls, features, coordinates, pairs, mesh: Mesh | None = None):
        i, j = pairs.T
        count = len(pairs)
        if mesh is None:
            return cls(features[i] - features[j], coordinates[i] - coordinates[j], count)
        fill = np.zeros(-count % math.lcm(_grain(count), mesh.size), i.dtype)
        i, j = np.r_[i, fill], np.r_[j, fill]

        def laid(columns: np.ndarray) -> Array:
            return _mesh.spread(mesh, len(i), lambda rows: columns[i[rows]] - columns[j[rows]])

        return cls(laid(features), laid(coordinates), count)

    def padded(self) -> "Pairs":
        """With pairs of no difference up to one of a few counts: data sets of nearly one size then
        share what is compiled."""
        missing = -self.number % _grain(self.number)
        if missing == 0 or len(self.features) > self.number:
            return self
        rest = ((0, missing), (0, 0))
        return Pairs(jnp.pad(self.features, rest), jnp.pad(self.coordinates, rest), self.number)

    def margins(self, matrix: Float[Array, "r d"]) -> Float[Array, " p"]:
        """The log-odds that each pair is the right way round."""
        return jnp.sum((self.features @ matrix) * self.coordinates, axis=1)

    def held_margins(self, matrix) -> np.ndarray:
        """`margins` of the pairs alone, on the host."""
        return _mesh.to_host(self.margins(matrix))[: self.number]


def _grain(count: int) -> int:
    return 1 << max(0, count.bit_length() - 5)


def fit_matrix(
    pairs: Pairs, start: Float[Array, "r d"], penalty: Float[Array, " r"], max_iterations: int = 40
) -> tuple[Float[Array, "r d"], Float[Array, ""]]:
    """Minimise −Σ log σ(margin) + ½ Σ penalty_k ‖A_k‖² over A by Newton with step halving.

    Returns A and the last Newton decrement, relative to the objective: near 0 when converged.
    Cost: O(p (r d)²) an iteration."""
    return _fit_matrix(pairs.padded(), start, penalty, max_iterations)


@functools.partial(jax.jit, static_argnames="max_iterations")
def _fit_matrix(pairs, start, penalty, max_iterations):
    size = start.size
    design = (pairs.features[:, :, None] * pairs.coordinates[:, None, :]).reshape(-1, size)
    weight = jnp.repeat(penalty, start.shape[1])

    def objective(a):
        return jnp.sum(jax.nn.softplus(-(design @ a))) + 0.5 * jnp.sum(weight * a**2)

    def newton_step(a):
        wrong = jax.nn.sigmoid(-(design @ a))
        gradient = weight * a - design.T @ wrong
        curvature = (design.T * (wrong * (1 - wrong))[None, :]) @ design + jnp.diag(weight)
        unit = jnp.sqrt(jnp.diagonal(curvature))
        scaled = curvature / unit[:, None] / unit[None, :]
        scaled = scaled + 10 * jnp.finfo(a.dtype).eps * size * jnp.eye(size, dtype=a.dtype)
        step = -jax.scipy.linalg.solve(scaled, gradient / unit, assume_a="pos") / unit
        return step, -gradient @ step

    def iterate(carry):
        a, value, _, count = carry
        step, decrement = newton_step(a)

        def shorter(trial):
            length, _ = trial
            return length / 2, objective(a + length / 2 * step)

        length, new = jax.lax.while_loop(
            lambda trial: ~(trial[1] <= value) & (trial[0] > 1e-4),
            shorter,
            (jnp.asarray(1.0, a.dtype), objective(a + step)),
        )
        better = new <= value
        a = jnp.where(better, a + length * step, a)
        return a, jnp.where(better, new, value), jnp.where(better, decrement, 0.0), count + 1

    tolerance = 10 * jnp.finfo(start.dtype).eps

    def unfinished(carry):
        _, value, decrement, count = carry
        return (decrement > tolerance * value) & (count < max_iterations)

    a = start.reshape(-1)
    inf = jnp.asarray(jnp.inf, a.dtype)
    a, value, decrement, _ = jax.lax.while_loop(unfinished, iterate, (a, objective(a), inf, 0))
    return a.reshape(start.shape), decrement / value


def pairwise_loss(margins: Float[Array, " p"]) -> Float[Array, ""]:
    """Mean −log σ(margin): nats lost on each pair; log 2 = 0.693 when nothing is known."""
    return jnp.mean(jax.nn.softplus(-margins))


@jax.jit
def pairwise_curvature(pairs: Pairs, matrix: Float[Array, "r d"]) -> Float[Array, "r*d r*d"]:
    """The Hessian of −Σ log σ(margin) over the pairs with respect to the entries of A."""
    design = (pairs.features[:, :, None] * pairs.coordinates[:, None, :]).reshape(-1, matrix.size)
    wrong = jax.nn.sigmoid(pairs.margins(matrix))
    return (design.T * (wrong * (1 - wrong))[None, :]) @ design


def choose_ridge(
    training: Pairs, held_out: Pairs, penalty: Float[Array, " r"]
) -> tuple[float, list[float]]:
    """The ridge with the least held-out pairwise loss, and the loss of each one tried."""
    matrix = jnp.zeros((training.features.shape[1], training.coordinates.shape[1]), penalty.dtype)
    losses: list[float] = []
    for ridge in RIDGES:
        matrix, _ = fit_matrix(training, matrix, ridge * penalty)
        losses.append(float(pairwise_loss(jnp.asarray(held_out.held_margins(matrix)))))
        if len(losses) > 2 and min(losses[-2:]) > min(losses):
            break
    return RIDGES[int(np.argmin(losses))], losses


def calibrate(margins: np.ndarray) -> float:
    """The factor c > 0 that makes held-out log-odds c·m the most likely: 1 if they are honest.

    Below 1 the statistic is too sure of itself. NaN if every pair is the right way round, when
    no finite factor is the most likely."""
    if np.all(margins > 0) or not np.isfinite(margins).all():
        return float("nan")
    log_c = 0.0
    for _ in range(100):
        m = np.exp(log_c) * margins
        wrong = 1 / (1 + np.exp(np.clip(m, -500, 500)))
        slope = -np.sum(wrong * m)
        curvature = np.sum(wrong * (1 - wrong) * m**2)
        step = np.clip(-slope / max(curvature, 1e-12), -0.5, 0.5)
        log_c += step
        if abs(step) < 1e-10:
            return float(np.exp(log_c))
    return float("nan")


def calibrate_with_error(margins: list[np.ndarray]) -> tuple[float, float]:
    """`calibrate` of all folds' log-odds together, and its standard error by jackknife."""
    blocks = np.concatenate([np.arange(len(m)) * JACKKNIFE_BLOCKS // len(m) for m in margins])
    pooled = np.concatenate(margins)
    without = np.array([calibrate(pooled[blocks != b]) for b in range(JACKKNIFE_BLOCKS)])
    spread = (JACKKNIFE_BLOCKS - 1) * np.mean((without - without.mean()) ** 2)
    return calibrate(pooled), float(np.sqrt(spread))


class LinearStatistic(eqx.Module):
    """f = (φ − mean) W A in standardised coordinates, and what it takes to refit it on folds."""

    whitening: Whitening
    matrix: np.ndarray
    center: np.ndarray
    spread: np.ndarray
    ridge: float
    ridge_losses: dict[str, list[float]]
    eta: np.ndarray
    reuse: float
    """Pairs that each sample is in."""
    mesh: Mesh | None = None
    """Over whose devices pairs are laid."""

    @classmethod
    def fit(
        cls, pool: Pool, eta, training, held_out, dtype, mesh: Mesh | None = None
    ) -> "LinearStatistic":
        whitening = _mesh.of_first(mesh, whiten(pool.features[training]))
        eta = np.asarray(eta, np.float64)
        center, spread = eta[training].mean(axis=0), eta[training].std(axis=0)
        self = cls(whitening, np.zeros(0), center, spread, 0.0, {}, eta, 0.0, mesh)
        pairs_t, pairs_h = (self.pairs(pool, rows, dtype) for rows in (training, held_out))
        penalty = jnp.asarray(whitening.penalty, dtype)
        ridge, losses = choose_ridge(pairs_t, pairs_h, penalty)
        start = jnp.zeros((len(penalty), eta.shape[1]), dtype)
        matrix, _ = fit_matrix(pairs_t, start, ridge * penalty)
        return cls(
            whitening, _mesh.to_host(matrix), center, spread, ridge, {"held_out": losses}, eta,
            2 * pairs_t.number / len(training), mesh,
        )  # fmt: skip

    def pairs(self, pool: Pool, rows: np.ndarray, dtype=None, k: int = 2) -> Pairs:
        eta = (self.eta[rows] - self.center) / self.spread
        t = pool.parameters[rows]
        near = pairs_at_all_scales((t - t.min(axis=0)) / np.ptp(t, axis=0), k)
        dtype = dtype or self.matrix.dtype
        return Pairs.between(
            self.white(pool.features[rows]).astype(dtype), eta.astype(dtype), near, self.mesh
        )

    def white(self, features: np.ndarray) -> np.ndarray:
        return (features - self.whitening.mean) @ self.whitening.matrix

    def readout(self) -> np.ndarray:
        """(r, d): from whitened features to nats per unit of natural coordinate."""
        return self.matrix.astype(np.float64) / self.spread

    def prior_precision(self) -> np.ndarray:
        """(r, d): the ridge, as a weight on the squared entries of `readout()`."""
        return self.ridge * self.whitening.penalty[:, None] * self.spread**2

    def likelihood_of_pairs(self, pool: Pool, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient at 0 (r d,) and curvature (r d, r d) of the pairs' log-likelihood, to second
        order about the entries of `readout()`, where the ridge holds it."""
        curvature = _mesh.to_host(pairwise_curvature(self.pairs(pool, rows), self.matrix))
        curvature = curvature.astype(np.float64)
        units = self._units()
        curvature = curvature * np.outer(units, units)
        readout = self.readout()
        held = self.prior_precision() * readout
        return curvature @ readout.ravel() + held.ravel(), curvature

    def uncertainty(self, curvature: np.ndarray) -> np.ndarray:
        """S (r d, r d) with S Sᵀ the inverse of the `curvature` and the ridge."""
        units = self._units()
        with_ridge = curvature + np.diag(self.prior_precision().ravel())
        values, directions = np.linalg.eigh(with_ridge / np.outer(units, units))
        values = np.maximum(values, 1e-6 * values[-1])  # what float32 can tell from zero
        return directions / np.sqrt(values) / units[:, None]

    def _units(self) -> np.ndarray:
        return np.tile(self.spread, len(self.matrix))

    def cross_fit(self, pool: Pool, order: np.ndarray) -> tuple[float, float]:
        """The scale that makes held-out log-odds honest, and its jackknife standard error."""
        penalty = jnp.asarray(self.ridge * self.whitening.penalty, self.matrix.dtype)
        margins = []
        for fold in range(FOLDS):
            rows = np.sort(order[fold::FOLDS])
            others = np.sort(np.setdiff1d(order, rows))
            matrix, _ = fit_matrix(self.pairs(pool, others), jnp.asarray(self.matrix), penalty)
            held = self.pairs(pool, rows, k=6).held_margins(matrix)
            margins.append(held.astype(np.float64))
        return _mesh.of_first(self.mesh, calibrate_with_error(margins))
