"""The metric of a generator with noise of its own, from its samples, against the exact one.

python benchmarks/stochastic_generator.py --out benchmarks/results/stochastic-generator.json

The generator starts from noisy data x at t = 0.3 and runs the reverse SDE of an exact mixture of
three components in the plane: what it makes has the law p(x₀ | x_t = x), whose Fisher metric in x
is the spatial block of `SpacetimeMetric` (Karczewski et al. 2025), known in closed form.
`fit_curved_family` sees samples only: the amortised route for samplers with η > 0."""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxgeo as jg
from jaxgeo._files import write_json
from jaxgeo._results import describe
from jaxgeo.demos.diffusion.slices import SHORT, agreement, on_nodes
from jaxgeo.diffusion import ReverseSDE, VariancePreserving
from jaxgeo.slices import StochasticSimulator
from jaxgeo.systems.mixture import GaussianMixture, MixtureDenoiser

START, STEPS, REACH = 0.3, 100, 1.5
NODES = 41


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    schedule = VariancePreserving()
    means = np.array([[-1, -0.6], [1, -0.6], [0, 1]], np.float32)
    denoiser = MixtureDenoiser(GaussianMixture(means, 0.3, [0.3, 0.3, 0.4]), schedule)
    nodes = (jnp.linspace(-REACH, REACH, NODES),) * 2
    spacetime = jg.SpacetimeMetric(denoiser, schedule)
    exact = on_nodes(lambda x: spacetime(jnp.append(x, START))[:2, :2], nodes)
    times = schedule.times(STEPS, first=START)
    simulator = StochasticSimulator(ReverseSDE(denoiser, schedule, times), lambda x: x)
    rows = []
    for seed in options.seeds:
        began = time.perf_counter()
        fit = jg.fit_curved_family(
            simulator, key=jax.random.key(seed), domain=[[-REACH, REACH]] * 2, width=128,
            schedules=SHORT, progress=False, throw=False,
        )  # fmt: skip
        row = {"seed": seed, "seconds": time.perf_counter() - began}
        row |= {"result": describe(fit.result), **agreement(on_nodes(fit.metric, nodes), exact)}
        rows.append(row)
        print(row, flush=True)
        if options.out:
            write_json(options.out, {"device": str(jax.devices()[0]), "rows": rows})


if __name__ == "__main__":
    main()
