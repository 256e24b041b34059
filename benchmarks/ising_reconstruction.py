"""Error of the Ising reconstruction over several seeds, as JSON: one run a seed, no tuning.

python benchmarks/ising_reconstruction.py --seeds 0 1 2 --out benchmarks/results
"""

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from jaxgeo._files import writable_directory, write_json
from jaxgeo.demos import run_ising, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    out = writable_directory(arguments.out)
    runs = []
    for seed in arguments.seeds:
        facts = run_ising(
            out, seed=seed, n_samples=arguments.samples, size=arguments.size, pictures=False
        )
        print(table(facts), flush=True)
        runs.append(facts)
        columns = {name: [run["rmse"][name] for run in runs] for name in runs[0]["rmse"]}
        write_json(
            out / f"ising-{arguments.size}.json",
            {
                "device": str(jax.devices()[0]),
                "machine": f"{platform.machine()}, python {platform.python_version()}",
                "versions": {name: version(name) for name in ("jax", "flax", "optax", "jaxgeo")},
                "dtype": "float32",
                "rmse_mean": {name: float(np.mean(values)) for name, values in columns.items()},
                "rmse_max": {name: float(np.max(values)) for name, values in columns.items()},
                "runs": runs,
            },
        )


if __name__ == "__main__":
    main()
