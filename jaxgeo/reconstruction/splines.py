"""Piecewise polynomials of two coordinates: a potential without the habits of a network."""

import functools
import operator
from collections.abc import Sequence
from math import factorial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Array, Float
from scipy.interpolate import BSpline
from scipy.linalg import cho_solve_banded, cholesky_banded, solve_banded
from threadpoolctl import ThreadpoolController

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Metric, Point, Scalar
from jaxgeo.reconstruction.samples import check_domain

DEGREE = 4
"""Quartic pieces: the metric is continuous with its first derivative, so curvature exists."""


class SplinePotential(eqx.Module):
    r"""A potential of two natural coordinates, a quartic polynomial in every cell of a grid:

    $$ \psi(\eta) = \sum_{i,j=0}^{4} c_{ij}\, u^i v^j, \quad
       u = (\eta_1 - a_k) / (a_{k+1} - a_k), \quad v = (\eta_2 - b_l) / (b_{l+1} - b_l), $$

    three times continuously differentiable across the cells. Outside the grid its outermost
    polynomials go on. Each cell keeps its own coefficients, so that derivatives are sums of a few
    terms of their own size, in float32 too.

    **Cost:** two searches and 25 products; derivatives likewise."""

    breaks: tuple[Float[Array, " k"], Float[Array, " l"]]
    coefficients: Float[Array, "*draws k-1 l-1 5 5"]

    def __call__(self, eta: Point) -> Scalar:
        cells, powers = [], []
        for x, edges in zip(eta, self.breaks, strict=True):
            cell = jnp.clip(jnp.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
            u = (x - edges[cell]) / (edges[cell + 1] - edges[cell])
            cells.append(cell)
            powers.append(jnp.stack([jnp.ones_like(u), u, u**2, u**3, u**4]))
        rows = jnp.dot(self.coefficients[cells[0], cells[1]], powers[1], precision=HIGHEST)
        return jnp.dot(powers[0], rows, precision=HIGHEST)


class TensorSplines:
    """Products of B-splines of two coordinates; their derivatives at points, as sparse rows."""

    def __init__(self, breaks: Sequence[np.ndarray]):
        self.breaks = tuple(np.asarray(edges, np.float64) for edges in breaks)
        self.knots = [np.r_[[e[0]] * DEGREE, e, [e[-1]] * DEGREE] for e in self.breaks]
        self.shape = tuple(len(knots) - DEGREE - 1 for knots in self.knots)
        self.splines = [
            BSpline(knots, np.eye(n), DEGREE)
            for knots, n in zip(self.knots, self.shape, strict=True)
        ]

    def derivatives(self, points: np.ndarray, order: int) -> list[sparse.csr_matrix]:
        """The partial derivatives ∂₁ᵏ∂₂ᵒʳᵈᵉʳ⁻ᵏ, k falling: one sparse (n, coefficients) each."""
        values, first = zip(*(self._local(points, axis, order) for axis in (0, 1)), strict=True)
        n, m = len(points), DEGREE + 1
        columns = (
            (first[0][:, None] + np.arange(m))[:, :, None] * self.shape[1]
            + (first[1][:, None] + np.arange(m))[:, None, :]
        ).reshape(-1)
        ends = np.arange(n + 1) * m * m
        return [
            sparse.csr_matrix(
                (
                    (values[0][k][:, :, None] * values[1][order - k][:, None, :]).ravel(),
                    columns,
                    ends,
                ),
                shape=(n, self.shape[0] * self.shape[1]),
            )
            for k in range(order, -1, -1)
        ]

    def _local(self, points, axis, order):
        """The splines that live at each point of one axis, with derivatives, and the first."""
        knots, spline = self.knots[axis], self.splines[axis]
        x = np.clip(points[:, axis], knots[0], np.nextafter(knots[-1], knots[0]))
        first = np.clip(np.searchsorted(knots, x, "right") - 1 - DEGREE, 0, self.shape[axis] - 1)
        chosen = first[:, None] + np.arange(DEGREE + 1)
        values = [
            np.take_along_axis((spline.derivative(k) if k else spline)(x), chosen, axis=1)
            for k in range(order + 1)
        ]
        return values, first

    def potential(self, coefficients: np.ndarray, dtype) -> SplinePotential:
        """The same function as polynomials in cells: Taylor's, from their lower edges.

        Of coefficients (..., n) as many potentials, for `jax.vmap`."""
        taylor = [
            np.stack(
                [
                    (spline.derivative(k) if k else spline)(e[:-1])
                    * (np.diff(e) ** k / factorial(k))[:, None]
                    for k in range(DEGREE + 1)
                ]
            )
            for spline, e in zip(self.splines, self.breaks, strict=True)
        ]
        table = coefficients.reshape(*coefficients.shape[:-1], *self.shape)
        cells = np.einsum("iam,jbn,...mn->...abij", *taylor, table, optimize=True)
        first, second = (jnp.asarray(edges, dtype) for edges in self.breaks)
        return SplinePotential((first, second), jnp.asarray(cells, dtype))


def frames(metric: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z with [[x, 0], [y, z]] the inverse Cholesky factor of each metric."""
    a = np.sqrt(metric[:, 0, 0])
    b = metric[:, 0, 1] / a
    c = np.sqrt(metric[:, 1, 1] - b**2)
    return 1 / a, -b / (a * c), 1 / c


def scaled(factors, matrices) -> sparse.csr_matrix:
    """Σ diag(factor) matrix, as far as there are factors."""
    parts = (sparse.diags(f) @ m for f, m in zip(factors, matrices, strict=False))
    return functools.reduce(operator.add, parts).tocsr()


def bends(axes, hessian) -> list[sparse.csr_matrix]:
    """Second derivatives in `frames`, the mixed one times √2."""
    x, y, z = axes
    two = np.sqrt(2)
    return [
        scaled([x * x], hessian),
        scaled([two * x * y, two * x * z], hessian),
        scaled([y * y, 2 * y * z, z * z], hessian),
    ]


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread():
    """Bands are narrow: BLAS threads win nothing, and on busy cores wait for each other."""
    return _blas().limit(limits=1, user_api="blas")


class BandedCholesky:
    """Factor of a symmetric positive definite banded matrix, scaled to unit diagonal.

    Coefficients that nothing determines are held at zero."""

    def __init__(self, matrix: sparse.spmatrix):
        diagonal = np.asarray(matrix.diagonal())
        self.scale = 1 / np.sqrt(np.maximum(diagonal, 1e-12 * diagonal.max()))
        unit = sparse.diags(self.scale)
        entries = (unit @ matrix @ unit).tocoo()
        offset = entries.col - entries.row
        width = offset.max()
        upper = offset >= 0
        bands = np.zeros((width + 1, len(self.scale)))
        bands[width - offset[upper], entries.col[upper]] = entries.data[upper]
        bands[-1] += 1e-10
        with _one_thread():
            self.factor = cholesky_banded(bands)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """matrix⁻¹ b, of one right-hand side or of columns."""
        scale = self.scale.reshape(-1, *([1] * (b.ndim - 1)))
        with _one_thread():
            return scale * cho_solve_banded((self.factor, False), scale * b)

    def color(self, noise: np.ndarray) -> np.ndarray:
        """White noise (n, k) to noise of covariance matrix⁻¹."""
        with _one_thread():
            white = solve_banded((0, len(self.factor) - 1), self.factor, noise)
        return self.scale[:, None] * white


def hessian_potential(
    metric: Metric, domain: Any, *, cells: int = 24
) -> tuple[SplinePotential, float]:
    r"""The potential of two coordinates whose Hessian is nearest to a metric,

    $$ \min_\psi \int \frac{\|\nabla^2\psi(t) - g(t)\|_F^2}{\operatorname{tr} g(t)} \,dt, $$

    and the share of $\int\|g\|_F^2 / \operatorname{tr} g$ that this leaves: 0 if the metric is a
    Hessian metric in these coordinates. (Weighed absolutely, a ridge at a phase boundary would
    decide alone; relatively, it would no longer tie the two phases together.)

    **Arguments:** `metric`, t → (2, 2), evaluated at four points a cell; `domain` (2, 2), its
    bounds; `cells` along either coordinate.

    **Returns:** (potential, unexplained share). The potential is determined up to an affine
    function, and need not be convex where the metric is small.

    **Fails:** `ValueError` for another number of coordinates, and for a metric that is not
    positive definite at one of the points.

    **Cost:** 4 cells² evaluations of the metric, and one banded least-squares problem.
    """
    bounds = check_domain(domain)
    if bounds.shape != (2, 2):
        raise ValueError(f"domain must have shape (2, 2), got {bounds.shape}")
    axes = [np.linspace(lower, upper, cells + 1) for lower, upper in bounds]
    inner = [np.linspace(lower, upper, 4 * cells + 1)[1::2] for lower, upper in bounds]
    points = np.stack(np.meshgrid(*inner, indexing="ij"), axis=-1).reshape(-1, 2)
    values = jax.jit(jax.vmap(metric))(jnp.asarray(points))
    g = np.asarray(values, np.float64)
    if not (np.linalg.eigvalsh(g)[:, 0] > 0).all():
        bad = int(np.argmin(np.linalg.eigvalsh(g)[:, 0] > 0))
        raise ValueError(
            f"metric must be positive definite, got {g[bad].tolist()} at {points[bad].tolist()}"
        )
    splines = TensorSplines(axes)
    weight = np.trace(g, axis1=1, axis2=2) ** -0.5
    rows = sparse.vstack(
        [
            sparse.diags(np.sqrt(count) * weight) @ d
            for count, d in zip((1, 2, 1), splines.derivatives(points, 2), strict=True)
        ]
    )
    entries = np.concatenate(
        [weight * g[:, 0, 0], 2**0.5 * weight * g[:, 0, 1], weight * g[:, 1, 1]]
    )
    coefficients = BandedCholesky(rows.T @ rows).solve(rows.T @ entries)
    unexplained = np.sum((rows @ coefficients - entries) ** 2) / np.sum(entries**2)
    return splines.potential(coefficients, values.dtype), float(unexplained)
