"""The metric of a potential."""

import functools
from typing import final

import equinox as eqx
import jax
from jaxtyping import Array, Float

from jaxgeo._typing import Point, Potential, as_point, number_at


@final
class HessianMetric(eqx.Module):
    r"""The Hessian of a potential, $g_{ij} = \partial_i\partial_j\psi$.

    With ψ the log-partition function of an exponential family this is the Fisher information in
    natural coordinates. `geodesic_acceleration` recognises it and uses −½ g⁻¹ ∇³ψ[v, v, ·].

    **Arguments:**

    - `potential`: point `(d,)` to a number, twice differentiable and strictly convex: three times
      differentiable for geodesics. A ReLU network is neither. Modules are pytrees of traced
      parameters; plain functions are static.

    **Returns:** `metric(z)`, `(d, d)`, symmetric to the last bit.

    **Fails:** nothing here; where ψ is not convex, solvers report `metric_not_positive_definite`.

    **Cost:** d forward derivatives of one reverse sweep of ψ, unless ψ has a method `hessian` from
    a point to `(d, d)`: then that, as of the networks of `fit_log_partition`.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from jaxgeo.problems import log_sum_exp
    >>> round(HessianMetric(log_sum_exp)(jnp.zeros(2))[0, 1].item(), 4)
    -0.1111

    **Reference:** Amari & Nagaoka, *Methods of Information Geometry* (2000), section 3.5.
    """

    potential: Potential

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        if hasattr(self.potential, "hessian"):
            hessian = self.potential.hessian(z)
        else:
            hessian = jax.jacfwd(jax.grad(functools.partial(number_at, self.potential)))(z)
        return (hessian + hessian.T) / 2  # forward over reverse is symmetric only to rounding
