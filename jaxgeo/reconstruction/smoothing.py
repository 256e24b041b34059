r"""A log-partition function of two natural coordinates, by smoothing, and its statistic with it.

A network finds the shape of a potential, creases and all, but leaves ripples. Here the potential
is a spline (`splines.py`) instead, and all but the third step is linear or convex:

1. *Moments.* $\nabla\psi(\eta) = E[f|\eta]$ by least squares, each residual in units of its own
   scatter $g = \nabla^2\psi$. What is rough is charged for the cubic form
   $|\nabla^3\psi|_g^2 = g^{ia} g^{jb} g^{kc} \psi_{ijk} \psi_{abc}$ (Amari & Nagaoka 2000, §6.1:
   what the metric changes within one standard deviation of the posterior), by a logarithm, so that
   a phase boundary, sharp but thin, costs little. It has no units and knows no coordinates.
2. *Statistic.* For every function φ of the sample an exponential family has
   $\mathrm{Cov}[\varphi, f | \eta] = \partial E[\varphi|\eta] / \partial\eta$. With $f = A\varphi$
   that is a linear equation for A, given the mean and the scatter of the features.
3. *Size.* The 2×2 matrix B that makes $Bf$, with the potential of its moments, most likely as a
   normal law at every η: the statistic's scale and mixture, from $\mathrm{Cov}[f|\eta] = g$.
4. *Convexity.* The moments once more, with a barrier $-\sum \log\det\nabla^2\psi$ over the samples
   and four points of every cell.
"""

import functools
import operator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sparse
from scipy.optimize import minimize as minimise_simplex
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from jaxgeo.reconstruction.splines import TensorSplines, banded_solver

CELLS, SAMPLES_PER_CELL = (24, 52), 10
"""Cells along the coordinate on which √g is the more, and the less, even; at most so many."""
STRENGTHS = (3e0, 3e1, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5)
"""Charges for roughness that are tried; held-out samples choose."""
NUGGET = 0.25
"""Information of this many prior variances⁻¹ is added wherever the metric is inverted."""
SMOOTH, VERY_SMOOTH, INFORMED = 0.1, 0.03, 4.0
"""Where |∇³ψ|² is less, and the metric more than this many prior variances⁻¹, moments count: the
former for the statistic, the second for its size, where a misfit would pass for scatter."""
ROUNDS = 3
FEWEST = 512
"""With fewer such samples the statistic stays as it is."""
FLOOR = 1e-3
"""The metric is at least this many prior variances⁻¹: what float32 can tell from nothing."""
BARRIER = 0.005
PATIENCE = 5
"""Newton steps at each weight on the path to the convex minimum; at its end eight times more."""


class Smoothed(NamedTuple):
    """What `smooth` found: the potential's spline, the statistic's readout, and how it was."""

    splines: TensorSplines
    coefficients: np.ndarray
    readout: np.ndarray
    strength: float
    losses: list[float]


class Rows:
    """Samples' natural coordinates with the splines' derivatives there."""

    def __init__(self, splines: TensorSplines, eta: np.ndarray, metric: np.ndarray):
        self.eta = eta
        self.gradient = splines.derivatives(eta, 1)
        self.hessian = splines.derivatives(eta, 2)
        self.third = splines.derivatives(eta, 3)
        self.frames = _frames(metric)


class Smoother:
    """The linear map from values of a statistic to the spline whose gradient follows them."""

    def __init__(self, rows: Rows, strength: float, coefficients: np.ndarray | None = None):
        x, y, z = rows.frames
        data = [_scaled([x], rows.gradient[:1]), _scaled([y, z], rows.gradient)]
        weight = np.sqrt(strength / len(x)) * np.ones_like(x)
        if coefficients is None:
            weight *= 0.1
        else:
            weight /= np.sqrt(1 + cubic_form(rows, coefficients))
        rough = [_scaled(weight * c, rows.third) for c in _third_frames(rows.frames)]
        design = sparse.vstack(data + rough).tocsr()
        self.matrix = (design.T @ design).tocsr()
        self.solve = banded_solver(self.matrix)
        self._rows, self._data = rows, data

    def moments(self, values: np.ndarray) -> np.ndarray:
        """The right-hand side of the normal equations for values (n, 2)."""
        x, y, z = self._rows.frames
        first, second = values.T
        return self._data[0].T @ (x * first) + self._data[1].T @ (y * first + z * second)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.solve(self.moments(values))


def smooth(
    eta: np.ndarray,
    features: np.ndarray,
    readout: np.ndarray,
    curvature: np.ndarray,
    metric: np.ndarray,
    training: np.ndarray,
    held_out: np.ndarray,
) -> Smoothed:
    """The potential and the statistic of samples, from those that a network gave.

    **Arguments:** `eta` (n, 2) and `features` (n, r) of all samples; `readout` (r, 2), the start;
    `curvature` (2 r, 2 r) of the pairwise likelihood there, which holds the statistic where its
    moments say little; `metric` (n, 2, 2) of the network; rows to train on and to judge by.

    **Cost:** banded solves with some 1,600 unknowns, about a second each at 16,384 samples."""
    splines = TensorSplines(_breaks(eta[training], metric[training]))
    nugget = NUGGET / np.var(eta[training], axis=0)
    rows, unseen = (
        Rows(splines, eta[chosen], clip(metric[chosen], nugget)) for chosen in (training, held_out)
    )
    z = features[training]
    losses = []
    for strength in STRENGTHS:
        coefficients = _moments_spline(rows, strength, z @ readout)
        losses.append(_held_out_loss(unseen, coefficients, features[held_out] @ readout))
    strength = STRENGTHS[int(np.argmin(losses))]

    start = readout
    coefficients = _moments_spline(rows, strength, z @ readout)
    means, scatter = _feature_moments(splines, rows, z, strength)
    for round_ in range(ROUNDS):
        regular = _regular(rows, coefficients, eta[training], SMOOTH)
        if regular.sum() < FEWEST:
            break
        readout = _statistic(rows, coefficients, means, scatter, regular, start, curvature)
        smoother = Smoother(rows, strength, coefficients)
        coefficients = smoother(z @ readout)
        if round_:
            regular = _regular(rows, coefficients, eta[training], VERY_SMOOTH)
            if regular.sum() >= FEWEST:
                readout = readout @ _calibration(rows, smoother, z @ readout, regular).T
                coefficients = smoother(z @ readout)
    smoother = Smoother(rows, strength, coefficients)
    values = z @ readout
    bowl = _bowl(splines, rows.eta, values)
    everywhere = np.concatenate([_quarters(splines), rows.eta])
    hessian = splines.derivatives(everywhere, 2)
    floor = FLOOR / np.var(rows.eta, axis=0)
    coefficients = convex_spline(smoother.matrix, smoother.moments(values), bowl, hessian, floor)
    return Smoothed(splines, coefficients, readout, strength, losses)


def _quarters(splines: TensorSplines) -> np.ndarray:
    """The centres of the four quarters of every cell."""
    centres = [
        (edges[:-1, None] + np.diff(edges)[:, None] * [0.25, 0.75]).ravel()
        for edges in splines.breaks
    ]
    return np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 2)


def _breaks(eta: np.ndarray, metric: np.ndarray) -> list[np.ndarray]:
    """Edges of cells along each coordinate, close where the metric is large and samples are many.

    The coordinate along which √g is the more uneven gets the more cells."""
    sizes = np.sqrt(np.diagonal(metric, axis1=1, axis2=2))
    unevenness = (sizes**2).mean(axis=0) / sizes.mean(axis=0) ** 2
    share_of_most = min(1.0, len(eta) / SAMPLES_PER_CELL / np.prod(CELLS))
    cells = [max(4, round(n * share_of_most**0.5)) for n in CELLS]
    cells = cells if unevenness[1] >= unevenness[0] else cells[::-1]
    breaks = []
    for x, size, n in zip(eta.T, sizes.T, cells, strict=True):
        order = np.argsort(x)
        share = np.cumsum((0.2 / len(x) + 0.8 * size / size.sum())[order])
        edges = np.interp(
            np.linspace(0, 1, n + 1), np.r_[0, share / share[-1]], np.r_[x.min(), x[order]]
        )
        margin = 1e-3 * np.ptp(x)
        edges[0], edges[-1] = x.min() - margin, x.max() + margin
        breaks.append(np.unique(edges))
    return breaks


def clip(metric: np.ndarray, nugget: np.ndarray) -> np.ndarray:
    """The positive part of symmetric matrices (n, 2, 2), plus the diagonal `nugget`."""
    unit = np.sqrt(nugget)
    values, vectors = np.linalg.eigh(metric / np.outer(unit, unit))
    values = np.maximum(values, 0) + 1
    return np.einsum("nij,nj,nkj->nik", vectors, values, vectors) * np.outer(unit, unit)


def _frames(metric: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z with [[x, 0], [y, z]] the inverse Cholesky factor of each metric."""
    a = np.sqrt(metric[:, 0, 0])
    b = metric[:, 0, 1] / a
    c = np.sqrt(metric[:, 1, 1] - b**2)
    return 1 / a, -b / (a * c), 1 / c


def _second_frames(frames) -> list[np.ndarray]:
    """Rows (3, n) that take (∂₁₁, ∂₁₂, ∂₂₂) to its components in the frames, twice-counted ones
    times √2."""
    x, y, z = frames
    none = np.zeros_like(x)
    root = np.sqrt(2)
    return [
        np.stack(c)
        for c in (
            [x * x, none, none],
            [root * x * y, root * x * z, none],
            [y * y, 2 * y * z, z * z],
        )
    ]


def _third_frames(frames) -> list[np.ndarray]:
    """The same for (∂₁₁₁, ∂₁₁₂, ∂₁₂₂, ∂₂₂₂)."""
    x, y, z = frames
    none = np.zeros_like(x)
    root = np.sqrt(3)
    return [
        np.stack(c)
        for c in (
            [x**3, none, none, none],
            [root * x * x * y, root * x * x * z, none, none],
            [root * x * y * y, 2 * root * x * y * z, root * x * z * z, none],
            [y**3, 3 * y * y * z, 3 * y * z * z, z**3],
        )
    ]


def _scaled(factors, matrices) -> sparse.csr_matrix:
    """Σ diag(factor) matrix."""
    parts = (sparse.diags(f) @ matrix for f, matrix in zip(factors, matrices, strict=True))
    return functools.reduce(operator.add, parts)


def _tensor(matrices, coefficients) -> np.ndarray:
    """(n, 2, 2) symmetric matrices from the rows of their three components."""
    first, mixed, last = (matrix @ coefficients for matrix in matrices)
    return np.stack([np.stack([first, mixed], -1), np.stack([mixed, last], -1)], -2)


def cubic_form(rows: Rows, coefficients: np.ndarray) -> np.ndarray:
    """|∇³ψ|² at every row, in the frames of the metric there."""
    raw = np.stack([matrix @ coefficients for matrix in rows.third])
    return sum(np.sum(c * raw, axis=0) ** 2 for c in _third_frames(rows.frames))


def _moments_spline(rows: Rows, strength: float, values: np.ndarray) -> np.ndarray:
    """The spline of step 1, its weights for roughness found by taking turns."""
    coefficients = Smoother(rows, strength)(values)
    for _ in range(2):
        coefficients = Smoother(rows, strength, coefficients)(values)
    return coefficients


def _residuals(rows: Rows, coefficients: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values - np.stack([matrix @ coefficients for matrix in rows.gradient], axis=1)


def _held_out_loss(rows: Rows, coefficients, values) -> float:
    """Mean of min(χ², 9) of held-out values: a phase boundary should not outweigh the rest."""
    r = _residuals(rows, coefficients, values)
    x, y, z = rows.frames
    chi2 = (x * r[:, 0]) ** 2 + (y * r[:, 0] + z * r[:, 1]) ** 2
    return float(np.mean(np.minimum(chi2, 9)))


def _regular(rows: Rows, coefficients: np.ndarray, eta: np.ndarray, limit: float) -> np.ndarray:
    """Where moments may be trusted: a smooth metric, and one that tells more than the prior."""
    unit = np.std(eta, axis=0)
    metric = _tensor(rows.hessian, coefficients) * np.outer(unit, unit)
    informed = np.linalg.eigvalsh(metric)[:, 0] > INFORMED
    return informed & (cubic_form(rows, coefficients) < limit)


def _feature_moments(splines, rows: Rows, features, strength):
    """E[φ|η] as splines (coefficients, r), and φ − E[φ|η] (n, r).

    Smoothed like the potential, each row in units of the features' scatter near it."""
    values = splines.derivatives(rows.eta, 0)[0]
    bends = sparse.vstack([_scaled(c, rows.hessian) for c in _second_frames(rows.frames)]).tocsr()
    near = cKDTree(rows.eta / rows.eta.std(axis=0)).query(rows.eta / rows.eta.std(axis=0), 32)[1]
    weight = np.ones(len(features))
    for _ in range(2):
        charge = sparse.diags(np.tile(weight * strength / len(weight), 3))
        matrix = values.T @ sparse.diags(weight) @ values + bends.T @ charge @ bends
        means = banded_solver(matrix)(values.T @ (weight[:, None] * features))
        scatter = features - values @ means
        weight = 1 / np.mean(scatter**2, axis=1)[near].mean(axis=1)
    return means, scatter


def _statistic(rows, coefficients, means, scatter, regular, start, curvature) -> np.ndarray:
    """The readout A of step 2: Σ_φ A = ∂E[φ]/∂η in the mean over `regular`, weighted by g⁻¹.

    The pairwise likelihood, of that curvature about `start`, decides what this leaves open."""
    inverse = np.linalg.inv(_tensor(rows.hessian, coefficients)[regular])
    slopes = [(matrix @ means)[regular] for matrix in rows.gradient]
    r = scatter[regular]
    size = len(start)
    information = np.zeros((size, 2, size, 2))
    right = np.zeros((size, 2))
    for i in range(2):
        for j in range(2):
            weight = inverse[:, i, j][:, None]
            information[:, i, :, j] = r.T @ (weight * r)
            right[:, i] += np.sum(weight * slopes[j], axis=0)
    both = information.reshape(2 * size, 2 * size) + curvature
    return np.linalg.solve(both, right.ravel() + curvature @ start.ravel()).reshape(size, 2)


def _calibration(rows, smoother, values, regular) -> np.ndarray:
    """The matrix B of step 3."""
    none = np.zeros(len(values))
    parts = []
    for row in range(2):
        for column in range(2):
            moved = [none, none]
            moved[row] = values[:, column]
            c = smoother(np.stack(moved, axis=1))
            gradient = np.stack([matrix @ c for matrix in rows.gradient], axis=1)[regular]
            parts.append((gradient, _tensor(rows.hessian, c)[regular]))
    f = values[regular]

    def loss(entries: np.ndarray) -> float:
        b = entries.reshape(2, 2)
        gradient, metric = (
            sum(e * part[k] for e, part in zip(entries, parts, strict=True)) for k in (0, 1)
        )
        volume = np.linalg.det(metric)
        if np.min(metric[:, 0, 0]) <= 0 or np.min(volume) <= 0 or np.linalg.det(b) <= 0:
            return np.inf
        r = f @ b.T - gradient
        chi2 = np.einsum("ni,ni->n", r, np.linalg.solve(metric, r[:, :, None])[:, :, 0])
        return float(np.mean(chi2 + np.log(volume)) / 2 - np.log(np.linalg.det(b)))

    found: Any = minimise_simplex(
        loss, np.eye(2).ravel(), method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-8, "maxiter": 600},
    )  # fmt: skip
    return found.x.reshape(2, 2)


def _bowl(splines: TensorSplines, eta: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A quadratic potential with about the right moments, as a spline: convex everywhere."""
    centred = eta - eta.mean(axis=0)
    slope = np.linalg.lstsq(centred, values - values.mean(axis=0), rcond=None)[0]
    sizes, vectors = np.linalg.eigh((slope + slope.T) / 2)
    curvature = (vectors * np.maximum(sizes, 1e-3 * np.abs(sizes).max())) @ vectors.T
    tilt = values.mean(axis=0) - curvature @ eta.mean(axis=0)
    # at Greville's abscissae a spline is determined by its values
    greville = [
        np.array([knots[i + 1 : i + 5].mean() for i in range(n)])
        for knots, n in zip(splines.knots, splines.shape, strict=True)
    ]
    points = np.stack(np.meshgrid(*greville, indexing="ij"), axis=-1).reshape(-1, 2)
    bowl = 0.5 * np.einsum("ni,ij,nj->n", points, curvature, points) + points @ tilt
    return spsolve(splines.derivatives(points, 0)[0].tocsc(), bowl)


def convex_spline(
    matrix: sparse.csr_matrix,
    moments: np.ndarray,
    start: np.ndarray,
    hessian: list,
    floor: np.ndarray,
) -> np.ndarray:
    """The minimum of ½ cᵀ M c − mᵀ c − `BARRIER` Σ log det(∇²ψ − diag(floor)).

    From a `start` that is so convex already, by damped Newton steps along a path on which the
    quadratic gains its weight. Convex and self-concordant: nothing can go wrong but patience."""

    def components(c):
        first, mixed, last = (m @ c for m in hessian)
        first, last = first - floor[0], last - floor[1]
        return first, mixed, last, first * last - mixed**2

    def value(c, weight):
        first, _, _, volume = components(c)
        if first.min() <= 0 or volume.min() <= 0:
            return np.inf
        return weight * (0.5 * c @ (matrix @ c) - moments @ c) - BARRIER * np.log(volume).sum()

    def newton(c, weight):
        first, mixed, last, volume = components(c)
        slope = hessian[0].T @ (last / volume) - 2 * (hessian[1].T @ (mixed / volume))
        slope += hessian[2].T @ (first / volume)
        gradient = weight * (matrix @ c - moments) - BARRIER * slope
        metric = np.stack([np.stack([first, mixed], -1), np.stack([mixed, last], -1)], -2)
        frames = _second_frames(_frames(metric))
        curvature = sum(m.T @ m for m in (_scaled(f, hessian) for f in frames))
        step = -banded_solver(weight * matrix + BARRIER * curvature)(gradient)
        return step, -gradient @ step

    c, weight = start, 1e-6
    while True:
        for _ in range(PATIENCE if weight < 1 else 8 * PATIENCE):
            step, decrement = newton(c, weight)
            before, length = value(c, weight), 1.0
            slack = 1e-12 * abs(before)
            while value(c + length * step, weight) > before - 0.1 * length * decrement + slack:
                length /= 2
                if length < 1e-8:
                    break
            if length < 1e-8:
                break
            c = c + length * step
            if decrement < 10 * BARRIER:
                break
        if weight >= 1:
            return c
        weight = min(10 * weight, 1.0)
