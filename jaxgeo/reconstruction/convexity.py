"""What holds potentials convex: metrics made positive, a barrier, the nearest point of a cone."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse
from scipy.optimize import nnls

from jaxgeo.reconstruction.splines import BandedCholesky, bends, frames

BARRIER = 0.005
PATIENCE = 5
"""Newton steps at each weight on the path to the convex minimum."""


def with_eigenvalues(
    change: Callable[[np.ndarray], np.ndarray], metric: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """Symmetric matrices (n, d, d) with changed eigenvalues, in units (d,) of coordinates."""
    units = np.outer(unit, unit)
    values, vectors = np.linalg.eigh(metric / units)
    return np.einsum("nij,nj,nkj->nik", vectors, change(values), vectors) * units


def convex_spline(
    matrix: sparse.csr_matrix,
    moments: np.ndarray,
    start: np.ndarray,
    hessian: list,
    floor: np.ndarray,
    max_iterations: int = 40,
) -> np.ndarray:
    """The minimum of ½ cᵀ M c − mᵀ c − `BARRIER` Σ log det(∇²ψ − diag(floor)).

    From a `start` that is so convex already, by damped Newton steps along a path on which the
    quadratic gains its weight, until the Newton decrement is below ten times `BARRIER`.

    **Fails:** `LinAlgError` if it is not after `max_iterations` at full weight, or if rounding
    leaves no step that descends."""

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
        curvature = sum(m.T @ m for m in bends(frames(metric), hessian))
        step = -BandedCholesky(weight * matrix + BARRIER * curvature).solve(gradient)
        return step, -gradient @ step

    def descend(c, weight, steps):
        for _ in range(steps):
            step, decrement = newton(c, weight)
            arrived = decrement < 10 * BARRIER
            before, length = value(c, weight), 1.0
            slack = 1e-12 * abs(before)
            while value(c + length * step, weight) > before - 0.1 * length * decrement + slack:
                length /= 2
                if length < 1e-8:  # rounding
                    return c, arrived
            c = c + length * step
            if arrived:
                return c, True
        return c, False

    c = start
    for weight in 10.0 ** np.arange(-6, 0):
        c, _ = descend(c, weight, PATIENCE)
    c, arrived = descend(c, 1.0, max_iterations)
    if not arrived:
        raise np.linalg.LinAlgError(f"no minimum of the spline in {max_iterations} iterations")
    return c


def nearest(planes: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The smallest x with planes x ≥ heights, by least distance programming (Lawson & Hanson
    1974, *Solving Least Squares Problems*, §23.4). **Fails:** `LinAlgError` if there is none."""
    target = np.r_[np.zeros(planes.shape[1]), 1.0]
    both = np.c_[planes, heights].T
    try:
        rest = both @ nnls(both, target)[0] - target
    except RuntimeError as error:
        raise np.linalg.LinAlgError(f"nearest convex potential not found: {error}") from error
    if not np.abs(rest[-1]) > 1e-9:
        raise np.linalg.LinAlgError("no potential is convex at every sample")
    return -rest[:-1] / rest[-1]
