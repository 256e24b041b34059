"""The locally adaptive normal distribution of greatest likelihood."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxgeo._linalg import HIGHEST, cholesky, solve_lower
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, as_point, as_points, check_metric
from jaxgeo.distributions.land import Land, PolarNodes, Solver, log_normaliser, polar_nodes
from jaxgeo.geodesics import geodesic_bvp
from jaxgeo.geodesics.solution import first_failure, worst


class LandFit(NamedTuple):
    """A fitted `land`, and how it was found.

    - `log_likelihood`: of all points, with respect to the Riemannian measure. - `result`.
    - `iterations`. - `residual`: the gradient of the mean log likelihood, in units in which the
    law is standard.
    """

    land: Land
    log_likelihood: Scalar
    result: Any
    iterations: Int[Array, ""]
    residual: Scalar


def fit_land(
    metric: Metric,
    points: ArrayLike,
    *,
    start: ArrayLike | None = None,
    solver: Solver | None = None,
    n_radii: int = 24,
    n_angles: int = 32,
    rtol: float | None = None,
    max_iterations: int = 100,
    throw: bool = True,
) -> LandFit:
    r"""The LAND of greatest likelihood: mean and covariance together, by BFGS.

    $$ \max_{\mu, \Sigma} \; -\tfrac1{2}\sum_i\langle v_i, \Sigma^{-1} v_i\rangle
       - n\log C(\mu, \Sigma), \qquad v_i = \log_\mu x_i $$

    In flat space it is the mean and the covariance (over n) of the points. In curved space it is
    neither `frechet_mean` nor the covariance of the logarithms, for C changes with both.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `points`: `(n, d)`, more than d of them, d ≤ 3.
    - `start`: where the mean starts, `(d,)`; at the mean of the coordinates if not given.
    - `solver`: as in `geodesic_bvp`. In curved space the discretisation error of a `Relaxation`
      keeps `residual` from falling below it.
    - `n_radii`, `n_angles`: as in `locally_adaptive_normal`.
    - `rtol`: the greatest `residual` of a fit that has converged; 1e-4 in float64, 2e-3 in float32
      if not given. A likelihood of n points is known to 1/√n in these units.
    - `max_iterations`: of BFGS, refused steps included.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `LandFit`; a local maximum. Not differentiable.

    **Fails:** `ValueError` on shape, dtype and dimension; `not_converged`; what `geodesic_bvp` and
    `locally_adaptive_normal` fail with, at the last mean.

    **Cost:** n boundary-value problems and one normaliser, with their gradients, an iteration;
    typically 8 to 20 of them.

    **Example:**

    >>> from jaxgeo.geodesics import Relaxation
    >>> from jaxgeo.problems import euclidean_metric
    >>> points = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    >>> fit = fit_land(euclidean_metric, points, solver=Relaxation(4, n_starts=1))
    >>> [round(x, 3) for x in jnp.diagonal(fit.land.covariance).tolist()]
    [1.0, 0.25]

    **Reference:** Arvanitidis, Hansen & Hauberg (2016), section 3, with steepest descent.
    """
    rows = as_points(points, "points")
    if rows.shape[0] <= rows.shape[1]:
        raise ValueError(f"`points` must be more than their dimension, got shape {rows.shape}.")
    centre = jnp.mean(rows, axis=0) if start is None else as_point(start, "start", rows[0])
    least = max(1e-4, float(jnp.finfo(rows.dtype).eps) ** 0.4)
    limit = jnp.asarray(least if rtol is None else rtol, rows.dtype)
    nodes = polar_nodes(centre, n_radii, n_angles)
    return _fit(metric, rows, centre, solver, nodes, limit, max_iterations, throw)


@eqx.filter_jit
def _fit(
    metric: Metric,
    points: Float[Array, "n d"],
    start: Point,
    solver: Solver | None,
    nodes: PolarNodes,
    rtol: Scalar,
    max_iterations: int,
    throw: bool,
) -> LandFit:
    check_metric(metric, start)
    n, d = points.shape
    away = points - start[None]
    scale = cholesky(jnp.dot(away.T, away, precision=HIGHEST) / n)
    rows, columns = np.tril_indices(d)

    def law(y: Float[Array, " p"]) -> tuple[Point, Float[Array, "d d"]]:
        """The mean and the factor of Σ: at y = 0 those of the start."""
        shape = jnp.zeros((d, d), y.dtype).at[rows, columns].set(y[d:])
        diagonal = jnp.diagonal(shape)
        shape = shape + jnp.diag(jnp.exp(diagonal) - diagonal)
        step, factor = (jnp.dot(scale, x, precision=HIGHEST) for x in (y[:d], shape))
        return start + step, factor

    @jax.jit  # so that it is traced once, as often as the solver asks
    def loss(y: Float[Array, " p"], _: Any) -> tuple[Scalar, tuple[Scalar, Any]]:
        """Minus the mean log likelihood."""
        mean, factor = law(y)

        def one(point: Point) -> tuple[Scalar, Any]:
            solution = geodesic_bvp(metric, mean, point, solver=solver, throw=False)
            white = solve_lower(factor, solution.velocities[0])
            return jnp.dot(white, white, precision=HIGHEST) / 2, solution.result

        squares, results = jax.vmap(one)(points)
        log_c, result = log_normaliser(metric, mean, factor, nodes)
        result = first_failure(worst(results), result)
        value = jnp.mean(squares) + log_c
        # no step goes where a logarithm fails
        return jnp.where(result == RESULTS.successful, value, jnp.inf), (log_c, result)

    found: Any = optimistix.minimise(
        loss,
        optimistix.BFGS(rtol=rtol / 10, atol=rtol / 10),  # type: ignore[arg-type]
        jnp.zeros(d + rows.size, points.dtype),
        # in reverse mode geodesics that leave the chart where nothing counts would spoil all
        options={"autodiff_mode": "fwd"},
        has_aux=True,
        max_steps=max_iterations,
        throw=False,
    )
    mean, factor = law(found.value)
    log_c, result = found.aux
    residual = jnp.max(jnp.abs(found.state.f_info.grad))
    converged = RESULTS.where(residual <= rtol, RESULTS.successful, RESULTS.not_converged)
    result = first_failure(result, converged)
    covariance = jnp.dot(factor, factor.T, precision=HIGHEST)
    fit = LandFit(
        land=Land(mean, covariance, log_c, result),
        log_likelihood=-n * found.state.f_info.f,
        result=result,
        iterations=found.stats["num_steps"],
        residual=residual,
    )
    return result.error_if(fit, result != RESULTS.successful) if throw else fit
