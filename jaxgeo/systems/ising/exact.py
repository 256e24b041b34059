"""Exact log-partition functions of the square-lattice Ising model, in η = (β, h) = (1/T, H/T)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgeo.systems.ising import tensor


def natural_coordinates(t: Float[Array, " 2"]) -> Float[Array, " 2"]:
    """(β, h) = (1/T, H/T) at t = (T, H), in units of the coupling.

    >>> import jax.numpy as jnp
    >>> natural_coordinates(jnp.array([2.0, 1.0])).tolist()
    [0.5, 0.5]
    """
    return jnp.stack([1 / t[0], t[1] / t[0]])


def temperature_and_field(eta: Float[Array, " 2"]) -> Float[Array, " 2"]:
    """(T, H) = (1/β, h/β) at η = (β, h): the inverse of `natural_coordinates`."""
    return jnp.stack([1 / eta[0], eta[1] / eta[0]])


def log_partition_per_site(
    eta: Float[Array, " 2"], size: int, method: str = "trg", bond_dimension: int = 8
) -> Float[Array, ""]:
    """log Z(β, h) / L² of the periodic L×L lattice; twice differentiable in η.

    ∇ψ is the mean of (Σ_⟨ij⟩ s_i s_j, Σ_i s_i) per site, L² ∇²ψ the Fisher metric of one whole
    configuration in natural coordinates.

    Parameters
    ----------
    eta : (2,) β > 0 and h, in float64: in float32 the value is good to 1e-4, derivatives are not.
    size : L. A power of two for "trg"; at most 4 for "enumeration".
    method : "trg" (Levin and Nave 2007, any field) or "enumeration" of all 2^(L²) states. At h = 0
        `kaufman_log_partition_per_site` is exact for any L, and cheaper than either.
    bond_dimension : singular values kept, χ. Time grows as χ⁶.

    Notes
    -----
    Errors of "trg" on 64×64 at χ = 8 against Kaufman's formula, of the value, ∂/∂β and (relative)
    ∂²/∂β²: 5e-5, 4e-3, 1.6 % at T_c (largest: 1e-4, 4e-3, 3 % at T = 2.35); 4e-5, 7e-4, 0.2 % at
    T = 2.6; 3e-7, 1e-5, 0.02 % at T = 5; 1e-6, 2e-5, 0.04 % at T = 1.8. At χ = 12 they are 3 to 10
    times smaller, at 20 times the cost. A field makes them smaller still. Second derivatives are
    central differences of the first; asking for a third raises `NotImplementedError`.

    >>> import jax.numpy as jnp
    >>> round(float(log_partition_per_site(jnp.array([0.5, 0.0]), 4)), 3)
    1.069
    """
    if method == "enumeration":
        return brute_force_log_partition(eta, (size, size)) / size**2
    if method != "trg":
        raise ValueError(f'method must be "trg" or "enumeration", got {method!r}')
    if size < 2 or size & (size - 1):
        raise ValueError(f"tensor renormalisation needs a size that is a power of 2, got {size}")
    if bond_dimension < 2:
        raise ValueError(f"bond_dimension must be at least 2, got {bond_dimension}")
    return tensor.log_partition(eta, size, bond_dimension)


def free_energy_per_site(
    t: Float[Array, " 2"], size: int, method: str = "trg", bond_dimension: int = 8
) -> Float[Array, ""]:
    """F = −T log Z / L² at t = (T, H), in units of the coupling."""
    return -t[0] * log_partition_per_site(natural_coordinates(t), size, method, bond_dimension)


def exact_metric(
    t: Float[Array, " 2"], size: int, method: str = "trg", bond_dimension: int = 8
) -> Float[Array, "2 2"]:
    """Fisher metric of one whole L×L configuration in (T, H): L² Jᵀ ∇²ψ(η(t)) J, J = ∂η/∂t.

    Costs eight gradients by renormalisation. See `log_partition_per_site` for errors.
    """
    jacobian = jax.jacfwd(natural_coordinates)(t)
    hessian = jax.hessian(log_partition_per_site)(
        natural_coordinates(t), size, method, bond_dimension
    )
    return size**2 * jacobian.T @ hessian @ jacobian


def brute_force_log_partition(
    eta: Float[Array, " 2"], shape: tuple[int, int] = (4, 4)
) -> Float[Array, ""]:
    """log Z of a small periodic lattice by summing over all its states, at most 2²⁰ of them.

    A side of length 2 has two bonds between the same neighbours, as everywhere in this module.

    >>> import jax.numpy as jnp
    >>> round(float(brute_force_log_partition(jnp.array([0.0, 0.0]))), 3)  # 16 log 2
    11.09
    """
    rows, columns = shape
    sites = rows * columns
    if sites > 20 or min(shape) < 1:
        raise ValueError(f"enumeration is for 1 to 20 sites, got a lattice of shape {shape}")
    states = (np.arange(2**sites)[:, None] >> np.arange(sites) & 1).astype(np.int8) * 2 - 1
    spins = states.reshape(-1, rows, columns)
    bonds = spins * (np.roll(spins, 1, 1) + np.roll(spins, 1, 2))
    statistics = np.stack([bonds.sum((1, 2)), spins.sum((1, 2))], axis=1)
    distinct, counts = np.unique(statistics, axis=0, return_counts=True)
    exponents = jnp.asarray(distinct, eta.dtype) @ eta
    return jax.nn.logsumexp(exponents + jnp.log(jnp.asarray(counts, eta.dtype)))


def kaufman_log_partition_per_site(beta: Float[Array, ""], size: int) -> Float[Array, ""]:
    """log Z / L² of the periodic L×L lattice at h = 0, any L ≥ 2 and β > 0, to rounding.

    Z = ½ (2 sinh 2β)^{L²/2} (∏ 2cosh ½Lγ_{2r+1} + ∏ 2sinh ½Lγ_{2r+1} + ∏ 2cosh ½Lγ_{2r} + ∏ 2sinh ½Lγ_{2r}),
    cosh γ_k = cosh 2β coth 2β − cos(πk/L) and γ_0 = 2β + log tanh β, negative above T_c (Kaufman
    1949, Phys. Rev. 76, 1232). Summed in log space, so that no size overflows. Cost O(L).

    >>> import jax.numpy as jnp
    >>> round(float(kaufman_log_partition_per_site(jnp.array(0.5), 4)), 3)
    1.069
    """  # noqa: E501
    if size < 2:
        raise ValueError(f"size must be at least 2, got {size}")
    beta = jnp.asarray(beta)
    s = jnp.sinh(2 * beta)
    k = jnp.arange(1, 2 * size)
    half_squared = (s - 1) ** 2 / (2 * s) + jnp.sin(jnp.pi * k.astype(s.dtype) / (2 * size)) ** 2
    x = size * jnp.arcsinh(jnp.sqrt(half_squared))  # ½Lγ_k
    x_0 = size * jnp.arcsinh((s - 1) / jnp.sqrt(2 * s))
    odd, even = x[0::2], x[1::2]
    zero = _log_2cosh(x_0)
    exponents = jnp.stack(
        [
            jnp.sum(_log_2cosh(odd)),
            jnp.sum(_log_2sinh(odd)),
            jnp.sum(_log_2cosh(even)) + zero,
            jnp.sum(_log_2sinh(even)) + zero,
        ]
    )
    signs = jnp.stack([*[jnp.ones_like(s)] * 3, jnp.tanh(x_0)])  # 2sinh x_0 = tanh x_0 2cosh x_0
    log_sum = jax.nn.logsumexp(exponents, b=signs) - math.log(2)
    return _log_2sinh(2 * beta) / 2 + log_sum / size**2


def _log_2cosh(x):
    return jnp.logaddexp(x, -x)


def _log_2sinh(x):
    return x + jnp.log(-jnp.expm1(-2 * x))


def onsager_log_partition_per_site(beta: Float[Array, ""]) -> Float[Array, ""]:
    """log Z / site of the infinite lattice at h = 0 (Onsager 1944), for β > 0.

    ½ log(2 sinh 2β) + (1/2π) ∫₀^π γ(ω) dω, cosh γ = cosh 2β coth 2β − cos ω, by the double-
    exponential rule, which the kink of γ at T_c does not disturb. Error about 1e-14 in float64.

    >>> import jax.numpy as jnp
    >>> round(float(onsager_log_partition_per_site(jnp.log(1 + jnp.sqrt(2.0)) / 2)), 4)  # at T_c
    0.9297
    """
    beta = jnp.asarray(beta)
    s = jnp.sinh(2 * beta)
    step = 7.0 / 120
    u = step * np.arange(-60, 61)
    quarter = np.pi / (1 + np.exp(-np.pi * np.sinh(u))) / 2  # ω/2 of the rule's nodes
    weights = step * np.pi * np.cosh(u) * np.pi / (4 * np.cosh(np.pi / 2 * np.sinh(u)) ** 2)
    half_squared = (s - 1) ** 2 / (2 * s) + jnp.asarray(np.sin(quarter) ** 2, s.dtype)
    gamma = 2 * jnp.arcsinh(jnp.sqrt(half_squared))
    integral = jnp.dot(jnp.asarray(weights, s.dtype), gamma)
    return _log_2sinh(2 * beta) / 2 + integral / (2 * jnp.pi)


def specific_heat_peak(size: int) -> float:
    """The temperature at which β² ∂²ψ/∂β² of the L×L torus at H = 0 is largest (by Kaufman).

    Computed in float64 whatever the caller's precision, to 1e-6.

    >>> round(specific_heat_peak(64), 4)
    2.2817
    """

    def specific_heat(temperature):
        second = jax.grad(jax.grad(lambda b: kaufman_log_partition_per_site(b, size)))
        return second(1 / temperature) / temperature**2

    with jax.enable_x64(True):
        heat = jax.jit(jax.vmap(specific_heat))
        low, high = 1.5, 4.0
        while high - low > 1e-6:
            grid = np.linspace(low, high, 65)
            best = int(np.argmax(np.asarray(heat(jnp.asarray(grid)))))
            low, high = grid[max(best - 1, 0)], grid[min(best + 1, 64)]
    return float((low + high) / 2)
