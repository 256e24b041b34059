"""The boundary of two phases, ever nearer: fractal or smooth, and how steep."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.interpolate import RegularGridInterpolator

from jaxgeo import models
from jaxgeo.demos.diffusion.slices import DOMAIN, Features, Generator, Label, PhaseDiagram
from jaxgeo.phases import (
    BoxDimension,
    GrowthExponent,
    ZoomLevel,
    boundary_point,
    box_dimension,
    growth_exponent,
    zoom_series,
)
from jaxgeo.slices import FeatureMap, Slice


class Window(NamedTuple):
    """A square about a point of a boundary, and the sampler that it is looked at through."""

    precision: str
    steps: int
    width: float

    @property
    def name(self) -> str:
        return f"{self.precision}, {self.steps} steps, width {self.width:g}"


class Views(NamedTuple):
    """What is looked at: precisions and steps of the sampler through which a point is zoomed in
    on, windows that are counted in boxes, with their nodes a side, and steps whose Lipschitz
    constants are compared."""

    zoomed: tuple[tuple[str, int], ...] = (("float16", 50), ("float32", 50), ("float64", 10))
    counted: tuple[Window, ...] = (
        Window("float32", 10, 2e-2),
        Window("float32", 50, 2e-2),
        Window("float32", 50, 2e-4),
        Window("float64", 10, 2e-8),
    )
    nodes: int = 161
    steps: tuple[int, ...] = (10, 50, 250)


VIEWS = Views()
ZOOM_NODES, ZOOM_FACTOR = 64, 100.0
MARGIN = 0.15
"""Of the slice's edges, in which no point is chosen."""
DISTANCES = np.logspace(-8, -1, 15)


class Crossing(NamedTuple):
    """What was seen of a boundary: zooms, dimensions and growth by name, and the figures."""

    zooms: dict[str, list[ZoomLevel]]
    dimensions: dict[str, BoxDimension]
    growth: dict[str, GrowthExponent]
    facts: dict[str, Any]


def crossing(
    found: PhaseDiagram,
    model: models.DiffusionModel,
    classifier: models.Classifier,
    views: Views | None = None,
) -> Crossing:
    """Zoom into the sharpest boundary of a slice, by float precision and steps of the sampler.

    What was not seen is named in the facts, with why."""
    views = views or VIEWS
    seen = Crossing({}, {}, {}, {"not seen": {}})
    missed = seen.facts["not seen"]
    if not any(len(border.points) > 1 for border in found.borders):
        missed["boundary"] = "the slice is in one phase"
        return seen
    start, end = _across(found)
    seen.facts.update({"from": start, "to": end})

    def label_and_ends(name: str, precision: str, n: int) -> tuple[Label, Any]:
        label = _label(found.plane, model, classifier, precision, n)
        ends = _straddling(label, start, end, precision)
        if ends is None:
            missed[name] = "no boundary near the one of the slice"
        return label, ends

    with jax.enable_x64(True):
        for precision, n in views.zoomed:
            name = f"{precision}, {n} steps"
            label, ends = label_and_ends(name, precision, n)
            if ends is not None:
                seen.zooms[name] = zoom_series(
                    label, *ends, width=0.2, n=ZOOM_NODES, factor=ZOOM_FACTOR
                )
        for window in views.counted:
            label, ends = label_and_ends(window.name, window.precision, window.steps)
            if ends is not None:
                [level] = zoom_series(label, *ends, width=window.width, n=views.nodes, levels=1)
                _count(seen, window.name, level.labels)
        for n in views.steps:
            label, ends = label_and_ends(f"{n} steps", "float64", n)
            if ends is not None:
                seen.growth[f"{n} steps"] = _growth(label, ends)
    seen.facts.update(_figures(seen))
    return seen


def _count(seen: Crossing, name: str, labels: np.ndarray) -> None:
    """The dimension of the boundary in a window, or why there is none."""
    try:
        seen.dimensions[name] = box_dimension(labels)
    except ValueError as error:
        seen.facts["not seen"][name] = str(error)


def _figures(seen: Crossing) -> dict[str, Any]:
    return {
        "zooms": {
            name: {
                "levels": len(levels),
                "last width": float(np.ptp(np.asarray(levels[-1].axes[0], np.float64))),
                "phases in the last": np.unique(levels[-1].labels),
            }
            for name, levels in seen.zooms.items()
        },
        "dimensions": {name: found._asdict() for name, found in seen.dimensions.items()},
        "growth": {
            name: {k: v for k, v in found._asdict().items() if k != "result"}
            for name, found in seen.growth.items()
        },
    }


def _across(found: PhaseDiagram) -> tuple[np.ndarray, np.ndarray]:
    """Two points on either side of a border where it is sharpest: where features change most."""
    axis = found.axes[0]
    features = np.asarray(found.grid.features)
    first, second = (np.gradient(features, axis, axis=k) for k in (0, 1))
    steep = RegularGridInterpolator(found.axes, np.sqrt(np.sum(first**2 + second**2, axis=2)))
    middles, sides = [], []
    for border in found.borders:
        points = border.points
        along = np.diff(points, axis=0)
        moved = np.linalg.norm(along, axis=1) > 0
        middles.append(((points[1:] + points[:-1]) / 2)[moved])
        sides.append(np.stack([-along[:, 1], along[:, 0]], axis=1)[moved])
    places, normals = np.concatenate(middles), np.concatenate(sides)
    inside = np.all((places > DOMAIN[0] + MARGIN) & (places < DOMAIN[1] - MARGIN), axis=1)
    k = int(np.argmax(np.where(inside, steep(places), -1.0)))
    step = 1.5 * (axis[1] - axis[0]) * normals[k] / np.linalg.norm(normals[k])
    return places[k] - step, places[k] + step


def _label(
    plane: Slice,
    model: models.DiffusionModel,
    classifier: models.Classifier,
    precision: str,
    steps: int,
) -> Label:
    """The label with every number, and every computation, in one precision."""
    dtype = jnp.dtype(precision)
    z0, z1, z2 = (jnp.asarray(z, dtype) for z in (plane.z0, plane.z1, plane.z2))
    wide = jnp.promote_types(dtype, jnp.float32)  # of the schedule only
    times = model.schedule.times(steps, last=0.0, even_in="time").astype(wide)
    generator = Generator(models.in_precision(model, dtype), times)
    return Label(generator, Slice(z0, z1, z2), models.in_precision(classifier, dtype))


def _straddling(
    label: Label, start: np.ndarray, end: np.ndarray, precision: str
) -> tuple[Array, Array] | None:
    """The two points moved apart until their labels differ: boundaries move with the sampler."""
    a, b = (jnp.asarray(point, precision) for point in (start, end))
    for _ in range(6):
        if int(_of(label, a)) != int(_of(label, b)):
            return a, b
        a, b = a - (b - a) / 2, b + (b - a) / 2
    return None


@eqx.filter_jit
def _of(label: Label, t: Array) -> Array:
    return label(t)


def _growth(label: Label, ends: tuple[Array, Array]) -> GrowthExponent:
    """Lipschitz constants of t to features, ever nearer to the boundary."""
    on = boundary_point(label, *ends)
    map_ = FeatureMap(label.generator, label.plane, Features(label.classifier))
    return growth_exponent(map_, on.before, ends[1] - ends[0], jnp.asarray(DISTANCES), throw=False)
