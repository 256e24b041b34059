"""Brownian motion of a metric: its paths, and the density of its end for short times."""

import functools
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxgeo._linalg import cholesky
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Scalar, as_count, as_number, as_point, check_metric
from jaxgeo.distributions.rays import endpoint
from jaxgeo.geodesics import Relaxation, Shooting, geodesic_bvp
from jaxgeo.geodesics.flows import flow, geodesic_field
from jaxgeo.geodesics.solution import (
    as_domain,
    check_inside,
    drift_result,
    first_failure,
    is_outside,
    metric_result,
)
from jaxgeo.geometry import geodesic_acceleration, inner, log_volume_density

Measure = Literal["riemannian", "lebesgue"]
"""What a density is with respect to: √det g dz, which no chart changes, or dz of the chart."""


class BrownianPath(NamedTuple):
    """A path of Brownian motion: `ts` `(n + 1,)`, `points` `(n + 1, d)`, `result`.

    Points after a failure are NaN.
    """

    ts: Float[Array, " n"]
    points: Float[Array, "n d"]
    result: Any


def brownian_motion(
    metric: Metric,
    z0: ArrayLike,
    *,
    time: ArrayLike,
    n_steps: int,
    key: PRNGKeyArray,
    domain: ArrayLike | None = None,
    throw: bool = True,
) -> BrownianPath:
    r"""A path of Brownian motion, whose generator is half the Laplace–Beltrami operator.

    $$ dX^k = -\tfrac12 g^{ij}\Gamma^k{}_{ij}\,dt + (L^{-\top} dW)^k, \qquad g = L L^\top $$

    A geodesic random walk: every step of duration h is the geodesic, by one Runge–Kutta step of
    order 4, of the normal velocity √h L⁻ᵀξ. Of weak order 1, in flat space exact whatever the
    chart: the mean of f is off by t h/12 · div(Ric ∇f). It does not stumble over the edge of a
    chart whose metric is complete, as Euler's method does where g⁻¹ grows. Where paths come near a
    singularity of the chart, as the poles of spherical coordinates, the bias falls more slowly.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `z0`: start, `(d,)`.
    - `time`: t > 0; in flat space the end has the covariance t g⁻¹.
    - `n_steps`: of equal duration; halve them to see their error.
    - `key`. Many paths: `jax.vmap` over keys, with `throw=False` where a few may fail.
    - `domain`: `(d, 2)` bounds of the box in which the metric is known.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `BrownianPath`. Differentiable in `z0`, `time` and the metric, the noise fixed.

    **Fails:** `ValueError` on shape, dtype, bounds and settings. `left_domain`, also of a single
    step across a chart's edge, which shorter steps make rarer; `metric_not_positive_definite`,
    `nonfinite`. To leave out the paths that left is to condition the law on staying.

    **Cost:** a metric and four `geodesic_acceleration`s a step. Compiles once per shape, `n_steps`
    and structure of `metric`.

    **Example:** far from any boundary, coordinates of the plane have variance t.

    >>> from jaxgeo.problems import euclidean_metric
    >>> keys = jax.random.split(jax.random.key(0), 10000)
    >>> walk = lambda key: brownian_motion(
    ...     euclidean_metric, jnp.zeros(2), time=4.0, n_steps=2, key=key)
    >>> round(jnp.std(jax.vmap(walk)(keys).points[:, -1]).item(), 1)
    2.0

    **Reference:** Hsu (2002), *Stochastic Analysis on Manifolds*, ch. 3; Jørgensen (1975),
    *Z. Wahrscheinlichkeitstheorie* 32, 1, for the walk. The prior of Kalatzis, Eklund, Arvanitidis
    & Hauberg (2020); the sampler published with it leaves out the drift: another generator.
    """
    z0 = as_point(z0, "z0")
    bounds = as_domain(domain, z0)
    check_inside(z0, "z0", bounds)
    duration = as_time(time, z0)
    n_steps = as_count(n_steps, "n_steps")
    return _walk(metric, z0, duration, n_steps, key, bounds, throw)


def as_time(time: ArrayLike, z: Array) -> Scalar:
    """`time` as one number of the dtype of `z`; `ValueError` unless it is positive and finite."""
    number = as_number(time, "time", z.dtype)
    if not isinstance(number, jax.core.Tracer):
        value = float(number)
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"`time` must be positive and finite, got {time}.")
    return jnp.asarray(time, z.dtype)


@eqx.filter_jit
def _walk(
    metric: Metric,
    z0: Array,
    duration: Array,
    n: int,
    key: Array,
    domain: Array | None,
    throw: bool,
) -> BrownianPath:
    check_metric(metric, z0)
    h = duration / n
    field = functools.partial(geodesic_field, functools.partial(geodesic_acceleration, metric))
    noise = jax.random.normal(key, (n, z0.size), z0.dtype)

    def judge(z: Array, g: Array, factor: Array) -> Any:
        """How a point is: most telling first."""
        finite = RESULTS.where(jnp.all(jnp.isfinite(z)), RESULTS.successful, RESULTS.nonfinite)
        if domain is None:
            return first_failure(finite, metric_result(g, factor))
        left = RESULTS.where(is_outside(z, domain), RESULTS.left_domain, RESULTS.successful)
        return first_failure(finite, left, metric_result(g, factor))

    def step(carry: tuple[Array, Any], xi: Array) -> tuple[tuple[Array, Any], Array]:
        z, result = carry
        g = metric(z)
        factor = cholesky(g)
        result = first_failure(result, judge(z, g, factor))
        well = result == RESULTS.successful
        v = jnp.sqrt(h) * jax.scipy.linalg.solve_triangular(factor.T, xi)
        following = flow(field, jnp.concatenate([z, v]), 1.0, order=4)[: z.size]
        here = jnp.where(well, z, jnp.nan)
        # a path that has ended stays where it was, and asks no more of the metric
        return (jnp.where(well, following, z), result), here

    (z, result), points = jax.lax.scan(step, (z0, RESULTS.successful), noise)
    g = metric(z)
    result = first_failure(result, judge(z, g, cholesky(g)))
    last = jnp.where(result == RESULTS.successful, z, jnp.nan)
    ts = jnp.linspace(0, duration, n + 1, dtype=z0.dtype)
    path = BrownianPath(ts, jnp.concatenate([points, last[None]]), result)
    return result.error_if(path, result != RESULTS.successful) if throw else path


def brownian_log_density(
    metric: Metric,
    z0: ArrayLike,
    z: ArrayLike,
    *,
    time: ArrayLike,
    measure: Measure = "riemannian",
    solver: Shooting | Relaxation | None = None,
    throw: bool = True,
) -> Scalar:
    r"""The log density of Brownian motion at `z` after a short time: the heat kernel's first term.

    $$ \log p_t(z_0, z) = -\tfrac d2\log 2\pi t - \frac{d(z_0, z)^2}{2t}
       - \tfrac12\log\Theta(z_0, z) + O(t), \qquad
       \Theta = \sqrt{\frac{\det g(z)}{\det g(z_0)}}\;\bigl|\det D\exp_{z_0}\bigr| $$

    with respect to the Riemannian measure √det g(z) dz; with `measure="lebesgue"` ½ log det g(z)
    is added, for a prior beside densities of latent coordinates. Exact in flat space, whatever the
    chart; the next factor is 1 + t R/12 near the start, R the scalar curvature there, so that it
    is not quite normalised: on the unit sphere it lacks t/6.

    Kalatzis et al. (2020) have ½ log det g(z) − ½ log det g(z0) in place of −½ log Θ: no chart
    leaves that the same, and where g is constant but not 1 it is no density of either measure.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `z0`, `z`: start and end, `(d,)`.
    - `time`: t > 0, small against the squared scale of the curvature and of the distance at which
      geodesics meet again.
    - `measure`: "riemannian" or "lebesgue".
    - `solver`: as in `geodesic_bvp`.
    - `throw`: raise on failure; otherwise a failure gives NaN.

    **Returns:** a number. Differentiable in both points, `time` and the metric's parameters.

    **Fails:** `ValueError` on shape, dtype, time and measure; as `geodesic_bvp`: beyond a
    conjugate point the formula has no sense, before it and past the cut locus it is one of several
    terms.

    **Cost:** one boundary-value problem, and d Jacobi fields by 32 steps of order 8.

    **Example:** on the sphere at distance r, Θ is sin r / r.

    >>> from jaxgeo.problems import sphere_metric
    >>> a, b = jnp.array([1.0, 0.0]), jnp.array([1.5, 0.0])
    >>> round(brownian_log_density(sphere_metric, a, b, time=0.1).item(), 4)
    -0.7643

    **Reference:** Berger, Gauduchon & Mazet (1971), ch. 3.E; Hsu (2002), thm. 5.1.1.
    """
    z0 = as_point(z0, "z0")
    z = as_point(z, "z", z0)
    duration = as_time(time, z0)
    check_measure(measure)
    density = _log_density(metric, z0, z, duration, solver, throw)
    return density + log_volume_density(metric, z) if measure == "lebesgue" else density


def check_measure(measure: str) -> None:
    if measure not in get_args(Measure):
        raise ValueError(f"`measure` must be one of {get_args(Measure)}, got {measure!r}.")


@eqx.filter_jit
def _log_density(
    metric: Metric,
    z0: Array,
    z: Array,
    time: Array,
    solver: Shooting | Relaxation | None,
    throw: bool,
) -> Scalar:
    solution = geodesic_bvp(metric, z0, z, solver=solver, throw=False)
    v = solution.velocities[0]
    _, spread, drift = endpoint(metric, z0, v)
    result = first_failure(solution.result, drift_result(drift))
    log_theta = spread - log_volume_density(metric, z0)
    density = (
        -(z.size * jnp.log(2 * jnp.pi * time) + inner(metric, z0, v, v) / time + log_theta) / 2
    )
    if throw:
        return result.error_if(density, result != RESULTS.successful)
    return jnp.where(result == RESULTS.successful, density, jnp.nan)
