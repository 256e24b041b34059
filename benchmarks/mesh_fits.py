"""A fit over a mesh of devices beside the same fit on one.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python benchmarks/mesh_fits.py --out FILE

Sets of 64 draws of a gamma law: 8,192 of them, which a spline is made of, and 2,048, which
networks are trained on. How far the two metrics are apart, and each from the exact one, as the
norm of log(g^(−1/2) ĝ g^(−1/2)), median over a grid; beside them half the width of the 90 %
interval of the fit on one device, relative to the metric, where it has one.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from closed_families import CLOSED, sets_of_draws
from scipy.linalg import eigvalsh

import jaxgeo as jg
from jaxgeo._files import write_json
from jaxgeo._results import describe
from jaxgeo.reconstruction import interval

DRAWS = 64


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """‖log(a^(−1/2) b a^(−1/2))‖ of every pair of metrics."""
    pairs = zip(a.reshape(-1, 2, 2), b.reshape(-1, 2, 2), strict=True)
    return np.array([np.linalg.norm(np.log(eigvalsh(y, x))) for x, y in pairs])


def measure(n: int, seed: int, **options: Any) -> dict[str, Any]:
    closed = CLOSED["gamma"]
    samples, parameters, summary = sets_of_draws("gamma", n, DRAWS, seed)
    axes = [np.linspace(*side, 22)[1:-1].astype(np.float32) for side in closed.domain]
    exact = DRAWS * np.asarray(jg.on_grid(closed.family.metric, axes), np.float64)
    mesh = jax.make_mesh((jax.device_count(),), ("samples",))
    found, seconds, fits = [], [], []
    for over in (None, mesh):
        begin = time.perf_counter()
        fits.append(
            jg.fit_log_partition(
                samples,
                parameters,
                key=jax.random.key(seed),
                domain=closed.domain,
                natural_coordinates=closed.family.natural,
                summary=summary,
                throw=False,
                progress=False,
                mesh=over,
                **options,
            )
        )
        seconds.append(time.perf_counter() - begin)
        found.append(np.asarray(jg.on_grid(fits[-1].metric, axes), np.float64))
    row = {
        "samples": n,
        "seed": seed,
        "results": [describe(fit.result) for fit in fits],
        "potential": type(fits[1].log_partition).__name__,
        "apart": float(np.median(distances(*found))),
        "apart_at_most": float(np.max(distances(*found))),
        "error": [float(np.median(distances(exact, g))) for g in found],
        "seconds": seconds,
    }
    if fits[0].ensemble is not None:
        nodes = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
        low, high = interval(fits[0], lambda psi, metric: jax.lax.map(metric, nodes))
        row["half_interval"] = float(
            np.median(np.diagonal(high - low, 0, 1, 2) / np.diagonal(high + low, 0, 1, 2))
        )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[8192, 2048])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for n in arguments.samples:
        rows.append(measure(n, arguments.seed))
        print(rows[-1], flush=True)
    if arguments.out:
        device = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
        write_json(arguments.out, {"device": device, "jax": jax.__version__, "fits": rows})


if __name__ == "__main__":
    main()
