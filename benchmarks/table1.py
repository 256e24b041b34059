"""Table 1 of Lobashev et al. (2025) on the Ising model: ours beside its rivals, on the same data.

python benchmarks/table1.py --seeds 0 1 2 --out benchmarks/results

Columns as published (root mean square errors of F = -T log Z a site and of its derivatives on a
40×40 grid), the gauge-free error of the metric, and the cross-entropy of single samples in excess
of the exact model's. Everything is measured against the exact finite lattice. A run that was cut
off goes on where it stopped: runs that the JSON file holds are not repeated.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import baselines
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgeo as jg
from jaxgeo import report
from jaxgeo._files import writable_directory, write_json
from jaxgeo.demos import PUBLISHED, exact_ising, free_energy
from jaxgeo.plotting import save
from jaxgeo.reconstruction import Identity
from jaxgeo.systems import ising

NODES = 40
RANGES = {
    "published": ((1.0, 5.0), (-2.0, 2.0)),
    "near-critical": ((1.5, 3.5), (-0.5, 0.5)),
}
JUDGED, RIVALS = 256, 1024
"""Fresh samples, and parameters that compete for each, of the cross-entropy."""


def draw(key, n: int, size: int, domain):
    where, how = jax.random.split(key)
    t = jax.random.uniform(where, (n, 2), jnp.float32, *jnp.asarray(domain, jnp.float32).T)
    return np.asarray(ising.sample(how, t, size=size)), np.asarray(t)


def energy_and_magnetisation(spins: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(ising.sufficient_statistics)(spins), np.float32)


def ours(samples, t, **options):
    return jg.fit_log_partition(samples, t, throw=False, progress=False, **options)


def exact_statistics(samples, t, **options):
    return ours(energy_and_magnetisation(samples), t, summary=Identity(), **options)


def rival(method, samples, t, *, natural_coordinates, **options):
    return method(samples, t, chart=natural_coordinates, **options)


METHODS = {
    "ours": ours,
    "ours, exact statistics": exact_statistics,
    "Bregman network (the paper's steps)": functools.partial(rival, baselines.bregman_network),
    "mean as statistic": functools.partial(rival, baselines.mean_as_statistic),
    "PCA-VAE": functools.partial(rival, baselines.pca_vae),
    "linear Fisher information": functools.partial(rival, baselines.linear_fisher),
}


@functools.cache
def judges(size: int, domain) -> dict[str, np.ndarray]:
    """Samples of no fit, their rivals' parameters, and the exact log-weight of each pair."""
    samples, t = draw(jax.random.key(10**6), JUDGED, size, domain)
    others = np.random.default_rng(10**6).uniform(*np.array(domain).T, (RIVALS, 2))
    with jax.enable_x64(True):
        eta = jax.vmap(ising.natural_coordinates)(jnp.concatenate([jnp.asarray(t), others]))
        one = eqx.filter_jit(lambda e: ising.log_partition_per_site(e, size))
        psi = size**2 * np.array([float(one(e)) for e in eta])
        weights = np.asarray(energy_and_magnetisation(samples)) @ np.asarray(eta).T - psi[None, :]
    return {"samples": samples, "t": np.concatenate([t, others]), "weights": weights}


def nats(weights: np.ndarray) -> np.ndarray:
    """By which each sample misses its own parameter among the rivals."""
    every = np.concatenate(
        [np.diagonal(weights)[:, None], weights[:, len(weights) :]], axis=1
    ).astype(np.float64)
    top = every.max(axis=1, keepdims=True)
    return np.log(np.exp(every - top).sum(axis=1)) + top[:, 0] - every[:, 0]


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    error = values.std() / np.sqrt(len(values))
    return {"mean": float(values.mean()), "error": float(error)}


def excess_cross_entropy(fit, method: str, size: int, domain) -> dict[str, float] | None:
    """Mean nats over the exact model's, and its standard error; None without a posterior."""
    if not isinstance(fit, jg.reconstruction.LogPartitionFit):
        return None
    judged = judges(size, domain)
    exact = method == "ours, exact statistics"
    x = energy_and_magnetisation(judged["samples"]) if exact else judged["samples"]
    f = np.asarray(eqx.filter_jit(jax.vmap(fit.posterior.statistic))(jnp.asarray(x)), np.float64)
    eta = jax.vmap(ising.natural_coordinates)(jnp.asarray(judged["t"], jnp.float32))
    psi = np.asarray(jax.vmap(lambda e: fit.log_partition(e))(eta), np.float64)
    difference = nats(f @ np.asarray(eta, np.float64).T - psi) - nats(judged["weights"])
    return mean_and_error(difference)


def measure(method: str, seed: int, n: int, size: int, domain, **options) -> dict[str, Any]:
    key = jax.random.key(seed)
    where, fit_key = jax.random.split(key)
    samples, t = draw(where, n, size, domain)
    start = time.perf_counter()
    fit = METHODS[method](
        samples, t, key=fit_key, domain=np.array(domain),
        natural_coordinates=ising.natural_coordinates, **options,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    exact = exact_ising(size, NODES, domain)
    informed = np.linalg.eigvalsh(exact["metric"])[..., 0] * n / NODES**2 > 10
    if fit.log_partition is not None:
        found = report.on_nodes(fit, np.array(domain), NODES, size**2 * exact["log_partition"])
        fields = free_energy(found.axes, found.log_partition / size**2, found.gradient / size**2)
        truth = free_energy(found.axes, exact["log_partition"], exact["gradient"])
        rmse = {k: float(np.sqrt(np.mean((fields[k] - truth[k]) ** 2))) for k in fields}
        metric = found.metric
    else:
        axes = tuple(np.linspace(a, b, NODES).astype(np.float32) for a, b in domain)
        metric, rmse = np.asarray(jg.on_grid(fit.metric, axes), np.float64), {}
    errors = report.metric_errors(metric, exact["metric"])
    is_fit = isinstance(fit, jg.reconstruction.LogPartitionFit)
    return {
        "method": method,
        "seed": seed,
        "samples": n,
        "rmse": rmse,
        "metric_error_median": float(np.nanmedian(errors)),
        "metric_error_median_where_informed": float(np.median(errors[informed])),
        "excess_cross_entropy": excess_cross_entropy(fit, method, size, domain),
        "training_seconds": seconds,
        "fit": report.facts_of(fit) if is_fit else fit.settings,
    }


def cell(values: list[float | None], digits: int = 4) -> str:
    """Mean ± standard deviation over the seeds; a dash where there is none."""
    values = [v for v in values if v is not None]
    if not values:
        return "—"
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def lines(runs: list[dict[str, Any]]) -> list[str]:
    """A table in Markdown: mean ± standard deviation over the seeds."""

    found = [
        f"| method | {' | '.join(PUBLISHED)} | metric | where informed | excess nats | seconds |",
        "|---|---|---|---|---|---|---|---|",
        f"| published | {' | '.join(map(str, PUBLISHED.values()))} | | | | |",
    ]
    for method in METHODS:
        some = [run for run in runs if run["method"] == method]
        if not some:
            continue
        columns = [cell([run["rmse"].get(k) for run in some]) for k in PUBLISHED]
        columns += [
            cell([run[k] for run in some], 2)
            for k in ("metric_error_median", "metric_error_median_where_informed")
        ]
        excess = [run["excess_cross_entropy"] for run in some]
        columns.append(cell([e and e["mean"] for e in excess], 2))
        columns.append(cell([run["training_seconds"] for run in some], 0))
        found.append(f"| {method} | {' | '.join(columns)} |")
    return found


def picture(runs: list[dict[str, Any]]):
    """Errors of every method and seed beside the published row, on a logarithmic scale."""
    figure, ax = plt.subplots(figsize=(8.0, 4.0), layout="constrained")
    present = [m for m in METHODS if any(r["method"] == m and r["rmse"] for r in runs)]
    for k, name in enumerate(PUBLISHED):
        for i, method in enumerate(present):
            values = [run["rmse"][name] for run in runs if run["method"] == method]
            x = np.full(len(values), k + (i - len(present) / 2) * 0.13)
            ax.scatter(x, values, color=f"C{i}", label=method if k == 0 else None, s=24)
        ax.hlines(
            PUBLISHED[name], k - 0.45, k + 0.45, color="black", linestyle="--", linewidth=1,
            label="published (128×128, 540,000 samples)" if k == 0 else None,
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_xticks(range(len(PUBLISHED)), [f"${name.replace('d', '∂')}$" for name in PUBLISHED])
    ax.set_ylabel("root mean square error")
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--range", default="published", choices=list(RANGES))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    name = f"table1-ising-{arguments.size}-{arguments.range}"
    file = writable_directory(arguments.out) / f"{name}.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    done = {(run["method"], run["seed"], run["samples"]) for run in runs}
    for seed in arguments.seeds:
        for method in arguments.methods:
            if (method, seed, arguments.samples) in done:
                continue
            domain = RANGES[arguments.range]
            runs.append(measure(method, seed, arguments.samples, arguments.size, domain))
            system = {"size": arguments.size, "domain": domain}
            device = str(jax.devices()[0])
            write_json(file, {"system": system, "device": device, "runs": runs})
            print("\n".join(lines(runs)), flush=True)
    save(picture(runs), file.with_suffix(".png"))


if __name__ == "__main__":
    main()
