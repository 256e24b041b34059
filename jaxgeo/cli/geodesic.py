"""`jaxgeo geodesic`: one geodesic of a metric that is named."""

from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import jaxgeo as jg
from jaxgeo._files import writable_directory, write_json, write_npz
from jaxgeo._results import describe
from jaxgeo.cli.metrics import MetricName, Single, load_metric
from jaxgeo.cli.options import AsJson, finish, interval, numbers, refuse, show

BACKGROUND_NODES = 65


def geodesic(
    metric: MetricName,
    start: Annotated[str, typer.Option(help="The point it starts from: X,Y,…")],
    end: Annotated[str | None, typer.Option(help="The point it ends at.")] = None,
    velocity: Annotated[
        str | None, typer.Option(help="Its velocity at the start, in place of an end: VX,VY,…")
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(help="LOWER,UPPER of one coordinate, once for each; a file's own box."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for report.json, geodesic.npz and, in the plane, a PNG."),
    ] = None,
    float32: Single = False,
    as_json: AsJson = False,
) -> None:
    """Find the geodesic between two points, or from a point along a velocity.

    Prints its length, and what was measured on the curve.

    Exit code 0: found; 1: none found (the result code says why); 2: bad input.

    Example: jaxgeo geodesic jaxgeo.problems:half_plane_metric --start 0,1 --end 1,1"""
    try:
        with jax.enable_x64(not float32):
            solution, box, named = _solve(metric, start, end, velocity, domain)
            facts = _facts(metric, solution)
            if out is not None:
                _write(writable_directory(out), facts, solution, named, box)
    except ValueError as error:
        refuse(error)
    show(facts, _summary(facts), as_json)
    finish(out, facts["result"])


def _solve(
    name: str, start: str, end: str | None, velocity: str | None, domain: list[str] | None
) -> tuple[Any, np.ndarray | None, Any]:
    if (end is None) == (velocity is None):
        raise ValueError("a geodesic needs --end or --velocity, one of the two")
    z0 = np.array(numbers(start, None, "--start needs numbers, X,Y,…"), float)
    option, text = ("--end", end) if velocity is None else ("--velocity", velocity)
    other = np.array(numbers(str(text), len(z0), f"{option} needs {len(z0)} numbers, as --start"))
    named = load_metric(name)
    box = np.array([interval(text) for text in domain]) if domain else named.domain
    if velocity is None:
        return jg.geodesic_bvp(named.metric, z0, other, domain=box, throw=False), box, named.metric
    return jg.geodesic_ivp(named.metric, z0, other, domain=box, throw=False), box, named.metric


def _facts(name: str, solution: Any) -> dict[str, Any]:
    return {
        "metric": name,
        "result": describe(solution.result),
        **{key: np.asarray(value).item() for key, value in solution.stats.items()},
        "points": np.asarray(solution.points).tolist(),
        "initial_velocity": np.asarray(solution.velocities[0]).tolist(),
    }


def _summary(facts: dict[str, Any]) -> str:
    keys = ("result", "length", "energy", "residual", "speed_drift", "iterations")
    return "\n".join(
        f"{key.replace('_', ' '):12} {facts[key]:.10g}"
        if isinstance(facts[key], float)
        else f"{key.replace('_', ' '):12} {facts[key]}"
        for key in keys
        if key in facts
    )


def _write(
    out: Path, facts: dict[str, Any], solution: Any, metric: Any, box: np.ndarray | None
) -> None:
    points = np.asarray(solution.points)
    write_json(out / "report.json", facts)
    write_npz(
        out / "geodesic.npz",
        ts=np.asarray(solution.ts),
        points=points,
        velocities=np.asarray(solution.velocities),
    )
    if points.shape[1] == 2 and np.isfinite(points).all():
        low, high = (points.min(axis=0), points.max(axis=0)) if box is None else box.T
        margin = 0.25 * np.max(high - low) * (box is None)
        axes = list(np.linspace(low - margin, high + margin, BACKGROUND_NODES).T)
        ax = jg.plotting.geodesic_map(axes, jg.on_grid(metric, axes), [[solution]])
        jg.plotting.save(ax.figure, out / "geodesic.png")
