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
        "The metric was not symmetric and positive definite, to working precision, at a point "
        "that the computation needed. If the metric is degenerate by nature, as a pullback whose "
        "Jacobian loses rank, say so with `jaxgeo.RegularizedMetric`."
    )
    not_resolved = (
        "The speed along the computed geodesic is not constant: the curve bends faster than the "
        "steps follow. Give more segments, or a smaller tolerance."
    )
    conjugate_point = (
        "The curve solves the geodesic equation but passes a point conjugate to its start, so "
        "it is not the shortest even among its neighbours; or its end is such a point, and many "
        "geodesics of one length join the ends."
    )
    left_domain = "The curve left the domain in which the metric is known."
    no_boundary = "Both ends of the segment have one label, so no boundary was looked for."
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
