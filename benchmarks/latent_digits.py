"""Do geodesics keep closer to the data than straight lines? Handwritten digits, several seeds.

python benchmarks/latent_digits.py --seeds 0 1 2 --out benchmarks/results/latent-digits.json

What `jaxgeo demo latent` reports, for each seed: another split, other networks, other pairs."""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from jaxgeo._files import write_json
from jaxgeo.demos import latent_summary, run_latent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    reports = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            reports.append(run_latent(Path(folder), seed=seed, progress=False))
        print(f"seed {seed}\n{latent_summary(reports[-1])}", flush=True)
    print(table(reports))
    if options.out:
        write_json(options.out, {"reports": reports})


def table(reports: list[dict]) -> str:
    """Mean and standard deviation over seeds of the means over pairs."""
    rows = []
    for name, found in reports[0]["distance_to_data"].items():
        if isinstance(found, dict) and "nearer by" in found:
            own = [r["distance_to_data"][name] for r in reports]
            gain = np.array([o["nearer by"]["mean"] for o in own])
            share = np.array([o["share nearer"] for o in own])
            count = np.array([o["geodesics found"] for o in own])
            rows.append(
                f"{name:<28} nearer by {gain.mean():.2f} ± {gain.std():.2f}, in "
                f"{share.mean():.0%} of pairs, {count.mean():.0f} found"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
