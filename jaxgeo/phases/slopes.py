"""The exponent of a power law, and how far it is open."""

import numpy as np
from jaxtyping import Float


def fit_slope(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"] | None = None,
) -> tuple[float, float]:
    """The slope of a line through four points or more, by least squares, and its error.

    Beside the error of the fit this has half of the difference between the slopes of either half
    of the points, in squares: residuals of neighbouring scales are not independent, and a law
    that is no power law bends. `weights` are inverse variances: residuals may only raise them."""
    w = np.ones_like(x) if weights is None else weights
    half = len(x) // 2
    slope, error, known = _line(x, y, w)
    if weights is not None:
        error = max(error, known)
    lower, *_ = _line(x[:half], y[:half], w[:half])
    upper, *_ = _line(x[-half:], y[-half:], w[-half:])
    return slope, float(np.hypot(error, (upper - lower) / 2))


def _line(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:
    """The slope, its error by the residuals, and by the weights."""
    centred = x - np.average(x, weights=w)
    spread = np.sum(w * centred**2)
    slope = np.sum(w * centred * y) / spread
    rest = y - np.average(y, weights=w) - slope * centred
    freedom = max(len(x) - 2, 1)
    return float(slope), float((np.sum(w * rest**2) / freedom / spread) ** 0.5), spread**-0.5
