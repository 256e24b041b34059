"""How near the limit: grids of Hessian metrics beside their matrix products, and everything a user waits for.

    python benchmarks/speed.py [--only NAME ...] [--seconds 3] [--out benchmarks/results/speed.json]

Each time is the median of several warm runs, the compile time apart; what is compared runs in turn.
An entry is appended to the file, with device, versions and commit, so that it is a history.

- `grid`: `on_grid(HessianMetric(ψ))`, float32, beside the floor: the matrix products that the Hessian
  of such a network consists of, and nothing else. Forward over reverse takes, at d = 2, six a hidden
  layer and node: value, two tangents, gradient and its two tangents. The floor does them in one
  product of six times the rows, 1024 nodes at a time: no other number was faster. A network with a
  Hessian of its own, as the default has, may need fewer.
- `memory`: peak resident memory of a process that evaluates a 4096 × 4096 grid.
- `first`: import and first call of a fresh process, whose result is checked. On a CPU only.
- `christoffel`, `geodesics`, `ising`, `fit`: rates.

On an accelerator the grids have 10⁷ nodes, there are 10⁵ geodesics and 10⁵ lattices of 128 × 128.
`share of peak` is the products' rate over that of one large product in the same run.
"""  # noqa: E501

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxgeo as jg
from jaxgeo.problems import half_plane_distance, half_plane_metric
from jaxgeo.reconstruction import ConvexPotential
from jaxgeo.systems import ising
from jaxgeo.training import Schedule, minimize

SMALL = jax.default_backend() == "cpu"
PRODUCTS = 6
"""Of a hidden layer and node, at d = 2."""

FIRST = """
import time
start = time.perf_counter()
import jax, diffrax, jax.numpy as jnp
peers = time.perf_counter()
import jaxgeo as jg
ours = time.perf_counter()
{code}
solution.points.block_until_ready()
end = time.perf_counter()
assert abs(float(solution.stats["length"]) - {length}) < 1e-4 * {length}, solution.stats["length"]
print(ours - peers, end - ours)
"""
HALF_PLANE = """
metric = lambda z: jnp.eye(2) / z[1] ** 2
"""
DECODER = """
import numpy as np
rng = np.random.default_rng(0)
weights = [jnp.asarray(rng.normal(size=s) / s[0] ** 0.5, jnp.float32) for s in ((2, 64), (64, 64), (64, 784))]
def decode(z):
    for w in weights[:-1]:
        z = jnp.tanh(z @ w)
    return z @ weights[-1]
metric = jg.PullbackMetric(decode)
"""  # noqa: E501
BOUNDARY = "solution = jg.geodesic_bvp(metric, jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0]))"
INITIAL = "solution = jg.geodesic_ivp(metric, jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]))"
LINES = {
    "geodesic_bvp, half-plane": (HALF_PLANE + BOUNDARY, float(np.arccosh(1.5))),
    "geodesic_ivp, half-plane": (HALF_PLANE + INITIAL, 1.0),
    "geodesic_bvp, decoder 2-64-64-784": (DECODER + BOUNDARY, None),
}

MEMORY = """
import resource, sys
sys.path.insert(0, "benchmarks")
import jax.numpy as jnp, jaxgeo as jg, speed
axis = jnp.linspace(0.0, 1.0, 4096)
values = jg.on_grid(jg.HessianMetric(speed.convex()), (axis, axis)).block_until_ready()
assert values.shape == (4096, 4096, 2, 2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


class Dense(eqx.Module):
    """A network of tanh units from (2,) to a number."""

    weights: list[jax.Array]
    biases: list[jax.Array]

    @classmethod
    def of(cls, width: int, layers: int) -> "Dense":
        rng = np.random.default_rng(0)
        sizes = [2, *layers * [width], 1]
        shapes = list(itertools.pairwise(sizes))
        return cls(
            [jnp.asarray(rng.normal(size=s) / s[0] ** 0.5, jnp.float32) for s in shapes],
            [jnp.asarray(rng.normal(size=s[1]), jnp.float32) for s in shapes],
        )

    def __call__(self, z):
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = jnp.tanh(z @ weight + bias)
        return (z @ self.weights[-1] + self.biases[-1])[0]


def convex() -> ConvexPotential:
    """The potential that `fit_log_partition` trains unless told otherwise."""
    points = jax.random.normal(jax.random.key(0), (1000, 2), jnp.float32)
    return ConvexPotential(points, rngs=nnx.Rngs(0))


def in_turn(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, dict[str, float]]:
    """Median and least seconds of each, run in turn; what the first call took beyond that."""
    first: dict[str, float] = {}
    for name, call in calls.items():
        start = time.perf_counter()
        jax.block_until_ready(call())
        first[name] = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(times[name]) < 5:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {
        name: {
            "median": statistics.median(t), "least": min(t), "runs": len(t),
            "compile": first[name] - statistics.median(t),
        }
        for name, t in times.items()
    }  # fmt: skip


def products(width: int, hidden: int, n: int, chunk: int = 1024) -> Callable[[], Any]:
    """The products of the Hessians at n nodes of a network with so many matrices of width²."""
    weights = jax.random.normal(jax.random.key(0), (hidden, width, width)) / width**0.5
    rows = jnp.ones((PRODUCTS * chunk, width))

    @jax.jit
    def run(rows, weights):
        def one_chunk(x, _):
            for k in range(hidden):
                x = x @ weights[k]
            return x, None

        return jax.lax.scan(one_chunk, rows, None, length=-(-n // chunk))[0]

    return lambda: run(rows, weights)


def peak(seconds: float) -> float:
    """Floating-point operations a second of one large product."""
    n = 2048 if SMALL else 8192
    a = jnp.ones((n, n))
    square = jax.jit(lambda a: a @ a)
    return 2 * n**3 / in_turn({"product": lambda: square(a)}, seconds)["product"]["least"]


def grid(seconds: float) -> dict[str, Any]:
    """Hessian metrics on grids beside their products."""
    found: dict[str, Any] = {}
    top = peak(seconds)
    cases = {
        "convex potential, 3 x 64": (convex(), 64, 2, 512 if SMALL else 3163),
        "tanh network, 3 x 64": (Dense.of(64, 3), 64, 2, 512 if SMALL else 3163),
        "tanh network, 5 x 512": (Dense.of(512, 5), 512, 4, 128 if SMALL else 3163),
    }
    for name, (potential, width, hidden, side) in cases.items():
        axis = jnp.linspace(-1.0, 1.0, side)
        metric = jg.HessianMetric(potential)
        exact = jax.hessian(potential)(jnp.array([axis[1], axis[2]]))
        np.testing.assert_allclose(jg.on_grid(metric, (axis, axis))[1, 2], exact, atol=1e-4)
        times = in_turn(
            {
                "grid": lambda metric=metric, axis=axis: jg.on_grid(metric, (axis, axis)),
                "products": products(width, hidden, side**2),
            },
            seconds,
        )
        work = PRODUCTS * 2 * width**2 * hidden * side**2
        found[name] = times | {
            "nodes": side**2,
            "ratio": times["grid"]["median"] / times["products"]["median"],
            "ratio of least": times["grid"]["least"] / times["products"]["least"],
            "share of peak": work / times["grid"]["median"] / top,
        }
    return found


def christoffel(seconds: float) -> dict[str, Any]:
    """Christoffel symbols on a grid, beside the metric itself."""
    side = 128 if SMALL else 3163
    axis, metric = jnp.linspace(-1.0, 1.0, side), jg.HessianMetric(Dense.of(64, 3))
    symbols = eqx.Partial(jg.christoffel_first, metric)
    times = in_turn(
        {
            "christoffel_first": lambda: jg.on_grid(symbols, (axis, axis)),
            "metric": lambda: jg.on_grid(metric, (axis, axis)),
        },
        seconds,
    )
    ratio = times["christoffel_first"]["median"] / times["metric"]["median"]
    rate = side**2 / times["christoffel_first"]["median"]
    return times | {"nodes": side**2, "ratio": ratio, "nodes a second": rate}


def geodesics(seconds: float) -> dict[str, Any]:
    """Geodesics of the half-plane between random points, in one batch; their greatest error."""
    n = 1000 if SMALL else 100_000
    rng = np.random.default_rng(0)
    a, b = (
        jnp.asarray(np.stack([rng.uniform(-1, 1, n), rng.uniform(0.3, 2, n)], 1), jnp.float32)
        for _ in range(2)
    )
    solve = jax.jit(jax.vmap(lambda a, b: jg.geodesic_bvp(half_plane_metric, a, b, throw=False)))
    solution = solve(a, b)
    exact = jax.vmap(half_plane_distance)(a, b)
    times = in_turn({"batch": lambda: solve(a, b).points}, seconds)
    return times | {
        "geodesics": n,
        "successful": int(jnp.sum(solution.result == jg.RESULTS.successful)),
        "greatest relative error": float(jnp.max(jnp.abs(solution.stats["length"] / exact - 1))),
        "a second": n / times["batch"]["median"],
    }


def lattices(seconds: float) -> dict[str, Any]:
    """Heat-bath updates of Ising spins."""
    n, size, sweeps = (2048, 64, 50) if SMALL else (100_000, 128, 50)
    parameters = jnp.stack([jnp.linspace(2.0, 5.0, n), jnp.zeros(n)], axis=1)
    key = jax.random.key(0)
    draw = lambda: ising.sample(key, parameters, size=size, n_sweeps=sweeps)  # noqa: E731
    times = in_turn({"sample": draw}, seconds)
    rate = n * size**2 * sweeps / times["sample"]["median"]
    return times | {"lattices": n, "size": size, "updates a second": rate}


def slope_error(potential, batch, constants):
    """Mean square of ∇ψ(η) − f."""
    eta, f = batch
    return jnp.mean((jax.vmap(jax.grad(lambda e: potential(e)))(eta) - f) ** 2)


def training_steps(seconds: float) -> dict[str, Any]:
    """Steps of training a default potential by its gradient, batches of 512."""
    del seconds
    eta = jax.random.normal(jax.random.key(0), (16_384, 2), jnp.float32)
    data = eta, 2 * eta

    def train(steps: int) -> float:
        start = time.perf_counter()
        schedule = Schedule(steps=steps, learning_rate=1e-3, every=500)
        _, trace = minimize(
            slope_error, convex(), data, data, key=jax.random.key(0), schedule=schedule,
            label="steps", progress=False,
        )  # fmt: skip
        assert trace.held_out_loss[-1] < 1
        return time.perf_counter() - start

    train(500)
    short, long = train(500), train(2500)
    return {"steps a second": 2000 / (long - short)}


def first(seconds: float) -> dict[str, Any]:
    """Import and first call, each in three fresh processes."""
    del seconds
    found: dict[str, Any] = {}
    for name, (code, length) in LINES.items():
        text = FIRST.format(code=code, length=length or 'float(solution.stats["length"])')
        runs = [output(text).split() for _ in range(3)]
        found[name] = {"import": [float(r[0]) for r in runs], "call": [float(r[1]) for r in runs]}
    return found


def memory(seconds: float) -> dict[str, Any]:
    """Peak resident GiB of a process that evaluates a 4096 × 4096 grid, 1/4 GiB the result."""
    del seconds
    return {"GiB": float(output(MEMORY))}


def output(code: str) -> str:
    """What a fresh process prints."""
    run = [sys.executable, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


MEASUREMENTS = {
    "first": first,
    "grid": grid,
    "memory": memory,
    "christoffel": christoffel,
    "geodesics": geodesics,
    "ising": lattices,
    "fit": training_steps,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each thing that is timed")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    git = ["git", "rev-parse", "--short", "HEAD"]
    entry: dict[str, Any] = {
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "jaxgeo": jg.__version__,
        "dtype": "float32",
    }
    names = [name for name in options.only if SMALL or name not in ("first", "memory")]
    for name in names:
        entry[name] = MEASUREMENTS[name](options.seconds)
        print(name, json.dumps(entry[name], indent=2), flush=True)
    if options.out:
        history = json.loads(options.out.read_text()) if options.out.exists() else []
        options.out.write_text(json.dumps([*history, entry], indent=2) + "\n")


if __name__ == "__main__":
    main()
