"""Metrics with closed-form answers: the one oracle table for tests, benchmarks and notebooks.

Every problem has constant sectional curvature, so that its curvature tensor is known too.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgeo._typing import Metric, Point, Scalar, Vector
from jaxgeo.systems import families
from jaxgeo.systems.families import categorical_distance as categorical_distance
from jaxgeo.systems.families import categorical_metric as categorical_metric
from jaxgeo.systems.families import categorical_probabilities as categorical_probabilities
from jaxgeo.systems.families import log_sum_exp as log_sum_exp
from jaxgeo.systems.families import normal_distance as normal_distance
from jaxgeo.systems.families import normal_metric as normal_metric
from jaxgeo.systems.families import poisson_distance as poisson_distance
from jaxgeo.systems.families import poisson_metric as poisson_metric


@dataclasses.dataclass(frozen=True)
class Problem:
    """A metric whose geodesic distance is known.

    - `name`: for tables and test names.
    - `metric`: point `(d,)` to matrix `(d, d)`.
    - `distance`: the exact distance of two points.
    - `curvature`: the (constant) sectional curvature; 0 where there is only one dimension.
    - `domain`: `(d, 2)` lower and upper bounds of the chart.
    - `pairs`: `(n, 2, d)` pairs of points within each other's injectivity radius.
    - `exp`: the end point of the geodesic with given start and velocity, or `None`.
    """

    name: str
    metric: Metric
    distance: Callable[[Point, Point], Scalar]
    curvature: float
    domain: np.ndarray
    pairs: np.ndarray
    exp: Callable[[Point, Vector], Point] | None = None


def euclidean_metric(z: Point) -> Float[Array, "d d"]:
    """The identity, in any dimension."""
    return jnp.eye(z.size, dtype=z.dtype)


def euclidean_distance(z0: Point, z1: Point) -> Scalar:
    """|z1 − z0|."""
    return jnp.linalg.norm(z1 - z0)


def sphere_metric(z: Float[Array, "2"]) -> Float[Array, "2 2"]:
    """The unit sphere in (colatitude ϑ, longitude φ): diag(1, sin²ϑ)."""
    return jnp.diag(jnp.stack([jnp.ones_like(z[0]), jnp.sin(z[0]) ** 2]))


def sphere_embedding(z: Float[Array, "2"]) -> Float[Array, "3"]:
    """(sin ϑ cos φ, sin ϑ sin φ, cos ϑ)."""
    return jnp.stack([jnp.sin(z[0]) * jnp.cos(z[1]), jnp.sin(z[0]) * jnp.sin(z[1]), jnp.cos(z[0])])


def sphere_distance(z0: Float[Array, "2"], z1: Float[Array, "2"]) -> Scalar:
    """The angle between the two unit vectors, by the half-chord: exact at small angles too."""
    x, y = sphere_embedding(z0), sphere_embedding(z1)
    return 2 * jnp.arctan2(jnp.linalg.norm(x - y), jnp.linalg.norm(x + y))


def sphere_exp(z: Float[Array, "2"], v: Float[Array, "2"]) -> Float[Array, "2"]:
    """x cos|v| + v sin|v|/|v| in the embedding, back in the chart."""
    zero = jnp.zeros_like(z[0])
    east = jnp.stack([-jnp.sin(z[1]), jnp.cos(z[1]), zero])
    south = jnp.stack(
        [jnp.cos(z[0]) * jnp.cos(z[1]), jnp.cos(z[0]) * jnp.sin(z[1]), -jnp.sin(z[0])]
    )
    tangent = v[0] * south + jnp.sin(z[0]) * v[1] * east
    speed = jnp.linalg.norm(tangent)
    x = jnp.cos(speed) * sphere_embedding(z) + jnp.sinc(speed / jnp.pi) * tangent
    return jnp.stack([jnp.arctan2(jnp.hypot(x[0], x[1]), x[2]), jnp.arctan2(x[1], x[0])])


def half_plane_metric(z: Point) -> Float[Array, "d d"]:
    """Poincaré's half-space: I/y², y the last coordinate."""
    return jnp.eye(z.size, dtype=z.dtype) / z[-1] ** 2


def half_plane_distance(z0: Point, z1: Point) -> Scalar:
    """2 arsinh(|z1 − z0| / (2√(y0 y1)))."""
    return 2 * jnp.arcsinh(jnp.linalg.norm(z1 - z0) / (2 * jnp.sqrt(z0[-1] * z1[-1])))


def ball_metric(z: Point) -> Float[Array, "d d"]:
    """Poincaré's ball: 4 I/(1 − |z|²)²."""
    return 4 * jnp.eye(z.size, dtype=z.dtype) / (1 - jnp.dot(z, z)) ** 2


def ball_distance(z0: Point, z1: Point) -> Scalar:
    """2 arsinh(|z1 − z0| / √((1 − |z0|²)(1 − |z1|²)))."""
    conformal = (1 - jnp.dot(z0, z0)) * (1 - jnp.dot(z1, z1))
    return 2 * jnp.arcsinh(jnp.linalg.norm(z1 - z0) / jnp.sqrt(conformal))


def poisson_exp(z: Point, v: Vector) -> Point:
    """(√z + v/(2√z))², a straight line in √z."""
    return (jnp.sqrt(z) + v / (2 * jnp.sqrt(z))) ** 2


def _box(*bounds: tuple[float, float]) -> np.ndarray:
    return np.array(bounds)


def _of_family(
    family: families.Family,
    curvature: float,
    pairs: np.ndarray,
    exp: Callable[[Point, Vector], Point] | None = None,
) -> Problem:
    """The Fisher metric of a family of distributions as a problem."""
    if family.distance is None:
        raise ValueError(f"the distance of {family.name} is not known in closed form.")
    domain = family.domain(pairs.shape[-1])
    return Problem(family.name, family.metric, family.distance, curvature, domain, pairs, exp)


PROBLEMS: tuple[Problem, ...] = (
    Problem(
        "euclidean",
        euclidean_metric,
        euclidean_distance,
        0.0,
        _box((-np.inf, np.inf), (-np.inf, np.inf), (-np.inf, np.inf)),
        np.array([[[0.0, 0, 0], [1, 2, 2]], [[-1, 0.5, 3], [2, 0.25, 1]]]),
        lambda z, v: z + v,
    ),
    Problem(
        "sphere",
        sphere_metric,
        sphere_distance,
        1.0,
        _box((0, np.pi), (-np.inf, np.inf)),
        np.array([[[1.0, 0.0], [1.8, 1.2]], [[0.6, -1.0], [1.2, 1.0]], [[1.5, 0.3], [1.6, 2.5]]]),
        sphere_exp,
    ),
    Problem(
        "half_plane",
        half_plane_metric,
        half_plane_distance,
        -1.0,
        _box((-np.inf, np.inf), (0, np.inf)),
        np.array([[[0.0, 1.0], [1.0, 2.0]], [[-1, 0.5], [1.5, 0.4]], [[0, 0.3], [0, 2.0]]]),
    ),
    Problem(
        "poincare_ball",
        ball_metric,
        ball_distance,
        -1.0,
        _box((-1, 1), (-1, 1)),
        np.array([[[0.5, 0.5], [0.5, -0.5]], [[-0.3, 0.2], [0.6, 0.1]]]),
    ),
    _of_family(
        families.normal,
        -0.5,
        np.array([[[0.0, 1.0], [1.0, 2.0]], [[-2, 1], [2, 0.8]], [[0, 0.2], [0.5, 3]]]),
    ),
    _of_family(
        families.categorical,
        0.25,
        np.array([[[0.0, 0.0], [1.0, -1.0]], [[-1.5, 1.0], [2.0, 0.5]]]),
    ),
    _of_family(
        families.poisson,
        0.0,
        np.array([[[1.0, 2.0], [3.0, 0.5]], [[0.5, 0.5], [4.0, 6.0]]]),
        poisson_exp,
    ),
)
"""Every problem; `pairs` are fixed, so figures over the table are reproducible."""
