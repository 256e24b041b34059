"""What the samples of a fit leave open, as intervals."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from scipy.special import stdtrit

from jaxgeo._typing import Metric, Potential
from jaxgeo.reconstruction.fit import LogPartitionFit
from jaxgeo.reconstruction.polynomials import metric_of


def interval(
    fit: LogPartitionFit,
    quantity: Callable[[Potential, Metric], Float[Array, "*s"]],
    *,
    level: float = 0.9,
) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    r"""Lower and upper bound of a quantity that was read off a fit.

    The quantity of the fit, plus and minus its standard deviation over `fit.ensemble` times the
    quantile of Student's law, since so many draws tell it. They are draws from the posterior of
    the potential, of which the smoothing spline (with more than two coordinates, the polynomial)
    is the mean and the inverse of its normal equations' matrix the covariance, each with a
    statistic as uncertain as its likelihood and a jackknife of the samples find it. Such intervals
    hold on the average over the domain, bias of the smoothing included, and not at every single
    point: in a sharp crease they are too short.

    **Arguments:**

    - `fit`: from `fit_log_partition`.
    - `quantity`: `quantity(log_partition, metric)` to an array. ψ is known up to an affine
      function of η only, so ask for differences of its derivatives, or from their mean.
    - `level`: probability of the interval, between 0 and 1.

    **Returns:** two arrays shaped like the quantity.

    **Fails:** `ValueError` for a fit without an ensemble (its potential is a network's: fit again
    on other samples for its spread), or a level outside (0, 1).

    **Cost:** that of 65 quantities.

    **Example:**

    >>> lower, upper = interval(fit, lambda psi, metric: metric(t))  # doctest: +SKIP

    **Reference:** Wahba (1983), J. R. Stat. Soc. B 45, 133; Nychka (1988), J. Am. Stat. Assoc. 83,
    1134, for why they cover on the average; Miller (1974), Biometrika 61, 1, for the jackknife.
    """
    if fit.ensemble is None:
        why = f" ({fit.refusal})" if fit.refusal else ""
        raise ValueError(
            f"the fit has no ensemble: its log-partition is that of networks{why}; "
            "only splines and polynomials (of 4,096 samples or more) come with one"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    chart: Any = fit.natural_coordinates

    def of(potential):
        return quantity(potential, metric_of(potential, chart))

    def of_draw(coefficients):
        return of(eqx.tree_at(lambda p: p.coefficients, fit.ensemble, coefficients))

    draws = jax.vmap(of_draw)(fit.ensemble.coefficients)
    middle, spread = of(fit.log_partition), jnp.std(draws, axis=0, ddof=1)
    reach = float(stdtrit(len(fit.ensemble.coefficients) - 1, 0.5 + level / 2)) * spread
    return middle - reach, middle + reach
