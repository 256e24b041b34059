"""Geodesics as networks: the same length from every seed, and what a batch of curves costs.

    python benchmarks/neural_geodesics.py [--out FILE.json] [--repeats 5] [--strata 64]

On the arc: a metric that is small along a half circle of sixteen centroids and large across it.
The length from end to end, for eight seeds, beside that of `Relaxation` with 512 segments. Then
one curve and 64 curves in one fit, both compiled and warm, in turn; medians of the repeats, and
the ratio of the medians. `cpu` is the processor time of all threads: it tells work from waiting
where a machine is busy.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxgeo as jg

SEEDS, BATCH = 8, 64
CENTROIDS = np.stack([f(np.linspace(0, np.pi, 16)) for f in (np.cos, np.sin)], axis=1)
ALLOWED = 5e-3  # relative departure of a length


def arc_metric(z: Array) -> Array:
    """The inverse of the mean of kernels of width 0.4 at the centroids, plus 0.01."""
    squares = jnp.sum((z[None] - jnp.asarray(CENTROIDS, z.dtype)) ** 2, axis=1)
    return jnp.eye(2, dtype=z.dtype) / (jnp.mean(jnp.exp(-squares / 0.4**2)) + 0.01)


def pairs(n: int) -> tuple[Array, Array]:
    """Ends on the arc, symmetric, the first pair at its very ends."""
    angle = np.linspace(0, 0.5, n)
    starts = np.stack([-np.cos(angle), np.sin(angle)], axis=1)
    return jnp.asarray(starts, jnp.float32), jnp.asarray(starts * [-1, 1], jnp.float32)


def fit(n: int, seed: int, strata: int) -> jg.NeuralGeodesicFit:
    key = jax.random.key(seed)
    return jax.block_until_ready(
        jg.fit_neural_geodesics(arc_metric, *pairs(n), key=key, strata=strata, throw=False)
    )


def lengths(strata: int) -> dict[str, Any]:
    """The length from end to end by relaxation, and its relative departure for every seed."""
    start, end = (ends[0] for ends in pairs(1))
    exact = float(jg.distance(arc_metric, start, end, solver=jg.Relaxation(512)))
    found = [fit(1, seed, strata).solution for seed in range(SEEDS)]
    errors = [float(s.stats["length"][0]) / exact - 1 for s in found]
    good = [bool(jnp.all(s.result == jg.RESULTS.successful)) for s in found]
    corrections = [float(s.stats["correction"][0]) for s in found]
    return {
        "relaxation": exact,
        "errors": errors,
        "corrections": corrections,
        "successful": good,
        "within_half_a_percent": all(good) and max(map(abs, errors)) < ALLOWED,
    }


def costs(repeats: int, strata: int) -> dict[str, Any]:
    """Seconds of a fit of one curve and of 64, run in turn."""
    first, wall, cpu = {}, {1: [], BATCH: []}, {1: [], BATCH: []}
    for n in wall:
        begin = time.perf_counter()
        fit(n, 0, strata)
        first[n] = time.perf_counter() - begin
    for repeat in range(repeats):
        for n in wall:
            begin, busy = time.perf_counter(), time.process_time()
            solution = fit(n, repeat, strata).solution
            wall[n].append(time.perf_counter() - begin)
            cpu[n].append(time.process_time() - busy)
    seconds, work = ({n: float(np.median(t[n])) for n in t} for t in (wall, cpu))
    return {
        "batch": BATCH,
        "first_call": first,
        "seconds": seconds,
        "cpu": work,
        "batch_over_single": seconds[BATCH] / seconds[1],
        "batch_over_single_cpu": work[BATCH] / work[1],
        "successful": int(jnp.sum(solution.result == jg.RESULTS.successful)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--strata", type=int, default=64)
    arguments = parser.parse_args()
    rows = {"lengths": lengths(arguments.strata)}
    print(json.dumps(rows), flush=True)
    rows["costs"] = costs(arguments.repeats, arguments.strata)
    print(json.dumps(rows["costs"]), flush=True)
    if arguments.out is not None:
        device = jax.devices()[0]
        about = {
            "device": device.device_kind,
            "jax": jax.__version__,
            "dtype": "float32",
            "strata": arguments.strata,
        }
        arguments.out.write_text(json.dumps(about | rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
