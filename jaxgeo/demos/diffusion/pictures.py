"""The pictures of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgeo import plotting
from jaxgeo.demos.diffusion.boundary import Crossing
from jaxgeo.demos.diffusion.slices import COARSE, Pair, Study
from jaxgeo.demos.diffusion.spacetime import Voyage

SHOWN = 4
"""Pairs of points that are drawn."""


def draw(
    out: Path,
    studies: Sequence[Study],
    joined: Sequence[list[Pair]],
    crossed: Crossing,
    travelled: Voyage,
    drawn: np.ndarray,
    history: dict[str, Any],
) -> None:
    """Write all pictures to `out`; those of images only if samples are images."""
    first = studies[0]
    diagram, samples = first.diagram, np.asarray(first.diagram.grid.samples)
    images = samples.ndim == 4
    ax = plotting.training_history(history)[0]
    plotting.save(ax.figure, out / "training.png")
    axes = plotting.panels(1, 2 if images else 1, size=(5.2, 5.0))[0]
    plotting.phase_map(diagram.axes, diagram.labels, boundaries=diagram.borders, ax=axes[-1])
    if images:
        some = tuple(axis[COARSE] for axis in diagram.axes)
        plotting.image_map(some, samples[COARSE, COARSE], ax=axes[0])
    plotting.save(axes[0].figure, out / "slice.png")
    _draw_metrics(out, studies)
    _draw_geodesics(out, studies, joined)
    if crossed.zooms:
        plotting.save(plotting.zoom_strip(crossed.zooms)[0, 0].figure, out / "zoom.png")
    if crossed.dimensions:
        plotting.save(plotting.box_counts(crossed.dimensions).figure, out / "boxes.png")
    growth = {name: (one.distances, one.constants) for name, one in crossed.growth.items()}
    if growth:
        plotting.save(plotting.growth(growth).figure, out / "lipschitz.png")
    if images:
        plotting.save(_draw_strips(joined), out / "strips.png")
        plotting.save(_draw_voyage(travelled), out / "spacetime.png")
        grids = plotting.image_grids({"generated": drawn[:64]})
        plotting.save(grids[0, 0].figure, out / "samples.png")


def _draw_metrics(out: Path, studies: Sequence[Study]) -> None:
    """A row for every slice: log √det g, exact and learned, with ridges, and log Z."""
    axes = plotting.panels(len(studies), 3, size=(4.4, 3.8))
    titles = {"exact pullback": "exact pullback", "reconstructed": "reconstructed from samples"}
    plane = (r"$\alpha$", r"$\beta$")
    for row, found in zip(axes, studies, strict=True):
        usable = found.usable
        volumes = {k: np.linalg.slogdet(usable[k])[1] / 2 for k in titles if k in usable}
        both = np.array(list(volumes.values()))
        for ax, (kind, title) in zip(row, titles.items(), strict=False):
            if kind not in volumes:
                _nothing(ax, f"{title}: not positive definite")
                continue
            plotting.heat_map(
                found.nodes, volumes[kind], ax=ax, labels=plane,
                limits=(float(both.min()), float(both.max())),
                value_label=r"$\log\,\sqrt{\det\,g}$",
            )  # fmt: skip
            for ridge in found.ridges[kind]:
                ax.plot(*ridge.points.T, color="#D81B60", lw=1.4)
            ax.set_title(title, fontsize="medium")
        if found.log_partition is None:
            _nothing(row[2], "log Z: not reconstructed")
            continue
        plotting.heat_map(
            found.nodes, found.log_partition, ax=row[2], labels=plane,
            value_label=r"$\log\,Z$, nats",
        )  # fmt: skip
        row[2].set_title("log Z less an affine function", fontsize="medium")
    plotting.save(axes[0, 0].figure, out / "metric.png")


def _nothing(ax: Any, why: str) -> None:
    ax.set_axis_off()
    ax.set_title(why, fontsize="medium")


def _draw_geodesics(out: Path, studies: Sequence[Study], joined: Sequence[list[Pair]]) -> None:
    axes = plotting.panels(1, len(studies), size=(5.2, 5.0))[0]
    for ax, found, some in zip(axes, studies, joined, strict=True):
        shown = _shown(some)
        kinds = ("reconstructed", "exact pullback", "straight")
        curves = {kind: [pair.curves[kind] for pair in shown] for kind in kinds}
        plotting.phase_map(
            found.diagram.axes,
            found.diagram.labels,
            boundaries=found.diagram.borders,
            curves=curves,
            ax=ax,
        )
    plotting.save(axes[0].figure, out / "geodesics.png")


def _shown(some: Sequence[Pair]) -> list[Pair]:
    """Pairs all of whose geodesics were found, farthest from their straight lines."""
    whole = [p for p in some if {"reconstructed", "exact pullback"} <= set(p.curves)]
    bent = [np.abs(p.curves["reconstructed"] - p.curves["straight"]).max() for p in whole]
    return [whole[k] for k in np.argsort(bent)[::-1][:SHOWN]]


def _draw_voyage(travelled: Voyage) -> Any:
    found = travelled.facts["result"] == "successful"
    name = "geodesic" if found else "FAILED"
    rows = {name: [travelled.geodesic], "straight": [travelled.straight]}
    return plotting.image_strips(rows)[0, 0].figure


def _draw_strips(joined: Sequence[list[Pair]]) -> Any:
    shown = [pair for some in joined for pair in _shown(some)[:1]]
    kinds: tuple[str, ...] = ("reconstructed", "straight")
    if not shown:
        shown, kinds = [some[0] for some in joined if some], ("straight",)
    strips = {kind: [pair.strips[kind] for pair in shown] for kind in kinds}
    return plotting.image_strips(strips)[0, 0].figure
