"""A slice of a generator's latent space: phases, metric learned and exact, geodesics."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.stats import spearmanr

import jaxgeo as jg
from jaxgeo import models, report
from jaxgeo._batching import each
from jaxgeo._files import below
from jaxgeo._results import describe
from jaxgeo._typing import Metric
from jaxgeo.phases import Boundary, Ridge, boundaries, overlap, regions, ridges
from jaxgeo.reconstruction import hessian_potential
from jaxgeo.reconstruction.curved import INFORMATION, LIKELIHOOD
from jaxgeo.slices import (
    FeatureMap,
    FeatureSimulator,
    Slice,
    SliceGrid,
    evaluate,
    feature_metric,
    largest_step,
    path_length,
    perceptual_path_length,
    random_slice,
    spherical_interpolation,
    total_curvature,
)

DOMAIN = (-0.5, 1.5)
"""Of α and of β: the corners of a slice are (0, 0), (1, 0), (0, 1)."""
NODES = 129
"""Of a slice's grid, along either axis."""
COARSE = slice(None, None, 8)
"""Nodes whose samples are drawn."""
METRIC = 97
"""Nodes of the metrics' grids."""
PRECISION = 300.0
"""N of the law N(E(t), I/N): its noise is a third of the distance between random samples."""
SHORT = (
    LIKELIHOOD._replace(steps=4_000),
    INFORMATION._replace(steps=1_000),
)
"""The law of a slice's features is simpler than that of spins: a third of the default steps."""
RIDGE = 0.5
"""A ridge of log √det g stands out by this."""
NEAR = 0.02
"""Ridges coincide within this share of the slice's width."""
POINTS = 65
"""Of a curve that is decoded."""
KINDS = ("straight", "spherical", "reconstructed", "exact pullback", "pixel pullback")


class Generator(eqx.Module):
    """A latent array to a sample in its own units: DDIM without fresh noise."""

    model: models.DiffusionModel
    times: Float[Array, " n"]

    def __call__(self, z: Array) -> Array:
        return self.model.decode(jg.diffusion.DDIM(self.model, self.model.schedule, self.times)(z))


class Label(eqx.Module):
    """The class of what a generator makes at a point of a slice."""

    generator: Callable[[Array], Array]
    plane: Slice
    classifier: models.Classifier

    def __call__(self, t: Array) -> Int[Array, ""]:
        return self.classifier.label(self.generator(self.plane(t)))


class Features(eqx.Module):
    """A sample to its features, by a classifier."""

    classifier: models.Classifier

    def __call__(self, x: Array) -> Array:
        return self.classifier.features(x)


class Classes(eqx.Module):
    """A sample to its class."""

    classifier: models.Classifier

    def __call__(self, x: Array) -> Int[Array, ""]:
        return self.classifier.label(x)


class PhaseDiagram(NamedTuple):
    """What is decoded on a slice: samples and features at nodes, their classes and borders."""

    plane: Slice
    grid: SliceGrid
    labels: Int[np.ndarray, "n n"]
    borders: list[Boundary]

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        return self.grid.axes


class Study(NamedTuple):
    """What is known of one slice."""

    diagram: PhaseDiagram
    nodes: tuple[Array, Array]
    metrics: dict[str, Float[np.ndarray, "m m 2 2"]]  # on `nodes`, by the kind of geodesic
    log_partition: Float[np.ndarray, "m m"] | None
    ridges: dict[str, list[Ridge]]
    facts: dict[str, Any]

    @property
    def usable(self) -> dict[str, np.ndarray]:
        """The metrics that are one: finite and positive definite at every node."""
        return {kind: g for kind, g in self.metrics.items() if is_metric(g)}


def phase_diagram(
    generator: Generator,
    classifier: models.Classifier,
    key: Array,
    *,
    progress: bool,
    directory: Path | None = None,
) -> PhaseDiagram:
    """Decode a random slice, and name what is seen; the samples are kept in a directory."""
    plane = random_slice(generator.model.shape, key=key)
    axis = np.linspace(*DOMAIN, NODES, dtype=np.float32)
    features = Features(classifier)
    grid = evaluate(
        generator, plane, (axis, axis), features=features, chunk_size=1024, progress=progress,
        directory=directory,
    )  # fmt: skip
    assert grid.samples is not None
    rows = grid.samples.reshape(-1, *plane.z0.shape)
    labels = np.asarray(each(Classes(classifier), rows)).reshape(NODES, NODES)
    label = Label(generator, plane, classifier)
    borders = boundaries(grid.axes, label, labels=labels, tolerance=0.01)
    return PhaseDiagram(plane, grid, labels, borders)


def study(
    generator: Generator,
    classifier: models.Classifier,
    key: Array,
    *,
    progress: bool,
    checkpoint: Path | None = None,
) -> Study:
    """Learn the metric of a random slice from samples, and compare it with the pullback."""
    key_plane, key_fit = jax.random.split(key)
    diagram = phase_diagram(
        generator, classifier, key_plane, progress=progress,
        directory=below(checkpoint, "samples"),
    )  # fmt: skip
    nodes = (jnp.linspace(*DOMAIN, METRIC, dtype=jnp.float32),) * 2
    exact = feature_metric(FeatureMap(generator, diagram.plane, Features(classifier)), PRECISION)
    pixels = feature_metric(FeatureMap(generator, diagram.plane))
    domain = np.array([DOMAIN, DOMAIN])
    between = diagram.grid.feature_map()
    fit = jg.fit_curved_family(
        FeatureSimulator(between, PRECISION), key=key_fit, domain=domain, width=128,
        schedules=SHORT, progress=progress, throw=False,
        checkpoint=below(checkpoint, "metric"),
    )  # fmt: skip
    kinds: dict[str, Metric] = {
        "reconstructed": fit.metric, "exact pullback": exact, "pixel pullback": pixels
    }  # fmt: skip
    metrics = {kind: on_nodes(metric, nodes) for kind, metric in kinds.items()}
    splined = on_nodes(feature_metric(between, PRECISION), nodes)
    bad = [kind for kind, g in metrics.items() if not is_metric(g)]
    log_z, unexplained = None, float("nan")
    if "reconstructed" not in bad:
        potential, unexplained = hessian_potential(fit.metric, domain)
        log_z = level(nodes, np.asarray(jg.on_grid(potential, nodes), np.float64))
    found = {name: ridges_of(nodes, metrics[name]) for name in ("reconstructed", "exact pullback")}
    result = jg.RESULTS.metric_not_positive_definite if bad else fit.result
    facts = {
        **report.facts_of(fit),
        "result": describe(result),
        "not_positive_definite": bad,
        **agreement(metrics["reconstructed"], metrics["exact pullback"]),
        "spline_of_features": agreement(splined, metrics["exact pullback"]),
        "ridges": shared(found["reconstructed"], found["exact pullback"]),
        "hessian_share_unexplained": unexplained,
        "phases": len(np.unique(diagram.labels)),
        "regions": len(regions(diagram.labels).labels),
    }
    return Study(diagram, nodes, metrics, log_z, found, facts)


def on_nodes(metric: Metric, nodes: tuple[Array, Array]) -> np.ndarray:
    """A metric at every node."""
    return np.asarray(jg.on_grid(metric, nodes), np.float64)


def is_metric(g: np.ndarray) -> bool:
    """Whether it is finite and positive definite at every node."""
    return bool(np.isfinite(g).all() and (np.linalg.eigvalsh(g) > 0).all())


def ridges_of(nodes: tuple[Array, Array], g: np.ndarray) -> list[Ridge]:
    """Those of log √det g; none of what is no metric."""
    if not is_metric(g):
        return []
    return ridges(nodes, np.linalg.slogdet(g)[1] / 2, threshold=RIDGE)


def shared(found: list[Ridge], reference: list[Ridge]) -> dict[str, float]:
    """How far they coincide."""
    near = NEAR * (DOMAIN[1] - DOMAIN[0])
    return dict(overlap(found, reference, tolerance=near)._asdict())


def agreement(learned: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """How a metric compares with another: over all nodes, whatever the coordinates."""
    with np.errstate(invalid="ignore"):  # of what is not finite no figure is one
        volumes = [np.linalg.slogdet(g)[1].ravel() / 2 for g in (learned, exact)]
    errors = report.metric_errors(learned, exact)
    return {
        "rank_correlation_of_log_volume": float(spearmanr(*volumes).statistic),
        "median_metric_error": float(np.nanmedian(errors)),
        "nodes_where_exact_is_positive": float(np.mean(~np.isnan(errors))),
        "range_of_log_volume": float(np.ptp(np.quantile(volumes[1], (0.05, 0.95)))),
    }


def level(nodes: tuple[Array, Array], log_z: np.ndarray) -> np.ndarray:
    """log Z less the affine function that is nearest: it is determined up to one."""
    x, y = np.meshgrid(*map(np.asarray, nodes), indexing="ij")
    affine = np.stack([np.ones_like(x), x, y], axis=-1).reshape(-1, 3)
    nearest = affine @ np.linalg.lstsq(affine, log_z.ravel(), rcond=None)[0]
    return log_z - nearest.reshape(x.shape)


class Pair(NamedTuple):
    """Two points of a slice, the curves between them, and what these decode to."""

    same_phase: bool
    curves: dict[str, np.ndarray]  # in the plane, by kind; of failed geodesics none
    measures: dict[str, dict[str, float]]
    strips: dict[str, np.ndarray]  # decoded samples


def pairs(
    found: Study, generator: Generator, classifier: models.Classifier, n_pairs: int, seed: int
) -> list[Pair]:
    """Random pairs of points, joined by every kind of curve, each measured as it is decoded."""
    rng = np.random.default_rng(seed)
    numbers = regions(found.diagram.labels).numbers
    metrics = {kind: jg.InterpolatedMetric(found.nodes, g) for kind, g in found.usable.items()}
    measure = _Measured(generator, classifier)
    return [
        _pair(found, metrics, numbers, measure, rng.uniform(*DOMAIN, (2, 2)).astype(np.float32))
        for _ in range(n_pairs)
    ]


def _pair(
    found: Study, metrics: dict[str, Any], numbers: np.ndarray, measure: Any, ends: np.ndarray
) -> Pair:
    a, b = jnp.asarray(ends)
    s = jnp.linspace(0, 1, POINTS, dtype=a.dtype)
    lines = {"straight": (1 - s)[:, None] * a[None] + s[:, None] * b[None]}
    for kind, metric in metrics.items():
        solution = jg.geodesic_bvp(
            metric,
            a,
            b,
            solver=jg.Relaxation(POINTS - 1),
            domain=np.array([DOMAIN, DOMAIN]),
            throw=False,
        )
        if bool(solution.result == jg.RESULTS.successful):
            lines[kind] = solution.points
    latents = {kind: each(found.diagram.plane, line) for kind, line in lines.items()}
    z = latents["straight"]
    latents["spherical"] = _great_circle(z[0], z[-1], s)
    decoded = {kind: measure(z) for kind, z in latents.items()}
    cell = np.rint((ends - DOMAIN[0]) / (DOMAIN[1] - DOMAIN[0]) * (NODES - 1)).astype(int)
    first, second = (numbers[i, j] for i, j in cell)
    return Pair(
        bool(first == second),
        {kind: np.asarray(line) for kind, line in lines.items()},
        {kind: {k: float(v) for k, v in facts.items()} for kind, (facts, _) in decoded.items()},
        {kind: np.asarray(samples) for kind, (_, samples) in decoded.items()},
    )


@eqx.filter_jit
def _great_circle(a: Array, b: Array, s: Array) -> Array:
    return jax.vmap(lambda share: spherical_interpolation(a, b, share))(s)


class _Measured(eqx.Module):
    """Latents along a curve to the measures of what they decode to, and that itself."""

    generator: Generator
    classifier: models.Classifier

    @eqx.filter_jit
    def __call__(self, z: Array) -> tuple[dict[str, Array], Array]:
        samples = jax.vmap(self.generator)(z)
        features = jax.vmap(self.classifier.features)(samples)
        return {
            "feature length": path_length(features),
            "pixel length": path_length(samples),
            "PPL": perceptual_path_length(features),
            "curvature": total_curvature(features),
            "largest step": largest_step(features),
        }, samples


def compared(found: Sequence[Pair]) -> dict[str, Any]:
    """Means over pairs, and of the differences from the straight line of the same pairs."""
    groups = {
        "all pairs": list(found),
        "same phase": [pair for pair in found if pair.same_phase],
        "across phases": [pair for pair in found if not pair.same_phase],
    }
    table: dict[str, Any] = {}
    for group, some in groups.items():
        table[group] = {"pairs": len(some)}
        for kind in KINDS:
            good = [pair.measures for pair in some if kind in pair.measures]
            names = good[0][kind] if good else ()
            table[group][kind] = {"curves found": len(good)} | {
                name: {
                    "mean": float(np.mean([m[kind][name] for m in good])),
                    "less than straight by": report.spread(
                        [m["straight"][name] - m[kind][name] for m in good]
                    ),
                }
                for name in names
            }
    return table
