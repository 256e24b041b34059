"""How often 90 % intervals of a fit hold the exact answer, over the nodes of a grid, as JSON.

python benchmarks/coverage.py --out benchmarks/results/coverage.json
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from closed_families import CLOSED, sets_of_draws

import jaxgeo as jg
from jaxgeo._files import write_json
from jaxgeo.demos import ISING_DOMAIN, exact_ising
from jaxgeo.reconstruction import interval
from jaxgeo.systems import ising

NODES, DRAWS, LEVEL = 40, 64, 0.9


def grid(domain) -> np.ndarray:
    axes = (np.linspace(a, b, NODES) for a, b in domain)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def ising_samples(n: int, size: int, seed: int):
    where, how = jax.random.split(jax.random.key(seed))
    t = jax.random.uniform(where, (n, 2), jnp.float32, *jnp.asarray(ISING_DOMAIN, jnp.float32).T)
    exact = exact_ising(size, NODES)
    gradient = size**2 * exact["gradient"].reshape(-1, 2)
    return ising.sample(how, t, size=size), t, None, gradient, exact["metric"].reshape(-1, 2, 2)


def closed_samples(name: str, n: int, seed: int, exact_statistics: bool):
    family, points = CLOSED[name].family, grid(CLOSED[name].domain)
    x, t, summary = sets_of_draws(name, n, DRAWS, seed, exact_statistics)
    with jax.enable_x64(True):
        theta = jax.vmap(family.natural)(points)
        gradient = np.asarray(jax.vmap(jax.grad(family.log_partition))(theta))
        metric = np.asarray(jax.vmap(family.metric)(points))
    return x, t, summary, DRAWS * gradient, DRAWS * metric


def coverage(fit, points, gradient, metric) -> dict[str, float]:
    """Shares of nodes; gradients from their mean over the grid, since ψ is affine up to η."""
    t = jnp.asarray(points, jnp.float32)
    chart = fit.natural_coordinates

    def derivatives(psi, _):
        slopes = jax.vmap(jax.grad(lambda e: psi(e)))(jax.vmap(chart)(t))
        return slopes - jnp.mean(slopes, axis=0, keepdims=True)

    def eigenvalues(_, metric):
        return jnp.linalg.eigvalsh(jax.vmap(metric)(t))

    exact = (gradient - gradient.mean(axis=0), np.linalg.eigvalsh(metric))
    shares = {}
    for name, quantity, truth in zip(
        ("log_partition_derivatives", "metric_eigenvalues"), (derivatives, eigenvalues), exact,
        strict=True,
    ):  # fmt: skip
        lower, upper = (np.asarray(a, np.float64) for a in interval(fit, quantity, level=LEVEL))
        inside = (lower <= truth) & (truth <= upper)
        shares[name] = float(inside.mean())
        shares[f"{name}_each"] = inside.mean(axis=0).tolist()
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", nargs="+", default=["normal", "gamma", "ising"])
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--exact-statistics", action="store_true", help="of closed families")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.exact_statistics and "ising" in arguments.systems:
        parser.error("--exact-statistics are of closed families: give --systems without ising")
    runs = []
    for name in arguments.systems:
        for seed in arguments.seeds:
            if name == "ising":
                domain, chart = ISING_DOMAIN, ising.natural_coordinates
                data = ising_samples(arguments.samples, arguments.size, seed)
            else:
                domain, chart = CLOSED[name].domain, CLOSED[name].family.natural
                data = closed_samples(name, arguments.samples, seed, arguments.exact_statistics)
            samples, t, summary, gradient, metric = data
            fit = jg.fit_log_partition(
                samples, t, key=jax.random.key(seed), domain=domain, summary=summary,
                natural_coordinates=chart, progress=False, throw=False,
            )  # fmt: skip
            if fit.ensemble is None:
                shares: dict = {"no_ensemble": fit.refusal}
            else:
                shares = coverage(fit, grid(domain), gradient, metric)
            facts = {
                "system": name,
                "exact_statistics": arguments.exact_statistics,
                "seed": seed,
                "samples": arguments.samples,
            }
            runs.append(facts | shares)
            print(runs[-1], flush=True)
            write_json(
                arguments.out, {"level": LEVEL, "device": str(jax.devices()[0]), "runs": runs}
            )


if __name__ == "__main__":
    main()
