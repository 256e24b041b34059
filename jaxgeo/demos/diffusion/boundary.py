"""The boundary of two phases, ever nearer: fractal or smooth, and how steep."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxgeo import models
from jaxgeo.demos.diffusion.slices import DOMAIN, Features, Generator, Label, Study
from jaxgeo.phases import (
    BoxDimension,
    ZoomLevel,
    boundary_point,
    box_dimension,
    growth_exponent,
    zoom_series,
)
from jaxgeo.slices import FeatureMap, Slice

ZOOM_NODES = 48
COUNTED = 193
"""Nodes a side of a window whose boundary is counted."""
WINDOWS = (2.0, 2e-2, 2e-4)
"""Widths of those windows."""
STEPS = (10, 50, 250)
"""Steps of the sampler that are compared."""
PRECISIONS = {"float16": jnp.float16, "float32": jnp.float32, "float64": jnp.float64}
DISTANCES = np.logspace(-8, -1, 15)


class Crossing(NamedTuple):
    """What was seen of a boundary: zooms and dimensions by name, Lipschitz constants, figures."""

    zooms: dict[str, list[ZoomLevel]]
    dimensions: dict[str, BoxDimension]
    growth: dict[str, tuple[np.ndarray, np.ndarray]]
    facts: dict[str, Any]


def crossing(
    found: Study, model: models.DiffusionModel, classifier: models.Classifier
) -> Crossing:
    """Zoom into the longest boundary of a slice: by float precision and by steps of the sampler.

    In float64 for the most part, where a window 1e-12 wide is still smooth."""
    start, end = _across(found)
    zooms: dict[str, list[ZoomLevel]] = {}
    dimensions: dict[str, BoxDimension] = {}
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    facts: dict[str, Any] = {"from": start, "to": end, "dimensions": {}, "growth": {}}
    with jax.enable_x64(True):
        for name, dtype in PRECISIONS.items():
            label = _label(found.plane, model, classifier, dtype, 50)
            points = [jnp.asarray(p, dtype) for p in (start, end)]
            zooms[f"{name}, 50 steps"] = zoom_series(label, *points, width=0.2, n=ZOOM_NODES)
        for steps in STEPS:
            label = _label(found.plane, model, classifier, jnp.float64, steps)
            ends = _straddling(label, start, end)
            for width in WINDOWS:
                [level] = zoom_series(label, *ends, width=width, n=COUNTED, levels=1)
                name = f"{steps} steps, width {width:g}"
                dimensions[name] = box_dimension(level.labels)
                facts["dimensions"][name] = dimensions[name]._asdict()
            grown = _growth(label, ends)
            curves[f"{steps} steps"] = (np.asarray(grown.distances), np.asarray(grown.constants))
            facts["growth"][f"{steps} steps"] = {
                "exponent": grown.exponent, "error": grown.error,
                "constants": grown.constants, "distances": grown.distances,
            }  # fmt: skip
    facts["zooms"] = {
        name: {"levels": len(levels), "last width": float(np.ptp(levels[-1].axes[0])),
               "phases in the last": np.unique(levels[-1].labels)}
        for name, levels in zooms.items()
    }  # fmt: skip
    return Crossing(zooms, dimensions, curves, facts)


def _across(found: Study) -> tuple[np.ndarray, np.ndarray]:
    """Two points on either side of the middle of the longest boundary, well inside the slice."""
    border = found.borders[0].points
    inside = np.all((border > DOMAIN[0] + 0.3) & (border < DOMAIN[1] - 0.3), axis=1)
    rows = np.flatnonzero(inside) if inside.any() else np.arange(len(border))
    k = int(np.clip(rows[len(rows) // 2], 2, len(border) - 3))
    along = border[k + 2] - border[k - 2]
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    step = 1.5 * (found.axes[0][1] - found.axes[0][0])
    return border[k] - step * across, border[k] + step * across


def _label(
    plane: Slice,
    model: models.DiffusionModel,
    classifier: models.Classifier,
    dtype: Any,
    steps: int,
) -> Label:
    """The label with every number, and every computation, in one precision."""
    z0, z1, z2 = (jnp.asarray(z, dtype) for z in (plane.z0, plane.z1, plane.z2))
    wide = jnp.promote_types(dtype, jnp.float32)  # of the schedule only
    times = model.schedule.times(steps, last=0.0, even_in="time").astype(wide)
    generator = Generator(models.in_precision(model, dtype), times)
    return Label(generator, Slice(z0, z1, z2), models.in_precision(classifier, dtype))


def _straddling(label: Label, start: np.ndarray, end: np.ndarray) -> tuple[Array, Array]:
    """The two points moved apart until their labels differ, as boundaries move with the steps."""
    a, b = jnp.asarray(start), jnp.asarray(end)
    for _ in range(6):
        if int(_of(label, a)) != int(_of(label, b)):
            break
        a, b = a - (b - a) / 2, b + (b - a) / 2
    return a, b


@eqx.filter_jit
def _of(label: Label, t: Array) -> Array:
    return label(t)


def _growth(label: Label, ends: tuple[Array, Array]) -> Any:
    """Lipschitz constants of t to features, across the boundary."""
    on = boundary_point(label, *ends)
    map_ = FeatureMap(label.generator, label.plane, Features(label.classifier))
    direction = ends[1] - ends[0]
    return growth_exponent(map_, on.before, direction, jnp.asarray(DISTANCES), throw=False)
