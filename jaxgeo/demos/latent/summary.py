"""The report of a run as text."""

from typing import Any


def latent_summary(facts: dict[str, Any]) -> str:
    """The report's figures as text."""
    near = facts["distance_to_data"]
    base = near["straight lines"]
    lines = [
        facts["data"],
        f"distance of decoded curves to the nearest sample, mean over {near['pairs']} pairs:",
        f"  straight lines                  {base['mean']:.3f} (decoded samples themselves "
        f"{near['decoded samples']:.3f})",
    ]
    for name, found in near.items():
        if isinstance(found, dict) and "nearer by" in found:
            gain = found["nearer by"]
            lines.append(
                f"  {name:<31} nearer by {gain['mean']:.3f} ± {gain['standard error']:.3f} "
                f"(deviation {gain['standard deviation']:.2f}); {found['geodesics found']} "
                f"geodesics of {near['pairs']} found"
            )
    if facts["clusters"]:
        scores = {k: v for k, v in facts["clusters"].items() if isinstance(v, dict)}
        lines += [
            f"clusters by {name + ' distances':<41} adjusted Rand index {score['mean']:.3f} ± "
            f"{score['standard deviation']:.3f}"
            for name, score in scores.items()
        ]
    drawn = facts["samples"]
    lines.append(
        f"samples' distance to data: inverse volume {drawn['inverse volume']['mean']:.3f} ± "
        f"{drawn['inverse volume']['standard error']:.3f}, Gaussian prior "
        f"{drawn['Gaussian prior']['mean']:.3f} ± {drawn['Gaussian prior']['standard error']:.3f}"
        f" (greatest R-hat of the chains {drawn['chains']['greatest R-hat']:.2f}; above 1.05 they "
        "weigh the metric's valleys as the data do)"
    )
    lines += [
        f"log evidence a sample, held out: {name} bound {found['bound']:.2f}, of 32 weights "
        f"{found['of 32 weights']:.2f}"
        for name, found in facts["evidence"].items()
    ]
    return "\n".join([*lines, f"fit {facts['fit']['result']}"])
