"""Spin updates per second of `jaxgeo.systems.ising.sample` beside a plain JAX heat bath, one run.

    python benchmarks/ising_sampler.py [--out result.json]

The plain sampler is what one would write first: whole lattices, `jnp.roll` for the neighbours,
one uniform number a site, two masked half-updates a sweep, jitted and scanned over sweeps. Both
run the same number of sweeps; a time is the median of several; their mean energies must agree.
"""

import argparse
import json
import math
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxgeo.systems import ising


@partial(jax.jit, static_argnames=("size", "n_sweeps"))
def plain(key, parameters, size, n_sweeps):
    beta = 1 / parameters[:, 0, None, None]
    field = parameters[:, 1, None, None] * beta
    site = jnp.arange(size)
    even = ((site[:, None] + site[None]) % 2 == 0)[None]

    def half(spins, key, mask):
        total = sum(jnp.roll(spins, shift, axis) for shift in (1, -1) for axis in (1, 2))
        up = jax.random.uniform(key, spins.shape) < jax.nn.sigmoid(2 * (beta * total + field))
        return jnp.where(mask, jnp.where(up, 1.0, -1.0), spins)

    def sweep(spins, key):
        first, second = jax.random.split(key)
        return half(half(spins, first, even), second, ~even), None

    start = jnp.ones((parameters.shape[0], size, size))
    return jax.lax.scan(sweep, start, jax.random.split(key, n_sweeps))[0].astype(jnp.int8)


def measure(draw, repeats):
    """Compile, then the median time of several runs, and the samples of the last."""
    start = time.perf_counter()
    jax.block_until_ready(draw(jax.random.key(0)))
    first = time.perf_counter() - start
    times = []
    for i in range(repeats):
        start = time.perf_counter()
        spins = jax.block_until_ready(draw(jax.random.key(i + 1)))
        times.append(time.perf_counter() - start)
    run = statistics.median(times)
    return {"seconds": run, "spread": max(times) - min(times), "compile": first - run}, spins


def compare(size, n_samples, n_sweeps, repeats):
    # Warm enough that the same short run is long enough for both.
    parameters = jnp.tile(jnp.array([[3.0, 0.1]]), (n_samples, 1))
    samplers = {
        "jaxgeo": partial(ising.sample, parameters=parameters, size=size, n_sweeps=n_sweeps),
        "plain": lambda key: plain(key, parameters, size, n_sweeps),
    }
    row = {"size": size, "samples": n_samples, "sweeps": n_sweeps}
    updates = n_samples * size**2 * n_sweeps
    for name, draw in samplers.items():
        row[name], spins = measure(draw, repeats)
        row[name]["updates_per_second"] = updates / row[name]["seconds"]
        energy = ising.energy_per_site(spins)
        row[name]["energy_per_site"] = float(energy.mean())
        row[name]["standard_error"] = float(energy.std()) / math.sqrt(n_samples)
    error = math.hypot(*(row[name]["standard_error"] for name in samplers))
    difference = row["jaxgeo"]["energy_per_site"] - row["plain"]["energy_per_site"]
    row["energy_difference_in_standard_errors"] = difference / error
    row["ratio"] = row["plain"]["seconds"] / row["jaxgeo"]["seconds"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--sweeps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for size in (32, 64, 128):
        row = compare(size, options.samples, options.sweeps, options.repeats)
        rows.append(row)
        print(
            f"L = {size:3d}: {row['jaxgeo']['updates_per_second']:.3g} updates/s, plain "
            f"{row['plain']['updates_per_second']:.3g}, ratio {row['ratio']:.1f}, energies differ "
            f"by {row['energy_difference_in_standard_errors']:+.2f} standard errors"
        )
    result = {
        "benchmark": "ising_sampler",
        "device": str(jax.devices()[0].device_kind),
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1))
    wrong = [r["size"] for r in rows if abs(r["energy_difference_in_standard_errors"]) > 4]
    slow = [r["size"] for r in rows if r["ratio"] < 2.5]
    if wrong or slow:
        sys.exit(f"sizes whose energies disagree: {wrong}; sizes below 2.5 times: {slow}")


if __name__ == "__main__":
    main()
