"""Which reconstruction finds the metric of a diffusion model's slice? Against its exact pullback.

python benchmarks/slice_metrics.py --seeds 0 --out benchmarks/results/slice-metrics.json

The law is N(E(t), I/N) of features E with N = 300, whose Fisher metric is N JᵀJ. From 8,192 of its
samples: `fit_log_partition` in the coordinates of the slice, as the paper has it, and in learned
ones; from a stream of them `fit_curved_family`, with the settings of `jaxgeo demo diffusion`; and
from the features at 129 × 129 nodes themselves, a spline."""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxgeo as jg
from jaxgeo._files import write_json
from jaxgeo._results import describe
from jaxgeo.demos.diffusion.run import SAMPLER_STEPS, train
from jaxgeo.demos.diffusion.slices import (
    DOMAIN,
    METRIC,
    PRECISION,
    SHORT,
    Features,
    Generator,
    agreement,
    on_nodes,
    phase_diagram,
    ridges_of,
    shared,
)
from jaxgeo.slices import FeatureMap, FeatureSimulator, feature_metric

SAMPLES = 8_192
BOX = np.array([DOMAIN, DOMAIN])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        trained = train(seed=seed, progress=False)
        model, classifier = trained.model, trained.classifier
        times = model.schedule.times(SAMPLER_STEPS, last=0.0, even_in="time")
        key_slice, key_fit = jax.random.split(jax.random.key(seed))
        generator = Generator(model, times)
        found = phase_diagram(generator, classifier, key_slice, progress=False)
        nodes = (jnp.linspace(*DOMAIN, METRIC, dtype=jnp.float32),) * 2
        features = FeatureMap(generator, found.plane, Features(classifier))
        exact = on_nodes(feature_metric(features, PRECISION), nodes)
        for name in options.methods:
            began = time.perf_counter()
            metric, result = METHODS[name](found.grid.feature_map(), key_fit)
            learned = on_nodes(metric, nodes)
            row = {"seed": seed, "method": name, "result": result}
            row |= {"seconds": time.perf_counter() - began, **agreement(learned, exact)}
            row |= shared(ridges_of(nodes, learned), ridges_of(nodes, exact))
            rows.append(row)
            print(row, flush=True)
            if options.out:
                write_json(options.out, {"device": str(jax.devices()[0]), "rows": rows})


def log_partition(features, key, natural_coordinates=None):
    """From samples at parameters drawn evenly."""
    key_t, key_x, key_fit = jax.random.split(key, 3)
    t = jax.random.uniform(key_t, (SAMPLES, 2), minval=DOMAIN[0], maxval=DOMAIN[1])
    x = FeatureSimulator(features, PRECISION)(key_x, t)
    fit = jg.fit_log_partition(
        x, t, key=key_fit, domain=BOX, natural_coordinates=natural_coordinates, progress=False,
        throw=False,
    )  # fmt: skip
    return fit.metric, describe(fit.result)


def curved(features, key):
    fit = jg.fit_curved_family(
        FeatureSimulator(features, PRECISION), key=key, domain=BOX, width=128, schedules=SHORT,
        progress=False, throw=False,
    )  # fmt: skip
    return fit.metric, describe(fit.result)


METHODS = {
    "spline of features": lambda features, key: (
        feature_metric(features, PRECISION),
        "successful",
    ),
    "curved family": curved,
    "log-partition": log_partition,
    "log-partition, learned coordinates": lambda features, key: log_partition(
        features, key, "learned"
    ),
}

if __name__ == "__main__":
    main()
