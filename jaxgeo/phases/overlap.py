"""Whether two sets of curves on the plane are the same."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

FINENESS = 8
"""Points of a curve within the tolerance."""


class Overlap(NamedTuple):
    """How far curves that were found are those of a reference.

    - `recovered`: the share of the reference's length that is near a found curve.
    - `confirmed`: the share of the found curves' length that is near the reference.
    """

    recovered: float
    confirmed: float


def overlap(found: Sequence[Any], reference: Sequence[Any], *, tolerance: float) -> Overlap:
    """The shares of length that curves of two sets have near each other.

    For the ridges of a metric that was learned, against those of the exact one, or against the
    boundaries of a label. Curves thrown down at random would be near each other by chance with
    the share of the area that is within the tolerance of the others.

    **Arguments:**

    - `found`, `reference`: polylines, as `ridges` and `boundaries` give them, or arrays `(n, 2)`.
    - `tolerance`: how far from each other "near" is, in the units of the points.

    **Returns:** `Overlap`, NaN where there is no curve to take a share of.

    **Fails:** `ValueError` on shapes, and a tolerance that is not positive.

    **Cost:** host only, n log n in the number of points, eight a `tolerance` of length.

    **Example:** two segments, of which one is half as long.

    >>> x = np.linspace(0, 1, 11)
    >>> whole, half = np.stack([x, 0 * x], 1), np.stack([x / 2, 0 * x + 0.01], 1)
    >>> shares = overlap([half], [whole], tolerance=0.02)
    >>> round(shares.recovered, 1), shares.confirmed
    (0.5, 1.0)
    """
    if not tolerance > 0:
        raise ValueError(f"`tolerance` must be positive, got {tolerance}.")
    first, second = (_dense(curves, tolerance / FINENESS) for curves in (found, reference))
    return Overlap(_near(second, first, tolerance), _near(first, second, tolerance))


def _near(points: np.ndarray, others: np.ndarray, tolerance: float) -> float:
    if not len(points):
        return float("nan")
    if not len(others):
        return 0.0
    return float(np.mean(cKDTree(others).query(points)[0] <= tolerance))


def _dense(curves: Sequence[Any], spacing: float) -> Float[np.ndarray, "n 2"]:
    """Points at equal steps of length along all curves."""
    parts = [np.zeros((0, 2))]
    for curve in curves:
        points = np.asarray(getattr(curve, "points", curve), np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"a curve must have shape (n, 2), got {points.shape}.")
        along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
        count = int(np.ceil(along[-1] / spacing))
        at = (np.arange(count) + 0.5) * along[-1] / max(count, 1)
        parts.append(np.stack([np.interp(at, along, column) for column in points.T], axis=1))
    return np.concatenate(parts)
