"""Metric error on families of 3 to 6 parameters from 32,768 sets of 64 draws, as JSON.

python benchmarks/higher_dimensions.py --out benchmarks/results/higher-dimensions.json
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from closed_families import CLOSED, exact_metric, sets_of_draws

import jaxgeo as jg
from jaxgeo import report
from jaxgeo._files import write_json

FAMILIES = ("dirichlet-3", "dirichlet-4", "multivariate-normal-5", "dirichlet-6")
DRAWS, POINTS = 64, 500


def measure(name: str, n: int, seed: int, exact_statistics: bool) -> dict:
    closed = CLOSED[name]
    x, t, summary = sets_of_draws(name, n, DRAWS, seed, exact_statistics)
    start = time.perf_counter()
    fit = jg.fit_log_partition(
        x, t, key=jax.random.key(seed), domain=closed.domain, summary=summary, throw=False,
        natural_coordinates=closed.family.natural, progress=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    points = np.random.default_rng(1000 + seed).uniform(*closed.domain.T, (POINTS, t.shape[1]))
    found = np.asarray(jax.vmap(fit.metric)(jnp.asarray(points, jnp.float32)), np.float64)
    errors = report.metric_errors(found, exact_metric(name, DRAWS, points))
    return {
        "family": name,
        "dimension": t.shape[1],
        "samples": n,
        "exact_statistics": exact_statistics,
        "seed": seed,
        "metric_error_median": float(np.median(errors)),
        "metric_error_90_percent": float(np.quantile(errors, 0.9)),
        "fit": report.facts_of(fit),
        "fit_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=list(CLOSED))
    parser.add_argument("--samples", type=int, default=32_768)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--exact-statistics", action="store_true", help="of closed families")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    runs = []
    for name in arguments.families:
        for seed in arguments.seeds:
            runs.append(measure(name, arguments.samples, seed, arguments.exact_statistics))
            one = runs[-1]
            print(
                f"{name:24s} seed {seed}: median {one['metric_error_median']:.3f}, 90 % "
                f"{one['metric_error_90_percent']:.3f}; {one['fit']['result']}; "
                f"{one['fit_seconds']:.0f} s",
                flush=True,
            )
            write_json(arguments.out, {"device": str(jax.devices()[0]), "runs": runs})


if __name__ == "__main__":
    main()
