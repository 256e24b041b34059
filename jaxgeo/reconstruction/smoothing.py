r"""A log-partition function of two natural coordinates, by smoothing, and its statistic with it.

A network finds the shape of a potential, creases and all, but leaves ripples. Here the potential
is a spline (`splines.py`) instead, by four steps, each linear or convex:

1. *Moments.* $\nabla\psi(\eta) = E[f|\eta]$ by least squares, each residual in units of its own
   scatter $g = \nabla^2\psi$. What is rough is charged for the cubic form
   $|\nabla^3\psi|_g^2 = g^{ia} g^{jb} g^{kc} \psi_{ijk} \psi_{abc}$ (Amari & Nagaoka 2000, §6.1:
   what the metric changes within one standard deviation of the posterior), by a logarithm, so that
   a phase boundary, sharp but thin, costs little. It has no units and knows no coordinates.
   A charge also flattens what is smooth, so four passes are made, each fitting what the one before
   has left (Bühlmann & Yu 2003, J. Am. Stat. Assoc. 98, 324): of a mode that loses the share
   $\lambda$ in one pass only $\lambda^4$ is lost.
2. *Statistic.* The likeliest one, its potential found by step 1 (`profile.py`), among samples
   where the potential is smooth: a crease that is a little too blunt would blunt the statistic.
   Its ridge is raised where the features help no more than noise would, and lowered where they do,
   until the evidence is greatest (MacKay 1992, Neural Comput. 4, 415).
   Its size is the geometric mean of that and of the one at which the pairs are likeliest: two
   estimates of one number that err by about as much, and by different means.
3. *Scatter.* The same samples also say $E[(f - \nabla\psi)(f - \nabla\psi)^\top|\eta] =
   \nabla^2\psi$; least squares once more, with both.
4. *Convexity.* And once more with a barrier $-\sum \log\det\nabla^2\psi$ over the samples and four
   points of every cell.

What is left open (`uncertainty.py`): a smoothing spline is the mean of a posterior, which has the
inverse of the normal equations' matrix for covariance (Wahba 1983, J. R. Stat. Soc. B 45, 133);
the statistic adds that of its likelihood, and what it changes by as its potential does without
groups of samples.
"""

import functools
import operator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sparse
from scipy.ndimage import binary_dilation
from scipy.sparse.linalg import spsolve

from jaxgeo.reconstruction.convexity import convex_spline, with_eigenvalues
from jaxgeo.reconstruction.jackknife import GROUPS, doubts, groups
from jaxgeo.reconstruction.profile import (
    Contest,
    log_likelihood,
    most_evident_readout,
    spread_out,
    unshrunk,
)
from jaxgeo.reconstruction.splines import BandedCholesky, TensorSplines, bends, frames, scaled

CELLS, SAMPLES_PER_CELL = (24, 52), 10
"""Cells along the coordinate on which √g is the more, and the less, even; at most so many."""
STRENGTHS = (1e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5)
"""Charges for roughness that are tried; held-out samples choose."""
PASSES = 4
"""Fits, each to what is left of the samples by the one before."""
NUGGET = 0.25
"""Information of this many prior variances⁻¹ is added wherever the metric is inverted."""
SMOOTH = 0.2
"""Where |∇³ψ|² is less, the likelihood of the statistic is taken."""
GAUSSIAN = 0.3
"""Where |∇³ψ|² is more, scatter is not that of a normal law, and counts less."""
FEWEST = 512
"""With fewer smooth samples the statistic stays as it is."""
CANDIDATES = (512, 2048)
"""Parameters that compete for each sample, in the rounds of steps 1 and 2."""
MEMBERS = 64
"""Draws that stand for the uncertainty."""
LOOSER = 0.15
"""They are charged for roughness by this much of the strength: `PASSES` passes let through what
one would at so much less, and a logarithm bends less than the parabola that stands for it."""
FLOOR = 1e-3
"""The metric is at least this many prior variances⁻¹: what float32 can tell from nothing."""


class Smoothed(NamedTuple):
    """What `smooth` found: the potential's spline, the statistic's readout, and how it was."""

    splines: TensorSplines
    coefficients: np.ndarray
    readout: np.ndarray
    members: np.ndarray
    """(`MEMBERS`, coefficients): draws of what the samples leave open."""


class Rows:
    """Samples' natural coordinates, and the derivatives of the splines there.

    `slopes`, `bends` and `twists` are those of first, second and third order in frames in which
    the metric is the identity; those that count twice or thrice times the root of it."""

    def __init__(self, splines: TensorSplines, eta: np.ndarray, metric: np.ndarray):
        x, y, z = self.frames = frames(metric)
        self.eta = eta
        self.values = splines.derivatives(eta, 0)[0]
        self.gradient = splines.derivatives(eta, 1)
        hessian = splines.derivatives(eta, 2)
        third = splines.derivatives(eta, 3)
        three = np.sqrt(3)
        self.slopes = [scaled([x], self.gradient), scaled([y, z], self.gradient)]
        self.bends = bends(self.frames, hessian)
        self.twists = [
            scaled([x**3], third),
            scaled([three * x * x * y, three * x * x * z], third),
            scaled([three * x * y * y, 2 * three * x * y * z, three * x * z * z], third),
            scaled([y**3, 3 * y * y * z, 3 * y * z * z, z**3], third),
        ]
        self.normal = sum(m.T @ m for m in self.slopes)

    def in_frames(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Components of covectors (n, 2)."""
        x, y, z = self.frames
        return x * values[:, 0], y * values[:, 0] + z * values[:, 1]

    def residuals(self, coefficients: np.ndarray, values: np.ndarray):
        """Components of the values' distance from the gradient of a spline."""
        return self.in_frames(values - np.stack([m @ coefficients for m in self.gradient], axis=1))

    def cubic_form(self, coefficients: np.ndarray) -> np.ndarray:
        """|∇³ψ|² at every row."""
        return sum((m @ coefficients) ** 2 for m in self.twists)


class Smoother:
    """The linear map from values of a statistic to the spline whose gradient follows them."""

    def __init__(self, rows: Rows, strength: float, coefficients: np.ndarray | None = None):
        weight = np.full(len(rows.eta), strength / len(rows.eta))
        if coefficients is None:
            weight *= 0.01
        else:
            weight /= 1 + rows.cubic_form(coefficients)
        charges = (m.T @ sparse.diags(weight) @ m for m in rows.twists)
        self._charge = functools.reduce(operator.add, charges).tocsr()
        self.matrix = (rows.normal + self._charge).tocsr()
        self._factor = BandedCholesky(self.matrix)
        self._rows = rows

    def moments(self, values: np.ndarray) -> np.ndarray:
        """The right-hand side of the normal equations for values (n, 2)."""
        parts = zip(self._rows.slopes, self._rows.in_frames(values), strict=True)
        return sum(m.T @ part for m, part in parts)

    def solve(self, moments: np.ndarray) -> np.ndarray:
        """The spline of one right-hand side, or those of columns."""
        return self._factor.solve(self._last(self._factor, moments))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.solve(self.moments(values))

    def with_scatter(self, coefficients: np.ndarray, values: np.ndarray):
        """Matrix and right-hand side of the last pass of step 3, residuals being those from
        `coefficients`."""
        first, second = self._rows.residuals(coefficients, values)
        products = first**2, np.sqrt(2) * first * second, second**2
        weight = 0.5 / (1 + self._rows.cubic_form(coefficients) / GAUSSIAN) ** 2
        matrix, moments = self.matrix, self.moments(values)
        for bend, product in zip(self._rows.bends, products, strict=True):
            matrix = matrix + bend.T @ sparse.diags(weight) @ bend
            moments = moments + bend.T @ (weight * product)
        matrix = matrix.tocsr()
        return matrix, self._last(BandedCholesky(matrix), moments)

    def _last(self, factor: BandedCholesky, moments: np.ndarray) -> np.ndarray:
        """The right-hand side of the last pass, that of the first being `moments`."""
        last = moments
        for _ in range(PASSES - 1):
            last = moments + self._charge @ factor.solve(last)
        return last


class Entries:
    """The splines of every entry of a readout, its rows one after the other, and the contest in
    which the `chosen` samples tell the likeliest."""

    def __init__(self, rows: Rows, smoother: Smoother, features, chosen, candidates: int):
        self._rows, self._smoother, self._features = rows, smoother, features
        self._values = rows.values[chosen]
        self.coefficients = smoother.solve(self._moments(np.arange(len(rows.eta))))
        self.contest = Contest(
            features[chosen],
            rows.eta[chosen] - rows.eta[chosen].mean(axis=0),
            self._values @ self.coefficients,
            *spread_out(rows.eta[chosen], candidates),
        )

    def _moments(self, rows: np.ndarray) -> np.ndarray:
        """The right-hand sides of the normal equations, of some rows."""
        x, y, w = (frame[rows, None] for frame in self._rows.frames)
        first, second = (m[rows] for m in self._rows.slopes)
        z = self._features[rows]
        moments = first.T @ (x * z) + second.T @ (y * z), second.T @ (w * z)
        return np.stack(moments, axis=-1).reshape(first.shape[1], -1)

    def likeliest(self, readout, penalty):
        """The readout of step 2, its ridge by the evidence, and what `doubts` needs."""
        found, penalty, information = most_evident_readout(self.contest, readout, penalty)
        return found @ unshrunk(self.contest, found), penalty, (found, information)

    def deviations(self, readout: np.ndarray, information: np.ndarray) -> np.ndarray:
        """What the likeliest readout (r d,) changes by, as its splines do without each group of
        samples, (`GROUPS`, r d): to first order, by a Newton step each."""
        a = readout.ravel()
        _, every = log_likelihood(self.contest, a)
        slopes = []
        for rows in groups(len(self._rows.eta)):
            first, second = (m[rows] for m in self._rows.slopes)
            normal = first.T @ first + second.T @ second
            lost = self._moments(rows) - normal @ self.coefficients
            lost = self._values @ self._smoother.solve(lost) * GROUPS / (GROUPS - 1)
            moved = self.contest._replace(potentials=self.contest.potentials - lost)
            slopes.append(log_likelihood(moved, a)[1] - every)
        return np.linalg.solve(information, np.transpose(slopes)).T

    def doubts(self, readout: np.ndarray, information: np.ndarray) -> np.ndarray:
        """Draws (coefficients, `MEMBERS`) of what the samples leave open of the splines: by the
        likelihood of the readout, and by its deviations."""
        noise = np.random.default_rng(3).normal(size=(readout.size, MEMBERS))
        open_ = np.linalg.solve(np.linalg.cholesky(information).T, noise)
        open_ = open_ + doubts(self.deviations(readout, information), MEMBERS)
        return self.coefficients @ open_


def smooth(
    eta: np.ndarray,
    features: np.ndarray,
    readout: np.ndarray,
    penalty: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    metric: np.ndarray,
    strength: float,
) -> Smoothed:
    """The potential and the statistic of samples, from first guesses of both.

    **Arguments:** `eta` (n, 2) and `features` (n, r) of the samples; `readout` (r, 2), the
    statistic to start from, and the `penalty` (r, 2) on its squared entries; `pairs`, gradient
    at 0 (2 r,) and curvature (2 r, 2 r) of their log-likelihood; `metric` (n, 2, 2), the guess
    that sets cells and weights; `strength` of the charge for roughness.

    **Cost:** some 30 banded systems of about 1,600 unknowns, and a few times K n r with K = 2,048
    candidates: 20 s at n = 16,384, r = 128 on two cores."""
    splines, rows = _splines_at(eta, metric)
    coefficients: Any = None
    for _ in range(3):
        coefficients = Smoother(rows, strength, coefficients)(features @ readout)

    gradient, curvature = pairs
    for candidates in CANDIDATES:
        smoother = Smoother(rows, strength, coefficients)
        chosen = np.flatnonzero(rows.cubic_form(coefficients) < SMOOTH)
        if len(chosen) >= FEWEST:
            entries = Entries(rows, smoother, features, chosen, candidates)
            readout, penalty, likeliest = entries.likeliest(readout, penalty)
        of_pairs = gradient @ readout.ravel() / (readout.ravel() @ curvature @ readout.ravel())
        if not of_pairs > 0:
            raise np.linalg.LinAlgError(f"pairs contradict the likelihood: size {of_pairs:.3g}")
        readout = readout * np.sqrt(of_pairs)
        coefficients = smoother(features @ readout)
    values = features @ readout
    for _ in range(2):
        smoother = Smoother(rows, strength, coefficients)
        matrix, moments = smoother.with_scatter(coefficients, values)
        coefficients = BandedCholesky(matrix).solve(moments)

    everywhere = np.concatenate([_quarters(splines, eta), eta])
    coefficients = convex_spline(
        matrix, moments, _bowl(splines, eta, values), splines.derivatives(everywhere, 2),
        FLOOR / np.var(eta, axis=0),
    )  # fmt: skip
    doubt: Any = 0.0
    if len(chosen) >= FEWEST:
        doubt = entries.doubts(*likeliest)
    noise = np.random.default_rng(1).normal(size=(len(coefficients), MEMBERS))
    looser, _ = Smoother(rows, LOOSER * strength, coefficients).with_scatter(coefficients, values)
    members = coefficients + (doubt + BandedCholesky(looser).color(noise)).T
    return Smoothed(splines, coefficients, readout, members)


def choose_strength(
    eta: np.ndarray,
    values: np.ndarray,
    metric: np.ndarray,
    training: np.ndarray,
    held_out: np.ndarray,
) -> tuple[float, list[float]]:
    """The strength that held-out `values` (n, 2) of a statistic ask for; the loss of each."""
    splines, rows = _splines_at(eta[training], metric[training])
    nugget = NUGGET / np.var(eta[training], axis=0)
    unseen = Rows(splines, eta[held_out], clip(metric[held_out], nugget))
    coefficients: Any = None
    losses = []
    for strength in STRENGTHS:
        for _ in range(2):
            coefficients = Smoother(rows, strength, coefficients)(values[training])
        losses.append(float(_chi_squares(unseen, coefficients, values[held_out]).mean()))
    return _least(losses), losses


def _least(losses: list[float]) -> float:
    """The strength at which the parabola over log strength, through the least of the losses and
    its neighbours, is least: which of two that are as good came out less should decide nothing."""
    best, x = int(np.argmin(losses)), np.log(STRENGTHS)
    if best in (0, len(x) - 1):
        return STRENGTHS[best]
    around = slice(best - 1, best + 2)
    bend, slope, _ = np.polyfit(x[around] - x[best], losses[around], 2)
    return float(np.exp(x[best] - slope / (2 * bend)))


def _splines_at(eta: np.ndarray, metric: np.ndarray) -> tuple[TensorSplines, Rows]:
    splines = TensorSplines(_breaks(eta, metric))
    return splines, Rows(splines, eta, clip(metric, NUGGET / np.var(eta, axis=0)))


def _quarters(splines: TensorSplines, eta: np.ndarray) -> np.ndarray:
    """The centres of the four quarters of every cell that holds samples or touches one that does.

    Elsewhere nothing opposes a barrier: the metric would grow without end."""
    held, _, _ = np.histogram2d(eta[:, 0], eta[:, 1], bins=splines.breaks)
    wanted = binary_dilation(held > 0, np.ones((3, 3))).repeat(2, axis=0).repeat(2, axis=1)
    centres = [
        (edges[:-1, None] + np.diff(edges)[:, None] * [0.25, 0.75]).ravel()
        for edges in splines.breaks
    ]
    return np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)[wanted]


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
    return with_eigenvalues(lambda values: np.maximum(values, 0) + 1, metric, np.sqrt(nugget))


def _chi_squares(rows: Rows, coefficients, values) -> np.ndarray:
    """min(χ², 9) of held-out values: a phase boundary should not outweigh the rest."""
    first, second = rows.residuals(coefficients, values)
    return np.minimum(first**2 + second**2, 9)


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
