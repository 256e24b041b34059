"""Phases, metric and geodesics of a diffusion model's latent space: digits, several seeds.

python benchmarks/diffusion_digits.py --seeds 0 1 2 --out benchmarks/results/diffusion-digits.json

What `jaxgeo demo diffusion` reports, for each seed: another split, other networks, other slices,
other pairs. The last table pools the pairs of all seeds (Table 2 of Lobashev et al. 2025)."""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from jaxgeo._files import write_json
from jaxgeo.demos import diffusion_summary, run_diffusion

MEASURES = ("feature length", "pixel length", "PPL", "curvature", "largest step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    reports = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            reports.append(
                run_diffusion(
                    Path(folder), seed=seed, n_slices=options.slices, n_pairs=options.pairs,
                    progress=False,
                )
            )  # fmt: skip
        print(f"seed {seed}\n{diffusion_summary(reports[-1])}", flush=True)
        if options.out:
            write_json(options.out, {"reports": reports, "table": table(reports)})
    for line in table(reports):
        print(line)


def table(reports: list[dict]) -> list[str]:
    """Mean over seeds, and standard deviation of the seeds' means."""
    lines = []
    for group in reports[0]["interpolation"]:
        tables = [report["interpolation"][group] for report in reports]
        lines.append(f"{sum(t['pairs'] for t in tables)} {group}")
        for kind in (name for name in tables[0] if name != "pairs"):
            some = [t[kind] for t in tables if "PPL" in t[kind]]
            cells = []
            for name in MEASURES:
                means = [t[name]["mean"] for t in some]
                gains = [-t[name]["less than straight by"]["mean"] for t in some]
                cells.append(
                    f"{name} {np.mean(means):.3g} ({np.mean(gains):+.2g} ± {np.std(gains):.1g})"
                )
            lines.append(f"  {kind:<15} {', '.join(cells)}")
    return lines


if __name__ == "__main__":
    main()
