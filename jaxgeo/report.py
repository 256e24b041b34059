"""What a reconstruction leaves behind: report.json, metric.npz and pictures."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxgeo as jg
from jaxgeo._batching import each
from jaxgeo._files import write_json, write_npz
from jaxgeo._results import describe
from jaxgeo._typing import Metric
from jaxgeo.phases import Ridge, ridges
from jaxgeo.plotting import (
    Curve,
    comparison,
    geodesic_map,
    metric_map,
    panels,
    save,
    training_history,
)
from jaxgeo.reconstruction import CurvedFamilyFit, LogPartitionFit

Grid = tuple[np.ndarray, ...]
CURVE_POINTS = 2049
"""Of mixture and exponential geodesics: across a boundary one step in 129 measures them a tenth
too short."""

FRONT_NODES = 97
"""Of a grid on which the shortest way between two points is sought, along either axis."""

BOUNDARY_NODES = 81
BOUNDARY_STRENGTH = 1.0
"""A boundary is where log √det g stands out by this: weaker ridges may be noise of the fit."""


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """A fit on the nodes of a grid over its domain.

    `gradient` is with respect to the natural coordinates `eta`; `gauge` (constant, linear) has
    been added: log ψ is determined up to an affine function of η only."""

    axes: Grid
    eta: np.ndarray
    log_partition: np.ndarray
    gradient: np.ndarray
    metric: np.ndarray
    gauge: np.ndarray


def on_nodes(
    fit: Any, domain: np.ndarray, nodes: int, exact: np.ndarray | None = None
) -> Reconstruction:
    """Evaluate a fit on `nodes` nodes a side; fix its gauge by `exact`, or at the mean node.

    `fit` is a `LogPartitionFit`, or whatever has its `log_partition`, `natural_coordinates` and
    `metric`.

    With `exact`, log-partitions of whole samples at the nodes, the gauge is the affine function
    of η that brings the two together in the mean square; without, the one that makes value and
    gradient vanish in the mean."""
    dtype = _precision(fit.log_partition)
    axes = tuple(np.linspace(lower, upper, nodes).astype(dtype) for lower, upper in domain)
    natural = fit.natural_coordinates

    def at(t):
        eta = natural(t)
        value, gradient = jax.value_and_grad(lambda e: fit.log_partition(e))(eta)
        return eta, value, gradient, fit.metric(t)

    eta, value, gradient, metric = (np.asarray(a, np.float64) for a in jg.on_grid(at, axes))
    d = eta.shape[-1]
    flat, design = value.ravel(), np.c_[np.ones(value.size), eta.reshape(-1, d)]
    if exact is None:
        slope = -gradient.reshape(-1, d).mean(axis=0)
        gauge = np.array([-(flat + design[:, 1:] @ slope).mean(), *slope])
    else:
        gauge = np.linalg.lstsq(design, np.ravel(exact) - flat, rcond=None)[0]
    return Reconstruction(
        axes,
        eta,
        value + (design @ gauge).reshape(value.shape),
        gradient + gauge[1:],
        metric,
        gauge,
    )


def _precision(tree: Any) -> Any:
    return jnp.result_type(*jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))


def metric_errors(metric: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """‖log(g^{-1/2} ĝ g^{-1/2})‖_F at every node: 0 where they agree, in any coordinates.

    Infinite where ĝ is not positive definite, or not finite; NaN where the exact g is not: so near
    singular that its own rounding decides."""
    metric, exact = (
        np.where(np.isfinite(g).all(axis=(-2, -1), keepdims=True), g, -np.eye(g.shape[-1]))
        for g in (metric, exact)
    )
    known = np.linalg.eigvalsh(exact)[..., 0] > 0
    factor = np.linalg.cholesky(np.where(known[..., None, None], exact, np.eye(exact.shape[-1])))
    whitened = np.linalg.solve(factor, np.swapaxes(np.linalg.solve(factor, metric), -1, -2))
    eigenvalues = np.linalg.eigvalsh((whitened + np.swapaxes(whitened, -1, -2)) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(eigenvalues > 0, np.log(np.abs(eigenvalues)), np.inf)
    return np.where(known, np.sqrt(np.sum(logs**2, axis=-1)), np.nan)


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Mean, its standard error, and standard deviation; NaN of nothing."""
    sample = np.asarray(values, np.float64)
    if not sample.size:
        return dict.fromkeys(("mean", "standard error", "standard deviation"), float("nan"))
    deviation = float(sample.std())
    return {
        "mean": float(sample.mean()),
        "standard error": deviation / sample.size**0.5,
        "standard deviation": deviation,
    }


def in_double_precision(tree: Any) -> Any:
    """Every array of a pytree in float64; inside `jax.enable_x64(True)` only."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda leaf: leaf.astype(jnp.float64), arrays), rest)


def _geodesic(metric, start, end, domain) -> tuple[jg.GeodesicSolution, str]:
    """The geodesic by the default solver or, across a crease too sharp for it, a finer one.

    In the plane it starts from the shortest path over a grid, lest a shorter way round be missed.
    If neither solver converges, what the first one left, with its result code."""
    path = None
    if len(domain) == 2:
        axes = tuple(jnp.linspace(a, b, FRONT_NODES, dtype=start.dtype) for a, b in domain)
        reached = jg.distance_map(metric, start, axes, throw=False)
        traced = jg.shortest_path(metric, reached, end)
        path = traced if bool(jnp.isfinite(traced).all()) else None
    fine = jg.Relaxation(n_segments=256, max_iterations=1000)
    names = {"Shooting()": None, "Relaxation(n_segments=256, max_iterations=1000)": fine}
    everything = []
    for name, solver in names.items():
        solve = functools.partial(
            jg.geodesic_bvp, metric, start, end, solver=solver, domain=domain, throw=False
        )
        found = [solve(start=path)]
        best = (found[0].result == jg.RESULTS.successful) & ~found[0].stats["shorter_found"]
        if path is not None and not bool(best):
            found.append(solve())
        everything += found
        good = [one for one in found if bool(one.result == jg.RESULTS.successful)]
        if good:
            return min(good, key=lambda one: float(one.stats["length"])), name
    return everything[0], "Shooting()"


@eqx.filter_jit
def _length(metric, points):
    return jg.length(metric, points)


def curves_between(
    fit: LogPartitionFit,
    a: Sequence[float],
    b: Sequence[float],
    domain: np.ndarray,
    inverse: Callable | None,
) -> tuple[list[Any], dict[str, Any]]:
    """Levi-Civita, mixture and exponential geodesics from a to b, and what to report of them.

    `inverse` takes natural coordinates back to parameters; without it only the first is found.
    All in float64, whatever the precision of the fit."""
    with jax.enable_x64(True):
        metric, potential = in_double_precision((fit.metric, fit.log_partition))
        start, end = jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)
        solution, solver = _geodesic(metric, start, end, domain)
        facts: dict[str, Any] = {
            "from": list(a),
            "to": list(b),
            "levi_civita": {
                "result": describe(solution.result),
                "solver": solver,
                **{name: float(value) for name, value in solution.stats.items()},
            },
        }
        curves: list[Any] = [solution]
        if inverse is None:
            return curves, facts
        natural = in_double_precision(fit.natural_coordinates)
        ts, ends = jnp.linspace(0.0, 1.0, CURVE_POINTS), (natural(start), natural(end))
        for kind, eta in (
            ("mixture", jg.mixture_geodesic(potential, *ends, ts, throw=False)),
            ("exponential", jg.exponential_geodesic(*ends, ts)),
        ):
            points = each(inverse, eta)
            finite = bool(jnp.isfinite(points).all())
            curve_length = float(_length(metric, points)) if finite else float("nan")
            facts[kind] = {"length": curve_length}
            message = None if finite else "not converged"
            shown = points if finite else jnp.stack([start, end])
            curves.append(Curve(kind, np.asarray(shown), curve_length, message))
    return curves, facts


def phase_boundary(fit: LogPartitionFit, axes: Grid) -> list[Ridge]:
    """Ridges of log √det g, sought on a finer grid with nodes on the domain's middle lines,

    where a symmetry puts a boundary that a coarse grid would step over."""
    fine = [np.linspace(axis[0], axis[-1], BOUNDARY_NODES).astype(axis.dtype) for axis in axes]
    density = np.asarray(jg.on_grid(_LogVolumeDensity(fit.metric), fine), np.float64)
    return ridges(fine, density, threshold=BOUNDARY_STRENGTH) if np.isfinite(density).all() else []


class _LogVolumeDensity(eqx.Module):
    metric: Metric

    def __call__(self, t):
        return jg.log_volume_density(self.metric, t)


def facts_of(fit: LogPartitionFit | CurvedFamilyFit) -> dict[str, Any]:
    """How a fit ended, in plain numbers."""
    facts = {
        "result": describe(fit.result),
        "held_out_cross_entropy": fit.held_out_cross_entropy,
        "held_out_cross_entropy_error": fit.held_out_cross_entropy_error,
        "calibration_factor": fit.scale,
        "calibration_factor_error": fit.scale_error,
    }
    if isinstance(fit, LogPartitionFit):
        facts["training_cross_entropy"] = fit.training_cross_entropy
        facts["refusal"] = fit.refusal
    return facts


def write(
    out: Path,
    facts: dict[str, Any],
    reconstruction: Reconstruction,
    fit: LogPartitionFit,
    *,
    labels: Sequence[str],
    fields: dict[str, np.ndarray],
    exact_fields: dict[str, np.ndarray] | None = None,
    pairs: Sequence[Sequence[Any]] = (),
    extra: dict[str, np.ndarray] | None = None,
) -> list[Path]:
    """Write everything to the directory `out`; returns the files.

    `fields` are the functions on the grid to draw, by name, beside `exact_fields` if there are
    such; `pairs` the curves of `curves_between`; `extra` goes into metric.npz. The maps are drawn
    of two parameters only."""
    arrays = {f"axis_{k}": axis for k, axis in enumerate(reconstruction.axes)}
    for name in ("eta", "log_partition", "gradient", "metric", "gauge"):
        arrays[name] = getattr(reconstruction, name)
    write_npz(out / "metric.npz", **arrays, **(extra or {}))
    history = training_history(fit.history)[0].figure
    files = [out / "metric.npz", save(history, out / "training.png")]
    if len(reconstruction.axes) == 2:
        axes, metric = reconstruction.axes, reconstruction.metric
        grid = comparison(axes, fields, exact_fields, labels=labels)
        files.append(save(np.ravel(grid)[0].figure, out / "log_partition.png"))
        boundary = phase_boundary(fit, axes)
        facts["phase_boundary"] = [ridge.points for ridge in boundary]
        ax = metric_map(axes, metric, labels=labels, boundary=boundary)
        files.append(save(ax.figure, out / "metric.png"))
        if pairs:
            ax = panels(1, 1, size=(8.0, 5.6))[0, 0]
            geodesic_map(axes, metric, pairs, ax=ax, labels=labels)
            files.append(save(ax.figure, out / "geodesics.png"))
    write_json(out / "report.json", facts)
    return [out / "report.json", *files]
