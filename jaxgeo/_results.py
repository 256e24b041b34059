"""How a numerical computation ended: one enumeration for the whole library."""

from typing import Any

import diffrax


class RESULTS(diffrax.RESULTS):
    """How a solver ended. Extends diffrax's results, which extend optimistix's and lineax's.

    Compare with `==` (inside `jit` too): `solution.result == jaxgeo.RESULTS.successful`.
    A value that is NaN or infinite is `RESULTS.nonfinite`, which optimistix defines.
    """

    not_converged = (
        "The solver used up its iterations before its convergence test was met. Allow more "
        "iterations, start from a better curve, or loosen the tolerance."
    )
    line_search_failed = (
        "No step along the search direction lowered the energy, and the curve is no stationary "
        "point. The metric may be discontinuous, or not the one whose derivative is taken."
    )
    metric_not_positive_definite = (
        "The metric was not positive definite at a point that the computation needed. If the "
        "metric is degenerate by nature, say so with `jaxgeo.RegularizedMetric`."
    )
    left_domain = "The curve left the domain in which the metric is known."
    overfitted = (
        "The fit does better on the samples it saw than on those held out: its posterior is too "
        "sharp, so its metric is too large. Give more samples, or a simulator to stream from."
    )
    scale_unresolved = (
        "The scale of the fitted potential could not be calibrated on held-out samples, so the "
        "size of the metric is unknown."
    )


def describe(result: Any) -> str:
    """The word successful, or the message of a result that is not; for concrete results."""
    return "successful" if bool(result == RESULTS.successful) else str(RESULTS[result])  # type: ignore[misc]
