"""Metrics of any size, in charts of any size, at points of any kind, against closed forms."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxgeo as jg
from fuzz import model
from fuzz.model import WHOLE, Exact, Space
from fuzz.outcomes import Case

FACTORS = {np.float64: (1e-150, 1e150), np.float32: (1e-24, 1e24)}
SCALES = {np.float64: (1e-12, 1e12), np.float32: (1e-12, 1e12)}
GENTLE_FACTORS = {np.float64: (1e-60, 1e60), np.float32: (1e-6, 1e6)}
GENTLE_SCALES = {np.float64: (1e-12, 1e12), np.float32: (1e-4, 1e4)}
"""Where second derivatives of the metric, times squares of a vector, are numbers of the dtype."""
RELAXED = 0.3
"""Relative error of a length that a polyline of few segments may have and call itself resolved."""
COARSE = (2, 4, 8)


def _draw(
    rng: np.random.Generator, dtype: type, broken: int = WHOLE, gentle: bool = False
) -> Space:
    """A space whose factor and chart are of any size, one in two of size 1."""
    factors, scales = (GENTLE_FACTORS, GENTLE_SCALES) if gentle else (FACTORS, SCALES)
    factor = np.exp(rng.uniform(*np.log(factors[dtype]))) if rng.integers(2) else 1.0
    scale = np.exp(rng.uniform(*np.log(scales[dtype]))) if rng.integers(2) else 1.0
    return model.space(rng, dtype, factor=factor, scale=scale, broken=broken)


def _ends(rng: np.random.Generator, where: Space) -> tuple[np.ndarray, np.ndarray, str]:
    """Two points: anywhere, equal, or so near that floats can barely tell."""
    a = model.point(rng, where)
    kind = rng.choice(["apart", "apart", "near", "equal"])
    if kind == "equal":
        return a, a.copy(), "equal ends"
    if kind == "near":
        apart = 10.0 ** rng.uniform(-12, -2)
        b = (a + apart * (model.point(rng, where) - a)).astype(a.dtype)
        return a, b, f"ends {apart:.0e} apart"
    return a, model.point(rng, where), "ends"


def _words(where: Space) -> str:
    parts = [f"K={float(where.curvature):g}", f"f={float(where.factor):.0e}"]
    return ", ".join([*parts, f"s={float(where.scale):.0e}", str(where.centre.dtype)])


def _close(value: Any, exact: Any, tolerance: float, floor: float = 0.0) -> str | None:
    """Whether a value is near enough, relative to the greatest entry, or below the floor."""
    x, y = (np.asarray(a).astype(np.longdouble) for a in (value, exact))
    error = np.abs(x - y).max()
    if error <= tolerance * np.abs(y).max() + floor:
        return None
    return f"{x.ravel()[:4].astype(float)} for {y.ravel()[:4].astype(float)}"


def _rounding(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)


def _blur(where: Space, *points: np.ndarray) -> float:
    """How far points move, in units of s, when their coordinates are rounded."""
    far = max(np.abs(x).max() for x in (*points, np.asarray(where.centre)))
    return 8 * _rounding(where.centre.dtype) * float(far) / float(where.scale)


# one compiled program for each function and dtype
_inner = jax.jit(lambda g, z, u, v: jg.inner(g, z, u, v))
_norm = jax.jit(lambda g, z, v: jg.norm(g, z, v))
_curvature = jax.jit(lambda g, z: jg.scalar_curvature(g, z))
_volume = jax.jit(lambda g, z: jg.log_volume_density(g, z))
_acceleration = jax.jit(lambda g, z, v: jg.geodesic_acceleration(g, z, v))
_length = jax.jit(lambda g, points: jg.length(g, points))


def _tangent(rng: np.random.Generator, where: Space, any_size: bool) -> np.ndarray:
    """A vector, small and large ones too."""
    sizes = {np.dtype(np.float64): 150, np.dtype(np.float32): 18}
    reach = sizes[np.dtype(where.centre.dtype)] if any_size else 6
    size = 10.0 ** rng.uniform(-reach, reach / 8) if rng.integers(2) else 1.0
    v = rng.normal(size=where.centre.size) * float(where.scale) * size
    return v.astype(where.centre.dtype)


def pointwise(rng: np.random.Generator, dtype: type) -> dict[str, Callable[[], Case]]:
    """Functions of one point, in closed form."""

    def case(name: str) -> Case:
        where = _draw(rng, dtype, gentle=name not in ("norm", "log_volume_density"))
        z, v = model.point(rng, where), _tangent(rng, where, name == "norm")
        exact, blur = Exact(where), _blur(where, z) + 64 * _rounding(dtype)
        tiny = 4 * float(np.finfo(dtype).tiny)
        g = exact.metric(z)
        if not np.finfo(dtype).tiny < np.abs(np.diag(g)).min() < np.finfo(dtype).max:
            return Case(lambda: _norm(where, z, v), lambda _: None, _words(where))
        if name == "norm":
            truth = np.sqrt(exact.inner(z, v, v))
            return Case(
                lambda: _norm(where, z, v), lambda x: _close(x, truth, blur, tiny), _words(where)
            )
        if name == "inner":
            u = rng.normal(size=2).astype(dtype) * where.scale
            truth, size = exact.inner(z, u, v), exact.inner(z, u, u) * exact.inner(z, v, v)
            floor = float(np.sqrt(size)) * blur + tiny
            return Case(
                lambda: _inner(where, z, u, v), lambda x: _close(x, truth, blur, floor),
                _words(where),
            )  # fmt: skip
        if name == "scalar_curvature":
            truth = 2 * exact.k / exact.f
            floor = 1e4 * blur / float(exact.f) + tiny
            return Case(
                lambda: _curvature(where, z), lambda x: _close(x, truth, 1e3 * blur, floor),
                _words(where),
            )  # fmt: skip
        if name == "log_volume_density":
            truth = np.log(np.linalg.det((g / exact.f * exact.s**2).astype(float))) / 2
            truth = truth + np.log(exact.f) - 2 * np.log(exact.s)
            return Case(
                lambda: _volume(where, z), lambda x: _close(x, truth, blur, 8 * blur),
                _words(where),
            )  # fmt: skip
        truth = exact.acceleration(z, v)
        size = float(np.abs(exact.matrix @ v / exact.s).max()) ** 2 * float(exact.s)
        return Case(
            lambda: _acceleration(where, z, v),
            lambda x: _close(x, truth, 64 * blur, 1e3 * blur * size + tiny * 1e3),
            _words(where),
        )

    names = ("norm", "inner", "scalar_curvature", "log_volume_density", "geodesic_acceleration")
    return {name: (lambda name=name: case(name)) for name in names}


def geodesics(rng: np.random.Generator, dtype: type) -> dict[str, Callable[[], Case]]:
    """Geodesics between two points and from one, in closed form; of broken metrics none."""
    loose = dtype is np.float32
    solvers = {
        "geodesic_bvp": jg.Shooting(),
        "geodesic_bvp, Relaxation": jg.Relaxation(),
        "geodesic_bvp, FixedPoint": jg.FixedPoint(),
        **{f"geodesic_bvp, Relaxation({n})": jg.Relaxation(n) for n in COARSE},
    }
    tolerances = {
        "geodesic_bvp": 2e-3 if loose else 1e-6,
        "geodesic_bvp, Relaxation": 0.02,
        "geodesic_bvp, FixedPoint": 5e-3,
    }

    def between(name: str) -> Case:
        broken = int(rng.choice(list(model.BREAKS))) if rng.integers(4) == 0 else WHOLE
        where = _draw(rng, dtype, broken)
        solver = solvers[name]
        if isinstance(solver, jg.FixedPoint):  # its length scale is static
            where = eqx.tree_at(lambda s: s.scale, where, jnp.ones_like(where.scale))
        a, b, what = _ends(rng, where)
        if broken == model.NAN_WITHIN:
            where = _poisoned(where, b)
        tolerance = tolerances.get(name, RELAXED)
        exact = Exact(where)
        floor = float(np.sqrt(exact.f)) * _blur(where, a, b) * 8

        def judge(solution: jg.GeodesicSolution) -> str | None:
            if not np.array_equal(solution.points[jnp.array([0, -1])], np.stack([a, b])):
                return "the ends are not where they should be"
            return _close(solution.stats["length"], exact.distance(a, b), tolerance, floor)

        what = f"{what}, {model.BREAKS.get(broken, 'whole')}, {_words(where)}"
        return Case(
            lambda: jg.geodesic_bvp(where, a, b, solver=solver, throw=False), judge, what,
            broken != WHOLE,
        )  # fmt: skip

    def from_one(_: str) -> Case:
        broken = int(rng.choice(list(model.BREAKS))) if rng.integers(4) == 0 else WHOLE
        where = _draw(rng, dtype, broken)
        a = model.point(rng, where, 0.5)
        if broken == model.NAN_WITHIN:
            where = _poisoned(where, a)
        v = 0.4 * float(where.scale) * rng.normal(size=2)
        v = (v * 10.0 ** rng.uniform(-12, 0)).astype(dtype) if rng.integers(2) else v.astype(dtype)
        exact = Exact(where)
        size = float(np.linalg.norm(v))
        floor = 64 * _blur(where, a) * float(where.scale)

        def judge(solution: jg.GeodesicSolution) -> str | None:
            # the displacement, of which the end shows no more than rounding leaves
            truth = exact.exp(a, v) - a.astype(float)
            found = np.asarray(solution.points[-1], float) - a.astype(float)
            wrong = _close(found, truth, 1e-3 if loose else 1e-6, floor + 1e-9 * size)
            if wrong is not None:
                return wrong
            speed = np.sqrt(exact.inner(a, v, v))
            return _close(
                solution.stats["length"], speed, 1e-3 if loose else 1e-6,
                float(speed) * 32 * _blur(where, a),
            )  # fmt: skip

        what = f"{model.BREAKS.get(broken, 'whole')}, {_words(where)}"
        return Case(
            lambda: jg.geodesic_ivp(where, a, v, throw=False), judge, what, broken != WHOLE
        )

    names = dict.fromkeys(solvers, between) | {"geodesic_ivp": from_one}
    return {name: (lambda name=name, make=make: make(name)) for name, make in names.items()}


def _poisoned(where: Space, z: np.ndarray) -> Space:
    """The space with a metric that is NaN about a point."""
    w = jnp.asarray(np.asarray(Exact(where).w(z), float), where.centre.dtype)
    radius = jnp.asarray(0.05, where.centre.dtype)
    return eqx.tree_at(lambda s: (s.poison, s.radius), where, (w, radius))


def maps(rng: np.random.Generator, dtype: type) -> dict[str, Callable[[], Case]]:
    """Distances on grids and statistics of points."""

    def grid(_: str) -> Case:
        broken = int(rng.choice(list(model.BREAKS))) if rng.integers(4) == 0 else WHOLE
        where = _draw(rng, dtype, broken)
        a = model.point(rng, where, 0.2)
        if broken == model.NAN_WITHIN:
            where = _poisoned(where, a)
        side = 0.25 * float(where.scale)
        axes = [np.linspace(x - side, x + side, 17).astype(dtype) for x in a.astype(float)]
        exact = Exact(where)

        def judge(found: jg.DistanceMap) -> str | None:
            corner = np.array([axes[0][0], axes[1][-1]])
            floor = float(np.sqrt(exact.f)) * _blur(where, a)
            return _close(found.distances[0, -1], exact.distance(a, corner), 0.05, floor)

        what = f"{model.BREAKS.get(broken, 'whole')}, {_words(where)}"
        return Case(
            lambda: jg.distance_map(where, a, axes, throw=False), judge, what, broken != WHOLE
        )

    def mean(_: str) -> Case:
        broken = int(rng.choice(list(model.BREAKS)[:-2])) if rng.integers(4) == 0 else WHOLE
        where = _draw(rng, dtype, broken)
        a, b, what = _ends(rng, where)
        exact = Exact(where)
        how = {"solver": jg.Shooting(jg.Relaxation(32, n_starts=1)), "throw": False}

        def judge(found: jg.FrechetMean) -> str | None:
            # of three points at a and one at b: a quarter of the way
            x = np.asarray(found.point)
            whole, floor = exact.distance(a, b), float(np.sqrt(exact.f)) * _blur(where, a, b) * 32
            tolerance = 1e-2 if loose else 1e-4
            for part, share in ((exact.distance(a, x), 0.25), (exact.distance(x, b), 0.75)):
                wrong = _close(part, share * whole, tolerance, floor + tolerance * float(whole))
                if wrong is not None:
                    return wrong
            return None

        points = np.stack([a, a, a, b])
        what = f"{what}, {model.BREAKS.get(broken, 'whole')}, {_words(where)}"
        return Case(lambda: jg.frechet_mean(where, points, **how), judge, what, broken != WHOLE)

    loose = dtype is np.float32
    return {
        "distance_map": lambda: grid(""),
        "frechet_mean": lambda: mean(""),
    }


FAMILIES = (pointwise, geodesics, maps)


def cases(rng: np.random.Generator, make: Callable[[], Case]) -> Iterator[Case]:
    """Endless cases of one function."""
    while True:
        yield make()
