"""Theorems 3.1 and 3.2 of Lobashev et al. (2025) in numbers, as JSON and a figure.

python benchmarks/theorems.py --out benchmarks/results

3.1: the N-th root of the posterior of N samples tends to exp(-D). Its distance in the supremum
norm over a 40×40 grid, against N, for three families whose log-partition is known: two Poisson
counts, a gamma law, and the Ising model of 32×32 spins (exact finite lattice).
3.2: if exp(-D) of two potentials agree, so do their Hessians. The root mean square distance of
both, over the grid, of the exact potential and ones bent by smooth waves that fade.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxgeo._files import writable_directory, write_json
from jaxgeo.demos import exact_ising
from jaxgeo.plotting import save
from jaxgeo.systems import families, ising

NODES, SIZE = 40, 32
SAMPLES = (1, 4, 16, 64, 256, 1024, 4096)
REPEATS = 32
AMPLITUDES = (0.3, 0.1, 0.03, 0.01, 0.003)


class Case(NamedTuple):
    """Natural coordinates of the nodes, ψ and ∇ψ there, and statistics drawn at a node."""

    eta: np.ndarray
    psi: np.ndarray
    slope: np.ndarray
    draw: Callable[[int, int], np.ndarray]


def grid(domain) -> np.ndarray:
    axes = (np.linspace(a, b, NODES) for a, b in domain)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def closed(family, domain, statistics) -> Case:
    """`statistics(rng, z, n)` draws n values of T(x), log p = θ·T(x) − ψ(θ) + log h(x)."""
    points = grid(domain)
    theta = jax.vmap(family.natural)(points)
    psi = jax.vmap(family.log_partition)(theta)
    slope = jax.vmap(jax.grad(family.log_partition))(theta)
    rng = np.random.default_rng(0)
    return Case(
        np.asarray(theta), np.asarray(psi), np.asarray(slope),
        lambda node, n: statistics(rng, points[node], n),
    )  # fmt: skip


def poisson_statistics(rng, z, n):
    return rng.poisson(z, (n, 2))


def gamma_statistics(rng, z, n):
    """log x and x, of the shape and the mean."""
    x = rng.gamma(z[0], z[1] / z[0], n)
    return np.stack([np.log(x), x], axis=1)


def lattice() -> Case:
    domain = ((1.5, 4.5), (-1.0, 1.0))
    exact = exact_ising(SIZE, NODES, domain)
    points, sites = grid(domain), SIZE**2
    keys = iter(jax.random.split(jax.random.key(0), 10_000))

    def draw(node, n):
        t = jnp.tile(jnp.asarray(points[node], jnp.float32)[None], (max(n, 64), 1))
        spins = ising.sample(next(keys), t, size=SIZE)
        return np.asarray(jax.vmap(ising.sufficient_statistics)(spins), np.float64)[:n]

    return Case(
        np.asarray(jax.vmap(ising.natural_coordinates)(points)),
        sites * exact["log_partition"].ravel(),
        sites * exact["gradient"].reshape(-1, 2),
        draw,
    )


def divergence(case: Case, node: int) -> np.ndarray:
    """D(η, η') of all nodes from one."""
    return case.psi - case.psi[node] - (case.eta - case.eta[node]) @ case.slope[node]


def root_of_posterior(case: Case, mean: np.ndarray, n: int) -> np.ndarray:
    """p(t | x₁ … x_N)^(1/N) over the grid, p a density with respect to the share of nodes."""
    weight = case.eta @ mean - case.psi
    top = weight.max()
    return np.exp(weight - top - np.log(np.mean(np.exp(n * (weight - top)))) / n)


def theorem_1(case: Case, per_sample: float) -> dict[str, Any]:
    """`per_sample` divides ψ and the statistic, for lattices: exp(−D) of a site."""
    scaled = Case(case.eta, case.psi / per_sample, case.slope / per_sample, case.draw)
    nodes = np.random.default_rng(1).choice(NODES**2, REPEATS, replace=False)
    drawn = {int(node): case.draw(int(node), SAMPLES[-1]) / per_sample for node in nodes}
    distances = np.array(
        [
            [
                np.abs(
                    root_of_posterior(scaled, x[:n].mean(axis=0), n)
                    - np.exp(-divergence(scaled, node))
                ).max()
                for n in SAMPLES
            ]
            for node, x in drawn.items()
        ]
    )
    middle = np.median(distances, axis=0)
    slope = np.polyfit(np.log(SAMPLES[2:]), np.log(middle[2:]), 1)[0]
    return {
        "samples": SAMPLES,
        "distance_median": middle.tolist(),
        "distance_quartiles": np.quantile(distances, [0.25, 0.75], axis=0).tolist(),
        "slope": float(slope),
    }


def theorem_2(family, domain, seed: int) -> dict[str, Any]:
    """Distances of exp(−D) and of the Hessian, relative to the exact ones, of bent potentials."""
    points = grid(domain)
    theta = jax.vmap(family.natural)(points)
    unit = jnp.std(theta, axis=0)
    rng = np.random.default_rng(seed)
    wave, phase = jnp.asarray(rng.normal(size=(4, 2)) * 2), jnp.asarray(rng.uniform(0, 6.3, 4))
    size = float(jnp.std(jax.vmap(family.log_partition)(theta)))

    def fields(amplitude):
        def psi(e):
            bend = jnp.sum(jnp.cos(wave @ (e / unit) + phase))
            return family.log_partition(e) + 0.01 * amplitude * size * bend

        value, slope = jax.vmap(jax.value_and_grad(psi))(theta)
        d = value[:, None] - value[None] - jnp.einsum("ijk,jk->ij", theta[:, None] - theta, slope)
        hessian = jax.vmap(jax.hessian(psi))(theta) * jnp.outer(unit, unit)
        return jnp.exp(-d), hessian

    exact = fields(0.0)
    found: dict[str, Any] = {"amplitude": AMPLITUDES, "posterior": [], "hessian": []}
    for amplitude in AMPLITUDES:
        for name, bent, true in zip(
            ("posterior", "hessian"), fields(amplitude), exact, strict=True
        ):
            found[name].append(float(jnp.sqrt(jnp.mean((bent - true) ** 2) / jnp.mean(true**2))))
    return found


def picture(first: dict[str, Any], second: dict[str, Any]):
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    for k, (name, one) in enumerate(first.items()):
        label = f"{name}: slope {one['slope']:.2f}"
        axes[0].loglog(SAMPLES, one["distance_median"], "o-", color=f"C{k}", label=label)
        axes[0].fill_between(SAMPLES, *one["distance_quartiles"], color=f"C{k}", alpha=0.2)
    axes[0].set(xlabel="samples $N$", ylabel=r"$\sup_t\,|p^{1/N} - e^{-D}|$")
    axes[0].legend(fontsize="small")
    for k, (name, runs) in enumerate(second.items()):
        for i, run in enumerate(runs):
            label = name if i == 0 else None
            axes[1].loglog(run["posterior"], run["hessian"], "o-", color=f"C{k}", label=label)
    axes[1].set(xlabel=r"error of $e^{-D}$", ylabel=r"error of $\nabla^2\psi$")
    axes[1].legend(fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    out = writable_directory(parser.parse_args().out)
    boxes = {"Poisson": ((1.0, 9.0), (2.0, 12.0)), "gamma": ((1.0, 5.0), (0.5, 3.0))}
    laws = {"Poisson": families.poisson, "gamma": families.gamma}
    with jax.enable_x64(True):
        first = {
            "Poisson": theorem_1(closed(laws["Poisson"], boxes["Poisson"], poisson_statistics), 1),
            "gamma": theorem_1(closed(laws["gamma"], boxes["gamma"], gamma_statistics), 1),
            f"Ising {SIZE}×{SIZE}, a site": theorem_1(lattice(), SIZE**2),
        }
        second = {
            name: [theorem_2(laws[name], boxes[name], seed) for seed in range(3)] for name in laws
        }
    for name, one in first.items():
        print(name, np.round(one["distance_median"], 4), f"slope {one['slope']:.3f}")
    write_json(out / "theorems.json", {"theorem 3.1": first, "theorem 3.2": second})
    save(picture(first, second), out / "theorems.png")


if __name__ == "__main__":
    main()
