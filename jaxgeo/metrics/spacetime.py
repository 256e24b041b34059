"""The metric of a diffusion model: how much the denoised change with noisy data and its time."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Point
from jaxgeo.diffusion.samplers import Denoiser
from jaxgeo.diffusion.schedules import VariancePreserving


@final
class SpacetimeMetric(eqx.Module):
    r"""The Fisher metric of the denoising posteriors $p(x_0 | x_t)$, over all (x, t).

    $$ g = \operatorname{sym}(J_\eta^\top J_\mu), \qquad
       \eta = \Bigl(\frac{\alpha}{\sigma^2} x,\; -\frac{\alpha^2}{2\sigma^2}\Bigr), \quad
       \mu = \bigl(E[x_0|x_t],\; E[\lVert x_0\rVert^2|x_t]\bigr) $$

    for they are an exponential family with natural parameters η and expectation parameters μ,
    which a denoiser D knows: $E\lVert x_0\rVert^2 = \lVert D\rVert^2 + (\sigma^2/\alpha)\,
    \mathrm{div}\,D$. Unlike the pullback by a sampler that can be inverted, which is flat, it is
    curved. In high dimension `spacetime_geodesic` needs μ alone, not the metric.

    **Arguments:**

    - `denoiser`: (x, t) to the mean of the data behind x, `(d,)`, of x's shape, twice
      differentiable.
    - `schedule`: of its noise.
    - `divergence`: (x, t) to div D, where it is known or estimated for less than the d derivatives
      of the denoiser that are taken if it is not given: `MixtureDenoiser.divergence`, or the mean
      of ⟨v, J v⟩ over some fixed random signs v.

    **A denoiser that is learned** is the mean of no posterior, exactly: its Jacobian is neither
    symmetric nor positive, and then neither is g positive, in any precision: of a network trained
    on digits of 8 × 8 a quarter of the eigenvalues of the Jacobian's symmetric part are negative
    (`jaxgeo demo diffusion` reports the share). Such a g has no geodesics of least energy. A
    mixture fitted to the same data is a posterior mean, with a g that is positive everywhere.

    **Returns:** `metric(z)`, `(d + 1, d + 1)`, at z = (x, t), `(d + 1,)`.

    **Fails:** not finite at t = 0; where g is not positive definite, solvers report
    `metric_not_positive_definite`.

    **Cost:** d forward derivatives of the denoiser for μ, or one `divergence`; some four times
    that for g.

    **Example:** a normal law has a spacetime of constant curvature −1/(2d).

    >>> from jaxgeo.diffusion import VariancePreserving
    >>> from jaxgeo.geometry import scalar_curvature
    >>> schedule = VariancePreserving()
    >>> metric = SpacetimeMetric(lambda x, t: schedule.alpha(t) * x, schedule)  # of N(0, I)
    >>> round(scalar_curvature(metric, jnp.array([0.3, 0.4])).item(), 6)
    -1.0

    **Reference:** Karczewski et al. (2025), *Spacetime geometry of denoising in diffusion models*,
    arXiv 2505.17517.
    """

    denoiser: Denoiser
    schedule: VariancePreserving
    divergence: Callable[[Array, Array], Array] | None = None

    def natural(self, z: Point) -> Point:
        """η of z = (x, t)."""
        precision = 1 / self.schedule.noise_ratio(z[-1]) ** 2
        along = precision / self.schedule.alpha(z[-1]) * z[:-1]
        return jnp.append(along, -precision / 2)

    def expectation(self, z: Point) -> Point:
        """μ of z = (x, t)."""
        x, t = z[:-1], z[-1]
        if self.divergence is None:
            mean, derivative = jax.linearize(lambda x: self.denoiser(x, t), x)
            divergence = jnp.trace(jax.vmap(derivative)(jnp.eye(x.size, dtype=x.dtype)))
        else:
            mean, divergence = self.denoiser(x, t), self.divergence(x, t)
        spread = self.schedule.sigma(t) ** 2 / self.schedule.alpha(t) * divergence
        return jnp.append(mean, jnp.dot(mean, mean, precision=HIGHEST) + spread)

    def __call__(self, z: Point) -> Float[Array, "d_plus_1 d_plus_1"]:
        of_natural = jax.jacfwd(self.natural)(z)
        of_mean = jax.jacfwd(lambda z: self.denoiser(z[:-1], z[-1]))(z)
        # d + 1 derivatives of the divergence are one in reverse
        of_square = jax.grad(lambda z: self.expectation(z)[-1])(z)
        of_expectation = jnp.concatenate([of_mean, of_square[None, :]])
        g = jnp.dot(of_natural.T, of_expectation, precision=HIGHEST)
        return (g + g.T) / 2
