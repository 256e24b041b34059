"""Geodesics between two points: jaxgeo beside its peers on the same metrics and pairs, one run.

    python benchmarks/geodesics.py [--quick] [--only gamma,beta] [--out result.json]

Every curve is judged by `judge` and never by what its method says of it: resampled at constant
speed and measured by one fine quadrature. Exact distances are closed forms or, for gamma, beta,
Dirichlet and the network, `peers.reference`. All is float64 but the paper's procedure, float32 as
published. Times are medians of warm runs, the compiler's time apart. `--quick` takes 200 Adam
steps, 16 pairs a batch and geomstats' slow solvers on easy pairs only, and is no result.

geomstats and torch (extra `bench`) are listed as not installed where they are not.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers

import jaxgeo as jg
from jaxgeo.problems import PROBLEMS
from jaxgeo.systems import families

FINE = 2**14
"""Segments in which a curve is measured: the quadrature is then good to some 1e-8."""

CONVERGED = 1e-3
"""A method has an answer if the curve's length and the distance it claims are within this."""

ENOUGH = 5.0
"""No further run is begun after so many seconds of them."""

Pairs = list[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A metric, its pairs, and what peers need to know of it.

    - `logarithmic`: whether the reference works in log z.
    - `potential`: whose Hessian the metric is, in torch, for the paper's procedure.
    - `bounds`: of the box that the paper's procedure keeps to.
    """

    name: str
    metric: Callable
    pairs: Pairs
    distance: Callable | None = None
    logarithmic: bool = False
    potential: Callable | None = None
    bounds: tuple[float, float] | None = None


# Problems: of each an easy pair first, then wider ones


def _pairs(*pairs: Any) -> Pairs:
    return [(np.array(a, float), np.array(b, float)) for a, b in pairs]


WIDE = {
    "half_plane": _pairs(((0, 0.01), (3, 0.02))),
    "sphere": _pairs(((0.2, 0.0), (2.5, 2.0))),
    "normal": _pairs(((-5, 0.05), (5, 0.02))),
    "categorical": _pairs(((-5, 4), (6, -3))),
}
"""Beside the pairs of `jaxgeo.problems`, whose distances have closed forms."""

NO_CLOSED_FORM = {
    "gamma": _pairs(
        ((1, 1), (2, 3)),
        ((0.05, 8), (50, 0.1)),
        ((0.5, 1), (30, 0.05)),
        ((50, 0.1), (50, 8)),
        ((50, 0.05), (0.05, 50)),
    ),
    "beta": _pairs(
        ((1, 1), (2, 5)),
        ((0.05, 50), (50, 0.05)),
        ((0.1, 0.1), (50, 0.5)),
        ((0.5, 30), (40, 0.2)),
    ),
    "dirichlet": _pairs(
        ((1, 1, 1), (2, 3, 5)),
        ((0.1, 5, 50), (50, 0.1, 5)),
        ((0.05, 0.05, 50), (50, 50, 0.05)),
    ),
}
NETWORK = _pairs(((0.2, 0.5), (0.9, 0.6)), ((0.1, 0.1), (0.9, 0.9)), ((0.1, 0.9), (0.9, 0.1)))


@functools.cache
def network() -> dict[str, np.ndarray]:
    """Weights of a small input-convex network: smooth creases across the unit square."""
    rng, n = np.random.default_rng(0), 12
    centres, first = rng.uniform(size=(n, 2)), 20 * rng.normal(size=(2, n))
    return {
        "first": first,
        "first_bias": -np.sum(centres.T * first, axis=0),
        "second": np.abs(rng.normal(size=(n, n))) / n,
        "second_bias": -4 * rng.uniform(size=n),
        "last": np.abs(rng.normal(size=n)),
    }


def network_potential(z: jax.Array) -> jax.Array:
    """`peers.torch_network` of the same weights."""
    w = network()
    hidden = jax.nn.softplus(z @ w["first"] + w["first_bias"])
    return jax.nn.softplus(hidden @ w["second"] + w["second_bias"]) @ w["last"]


def cases() -> list[Case]:
    """The Hessian metrics last, which the paper's procedure can take."""
    out = []
    for problem in (p for p in PROBLEMS if p.name in WIDE):
        pairs = [*_pairs(*problem.pairs), *WIDE[problem.name]]
        potential = peers.torch_log_sum_exp if problem.name == "categorical" else None
        case = Case(problem.name, problem.metric, pairs, problem.distance, potential=potential)
        out.append(case)
    for name, pairs in NO_CLOSED_FORM.items():
        out.append(Case(name, getattr(families, name).metric, pairs, logarithmic=True))
    potential = peers.torch_network(network()) if peers.torch else None
    metric = jg.HessianMetric(network_potential)
    out.append(Case("network", metric, NETWORK, potential=potential, bounds=(0.0, 1.0)))
    return sorted(out, key=lambda case: case.potential is not None)


def answers(case: Case) -> list[tuple[float, float]]:
    """The exact or best-known distances of a case's pairs, and their errors where estimated."""
    if case.distance:
        return [(float(case.distance(*pair)), 0.0) for pair in case.pairs]
    return [peers.reference(case.metric, *pair, case.logarithmic) for pair in case.pairs]


# Methods


def ours(case: Case) -> peers.Method:
    """`geodesic_bvp` as it comes."""

    def solve(z0: np.ndarray, z1: np.ndarray) -> jg.GeodesicSolution:
        return jg.geodesic_bvp(case.metric, z0, z1, throw=False)

    def read(found: jg.GeodesicSolution, z0: Any, z1: Any, n: int) -> peers.Answer:
        points = np.asarray(jax.vmap(found.evaluate)(jnp.linspace(0, 1, n)))
        reported = jg.RESULTS[found.result].split(".")[0] or "success"
        length, iterations = found.stats["length"], found.stats["iterations"]
        return peers.Answer(points, float(length), int(iterations), reported)

    def failures(found: jg.GeodesicSolution) -> int:
        return int(jnp.sum(jax.vmap(lambda r: r != jg.RESULTS.successful)(found.result)))

    batch = jax.jit(jax.vmap(solve))
    return peers.Method("jaxgeo", solve, read, batch=batch, failures=failures)


def methods(case: Case, steps: int, quick: bool) -> list[peers.Method]:
    """All that can be run on a case; `main` says which packages are absent."""
    out = [ours(case), peers.christoffel_shooting(case.metric)]
    if peers.Hypersphere and case.name in peers.CLOSED_FORMS:
        out.append(peers.geomstats(case.name))
    elif peers.Hypersphere and case.name in NO_CLOSED_FORM:
        for solver in peers.SOLVERS:
            # the others take up to a minute for a wide pair
            limit = None if solver == "default" else 1 if quick else 2
            out.append(peers.geomstats(case.name, solver, limit))
    if peers.torch and case.potential:
        out += peers.paper(case.metric, case.potential, case.bounds, steps)
    return out


# Judging and timing


def judge(metric: Callable, points: np.ndarray, z0: np.ndarray, z1: np.ndarray) -> dict:
    """Energy ½∫g(γ',γ')dt and length of the curve through `points`, at constant speed.

    Straight pieces join a curve that missed its ends to them. NaN where the metric is indefinite
    on the curve, or the curve is none.
    """
    curve = np.concatenate([z0[None], points, z1[None]])
    if not np.all(np.isfinite(curve)):
        return {"energy": math.nan, "length": math.nan}
    fine = jg.resample(metric, curve, FINE + 1)
    return {"energy": float(jg.energy(metric, fine)), "length": float(jg.length(metric, fine))}


def timed(run: Callable[[], Any], repeats: int, compiles: bool) -> tuple[Any, dict]:
    """The answer, the median time of warm runs, their spread, and the first run's excess."""

    def once() -> tuple[Any, float]:
        start = time.perf_counter()
        answer = jax.block_until_ready(run())
        return answer, time.perf_counter() - start

    answer, first = once()
    times = [] if compiles else [first]
    while len(times) < repeats and sum(times) < ENOUGH:
        answer, seconds = once()
        times.append(seconds)
    median = statistics.median(times)
    clock = {"seconds": median, "spread": max(times) - min(times), "runs": len(times)}
    return answer, clock | {"compile": first - median if compiles else None}


def near(z: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n points around z: every coordinate times exp(0.05 ε), ε normal."""
    return z * np.exp(0.05 * np.random.default_rng(seed).normal(size=(n, z.size)))


def compare(
    case: Case, method: peers.Method, truths: list[float], repeats: int, batch: int
) -> list[dict]:
    """A row for every pair."""
    rows: list[dict] = []
    for (z0, z1), best in list(zip(case.pairs, truths, strict=True))[: method.limit]:
        compiles = method.compiles and not rows  # the other pairs have the same shapes
        raw, row = timed(functools.partial(method.solve, z0, z1), repeats, compiles)
        there = method.read(raw, z0, z1, FINE + 1)
        back = method.read(jax.block_until_ready(method.solve(z1, z0)), z1, z0, FINE + 1)
        row |= {
            "method": method.name,
            "problem": case.name,
            "pair": " ".join("(" + ", ".join(f"{x:g}" for x in z) + ")" for z in (z0, z1)),
            "dtype": method.dtype,
            "iterations": there.iterations,
            "best": best,
            **judge(case.metric, there.points, z0, z1),
            "length_back": judge(case.metric, back.points, z1, z0)["length"],
            "claimed": there.claimed,
            "claimed_back": back.claimed,
            "reported": there.reported,
            "reported_back": back.reported,
        }
        row["error"] = row["length"] / best - 1
        row["error_back"] = row["length_back"] / best - 1
        row["claimed_error"] = there.claimed / best - 1
        row["asymmetry"] = abs(there.claimed - back.claimed) / best
        errors = [row[key] for key in ("error", "error_back", "claimed_error", "asymmetry")]
        row["converged"] = bool(np.max(np.abs(errors)) < CONVERGED)  # NaN is not below it
        if method.batch:
            ends = near(z0, batch, 1), near(z1, batch, 2)
            answer, clock = timed(functools.partial(method.batch, *ends), repeats, compiles)
            for key in ("seconds", "spread"):
                clock[key] *= method.scale
            row["batch"] = clock | {"pairs": batch, "failures": method.failures(answer)}
        rows.append(row)
        print(line(row), flush=True)
    return rows


# The table


HEADER = (
    f"{'method':29s} {'problem':11s} {'pair':31s} {'seconds':>8s} {'± all':>7s} {'compile':>7s} "
    f"{'iter.':>5s} {'energy':>9s} {'length':>9s} {'error':>7s} {'claim':>7s} {'asym.':>7s} "
    f"{'batch: s/pair, failed':>21s}  reported (forward / back)"
)
"""Relative: `error` of the curve, `claim` of the distance claimed, `asym.` of claims both ways."""


def line(row: dict) -> str:
    """A row of the table."""
    compiled = "-" if row["compile"] is None else f"{row['compile']:.2f}"
    iterations = "-" if row["iterations"] is None else str(row["iterations"])
    each = "-"
    if "batch" in row:
        failures = row["batch"]["failures"]
        each = f"{row['batch']['seconds'] / row['batch']['pairs']:.2e}"
        each += "" if failures is None else f", {failures}"
    said = [row["reported"][:48], row["reported_back"][:48]]
    return (
        f"{row['method']:29s} {row['problem']:11s} {row['pair']:31s} {row['seconds']:8.2g} "
        f"{row['spread']:7.1g} {compiled:>7s} {iterations:>5s} {row['energy']:9.6g} "
        f"{row['length']:9.6g} {row['error']:+7.0e} {row['claimed_error']:+7.0e} "
        f"{row['asymmetry']:7.0e} {each:>21s}  {' / '.join(dict.fromkeys(said))}"
    )


def ratios(rows: list[dict]) -> list[dict]:
    """Every peer's time over ours on the same pair, where both have the answer.

    The paper's is compared whatever its curve, since that is another one by design.
    """
    mine = {(r["problem"], r["pair"]): r for r in rows if r["method"] == "jaxgeo"}
    out = []
    for row in rows:
        own = mine[row["problem"], row["pair"]]
        comparable = row["converged"] or row["method"].startswith("paper")
        if row is own or not (own["converged"] and comparable):
            continue
        each = own["batch"]["seconds"] / own["batch"]["pairs"]
        result = {key: row[key] for key in ("method", "problem", "pair")}
        result |= {
            "single": row["seconds"] / own["seconds"],
            "single_batch": row["seconds"] / each,
        }
        if "batch" in row:
            result["batch"] = row["batch"]["seconds"] / row["batch"]["pairs"] / each
        out.append(result)
    return out


def installed() -> dict[str, str]:
    """Versions of what takes part."""
    out = {"python": sys.version.split()[0]}
    for name in ("jaxgeo", "jax", "jaxlib", "numpy", "scipy", "geomstats", "torch"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def _without_nan(tree: Any) -> Any:
    """JSON knows no NaN: null stands for it."""
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="problems, separated by commas")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    steps, batch = (200, 16) if options.quick else (5000, 256)

    versions = installed()
    print("geomstats: {geomstats}; torch: {torch}".format(**versions))
    print(f"{steps} Adam steps, batches of {batch}{'; QUICK: no result' * options.quick}")
    print(HEADER)
    rows, references = [], {}
    for case in cases():
        if options.only and case.name not in options.only.split(","):
            continue
        references[case.name] = answers(case)
        truths = [distance for distance, _ in references[case.name]]
        for method in methods(case, steps, options.quick):
            rows += compare(case, method, truths, options.repeats, batch)

    quotients = ratios(rows)
    print("\ntime over ours: singly; over ours in a batch, per pair; both in a batch")
    for q in quotients:
        times = " ".join(f"{q.get(k, math.nan):9.3g}" for k in ("single", "single_batch", "batch"))
        print(f"{q['method']:29s} {q['problem']:11s} {q['pair']:31s} {times}")
    result = {
        "benchmark": "geodesics",
        "quick": options.quick,
        "device": str(jax.devices()[0].device_kind),
        "cores": os.cpu_count(),
        "versions": versions,
        "adam_steps": steps,
        "references_and_errors": references,
        "rows": rows,
        "ratios": quotients,
    }
    if options.out:
        options.out.write_text(json.dumps(_without_nan(result), indent=1))
    mine = [row for row in rows if row["method"] == "jaxgeo"]
    said = [{row["reported"], row["reported_back"]} == {"success"} for row in mine]
    failed = [r for r, good in zip(mine, said, strict=True) if not (good and r["converged"])]
    if failed:
        sys.exit("jaxgeo has no answer for\n" + "\n".join(line(r) for r in failed))


if __name__ == "__main__":
    main()
