"""Geodesic acceleration of a pullback beside one metric evaluation and the Christoffel route.

    python benchmarks/pullback_acceleration.py [--out FILE.json]

A decoder with two hidden layers of 512 and 3,072 outputs, at growing latent dimension. All are
compiled and warm, run in turn, medians of 15; the error is that of the acceleration against the
Christoffel symbols, where these fit into memory. Then geodesics from a random point at d = 512, of
a decoder twice as wide (one of 512 units is singular to single precision there), by their length
in the latent space: at length 4 they have turned aside by almost half of it. Set
OPENBLAS_NUM_THREADS=1 on a busy machine: the threads of LAPACK wait for each other otherwise.
"""

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxgeo as jg

LATENT = (8, 32, 128, 512)
WITH_CHRISTOFFEL = 128  # beyond it the d³ tensor takes minutes
HIDDEN, OUTPUTS, ROUNDS = 512, 3072, 15
LENGTHS = (1.0, 4.0)


def decoder(d: int, rng: np.random.Generator, hidden: int = HIDDEN) -> Callable[[Array], Array]:
    """A random network of tanh units, of the width of a small image decoder."""
    sizes = (d, hidden, hidden, OUTPUTS)
    weights = [
        jnp.asarray(rng.normal(size=(m, n)) / np.sqrt(m), jnp.float32)
        for m, n in itertools.pairwise(sizes)
    ]

    def decode(z: Array) -> Array:
        for weight in weights[:-1]:
            z = jnp.tanh(z @ weight)
        return z @ weights[-1]

    return decode


def by_christoffel(metric: jg.PullbackMetric, z: Array, v: Array) -> Array:
    """−Γᵏᵢⱼvⁱvʲ with the whole tensor, as peers compute it."""
    return -jnp.einsum("kij,i,j->k", jg.christoffel(metric, z), v, v)


def seconds(calls: dict[str, Callable[[], Array]]) -> dict[str, float]:
    """Median seconds of each, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call().block_until_ready()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call().block_until_ready()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def measure(d: int, rng: np.random.Generator) -> dict[str, float]:
    """The times at one latent dimension, in seconds, and the error."""
    metric = jg.PullbackMetric(decoder(d, rng))
    z, v = (jnp.asarray(rng.normal(size=d), jnp.float32) for _ in range(2))
    functions = {
        "metric": jax.jit(lambda z, v: metric(z)),
        "acceleration": jax.jit(functools.partial(jg.geodesic_acceleration, metric)),
    }
    row: dict[str, float] = {"d": d}
    if d <= WITH_CHRISTOFFEL:
        functions["christoffel"] = jax.jit(functools.partial(by_christoffel, metric))
        exact = functions["christoffel"](z, v)
        error = jnp.linalg.norm(functions["acceleration"](z, v) - exact) / jnp.linalg.norm(exact)
        row["error"] = float(error)
    row |= seconds({name: functools.partial(f, z, v) for name, f in functions.items()})
    row["over_metric"] = row["acceleration"] / row["metric"]
    if "christoffel" in row:
        row["christoffel_over_acceleration"] = row["christoffel"] / row["acceleration"]
    return row


def geodesics(rng: np.random.Generator) -> list[dict[str, float]]:
    """Seconds and drift of the speed of geodesics in the largest of the latent spaces."""
    d, rows = max(LATENT), []
    metric = jg.PullbackMetric(decoder(d, rng, 2 * d))
    z, v = (jnp.asarray(rng.normal(size=d), jnp.float32) for _ in range(2))
    end = jnp.ones(1, jnp.float32)
    for length in LENGTHS:
        u = length * v / jnp.linalg.norm(v)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            found = jax.block_until_ready(jg.geodesic_ivp(metric, z, u, ts=end))
            times.append(time.perf_counter() - start)
        speed = jg.norm(metric, found.points[-1], found.velocities[-1])
        rows.append(
            {
                "d": d,
                "length": length,
                "turned_aside": float(jnp.linalg.norm(found.points[-1] - z - u)),
                "first": times[0],
                "seconds": float(np.median(times[1:])),
                "steps": int(found.stats["iterations"]),
                "drift": abs(float(speed / jg.norm(metric, z, u)) - 1),
            }
        )
        print({key: float(f"{value:.3g}") for key, value in rows[-1].items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    rng = np.random.default_rng(0)
    rows = []
    for d in LATENT:
        rows.append(measure(d, rng))
        print({key: float(f"{value:.3g}") for key, value in rows[-1].items()}, flush=True)
    paths = geodesics(rng)
    if out is not None:
        device = jax.devices()[0]
        about = {"device": device.device_kind, "jax": jax.__version__, "dtype": "float32"}
        out.write_text(json.dumps(about | {"rows": rows, "geodesics": paths}, indent=1) + "\n")


if __name__ == "__main__":
    main()
