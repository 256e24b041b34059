"""Errors against the number of samples, and against training time, on the Ising model.

python benchmarks/scaling.py --out benchmarks/results

A 32×32 lattice, T in [1, 5], H in [-2, 2]: 512 to 32,768 samples; then 8,192 samples with every
network stage shortened or lengthened. Writes scaling.json and scaling.png; the slope is that of
log error against log n, by least squares over all seeds, with its standard error. A run that was
cut off goes on where it stopped.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import table1
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from jaxgeo._files import writable_directory, write_json
from jaxgeo.plotting import save
from jaxgeo.reconstruction.fit import DISPERSION, MOMENTS, POSTERIOR

SIZE = 32
SAMPLES = tuple(2**k for k in range(9, 16))
EFFORTS = (0.25, 0.5, 1.0, 2.0)
EFFORT_SAMPLES = (2_048, 8_192)
COLUMNS = ("F", "dF/dT", "dF/dH", "metric")


def measure(n: int, effort: float, seed: int) -> dict[str, Any]:
    schedules = tuple(
        s._replace(steps=int(effort * s.steps)) for s in (MOMENTS, POSTERIOR, DISPERSION)
    )
    run = table1.measure("ours", seed, n, SIZE, table1.RANGES["published"], schedules=schedules)
    errors = {**run["rmse"], "metric": run["metric_error_median"]}
    return {
        "samples": n,
        "effort": effort,
        "seed": seed,
        "errors": errors,
        "result": run["fit"]["result"],
        "training_seconds": run["training_seconds"],
    }


def slope(n: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Of log error against log n, and its standard error."""
    x = np.log(n) - np.log(n).mean()
    y = np.log(errors)
    found = x @ y / (x @ x)
    rest = y - y.mean() - found * x
    return float(found), float(np.sqrt(rest @ rest / max(len(x) - 2, 1) / (x @ x)))


def slopes_of(runs: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    whole = [run for run in runs if run["effort"] == 1.0]
    n = np.array([run["samples"] for run in whole])
    if len(set(n.tolist())) < 3:
        return {}
    return {k: slope(n, np.array([run["errors"][k] for run in whole])) for k in COLUMNS}


def picture(runs: list[dict[str, Any]]):
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.2), layout="constrained")
    slopes = slopes_of(runs)
    whole = [run for run in runs if run["effort"] == 1.0]
    n = np.array([run["samples"] for run in whole])
    for k, name in enumerate(COLUMNS):
        e = np.array([run["errors"][name] for run in whole])
        axes[0].scatter(n, e, color=f"C{k}", s=14)
        if name in slopes:
            power, spread = slopes[name]
            line = np.exp(np.log(e).mean()) * (np.sort(n) / np.exp(np.log(n).mean())) ** power
            label = f"{name}: slope {power:.2f} ± {spread:.2f}"
            axes[0].plot(np.sort(n), line, color=f"C{k}", label=label)
    axes[0].set(xscale="log", yscale="log", xlabel="samples", ylabel="error")
    for size, style in zip(EFFORT_SAMPLES, ("o", "s"), strict=True):
        some = [run for run in runs if run["samples"] == size]
        seconds = [run["training_seconds"] for run in some]
        for k, name in enumerate(COLUMNS):
            label = f"{name}, {size:,} samples" if k in (0, 3) else None
            axes[1].scatter(
                seconds, [r["errors"][name] for r in some], color=f"C{k}", marker=style, s=14,
                label=label,
            )  # fmt: skip
    axes[1].set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="error")
    axes[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1].xaxis.set_major_formatter(ScalarFormatter())
    axes[1].xaxis.set_minor_formatter(NullFormatter())
    for ax in axes:
        ax.legend(fontsize="small", ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    file = writable_directory(arguments.out) / "scaling.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    done = {(run["samples"], run["effort"], run["seed"]) for run in runs}
    sizes = [(n, 1.0, seed) for seed in arguments.seeds for n in SAMPLES]
    efforts = [
        (n, effort, seed)
        for seed in arguments.seeds
        for n in EFFORT_SAMPLES
        for effort in EFFORTS
        if effort != 1.0
    ]
    for one in sizes + efforts:
        if one in done:
            continue
        runs.append(measure(*one))
        print(runs[-1], flush=True)
        write_json(
            file,
            {
                "system": {"size": SIZE, "domain": table1.RANGES["published"]},
                "device": str(jax.devices()[0]),
                "slopes": slopes_of(runs),
                "runs": runs,
            },
        )
    save(picture(runs), file.with_suffix(".png"))


if __name__ == "__main__":
    main()
