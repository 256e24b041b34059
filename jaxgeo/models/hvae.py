"""Hamiltonian VAEs: the posterior is moved by Hamilton's flow, on a flat or a learned manifold."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxgeo._typing import Metric, Point, Scalar
from jaxgeo.metrics import KernelMetric
from jaxgeo.metrics.kernel import Kernel, Normalize
from jaxgeo.models.hamiltonian import (
    FIXED_POINT_ERROR,
    Flow,
    Tempering,
    inverse_temperatures,
    kinetic_energy,
    leapfrog,
    momentum,
)
from jaxgeo.models.networks import FactorNetwork
from jaxgeo.models.vae import VAE, draw, log_standard_normal
from jaxgeo.problems import euclidean_metric


class Dynamics(NamedTuple):
    """The flow of a Hamiltonian VAE.

    - `n_leapfrog`: K steps. - `step_size`: ε. - `initial_beta`: β₀ in (0, 1], 1 for none of the
      tempering. - `tempering`: "quadratic" or "constant", see `inverse_temperatures`.
    """

    n_leapfrog: int = 3
    step_size: float = 0.01
    initial_beta: float = 0.3
    tempering: Tempering = "quadratic"

    def checked(self) -> "Dynamics":
        """Itself, or a `ValueError`."""
        if self.n_leapfrog < 1:
            raise ValueError(f"`n_leapfrog` must be at least 1, got {self.n_leapfrog}.")
        if not self.step_size > 0:
            raise ValueError(f"`step_size` must be positive, got {self.step_size}.")
        if not 0 < self.initial_beta <= 1:
            raise ValueError(f"`initial_beta` must lie in (0, 1], got {self.initial_beta}.")
        if self.tempering not in get_args(Tempering):
            kinds = get_args(Tempering)
            raise ValueError(f"`tempering` must be one of {kinds}, got {self.tempering!r}.")
        return self


class HVAE(nnx.Module):
    r"""A Hamiltonian VAE: draws of q(z|x) follow K tempered leapfrog steps towards p(z|x).

    $$ \log w = \log p(x, z_K) + \log N(p_K; 0, G) - \log q(z_0|x) - \log N(\gamma; 0, G)
       - \tfrac d2 \log\beta_K, \qquad p_0 = \gamma/\sqrt{\beta_0} $$

    with G = I. The mean of log w is a lower bound of log p(x), and that of w is p(x).

    - `vae`: encoder, decoder and likelihood. - `dynamics`: of the flow.

    **Reference:** Caterini, Doucet & Sejdinovic (2018), *Hamiltonian variational auto-encoder*.
    """

    def __init__(self, vae: VAE, *, dynamics: Dynamics | None = None):
        self.vae, self.dynamics = vae, (dynamics or Dynamics()).checked()

    def flow(self, x: Array, *, key: Array) -> Flow:
        """Where one draw of q(z|x) is led."""
        return _weigh(self, euclidean_metric, x, key)[1]

    def log_weight(self, x: Array, *, key: Array) -> Scalar:
        """One draw of log w: its mean is the ELBO."""
        return _weigh(self, euclidean_metric, x, key)[0]


class RHVAE(nnx.Module):
    r"""A Riemannian Hamiltonian VAE: an `HVAE` on a manifold whose metric is learned.

    $$ G(z)^{-1} = \sum_i L_i L_i^\top e^{-|z - c_i|^2/T^2} + \lambda I, \qquad
       c_i = \mu_\phi(x_i), \quad L_i = L_\psi(x_i) $$

    with `HVAE`'s log w, −∞ for draws whose momentum is too large for the step size to be
    followed: the shorter the step, the rarer. Training leaves them out. The metric follows from
    the parameters wherever it is needed: there is no state to bring up to date. Training moves
    centroids and factors, not T and λ.

    - `vae`: encoder, decoder and likelihood, trained or not.
    - `centroids`: samples $x_i$, `(N, *shape)`; see `medoid_indices`.
    - `temperature`: T. - `regularization`: λ. - `normalize`, `kernel`:
      as in `KernelMetric`.
    - `widths`, `center`, `spread`: of the network of factors, as in `dense_vae`.
    - `dynamics`: of the flow.

    **Reference:** Chadebec, Mantoux & Allassonnière (2020), *Geometry-aware Hamiltonian
    variational auto-encoder*.
    """

    def __init__(
        self,
        vae: VAE,
        centroids: ArrayLike,
        *,
        key: Array,
        temperature: float,
        regularization: float = 0.01,
        normalize: Normalize = "sum",
        kernel: Kernel = "gaussian",
        widths: Sequence[int] = (128, 128),
        center: float = 0.0,
        spread: float = 1.0,
        dynamics: Dynamics | None = None,
        dtype: Any = None,
    ):
        samples = jnp.asarray(centroids)
        if samples.ndim < 2 or len(samples) == 0:
            raise ValueError(f"`centroids` must hold samples (N, ...), got shape {samples.shape}.")
        self.vae, self.dynamics = vae, (dynamics or Dynamics()).checked()
        self.centroids = nnx.Variable(samples)
        self.factors = FactorNetwork(
            samples.shape[1:], vae.latent_dim, widths=widths, center=center, spread=spread,
            rngs=nnx.Rngs(key), dtype=dtype,
        )  # fmt: skip
        self.temperature, self.regularization = temperature, regularization
        self.normalize, self.kernel = normalize, kernel
        self.metric()  # refuses what it must at once

    def metric(self) -> KernelMetric:
        """The metric of the parameters as they are."""
        samples = self.centroids[...]
        return KernelMetric(
            jax.vmap(lambda x: self.vae.encode(x)[0])(samples),
            jax.vmap(self.factors)(samples),
            temperature=self.temperature,
            regularization=self.regularization,
            normalize=self.normalize,
            kernel=self.kernel,
        )

    def flow(self, x: Array, *, key: Array) -> Flow:
        """Where one draw of q(z|x) is led."""
        return _weigh(self, self.metric(), x, key)[1]

    def log_weight(self, x: Array, *, key: Array) -> Scalar:
        """One draw of log w: its mean is the ELBO."""
        return _weigh(self, self.metric(), x, key)[0]


def _weigh(model: HVAE | RHVAE, metric: Metric, x: Array, key: Array) -> tuple[Scalar, Flow]:
    """log w of one draw, and the flow."""
    vae = model.vae
    key_z, key_p = jax.random.split(key)
    mean, log_deviation = vae.encode(x)
    z, noise = draw(mean, log_deviation, key_z)
    gamma = momentum(metric, z, jax.random.normal(key_p, z.shape, z.dtype))
    how = model.dynamics
    beta = inverse_temperatures(how.initial_beta, how.n_leapfrog, how.tempering).astype(z.dtype)

    def potential_energy(y: Point) -> Scalar:
        return -vae.log_joint(x, y)

    flow = leapfrog(
        potential_energy, metric, z, gamma / jnp.sqrt(beta[0]),
        step_size=how.step_size, n_steps=how.n_leapfrog,
        scales=jnp.sqrt(beta[:-1] / beta[1:]),
    )  # fmt: skip
    log_start = log_standard_normal(noise) - jnp.sum(log_deviation)
    log_start -= kinetic_energy(metric, z, gamma)
    end, last = flow.position, flow.momentum
    log_end = vae.log_joint(x, end) - kinetic_energy(metric, end, last)
    # the density of (z_K, p_K): p₀ = γ/√β₀ takes β₀^{d/2}, the scaling (β₀/β_K)^{−d/2}
    log_w = log_end - log_start - z.size / 2 * jnp.log(beta[-1])
    return jnp.where(flow.fixed_point_error < FIXED_POINT_ERROR, log_w, -jnp.inf), flow
