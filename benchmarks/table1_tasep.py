"""Table 1 of Lobashev et al. (2025) on the TASEP: ours beside its rivals, against exact answers.

python benchmarks/table1_tasep.py --seeds 0 1 2 --out benchmarks/results

The chain of 128 sites at rates (α, β) in [0.01, 0.99]². By phase, against the Fisher metric of the
finite chain on 12×12 nodes: the median |log| error of the dominant eigenvalue, and the gauge-free
error of both. The current J as published: a potential in (α, β), times one factor and plus an
affine function, against J = x(1 - x), x = min(α, β, 1/2), at the centres of 100×100 cells; the
true potential, the entropy of x, misses it too, by the "floor" (see `jaxgeo.systems.tasep`), and
what is nearest to the exact metric of the chain by more (`--exact-metric`). Where a method gives
only a metric, its potential is the nearest one (`hessian_potential`). A run that was cut off goes
on where it stopped.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import baselines
import jax
import jax.numpy as jnp
import numpy as np
from table1 import cell, mean_and_error, nats

import jaxgeo as jg
from jaxgeo import report
from jaxgeo._files import writable_directory, write_json
from jaxgeo.reconstruction import hessian_potential
from jaxgeo.reconstruction.curved import FRESH, HELD_OUT
from jaxgeo.systems import tasep

SIZE, DOMAIN = 128, np.array([[0.01, 0.99], [0.01, 0.99]])
NODES, EXACT_SAMPLES = 12, 4096
JUDGED, RIVALS = 256, 1024
PHASES = ("low density", "high density", "maximal current", "coexistence")
PUBLISHED = {"J": 0.0112, "dJ/da": 0.1165, "dJ/db": 0.1135}


def simulate(key, parameters):
    return tasep.sample(key, parameters, size=SIZE)


def curved_family(key, n):
    return jg.fit_curved_family(simulate, key=key, domain=DOMAIN, progress=False, throw=False)


def learned_chart(key, n):
    return jg.fit_log_partition(
        simulate, key=key, domain=DOMAIN, natural_coordinates="learned", n_samples=n,
        progress=False, throw=False,
    )  # fmt: skip


def rival(method, key, n):
    where, how, fit_key = jax.random.split(key, 3)
    t = jax.random.uniform(where, (n, 2), jnp.float32, *jnp.asarray(DOMAIN.T, jnp.float32))
    return method(np.asarray(simulate(how, t)), t, key=fit_key, domain=DOMAIN, chart=lambda t: t)


METHODS = {
    "ours, curved family": curved_family,
    "ours, learned chart": learned_chart,
    "Bregman network (the paper's steps)": functools.partial(rival, baselines.bregman_network),
    "mean as statistic": functools.partial(rival, baselines.mean_as_statistic),
    "PCA-VAE": functools.partial(rival, baselines.pca_vae),
    "linear Fisher information": functools.partial(rival, baselines.linear_fisher),
}


@functools.cache
def exact() -> dict[str, np.ndarray]:
    """Nodes, their phases, the exact metric there and its standard error."""
    axes = [np.linspace(0.06, 0.94, NODES)] * 2
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    with jax.enable_x64(True):
        found = [
            tasep.estimate_fisher_metric(
                jnp.asarray(t), size=SIZE, key=jax.random.key(i), n_samples=EXACT_SAMPLES
            )
            for i, t in enumerate(nodes)
        ]
        phases = [int(tasep.phase(jnp.asarray(t))) for t in nodes]
    metric, error = (np.array([np.asarray(one[k]) for one in found]) for k in (0, 1))
    return {"nodes": nodes, "phase": np.array(phases), "metric": metric, "error": error}


def by_phase(metric: np.ndarray) -> dict[str, dict[str, float]]:
    truth = exact()
    errors = report.metric_errors(metric, truth["metric"])
    top = [np.linalg.eigvalsh(g)[:, -1] for g in (metric, truth["metric"])]
    dominant = np.abs(np.log(np.maximum(top[0], 1e-30) / top[1]))
    return {
        name: {
            "nodes": int((truth["phase"] == k).sum()),
            "dominant": float(np.median(dominant[truth["phase"] == k])),
            "gauge_free": float(np.median(errors[truth["phase"] == k])),
        }
        for k, name in enumerate(PHASES)
    }


def entropy(t):
    x = jnp.minimum(jnp.min(t), 0.5)
    return x * jnp.log(x) + (1 - x) * jnp.log(1 - x)


def current(t):
    x = jnp.minimum(jnp.min(t), 0.5)
    return x * (1 - x)


def against_current(potential) -> dict[str, float]:
    """Errors of J and of its gradient, after the factor and the affine function that fit J."""
    axes = [lower + (upper - lower) * (np.arange(100) + 0.5) / 100 for lower, upper in DOMAIN]
    t = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2))
    (value, slope), (j, dj) = (
        [np.asarray(a, np.float64) for a in jax.vmap(jax.value_and_grad(f))(t)]
        for f in (lambda t: potential(t), current)
    )
    design = np.c_[value, np.ones(len(t)), np.asarray(t)]
    gauge = np.linalg.lstsq(design / np.abs(design).max(axis=0), j, rcond=None)[0]
    gauge /= np.abs(design).max(axis=0)
    misses = [design @ gauge - j, *(gauge[0] * slope + gauge[2:] - dj).T]
    return {k: float(np.sqrt(np.mean(m**2))) for k, m in zip(PUBLISHED, misses, strict=True)}


def of_exact_metric() -> dict[str, float]:
    """What is found of the current from the exact metric of the finite chain, and the share of
    it that no potential explains: no method that gives a metric need do better."""

    @jax.custom_batching.sequential_vmap
    def metric(t):
        key = jax.random.key(0)
        return tasep.estimate_fisher_metric(t, size=SIZE, key=key, n_samples=1024)[0]

    with jax.enable_x64(True):
        potential, unexplained = hessian_potential(metric, DOMAIN)
        return {**against_current(potential), "not_a_hessian": unexplained}


@functools.cache
def judges() -> dict[str, np.ndarray]:
    """Samples of no fit, their rivals' parameters, and the exact log-weight of each pair."""
    t = np.random.default_rng(10**6).uniform(*DOMAIN.T, (JUDGED + RIVALS, 2))
    x = simulate(jax.random.key(10**6), jnp.asarray(t[:JUDGED], jnp.float32))
    with jax.enable_x64(True):
        t64 = jnp.asarray(t)
        of_one = jax.jit(lambda x: jax.vmap(lambda t: tasep.log_prob(x, t))(t64))
        weights = np.array([np.asarray(of_one(one)) for one in np.asarray(x)])
    return {"x": np.asarray(x), "t": t.astype(np.float32), "weights": weights}


def excess_cross_entropy(log_weight) -> dict[str, float]:
    """Mean nats over the exact model's, and its standard error."""
    judged = judges()
    every = jax.jit(jax.vmap(lambda x: jax.vmap(lambda t: log_weight(x, t))(judged["t"])))
    found = np.asarray(every(judged["x"]), np.float64)
    return mean_and_error(nats(found) - nats(judged["weights"]))


def measure(method: str, seed: int, n: int) -> dict[str, Any]:
    start = time.perf_counter()
    fit = METHODS[method](jax.random.key(seed), n)
    seconds = time.perf_counter() - start
    metric = jax.jit(jax.vmap(fit.metric))(jnp.asarray(exact()["nodes"], jnp.float32))
    chart = isinstance(fit, jg.reconstruction.LogPartitionFit)
    unexplained = None
    if getattr(fit, "log_partition", None) is not None and not chart:
        potential = fit.log_partition
    else:
        potential, unexplained = hessian_potential(fit.metric, DOMAIN)
    if isinstance(fit, jg.reconstruction.CurvedFamilyFit):
        n = HELD_OUT + FRESH * sum(len(trace.step) for trace in fit.history.values())
        excess = excess_cross_entropy(fit.log_weight)
    else:
        excess = excess_cross_entropy(fit.posterior.log_weight) if chart else None
    return {
        "method": method,
        "seed": seed,
        "samples": n,
        "current": against_current(potential),
        "not_a_hessian": unexplained,
        "phases": by_phase(np.asarray(metric, np.float64)),
        "excess_cross_entropy": excess,
        "training_seconds": seconds,
        "fit": fit.settings if isinstance(fit, baselines.Baseline) else report.facts_of(fit),
    }


def lines(runs: list[dict[str, Any]], system: dict[str, Any]) -> list[str]:
    """A table in Markdown: mean ± standard deviation over the seeds."""
    known = {
        "the true potential (floor)": system["floor"],
        "the exact metric of the finite chain": system.get("exact_metric"),
    }
    found = [
        f"| method | {' | '.join(PUBLISHED)} | "
        + " | ".join(f"{name}: dominant, both" for name in PHASES)
        + " | excess nats | samples | seconds |",
        "|" + "---|" * 11,
        "| published | " + " | ".join(map(str, PUBLISHED.values())) + " | | | | | | | |",
        *(
            f"| {name} | " + " | ".join(f"{floor[k]:.4f}" for k in PUBLISHED) + " |" * 8
            for name, floor in known.items()
            if floor
        ),
    ]
    for method in METHODS:
        some = [run for run in runs if run["method"] == method]
        if not some:
            continue
        columns = [cell([run["current"][k] for run in some], 4) for k in PUBLISHED]
        columns += [
            ", ".join(
                cell([run["phases"][name][k] for run in some], 3)
                for k in ("dominant", "gauge_free")
            )
            for name in PHASES
        ]
        excess = [run["excess_cross_entropy"] for run in some]
        columns.append(cell([e and e["mean"] for e in excess], 3))
        columns.append(f"{some[0]['samples']:,}")
        columns.append(cell([run["training_seconds"] for run in some], 0))
        found.append(f"| {method} | {' | '.join(columns)} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--samples", type=int, default=32_768, help="of methods that do not stream"
    )
    parser.add_argument(
        "--exact-metric", action="store_true", help="the row of the exact metric too (5 minutes)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    file = writable_directory(arguments.out) / "table1-tasep.json"
    stored = json.loads(file.read_text()) if file.exists() else {"system": {}, "runs": []}
    errors = np.diagonal(exact()["error"] / np.abs(exact()["metric"]), 0, -2, -1)
    system = stored["system"] | {
        "size": SIZE,
        "domain": DOMAIN,
        "floor": against_current(entropy),
        "exact_metric_relative_error": {
            name: float(np.median(errors[exact()["phase"] == k])) for k, name in enumerate(PHASES)
        },
    }
    if arguments.exact_metric:
        system["exact_metric"] = of_exact_metric()
    runs = stored["runs"]

    def store():
        write_json(file, {"system": system, "device": str(jax.devices()[0]), "runs": runs})
        print("\n".join(lines(runs, system)), flush=True)

    store()
    done = {(run["method"], run["seed"]) for run in runs}
    for seed in arguments.seeds:
        for method in arguments.methods:
            if (method, seed) not in done:
                runs.append(measure(method, seed, arguments.samples))
                store()


if __name__ == "__main__":
    main()
