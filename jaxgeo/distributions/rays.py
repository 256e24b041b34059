"""Geodesics that leave one point, and the volume of the exponential map along them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, negative_eigenvalues
from jaxgeo._typing import Metric, Point, Vector
from jaxgeo.geodesics.flows import flow, geodesic_field
from jaxgeo.geometry import geodesic_acceleration, inner, log_volume_density


class Ray(NamedTuple):
    """What a geodesic meets at `k` radii.

    - `points`: `(k, d)`. - `log_volume`: log of √det g |det D exp|, the Riemannian volume at the
    point for each unit of dv at the start; −∞ from the first conjugate point on. - `drift`: by how
    much the square of the speed departs from that at the start, relatively.
    """

    points: Float[Array, "k d"]
    log_volume: Float[Array, " k"]
    drift: Float[Array, " k"]


def ray(metric: Metric, z: Point, v: Vector, radii: Float[Array, " k"], substeps: int) -> Ray:
    """The geodesic exp(z, r v) at increasing radii r > 0, by `substeps` steps of order 8 to each.

    Conjugate points are seen as in `conjugate_time`: the radii are to be close enough that no two
    lie between neighbours.
    """
    d = z.size
    acceleration = functools.partial(geodesic_acceleration, metric)
    field = functools.partial(geodesic_field, acceleration)

    def curve(v: Vector) -> tuple[Array, Array]:
        def advance(x: Array, duration: Array) -> tuple[Array, Array]:
            def step(x: Array, _: None) -> tuple[Array, None]:
                return flow(field, x, duration / substeps), None

            x, _ = jax.lax.scan(step, x, None, length=substeps)
            return x, x

        durations = jnp.diff(radii, prepend=jnp.zeros(1, radii.dtype))
        x = jax.lax.scan(advance, jnp.concatenate([z, v]), durations)[1]
        return x, x

    spread, x = jax.jacfwd(curve, has_aux=True)(v)
    squares = jax.vmap(lambda x: inner(metric, x[:d], x[d:], x[d:]))(x)
    start = inner(metric, z, v, v)

    def index(x: Array, fields: Float[Array, "two_d d"]) -> Array:
        point, velocity = jnp.split(x, 2)
        values, rates = jnp.split(fields, 2)

        def turn(j: Vector) -> Vector:
            return jax.jvp(lambda u: acceleration(point, u), (velocity,), (j,))[1] / 2

        derivatives = rates - jax.vmap(turn, 1, 1)(values)
        product = jnp.dot(
            values.T, jnp.dot(metric(point), derivatives, precision=HIGHEST), precision=HIGHEST
        )
        return negative_eigenvalues(product + product.T)

    counts = jax.vmap(index)(*jax.lax.stop_gradient((x, spread)))
    passed = jnp.cumsum(jnp.diff(counts, prepend=jnp.zeros(1, counts.dtype)) < 0) > 0
    # exp(r v) is differentiated in r v
    jacobians = spread[:, :d] / radii[:, None, None]
    # beyond a conjugate point there may be no volume to take a logarithm of
    safe = jnp.where(passed[:, None, None], jnp.eye(d, dtype=z.dtype)[None], jacobians)
    logdets = jnp.linalg.slogdet(safe)[1]
    volumes = jax.vmap(functools.partial(log_volume_density, metric))(x[:, :d])
    return Ray(
        points=x[:, :d],
        log_volume=jnp.where(passed, -jnp.inf, volumes + logdets),
        drift=jnp.abs(squares - start) / jnp.where(start == 0, 1, start),
    )


def endpoint(metric: Metric, z: Point, v: Vector) -> tuple[Point, Array, Array]:
    """exp(z, v), the logarithm of its volume, and the drift of the speed."""
    radii = jnp.linspace(0, 1, 9, dtype=z.dtype)[1:]
    found = ray(metric, z, v, radii, 4)
    return found.points[-1], found.log_volume[-1], found.drift[-1]
