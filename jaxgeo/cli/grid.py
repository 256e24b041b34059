"""`jaxgeo grid`: a metric, its volume and its curvature at every node of a grid."""

import math
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import typer
from jaxtyping import Array, Float
from tqdm.auto import tqdm

import jaxgeo as jg
from jaxgeo._files import writable_directory, write_json, write_npz
from jaxgeo._typing import Metric, Point
from jaxgeo.cli.metrics import MetricName, Single, load_metric
from jaxgeo.cli.options import AsJson, Out, Quiet, finish, numbers, refuse, show
from jaxgeo.slices.storage import Chunks, identity

CHUNK = 65_536
"""Nodes that are written at once, and lost if the run is interrupted."""

SIDE_BY_SIDE = 1024
"""Nodes that are computed side by side."""

LARGEST_PICTURE = 4_000_000
"""Nodes of a grid that is drawn."""


def grid(
    metric: MetricName,
    axis: Annotated[
        list[str], typer.Option(help="LOWER,UPPER,NODES of one coordinate; once for each.")
    ],
    out: Out,
    curvature: Annotated[bool, typer.Option("--curvature", help="Scalar curvature too.")] = False,
    chunk: Annotated[int, typer.Option(help="Nodes computed, and written, at once.")] = CHUNK,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what an interrupted run left in OUT.")
    ] = False,
    float32: Single = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a metric at every node of a grid, interruptible, whatever the size of the grid.

    Writes metric.npz: axis_0, axis_1, …, metric, log_volume and, if asked for, scalar_curvature.

    Exit code 0: done; 1: not positive definite at some nodes (NaN in log_volume); 2: bad input.

    Example: jaxgeo grid jaxgeo.problems:half_plane_metric --axis -1,1,64 --axis 1,2,64 --out a"""
    try:
        with jax.enable_x64(not float32):
            facts = _evaluate(
                metric, axis, writable_directory(out), curvature, chunk, resume,
                np.float32 if float32 else np.float64, not quiet,
            )  # fmt: skip
    except ValueError as error:
        refuse(error)
    show(facts, _summary(facts), as_json)
    finish(out, facts["result"])


def _evaluate(
    name: str,
    axis: list[str],
    out: Path,
    curvature: bool,
    chunk: int,
    resume: bool,
    dtype: type[np.floating],
    progress: bool,
) -> dict[str, Any]:
    if chunk < 1:
        raise ValueError(f"a chunk needs at least one node, got {chunk}")
    axes = [_axis(text, dtype) for text in axis]
    shape = tuple(len(nodes) for nodes in axes)
    n, d = math.prod(shape), len(axes)
    size = min(chunk, n)
    if (out / "nodes").exists() and not resume:
        raise ValueError(f"{str(out / 'nodes')!r} holds a run: give --resume, or another --out")
    at = _Fields(load_metric(name).metric, curvature)

    def points(k: int) -> np.ndarray:
        numbers = np.minimum(np.arange(k * size, (k + 1) * size), n - 1)  # the last node again
        nodes = zip(axes, np.unravel_index(numbers, shape), strict=True)
        return np.stack([nodes_of[i] for nodes_of, i in nodes], axis=-1)

    mark, made = identity(_values, at, jnp.asarray(points(0)), nodes=np.concatenate(axes))
    if (found := made["metric"].shape[1:]) != (d, d):
        raise ValueError(f"on {d} axes the metric must have shape ({d}, {d}), got {found}")
    rows = {key: jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for key, a in made.items()}
    store = Chunks(out / "nodes", mark, rows, n, size, kind="grid")
    missing, count = store.missing, -(-n // size)
    with tqdm(
        total=count, initial=count - len(missing), desc="nodes", unit="chunk",
        disable=None if progress else True,
    ) as bar:  # fmt: skip
        for k in missing:
            values = _values(at, jnp.asarray(points(k)))
            store.write(k, {key: np.asarray(a)[: n - k * size] for key, a in values.items()})
            bar.update()
    arrays = {key: a.reshape(*shape, *a.shape[1:]) for key, a in store.finish().items()}
    write_npz(out / "metric.npz", **{f"axis_{k}": a for k, a in enumerate(axes)}, **arrays)
    facts = _facts(name, arrays)
    write_json(out / "report.json", facts)
    if d == 2 and n <= LARGEST_PICTURE:
        drawn = jg.plotting.metric_map(axes, arrays["metric"])
        jg.plotting.save(drawn.figure, out / "metric.png")
    return facts


class _Fields(eqx.Module):
    """What is evaluated at a node."""

    metric: Metric
    curvature: bool = eqx.field(static=True)

    def __call__(self, z: Point) -> dict[str, Array]:
        values = {"metric": self.metric(z), "log_volume": jg.log_volume_density(self.metric, z)}
        if self.curvature:
            values["scalar_curvature"] = jg.scalar_curvature(self.metric, z)
        return values


@eqx.filter_jit
def _values(at: _Fields, points: Float[Array, "n d"]) -> dict[str, Float[Array, "n ..."]]:
    return jax.lax.map(at, points, batch_size=min(SIDE_BY_SIDE, len(points)))


def _axis(text: str, dtype: type[np.floating]) -> np.ndarray:
    wanted = "an axis is LOWER,UPPER,NODES with LOWER < UPPER and two nodes or more"
    low, high, count = numbers(text, 3, wanted)
    if not (low < high and math.isfinite(high - low) and count >= 2 and count == int(count)):
        raise ValueError(f"{wanted}; got {text!r}")
    return np.linspace(low, high, int(count), dtype=dtype)


def _facts(name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    density = arrays["log_volume"]
    bad = int(np.size(density) - np.count_nonzero(np.isfinite(density)))
    facts: dict[str, Any] = {
        "metric": name,
        "nodes": list(density.shape),
        "result": "successful" if bad == 0 else "metric is not positive definite",
        "nodes_not_positive_definite": bad,
    }
    for key in ("log_volume", "scalar_curvature"):
        if key in arrays and bad < np.size(density):
            facts[key] = {
                "least": float(np.nanmin(arrays[key])), "greatest": float(np.nanmax(arrays[key])),
            }  # fmt: skip
    return facts


def _summary(facts: dict[str, Any]) -> str:
    lines = [f"{' x '.join(map(str, facts['nodes']))} nodes: {facts['result']}"]
    for key in ("log_volume", "scalar_curvature"):
        if key in facts:
            span = facts[key]
            lines.append(f"{key.replace('_', ' ')} {span['least']:.6g} to {span['greatest']:.6g}")
    return "\n".join(lines)
