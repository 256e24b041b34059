"""The locally adaptive normal distribution (LAND): a normal law of the logarithms about a mean."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxgeo._linalg import HIGHEST, cholesky, solve_lower
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, as_count, as_point, check_metric
from jaxgeo.distributions.brownian import Measure, check_measure
from jaxgeo.distributions.rays import Ray, endpoint, ray
from jaxgeo.geodesics import Relaxation, Shooting, geodesic_bvp
from jaxgeo.geodesics.solution import drift_result, first_failure, metric_result
from jaxgeo.geometry import log_volume_density

Solver = Shooting | Relaxation

REACH = 7.0
"""Standard deviations to which the normaliser is integrated: e^(−24.5) is left out."""

SUBSTEPS = 3
"""Runge–Kutta steps from one radius to the next."""

WIDER = 1.25
"""Standard deviation of proposals, in units of the law's: its tails may be as much heavier."""

SLACK = 1.1
"""How much the volume may exceed, between the nodes of the quadrature, its greatest at them."""

MAX_ROUNDS = 100
"""Of as many proposals as there are samples to be drawn."""


class Land(NamedTuple):
    """A locally adaptive normal distribution.

    - `mean`: μ, `(d,)`. - `covariance`: Σ, `(d, d)`, of tangent vectors at μ in the chart.
    - `log_normaliser`: log C. - `result`: a `RESULTS` member.
    """

    mean: Point
    covariance: Float[Array, "d d"]
    log_normaliser: Scalar
    result: Any


def locally_adaptive_normal(
    metric: Metric,
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    n_radii: int = 24,
    n_angles: int = 32,
    throw: bool = True,
) -> Land:
    r"""The locally adaptive normal distribution with given mean and covariance, normalised.

    $$ \rho(z) = \frac1C \exp\bigl(-\tfrac12 \langle v, \Sigma^{-1} v\rangle\bigr), \quad
       v = \log_\mu z, \qquad
       C = \int e^{-\frac12\langle v, \Sigma^{-1}v\rangle}
           \sqrt{\det g(\exp_\mu v)}\;\bigl|\det D\exp_\mu(v)\bigr|\,dv $$

    a density with respect to the Riemannian measure √det g(z) dz. The factor |det D exp|, by which
    dv becomes dz, is what Arvanitidis, Hansen & Hauberg (2016) leave out; with it ρ integrates to
    one, and without it only where the space is flat.

    By Gauss–Legendre quadrature along geodesics that leave μ evenly spread, in units of Σ. Along
    each the integral ends at the first conjugate point. A cut locus before that is not seen: what
    lies beyond it counts twice. So Σ has to be small against the injectivity radius, or the two
    have to be the same, as on a sphere.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `mean`: μ, `(d,)` with d ≤ 3.
    - `covariance`: Σ, `(d, d)`; s² g(μ)⁻¹ is the isotropic one.
    - `n_radii`, `n_angles`: of the quadrature; for d = 3, `n_angles` × `n_angles`/2 directions.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `Land`. Differentiable in `mean`, `covariance` and the metric's parameters; in
    reverse mode only if no geodesic leaves the chart, be it beyond its conjugate point.

    **Fails:** `ValueError` on shape, dtype and dimension. `metric_not_positive_definite` (also of
    the covariance), `nonfinite`, `not_resolved` if the geodesics' speed drifts where it matters.

    **Cost:** 3 `n_radii` Runge–Kutta steps of order 8 along every direction, and d Jacobi fields.

    **Example:** a flat metric has the constant of an ordinary normal law, here 2π.

    >>> from jaxgeo.problems import euclidean_metric
    >>> land = locally_adaptive_normal(euclidean_metric, jnp.zeros(2), jnp.eye(2))
    >>> round(jnp.exp(land.log_normaliser).item(), 4)
    6.2832

    **Reference:** Arvanitidis, Hansen & Hauberg (2016), *NeurIPS*; Fröhlich et al. (2021), *ICML*;
    Pennec (2006), *J. Math. Imaging Vis.* 25, 127, for the law and its measure.
    """
    centre = as_point(mean, "mean")
    matrix = _as_covariance(covariance, centre)
    return _normalise(metric, centre, matrix, polar_nodes(centre, n_radii, n_angles), throw)


def land_log_density(
    metric: Metric,
    land: Land,
    z: ArrayLike,
    *,
    measure: Measure = "riemannian",
    solver: Solver | None = None,
    throw: bool = True,
) -> Scalar:
    r"""The log density of a LAND at a point, −½⟨v, Σ⁻¹v⟩ − log C with v = log z at the mean.

    **Arguments:** `metric`; `land`; `z`, a point `(d,)`; `measure`: "riemannian", or "lebesgue",
    which adds ½ log det g(z); `solver` as in `geodesic_bvp`; `throw`: raise on failure, otherwise
    NaN.

    **Returns:** a number. Differentiable in `land`, `z` and the metric's parameters.

    **Fails, cost:** as `geodesic_bvp`.

    **Example:**

    >>> from jaxgeo.problems import euclidean_metric
    >>> land = locally_adaptive_normal(euclidean_metric, jnp.zeros(2), jnp.eye(2))
    >>> round(land_log_density(euclidean_metric, land, jnp.array([1.0, 0.0])).item(), 4)
    -2.3379
    """
    point = as_point(z, "z", land.mean)
    check_measure(measure)
    solution = geodesic_bvp(metric, land.mean, point, solver=solver, throw=throw)
    white = solve_lower(cholesky(land.covariance), solution.velocities[0])
    density = -jnp.dot(white, white, precision=HIGHEST) / 2 - land.log_normaliser
    if measure == "lebesgue":
        density = density + log_volume_density(metric, point)
    return jnp.where(solution.result == RESULTS.successful, density, jnp.nan)


def sample_land(
    metric: Metric,
    land: Land,
    n: int,
    *,
    key: PRNGKeyArray,
    n_radii: int = 24,
    n_angles: int = 32,
    throw: bool = True,
) -> Float[Array, "n d"]:
    r"""Independent points from a LAND, by rejection: exp at the mean of tangent vectors.

    Proposals are normal, 1¼ times as wide as Σ; their bound is the greatest ratio at the nodes of
    the normaliser's quadrature, and a tenth.

    **Arguments:** `metric`; `land`; `n` points; `key`; `n_radii`, `n_angles` as in
    `locally_adaptive_normal`; `throw`: raise on failure, otherwise failed points are NaN.

    **Returns:** `(n, d)`.

    **Fails:** `ValueError` on `n`. `not_resolved` if the bound is exceeded or the speed of an
    accepted point's geodesic drifts; `not_converged` if 99 of 100 proposals are refused.

    **Cost:** 32 Runge–Kutta steps of order 8 with d Jacobi fields a proposal, n of them at a time:
    two or three rounds if the space is nearly flat.

    **Example:** from the median of a normal law.

    >>> from jaxgeo.problems import euclidean_metric
    >>> land = locally_adaptive_normal(euclidean_metric, jnp.zeros(2), jnp.eye(2))
    >>> points = sample_land(euclidean_metric, land, 2000, key=jax.random.key(0))
    >>> bool(abs(jnp.median(jnp.sum(points**2, axis=1)) - 2 * jnp.log(2.0)) < 0.1)
    True
    """
    n = as_count(n, "n")
    return _sample(metric, land, n, key, polar_nodes(land.mean, n_radii, n_angles), throw)


class PolarNodes(NamedTuple):
    """Polar quadrature: ∫f(u) e^(−|u|²/2) du is Σ weights · f(radius · direction)."""

    radii: Float[Array, " k"]
    directions: Float[Array, "m d"]
    log_weights: Float[Array, "m k"]


def polar_nodes(like: Point, n_radii: int, n_angles: int) -> PolarNodes:
    for name, count in (("n_radii", n_radii), ("n_angles", n_angles)):
        as_count(count, name, 4)
    d = like.size
    turns = 2 * np.pi * (np.arange(n_angles) + 0.5) / n_angles
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if d == 1:
        directions, areas = np.array([[1.0], [-1.0]]), np.ones(2)
    elif d == 2:
        directions, areas = circle, np.full(n_angles, 2 * np.pi / n_angles)
    elif d == 3:
        heights, widths = np.polynomial.legendre.leggauss(-(-n_angles // 2))
        rings = np.sqrt(1 - heights**2)[:, None, None] * circle[None]
        tops = np.broadcast_to(heights[:, None, None], (heights.size, n_angles, 1))
        directions = np.concatenate([rings, tops], axis=-1).reshape(-1, 3)
        areas = np.repeat(widths, n_angles) * 2 * np.pi / n_angles
    else:
        raise ValueError(f"`mean` must have 1 to 3 coordinates, got {d}.")
    x, w = np.polynomial.legendre.leggauss(n_radii)
    radii, steps = REACH * (x + 1) / 2, REACH * w / 2
    along = np.log(steps) + (d - 1) * np.log(radii) - radii**2 / 2
    log_weights = np.log(areas)[:, None] + along[None]
    return PolarNodes(*(jnp.asarray(y, like.dtype) for y in (radii, directions, log_weights)))


def _as_covariance(covariance: ArrayLike, like: Point) -> Float[Array, "d d"]:
    d = like.size
    if np.shape(covariance) != (d, d):
        raise ValueError(f"`covariance` must have shape ({d}, {d}), got {np.shape(covariance)}.")
    if not isinstance(covariance, jax.core.Tracer):
        values = np.asarray(covariance)
        if not np.allclose(values, values.T, rtol=1e-5, atol=0):
            raise ValueError(f"`covariance` must be symmetric, got {values}.")
    return jnp.asarray(covariance, like.dtype)


def _rays(metric: Metric, mean: Point, factor: Float[Array, "d d"], nodes: PolarNodes) -> Ray:
    """Along all directions, in units of Σ = `factor` · `factor`ᵀ."""
    velocities = jnp.dot(nodes.directions, factor.T, precision=HIGHEST)
    return jax.vmap(lambda v: ray(metric, mean, v, nodes.radii, SUBSTEPS))(velocities)


def log_normaliser(
    metric: Metric, mean: Point, factor: Float[Array, "d d"], nodes: PolarNodes
) -> tuple[Scalar, Any]:
    """log C, and whether it can be believed."""
    rays = _rays(metric, mean, factor, nodes)
    terms = nodes.log_weights + rays.log_volume
    total = jax.scipy.special.logsumexp(terms)
    log_c = total + jnp.sum(jnp.log(jnp.diagonal(factor)))
    # what drifts where there is no mass does no harm
    shares = jnp.exp(jax.lax.stop_gradient(terms - total))
    drift = jnp.sum(jnp.where(shares > 0, shares * rays.drift, 0))
    counts = (shares > 0)[..., None] | ~jnp.isfinite(log_c)
    judged = jnp.where(counts, rays.points, mean[None, None])
    g = jax.lax.stop_gradient(jax.vmap(jax.vmap(metric))(judged))
    finite = RESULTS.where(jnp.isfinite(log_c), RESULTS.successful, RESULTS.nonfinite)
    return log_c, first_failure(
        metric_result(metric(mean)), metric_result(g), finite, drift_result(drift)
    )


@eqx.filter_jit
def _normalise(
    metric: Metric, mean: Array, covariance: Array, nodes: PolarNodes, throw: bool
) -> Land:
    check_metric(metric, mean)
    factor = cholesky(covariance)
    log_c, result = log_normaliser(metric, mean, factor, nodes)
    result = first_failure(metric_result(covariance, factor), result)
    land = Land(mean, covariance, log_c, result)
    return result.error_if(land, result != RESULTS.successful) if throw else land


@eqx.filter_jit
def _sample(
    metric: Metric, land: Land, n: int, key: Array, nodes: PolarNodes, throw: bool
) -> Float[Array, "n d"]:
    d = land.mean.size
    factor = cholesky(land.covariance)
    lighter = (1 - 1 / WIDER**2) / 2  # of |u|², what the proposals' tails have too much
    rays = _rays(metric, land.mean, factor, nodes)
    at_nodes = jnp.max(rays.log_volume - lighter * nodes.radii[None, :] ** 2)
    bound = jnp.log(SLACK) + jnp.maximum(at_nodes, log_volume_density(metric, land.mean))
    reach = jax.vmap(functools.partial(endpoint, metric, land.mean))

    def body(state: tuple) -> tuple:
        points, drift, found, exceeded, key, rounds = state
        key, draw, accept = jax.random.split(key, 3)
        u = WIDER * jax.random.normal(draw, (n, d), points.dtype)
        ends, volumes, drifts = reach(jnp.dot(u, factor.T, precision=HIGHEST))
        log_ratio = volumes - lighter * jnp.sum(u**2, axis=1) - bound
        chosen = jnp.log(jax.random.uniform(accept, (n,), points.dtype)) < log_ratio
        # the accepted in their order; the refused, and those too many, to a place that is none
        places = jnp.where(chosen, found + jnp.cumsum(chosen) - 1, n)
        return (
            points.at[places].set(ends, mode="drop"),
            drift.at[places].set(drifts, mode="drop"),
            found + jnp.sum(chosen),
            exceeded | jnp.any(log_ratio > 0),
            key,
            rounds + 1,
        )

    nothing = jnp.full((n, d), jnp.nan, land.mean.dtype)
    none = jnp.zeros((), int)
    start = nothing, jnp.zeros(n, nothing.dtype), none, jnp.zeros((), bool), key, none
    points, drift, found, exceeded, _, _ = jax.lax.while_loop(
        lambda state: (state[2] < n) & (state[-1] < MAX_ROUNDS), body, start
    )
    result = first_failure(
        metric_result(metric(land.mean)),
        metric_result(land.covariance, factor),
        RESULTS.where(found >= n, RESULTS.successful, RESULTS.not_converged),
        RESULTS.where(exceeded, RESULTS.not_resolved, drift_result(jnp.max(drift))),
    )
    if throw:
        return result.error_if(points, result != RESULTS.successful)
    return jnp.where(result == RESULTS.successful, points, jnp.nan)
