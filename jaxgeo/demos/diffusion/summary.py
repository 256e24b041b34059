"""The report of a run as text."""

from typing import Any

MEASURES = ("feature length", "pixel length", "PPL", "curvature", "largest step")


def diffusion_summary(facts: dict[str, Any]) -> str:
    """What a run has found, with its spreads."""
    quality, near = facts["quality"], facts["quality"]["distance_to_nearest_trained_on"]
    lines = [
        facts["data"],
        f"classifier right on {quality['classifier_accuracy_held_out']:.3f} of samples held out; "
        f"distance to the nearest sample trained on: generated {near['generated']:.2f}, held out "
        f"{near['held out']:.2f}",
    ]
    for k, found in enumerate(facts["slices"]):
        lines.append(
            f"slice {k}: {found['phases']} phases in {found['regions']} regions; learned metric "
            f"against the exact pullback: rank correlation of log √det g "
            f"{found['rank_correlation_of_log_volume']:.3f}, median error "
            f"{found['median_metric_error']:.2f}, ridges recovered "
            f"{found['ridges']['recovered']:.2f}, confirmed {found['ridges']['confirmed']:.2f} "
            f"({found['result']}; by a spline of features alone, median error "
            f"{found['spline_of_features']['median_metric_error']:.4f}); share that no Hessian "
            f"metric in these coordinates explains {found['hessian_share_unexplained']:.2f}"
        )
    for group, table in facts["interpolation"].items():
        lines.append(f"{table['pairs']} {group.replace('all pairs', 'pairs in all')}:")
        for kind, found in table.items():
            if isinstance(found, dict) and "PPL" in found:
                values = ", ".join(_value(name, found[name], kind) for name in MEASURES)
                lines.append(f"  {kind:<15} {found['curves found']:>4} found: {values}")
    lines += boundary_lines(facts["boundary"])
    through = facts["spacetime"]
    negative = through["the network's share of negative eigenvalues"]
    lines.append(
        f"spacetime geodesic between two samples ({through['result']}): energy "
        f"{through['energy']:.1f}, straight line {through['energy of the straight line']:.1f}; "
        f"its latest time {through['latest time']:.2f}"
        f" (of a fitted mixture: {negative:.0%} of the network's Jacobian is negative)"
    )
    return "\n".join([*lines, f"fit {facts['fit']['result']}"])


def boundary_lines(facts: dict[str, Any]) -> list[str]:
    """What was seen of a boundary."""
    lines = []
    for name, found in facts.get("dimensions", {}).items():
        lines.append(f"box dimension, {name}: {found['dimension']:.3f} ± {found['error']:.3f}")
    for name, found in facts.get("growth", {}).items():
        near, far = (float(found["constants"][k]) for k in (0, -1))
        distances = [float(found["distances"][k]) for k in (0, -1)]
        lines.append(
            f"Lipschitz constant, {name}: {near:.3g} at {distances[0]:.0e} from the boundary, "
            f"{far:.3g} at {distances[1]:.0e}"
        )
    for name, found in facts.get("zooms", {}).items():
        lines.append(
            f"zoom, {name}: {found['levels']} levels, to a width of {found['last width']:.0e}, "
            f"with {len(found['phases in the last'])} phases in the last"
        )
    return lines + [f"not seen: {name}: {why}" for name, why in facts["not seen"].items()]


def _value(name: str, found: dict[str, Any], kind: str) -> str:
    gain = found["less than straight by"]
    if kind == "straight":
        return f"{name} {found['mean']:.3g}"
    return f"{name} {found['mean']:.3g} ({-gain['mean']:+.2g} ± {gain['standard error']:.1g})"
