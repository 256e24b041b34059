"""Public functions with one good call each, one argument of which is replaced."""

import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxgeo as jg
from fuzz import values
from fuzz.outcomes import Case, OwnError, failed
from jaxgeo import distributions, likelihoods, phases, slices
from jaxgeo.problems import half_plane_metric, log_sum_exp, sphere_metric


class Good(NamedTuple):
    """A call that succeeds: the function, and its arguments by kind."""

    f: Callable[..., Any]
    arrays: Mapping[str, Any] = MappingProxyType({})
    numbers: Mapping[str, float] = MappingProxyType({})
    counts: Mapping[str, int] = MappingProxyType({})
    functions: Mapping[str, Any] = MappingProxyType({})
    fixed: Mapping[str, Any] = MappingProxyType({})
    free: tuple[str, ...] = ()  # arrays that alone decide how long they are
    limits: tuple[str, ...] = ()  # arrays whose infinities may have a limit

    @property
    def arguments(self) -> dict[str, Any]:
        arrays = {name: np.asarray(x, np.float64) for name, x in self.arrays.items()}
        return {**self.functions, **arrays, **self.numbers, **self.counts, **self.fixed}


Z, V, W = np.array([0.3, 1.2]), np.array([0.5, -0.2]), np.array([0.1, 0.4])
POINTS = np.array([[0.3, 1.2], [0.5, 1.5], [-0.2, 0.9], [0.1, 1.1]])
CURVE = np.stack([np.linspace(0, 1, 9), 1 + np.linspace(0, 1, 9) ** 2], axis=1)
AXIS = np.linspace(0.5, 2.0, 7)
TS = np.array([0.0, 0.25, 1.0])
SOLVER = jg.Shooting(jg.Relaxation(8, n_starts=1))
KEY = jax.random.key(0)


def bumpy(z: jax.Array) -> jax.Array:
    """A metric that depends on every coordinate."""
    return half_plane_metric(z) * (1 + 0.1 * jnp.sum(jnp.sin(z)))


def _field(z: jax.Array) -> jax.Array:
    return jnp.stack([z[1], z[0]])


def _label(z: jax.Array) -> jax.Array:
    return (z[1] > 1).astype(int)


def _chart(z: jax.Array) -> jax.Array:
    return jnp.stack([z[0] + z[1] ** 2, z[1], z[0] * z[1]])


@functools.cache
def _solution() -> jg.GeodesicSolution:
    return jg.geodesic_ivp(bumpy, Z, V)


@functools.cache
def _far() -> jg.GeodesicSolution:
    """Past a conjugate point of the sphere."""
    return jg.geodesic_ivp(sphere_metric, np.array([1.0, 0.0]), np.array([0.3, 4.0]))


@functools.cache
def _map() -> jg.DistanceMap:
    return jg.distance_map(bumpy, Z, (AXIS - 1, AXIS))


def _at(metric: Any, *rest: Any) -> Callable[..., Any]:
    """A metric of a class, made and evaluated."""
    return lambda z, **how: metric(*rest, **how)(jnp.asarray(z))


def geometry() -> dict[str, Good]:
    of = {"functions": {"metric": bumpy}}
    dual = {"functions": {"potential": log_sum_exp}}
    ends = {"a": Z, "b": V}
    return {
        **{
            f.__name__: Good(f, {"z": Z}, free=("z",), **of)
            for f in (
                *(jg.christoffel_first, jg.christoffel, jg.riemann, jg.ricci),
                *(jg.scalar_curvature, jg.volume_density, jg.log_volume_density),
            )
        },
        "sectional_curvature": Good(jg.sectional_curvature, {"z": Z, "u": V, "v": W}, **of),
        "inner": Good(jg.inner, {"z": Z, "u": V, "v": W}, **of),
        "norm": Good(jg.norm, {"z": Z, "v": V}, **of),
        "geodesic_acceleration": Good(jg.geodesic_acceleration, {"z": Z, "v": V}, **of),
        "covariant_derivative": Good(
            jg.covariant_derivative, {"z": Z},
            functions={"metric": bumpy, "field": _field},
        ),
        "length": Good(jg.length, {"points": CURVE}, free=("points",), **of),
        "energy": Good(jg.energy, {"points": CURVE}, free=("points",), **of),
        "resample": Good(
            jg.resample, {"points": CURVE}, counts={"n": 5}, free=("points",), **of
        ),
        "expectation_parameters": Good(
            jg.expectation_parameters, {"theta": Z}, free=("theta",), limits=("theta",), **dual
        ),
        "bregman_divergence": Good(jg.bregman_divergence, {"theta": Z, "theta_ref": V}, **dual),
        "symmetrized_divergence": Good(jg.symmetrized_divergence, ends, **dual),
        "natural_parameters": Good(
            jg.natural_parameters, {"eta": [0.3, 0.2], "start": V}, **dual
        ),
        "conjugate_potential": Good(
            jg.conjugate_potential, {"eta": [0.3, 0.2], "start": V}, **dual
        ),
        "alpha_christoffel": Good(
            jg.alpha_christoffel, {"theta": Z}, {"alpha": 0.5}, free=("theta",), **dual
        ),
        "exponential_geodesic": Good(jg.exponential_geodesic, {**ends, "ts": TS}, free=("ts",)),
        "mixture_geodesic": Good(
            jg.mixture_geodesic, {**ends, "ts": TS}, free=("ts",), **dual
        ),
    }  # fmt: skip


def geodesics() -> dict[str, Good]:
    of = {"functions": {"metric": bumpy}}
    how = {**of, "fixed": {"solver": SOLVER}}
    box = [[-9.0, 9.0], [0.1, 9.0]]
    along = {**of, "fixed": {"solution": _solution()}}
    return {
        "geodesic_ivp": Good(
            jg.geodesic_ivp, {"z0": Z, "v0": V, "ts": TS, "domain": box}, {"rtol": 1e-8},
            {"max_steps": 256}, **of,
        ),
        "exp": Good(jg.exp, {"z": Z, "v": V}, **of),
        "geodesic_bvp": Good(
            jg.geodesic_bvp,
            {"z0": CURVE[0], "z1": CURVE[-1], "start": CURVE, "domain": box}, **how,
        ),
        "log": Good(jg.log, {"z0": Z, "z1": POINTS[1]}, **how),
        "distance": Good(jg.distance, {"z0": Z, "z1": POINTS[1]}, **how),
        "distance_map": Good(
            lambda first, second, **rest: jg.distance_map(axes=(first, second), **rest),
            {"source": Z, "first": AXIS - 1, "second": AXIS}, counts={"max_iterations": 50}, **of,
        ),
        "shortest_path": Good(
            jg.shortest_path, {"target": [0.9, 1.9]}, counts={"n": 5},
            functions=of["functions"], fixed={"distance_map": _map()},
        ),
        "frechet_mean": Good(
            jg.frechet_mean,
            {"points": POINTS, "weights": [0.1, 0.2, 0.3, 0.4], "start": Z}, {"rtol": 1e-5}, **how,
        ),
        "tangent_pca": Good(jg.tangent_pca, {"points": POINTS, "mean": Z}, **how),
        "pairwise_distances": Good(
            jg.pairwise_distances, {"points": POINTS, "others": POINTS[:3] + 0.1},
            counts={"chunk_size": 4}, **how,
        ),
        "kmeans": Good(
            jg.kmeans, {"points": POINTS}, counts={"n_clusters": 2, "max_iterations": 20},
            functions=of["functions"], fixed={"solver": SOLVER, "key": KEY},
        ),
        "kmedoids": Good(
            jg.kmedoids, {"distances": np.abs(TS[:, None] - TS[None])},
            counts={"n_clusters": 2, "n_starts": 4, "max_iterations": 9}, fixed={"key": KEY},
        ),
        "parallel_transport": Good(jg.parallel_transport, {"v": W}, **along),
        "jacobi_field": Good(jg.jacobi_field, {"j0": W, "dj0": V}, **along),
        "conjugate_time": Good(
            jg.conjugate_time, functions={"metric": sphere_metric}, fixed={"solution": _far()}
        ),
        "alpha_geodesic": Good(
            jg.alpha_geodesic, {"a": Z, "b": V, "ts": np.linspace(0, 1, 17)}, {"alpha": 0.5},
            functions={"potential": log_sum_exp},
        ),
        "graph_path": Good(
            jg.graph_path, {"nodes": CURVE, "z0": CURVE[0], "z1": CURVE[-1]},
            counts={"n_neighbors": 3, "n_points": 9}, **of,
        ),
        "brownian_motion": Good(
            distributions.brownian_motion, {"z0": Z}, {"time": 0.1}, {"n_steps": 4},
            functions=of["functions"], fixed={"key": KEY},
        ),
    }  # fmt: skip


def metrics() -> dict[str, Good]:
    at, table = {"z": Z}, np.ones((7, 7, 1, 1)) * np.eye(2)

    def on_axes(f: Any) -> Callable[..., Any]:
        return lambda first, second, values, z: f((first, second), values)(z)

    return {
        "KernelMetric": Good(
            lambda z, **how: jg.KernelMetric(**how)(z), {"centroids": POINTS, "z": Z},
            {"temperature": 0.5, "regularization": 0.1}, limits=("z",)
        ),
        "LocallyAdaptiveMetric": Good(
            lambda z, **how: jg.LocallyAdaptiveMetric(**how)(z), {"data": POINTS, "z": Z},
            {"bandwidth": 0.5, "floor": 0.1}, limits=("z",)
        ),
        "RegularizedMetric": Good(
            lambda z, **how: jg.RegularizedMetric(bumpy, **how)(z), at, {"eps": 0.1},
            free=("z",), limits=("z",),
        ),
        "HessianMetric": Good(
            lambda z, potential: jg.HessianMetric(potential)(z), at,
            functions={"potential": log_sum_exp},
            free=("z",), limits=("z",),
        ),
        "PullbackMetric": Good(
            lambda z, f: jg.PullbackMetric(f)(z), at, functions={"f": _chart},
            free=("z",), limits=("z",),
        ),
        "ReparametrizedMetric": Good(
            lambda z, metric: jg.ReparametrizedMetric(metric, _field)(z), at,
            functions={"metric": bumpy},
            free=("z",), limits=("z",),
        ),
        "SumMetric": Good(
            lambda z, metric: jg.SumMetric([bumpy, metric])(z), at,
            functions={"metric": bumpy},
            free=("z",), limits=("z",),
        ),
        "ProductMetric": Good(
            lambda z, metric: jg.ProductMetric([metric], [2])(z), at,
            functions={"metric": bumpy},
            free=("z",), limits=("z",),
        ),
        "ConformalMetric": Good(
            lambda z, metric: jg.ConformalMetric(metric, log_sum_exp)(z), at,
            functions={"metric": bumpy},
            free=("z",), limits=("z",),
        ),
        "FisherPullbackMetric": Good(
            jg.FisherPullbackMetric(_chart, likelihoods.Bernoulli()), at,
            free=("z",), limits=("z",),
        ),
        "InterpolatedMetric": Good(
            on_axes(jg.InterpolatedMetric),
            {"first": AXIS - 1, "second": AXIS, "values": table, "z": Z},
        ),
        "GridSpline": Good(
            on_axes(jg.GridSpline),
            {"first": AXIS - 1, "second": AXIS, "values": table, "z": Z}, free=("values",),
        ),
        "on_grid": Good(
            lambda f, first, second, **rest: jg.on_grid(f, (first, second), **rest),
            {"first": AXIS - 1, "second": AXIS}, counts={"chunk_size": 4},
            fixed={"f": _field}, free=("first", "second"),
        ),
    }  # fmt: skip


def pictures() -> dict[str, Good]:
    """Phases and slices."""
    ends = {"start": [0.0, 0.0], "end": [0.0, 2.0]}
    return {
        "boundary_point": Good(phases.boundary_point, ends, functions={"label": _label}),
        "boundaries": Good(
            lambda label, first, second: phases.boundaries((first, second), label),
            {"first": AXIS - 1, "second": AXIS}, functions={"label": _label},
        ),
        "Slice": Good(
            lambda u, v, w, t: slices.Slice(u, v, w)(t),
            {"u": np.eye(3)[0], "v": np.eye(3)[1], "w": np.eye(3)[2], "t": Z},
        ),
        "slices.evaluate": Good(
            lambda generator, first, second, **how: slices.evaluate(
                generator, slices.Slice(*jnp.eye(3)), (first, second), progress=False, **how
            ).samples,
            {"first": AXIS, "second": AXIS}, counts={"chunk_size": 8},
            fixed={"generator": jnp.sum},
        ),
    }  # fmt: skip


FAMILIES = {
    "geometry": geometry, "geodesics": geodesics, "metrics": metrics, "phases, slices": pictures,
}  # fmt: skip


def cases(good: Good, rng: np.random.Generator, reference: Any) -> Iterator[Case]:
    """Endless calls with one argument replaced; `reference` is the value of the good one."""
    kinds = {"numbers": values.of_number, "counts": values.of_count}
    slots = [
        (kind, name) for kind in ("arrays", *kinds, "functions") for name in getattr(good, kind)
    ]
    while True:
        kind, name = slots[rng.integers(len(slots))]
        given = good.arguments[name]
        if kind == "functions":
            change = values.of_function(rng, OwnError)
        elif kind == "arrays":
            change = values.of_array(rng, given, name in good.free, name in good.limits)
        else:
            change = kinds[kind](rng, given)
        yield _case(good, name, change, reference)


def _case(good: Good, name: str, change: values.Mutation, reference: Any) -> Case:
    def call() -> Any:
        return good.f(**{**good.arguments, name: change.value})

    def compare(value: Any) -> str | None:
        if change.kind != values.SAME:
            return None
        return difference(value, reference, change.tolerance)

    must_fail = change.kind in (values.INVALID, values.NOT_FINITE)
    return Case(call, compare, f"{name}: {change.what}", must_fail)


def difference(value: Any, reference: Any, tolerance: float) -> str | None:
    """What two values differ by, leaf by leaf, if it is more than `tolerance` of their size."""
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(reference), strict=True)
    for a, b in pairs:
        if not hasattr(a, "dtype") or not jnp.issubdtype(a.dtype, jnp.inexact):
            continue
        x, y = (np.asarray(leaf).astype(np.float64) for leaf in (a, b))
        if x.shape != y.shape:
            return f"shape {x.shape} for {y.shape}"
        scale = max(1.0, np.abs(y).max(initial=0))
        worst = np.abs(x - y).max(initial=0) / scale
        if not worst <= tolerance:
            return f"differs by {worst:.1e}"
    return None


def reference_of(good: Good) -> Any:
    """The value of the good call, which has to be one."""
    value = good.f(**good.arguments)
    if failed(value):
        raise ValueError(f"the good call of {good.f} failed: {value}")
    return value
