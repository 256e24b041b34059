"""Is the boundary of two phases of a diffusion model fractal? Against precision and steps.

python benchmarks/diffusion_boundary.py --out benchmarks/results/diffusion-boundary.json

Trains as `jaxgeo demo diffusion` does, and looks at the sharpest boundary of one slice through
samplers of 10, 50 and 250 steps, in float16, float32 and float64, in windows from a tenth of the
slice down to what the floats resolve: dimensions by counting boxes, and Lipschitz constants."""

import argparse
from pathlib import Path

import jax

from jaxgeo._files import write_json
from jaxgeo.demos.diffusion.boundary import Views, Window, crossing
from jaxgeo.demos.diffusion.run import SAMPLER_STEPS, train
from jaxgeo.demos.diffusion.slices import Generator, phase_diagram
from jaxgeo.demos.diffusion.summary import boundary_lines

VIEWS = Views(
    zoomed=(("float16", 10), ("float16", 50), ("float32", 50), ("float64", 10)),
    counted=(
        Window("float16", 10, 2e-1),
        *(Window("float32", n, w) for n in (10, 50) for w in (2e-1, 2e-4)),
        Window("float32", 250, 2e-3),
        *(Window("float64", 10, w) for w in (2e-3, 2e-7, 2e-12)),
        *(Window("float64", 50, w) for w in (2e-7, 2e-12)),
    ),
    steps=(5, 10, 20, 50, 100, 250, 1000),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    reports = {}
    for seed in options.seeds:
        trained = train(seed=seed, progress=False)
        model, classifier = trained.model, trained.classifier
        times = model.schedule.times(SAMPLER_STEPS, last=0.0, even_in="time")
        found = phase_diagram(
            Generator(model, times), classifier, jax.random.key(seed), progress=False
        )
        reports[seed] = crossing(found, model, classifier, VIEWS).facts
        print(f"seed {seed}", *boundary_lines(reports[seed]), sep="\n", flush=True)
        if options.out:
            write_json(options.out, reports)


if __name__ == "__main__":
    main()
