"""Samples of laws that are given by a metric's volume."""

from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.base import get_filter_adapt_info_fn
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, as_count, as_points, check_metric
from jaxgeo.geodesics.solution import as_domain, check_inside, first_failure, metric_result
from jaxgeo.geometry import log_volume_density

MAX_RHAT = 1.05
"""Chains whose split R-hat exceeds it have not been seen to sample one law."""

EDGE = 1e-6
"""How near the edge of the box a chain may start, as a share of its width."""


class VolumeSamples(NamedTuple):
    """Draws of several chains, and whether they can be believed.

    - `points`: `(chains, draws, d)`.
    - `acceptance`: `(chains,)`, the mean acceptance probability; 0.8 is aimed at.
    - `divergent`: `(chains, draws)`, where the integrator lost the energy, or met a point without
      a metric; those points are drawn too seldom.
    - `rhat`: `(d,)`, split R-hat of the coordinates; 1 if all halves of all chains agree.
    - `effective_size`: `(d,)`, independent draws that would know the mean as well.
    - `result`: a `RESULTS` member.
    """

    points: Float[Array, "chains draws d"]
    acceptance: Float[Array, " chains"]
    divergent: Bool[Array, "chains draws"]
    rhat: Float[Array, " d"]
    effective_size: Float[Array, " d"]
    result: Any


def sample_volume(
    metric: Metric,
    *,
    power: ArrayLike,
    key: PRNGKeyArray,
    domain: ArrayLike | None = None,
    log_prior: Callable[[Point], Scalar] | None = None,
    starts: ArrayLike | None = None,
    n_chains: int = 8,
    n_draws: int = 500,
    n_warmup: int = 500,
    max_rhat: float = MAX_RHAT,
    throw: bool = True,
) -> VolumeSamples:
    r"""Points drawn with a density that is a power of the volume density.

    $$ p(z)\,dz \propto \det g(z)^{s/2}\,\pi(z)\,dz
       = \det g(z)^{(s - 1)/2}\,\pi(z)\,d\mathrm{vol}, \qquad z \in \text{domain} $$

    with s = `power` and dz the chart's own measure. s = 1 is the Riemannian uniform law: equal
    chances for equal volumes, whatever the chart (Chadebec & Allassonnière 2022, whose metric is
    large where the data are). s = −1 has the density √det g⁻¹ in the chart, 1/det g with respect
    to the volume, and keeps to where the metric is small: near the data, for the metric of the
    RHVAE (Chadebec, Mantoux & Allassonnière 2020); it depends on the chart. s = 0 is π alone.

    By the No-U-Turn sampler in logits of the box, each chain with a step size and a diagonal mass
    of its own. On a plane a grid and `jax.random.choice` may do as well.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `power`: s.
    - `key`.
    - `domain`: `(d, 2)` finite bounds; on all of space these laws are seldom of finite mass. May
      be left out only where `log_prior` and `starts` are given, and it is then for the prior to
      make the law proper.
    - `log_prior`: log π, point `(d,)` to a number, up to a constant; flat if not given.
    - `starts`: `(n, d)` inside the domain, say encoded data: each chain starts from one of them,
      drawn without replacement as far as they reach. Uniform over the domain if not given.
    - `n_chains` ≥ 1, `n_draws` ≥ 4 of each after `n_warmup` ≥ 20 that are not kept.
    - `max_rhat`: the greatest R-hat of chains that have converged.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `VolumeSamples`. Where the law has several modes a chain may never leave its own:
    give many chains from many starts, and read `rhat`. Chains started at the data weigh the modes
    as the data do, not as the law does, unless they mix.

    **Fails:** `ValueError` on shape, dtype, bounds and settings. `metric_not_positive_definite` or
    `nonfinite` if the metric is so where a chain starts, `nonfinite` also of the prior there;
    `not_converged` if `rhat` exceeds `max_rhat` or is NaN. `divergent` is for the reader.

    **Cost:** typically 3 to 15 metrics and their gradients a draw and chain, side by side for all
    chains, which wait for the one with most to do. Compiles once per shape and structure.

    **Example:** on 1 < y < 4 the half-plane's uniform law has the median 8/5 in y, not 5/2.

    >>> from jaxgeo.problems import half_plane_metric
    >>> box = jnp.array([[0.0, 1.0], [1.0, 4.0]])
    >>> drawn = sample_volume(half_plane_metric, power=1, domain=box, key=jax.random.key(0))
    >>> round(jnp.median(drawn.points[..., 1]).item(), 1)
    1.6

    **Reference:** Chadebec & Allassonnière (2022), *NeurIPS*, section 4; Hoffman & Gelman (2014);
    R-hat and effective size: Gelman et al. (2013), *Bayesian Data Analysis*, ch. 11.
    """
    for name, count, least in (
        ("n_chains", n_chains, 1),
        ("n_draws", n_draws, 4),
        ("n_warmup", n_warmup, 20),
    ):
        as_count(count, name, least)
    choose, run = jax.random.split(key)
    begin, bounds = _begin(domain, log_prior, starts, n_chains, choose)
    exponent, limit = (jnp.asarray(x, begin.dtype) for x in (power, max_rhat))
    if exponent.ndim != 0:
        raise ValueError(f"`power` must be one number, got shape {exponent.shape}.")
    keys = jax.random.split(run, n_chains)
    sizes = (n_warmup, n_draws)
    return _sample(metric, log_prior, exponent, begin, keys, bounds, sizes, limit, throw)


def _begin(
    domain: ArrayLike | None,
    log_prior: Callable[[Point], Scalar] | None,
    starts: ArrayLike | None,
    n: int,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "n d"], Float[Array, "d 2"] | None]:
    """Where the chains start, and the bounds."""
    if starts is None:
        if domain is None:
            raise ValueError(
                "`domain` must be given, or both `log_prior` and `starts`: got none of "
                f"`domain` and `starts`, `log_prior` {log_prior}."
            )
        bounds = _as_box(domain)
        shares = jax.random.uniform(key, (n, len(bounds)), bounds.dtype)
        lower, upper = bounds.T
        return lower[None] + shares * (upper - lower)[None], bounds
    rows = as_points(starts, "starts")
    if domain is None:
        if log_prior is None:
            raise ValueError("`domain` or `log_prior` must be given, got None and None.")
        box = None
    else:
        box = _as_box(domain, rows[0])
        for i, row in enumerate(rows):
            check_inside(row, f"starts[{i}]", box)
    places = jnp.tile(jax.random.permutation(key, len(rows)), -(-n // len(rows)))
    return rows[places[:n]], box


def _as_box(domain: ArrayLike, like: Array | None = None) -> Float[Array, "d 2"]:
    """Bounds that are finite; `ValueError` if they are not."""
    box = jnp.asarray(domain)
    if not jnp.issubdtype(box.dtype, jnp.floating):
        box = box.astype(float)
    if box.ndim != 2:
        raise ValueError(f"`domain` must have shape (d, 2), got {box.shape}.")
    bounds = as_domain(box, box[:, 0] if like is None else like)
    if not isinstance(box, jax.core.Tracer) and not np.all(np.isfinite(box)):
        raise ValueError(f"`domain` must be finite, got {box}.")
    assert bounds is not None
    return bounds


def _to_box(u: Float[Array, " d"], box: Array | None) -> tuple[Point, Scalar]:
    """The point at the logits `u` of its place in the box, and the log of dz/du."""
    if box is None:
        return u, jnp.zeros((), u.dtype)
    width = box[:, 1] - box[:, 0]
    slopes = jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u) + jnp.log(width)
    return box[:, 0] + width * jax.nn.sigmoid(u), jnp.sum(slopes)


def _from_box(z: Point, box: Array | None) -> Float[Array, " d"]:
    """The logits of a point; one on the edge is moved inside."""
    if box is None:
        return z
    share = (z - box[:, 0]) / (box[:, 1] - box[:, 0])
    return jax.scipy.special.logit(jnp.clip(share, EDGE, 1 - EDGE))


@eqx.filter_jit
def _sample(
    metric: Metric,
    log_prior: Callable[[Point], Scalar] | None,
    power: Scalar,
    starts: Float[Array, "n d"],
    keys: Array,
    box: Array | None,
    sizes: tuple[int, int],
    max_rhat: Scalar,
    throw: bool,
) -> VolumeSamples:
    check_metric(metric, starts[0])
    n_warmup, n_draws = sizes
    # blackjax wants the widest floats that are enabled
    wide = jnp.promote_types(starts.dtype, jnp.result_type(float))

    def place(u: Float[Array, " d"]) -> Point:
        return _to_box(u, box)[0].astype(starts.dtype)

    def log_density(u: Float[Array, " d"]) -> Scalar:
        z = place(u)
        prior = 0 if log_prior is None else log_prior(z)
        return (power * log_volume_density(metric, z) + prior).astype(wide) + _to_box(u, box)[1]

    def chain(u: Array, key: Array) -> tuple[Array, Array, Array]:
        adapt, draw = jax.random.split(key)
        warmup = blackjax.window_adaptation(
            blackjax.nuts, log_density, adaptation_info_fn=get_filter_adapt_info_fn()
        )
        (state, settings), _ = warmup.run(adapt, u, num_steps=n_warmup)
        advance = blackjax.nuts(log_density, **settings).step

        def one(state: Any, key: Array) -> tuple[Any, tuple[Array, Array, Array]]:
            state, info = advance(key, state)
            return state, (state.position, info.acceptance_rate, info.is_divergent)

        _, (u, accepted, divergent) = jax.lax.scan(one, state, jax.random.split(draw, n_draws))
        return jax.vmap(place)(u), jnp.mean(accepted).astype(starts.dtype), divergent

    begin = jax.vmap(lambda z: _from_box(z, box))(starts).astype(wide)
    points, accepted, divergent = jax.vmap(chain)(begin, keys)
    half = n_draws // 2
    halves = points[:, : 2 * half].reshape(-1, half, points.shape[-1])
    rhat = jnp.atleast_1d(blackjax.diagnostics.potential_scale_reduction(halves))
    size = jnp.atleast_1d(blackjax.diagnostics.effective_sample_size(halves))
    known = jnp.all(jnp.isfinite(jax.vmap(log_density)(begin)))
    result = first_failure(
        metric_result(jax.vmap(metric)(starts)),
        RESULTS.where(known, RESULTS.successful, RESULTS.nonfinite),
        RESULTS.where(jnp.all(rhat <= max_rhat), RESULTS.successful, RESULTS.not_converged),
    )
    drawn = VolumeSamples(points, accepted, divergent, rhat, size, result)
    return result.error_if(drawn, result != RESULTS.successful) if throw else drawn
