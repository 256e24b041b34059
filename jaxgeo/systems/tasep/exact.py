"""Stationary probabilities, normalisation, current, density and phases of the open chain."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

LOW_DENSITY, HIGH_DENSITY, MAXIMAL_CURRENT, COEXISTENCE = 0, 1, 2, 3
"""What `phase` returns."""

_BLOCK = 8  # sites between two rescalings: (2/α)⁸ must not overflow
_STEEPEST = 1e4  # ratio of neighbouring levels that rescaling allows, likewise

Parameters = Float[Array, " 2"]
Configuration = Bool[Array, " L"] | Int[Array, " L"]
Levels = tuple[Float[Array, " n"], Float[Array, " n"]]
"""Weights f and scales s: level n carries f_n exp(s_n)."""


def checked_parameters(parameters: ArrayLike, shape: tuple[int | None, ...] = (2,)) -> Array:
    """`parameters` as floats with all rates in (0, 1]: `ValueError` if not, NaN under `jit`."""
    array = jnp.asarray(parameters)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"parameters must be floats, got dtype {array.dtype}: {parameters}")
    expected = [n if want is None else want for n, want in zip(array.shape, shape, strict=False)]
    if array.ndim != len(shape) or list(array.shape) != expected or array.size == 0:
        wanted = "(m, 2), m ≥ 1" if len(shape) == 2 else "(2,)"
        raise ValueError(f"parameters must have shape {wanted}, got {array.shape}")
    if not isinstance(array, jax.core.Tracer):
        values = np.asarray(array).reshape(-1, 2)
        wrong = values[~np.all((values > 0) & (values <= 1), axis=1)]
        if len(wrong):
            raise ValueError(f"rates (α, β) must lie in (0, 1], got {tuple(wrong[0].tolist())}")
    inside = (array > 0) & (array <= 1)
    return jnp.where(inside, array, jnp.nan)


def check_size(size: int, smallest: int = 1, largest: float = math.inf) -> None:
    if not smallest <= size <= largest:
        allowed = f"at least {smallest}" if largest == math.inf else f"{smallest} to {largest}"
        raise ValueError(f"size must be {allowed}, got {size}")


def checked_configuration(configuration: ArrayLike) -> Configuration:
    """`configuration` as booleans; `ValueError` unless it is one row of zeros and ones."""
    array = jnp.asarray(configuration)
    if array.ndim != 1 or array.size == 0 or jnp.issubdtype(array.dtype, jnp.inexact):
        raise ValueError(
            "configuration must be (L,) booleans or integers, "
            f"got shape {array.shape} and dtype {array.dtype}"
        )
    if not isinstance(array, jax.core.Tracer):
        values = np.asarray(array)
        wrong = values[(values != 0) & (values != 1)]
        if wrong.size:
            raise ValueError(f"configuration must hold occupations 0 or 1, got {wrong[0]}")
    return array != 0


def log_prob(configuration: Configuration, parameters: Parameters) -> Float[Array, ""]:
    r"""Exact log stationary probability of one configuration.

    $$ \log p(\tau; \alpha, \beta)
       = \log \langle W| \prod_i (\tau_i D + (1 - \tau_i) E) |V\rangle - \log Z_L $$

    A sum of positive terms for all α and β (see `jaxgeo.systems.tasep`), with levels rescaled
    one by one, so that no chain is too long and no configuration too improbable. Twice
    differentiable in the parameters, also at α = 1 and β = 1 (from within).

    **Arguments:**

    - `configuration`: occupations τ, zeros and ones from left to right, integers or booleans.
    - `parameters`: (α, β), each in (0, 1].

    **Returns:** log p, of the dtype of `parameters`. Good to 1e-12 at L = 300 in float64,
    to 1e-3 (typically 1e-4) in float32; rates below 1e-3 need float64.

    **Fails:** `ValueError` for rates outside (0, 1], occupations other than 0 and 1, wrong shapes;
    under `jit`, where values are not known, NaN for such rates.

    **Cost:** O(L²): L levels at each site.

    **Example:**

    >>> round(log_prob(jnp.array([1, 0]), jnp.array([0.5, 0.5])).item(), 4)  # p = 4/16
    -1.3863

    **Reference:** Derrida, Evans, Hakim & Pasquier (1993), J. Phys. A 26, 1493, section 3; Bryc
    & Zatitskii (2024), arXiv 2403.03275.
    """
    parameters = checked_parameters(parameters)
    occupied = checked_configuration(configuration)
    weight = log_contraction(levels(occupied, parameters[0], parameters[1]), parameters[1])
    return weight - log_normalization(parameters, size=occupied.size)


def levels(occupied: Bool[Array, " L"], alpha: Float[Array, ""], beta: Float[Array, ""]) -> Levels:
    """⟨W|∏(τ_i D + (1 − τ_i) E): the weight of each level after the last site.

    After every block each level is rescaled by its own size. What lies far below the envelope
    e^{s_n} ≥ e^{s_{n−1}} max(1/a, b)^{−1} may vanish: no future can make it count again. A level
    is never below the next higher one over L, so that there is no envelope in that direction.
    """
    size, dtype = occupied.size, alpha.dtype
    a, b = lax.stop_gradient((1 - alpha) / alpha), lax.stop_gradient((1 - beta) / beta)
    steepest = jnp.maximum(jnp.where(a * _STEEPEST > 1, 1 / a, _STEEPEST), jnp.maximum(b, 1))
    descent = jnp.log(steepest) * jnp.arange(size + 1, dtype=dtype)
    bottom = jnp.where(jnp.arange(size + 1) == 0, 1 / alpha, 1)

    def rescale(weights, scales):
        positive = weights > 0
        known = lax.stop_gradient(jnp.where(positive, weights, 1))
        logs = jnp.where(positive, scales + jnp.log(known), -jnp.inf)
        envelope = lax.cummax(logs + descent) - descent
        return weights / known * jnp.exp(logs - envelope), envelope

    def block(carry, sites):
        weights, scales = carry
        zero = jnp.zeros((1,), dtype)
        rise = jnp.exp(scales[:-1] - scales[1:])
        rising, falling = jnp.append(zero, rise), jnp.append(1 / rise, zero)

        def site(weights, inputs):
            particle, real = inputs
            above = jnp.append(weights[1:], zero) * falling
            below = jnp.append(zero, weights[:-1]) * rising
            moved = jnp.where(particle, weights + below, weights * bottom + above)
            return jnp.where(real, moved, weights), None

        return rescale(lax.scan(site, weights, sites)[0], scales), None

    padding = (0, -size % _BLOCK)  # sites that leave everything as it is
    sites = jnp.pad(occupied, padding), jnp.pad(jnp.ones(size, bool), padding)
    sites = jax.tree.map(lambda x: x.reshape(-1, _BLOCK), sites)
    start = jnp.zeros(size + 1, dtype).at[0].set(1)
    return lax.scan(block, (start, lax.stop_gradient(-descent)), sites)[0]


def log_contraction(state: Levels, beta: Float[Array, ""]) -> Float[Array, ""]:
    """log Σ_n f_n exp(s_n) bⁿ, differentiable also at b = 0."""
    weights, scales = state
    n = jnp.arange(weights.size)
    b = (1 - beta) / beta
    base = lax.stop_gradient(jnp.maximum(b, 1 / _STEEPEST))
    exponents = scales + n.astype(b.dtype) * jnp.log(base)
    largest = jnp.max(exponents)
    terms = weights * jnp.exp(exponents - largest) * _powers(b / base, n.size)
    return largest + jnp.log(jnp.sum(terms))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _powers(x: Float[Array, ""], count: int) -> Float[Array, " n"]:
    """1, x, x², …, with all derivatives at x = 0, where the second ones of `lax.pow` are NaN."""
    n = jnp.arange(count, dtype=jnp.int32)
    return lax.pow(jnp.broadcast_to(x, n.shape), n)


@_powers.defjvp
def _powers_jvp(count, primals, tangents):
    powers = _powers(primals[0], count)
    before = jnp.append(jnp.zeros(1, powers.dtype), powers[:-1])
    return powers, jnp.arange(count).astype(powers.dtype) * before * tangents[0]


@cache
def _log_coefficients(size: int) -> np.ndarray:
    """[k, p]: log of p (2k − 1 − p)! / (k! (k − p)!), the weight of A^j B^{p−j} in Z_k, k ≤ L."""
    table = np.full((size + 1, size + 1), -np.inf)
    table[0, 0] = 0
    for k in range(1, size + 1):
        for p in range(1, k + 1):
            factorials = math.lgamma(2 * k - p) - math.lgamma(k + 1) - math.lgamma(k - p + 1)
            table[k, p] = math.log(p) + factorials
    return table


def _log_normalizations(parameters: Parameters, rows: np.ndarray) -> Float[Array, " n"]:
    """log Z for rows of `_log_coefficients`: Σ_j A^j B^{p−j} as powers of the larger of A, B."""
    inverse = 1 / parameters
    first = inverse[0] >= inverse[1]
    larger = jnp.where(first, inverse[0], inverse[1])
    smaller = jnp.where(first, inverse[1], inverse[0])
    p = jnp.arange(rows.shape[1]).astype(larger.dtype)
    sums = jnp.cumsum(_powers(smaller / larger, p.size))
    logs = p * jnp.log(larger) + jnp.log(sums)
    return jax.nn.logsumexp(jnp.asarray(rows, larger.dtype) + logs[None, :], axis=1)


def log_normalization(parameters: Parameters, *, size: int) -> Float[Array, ""]:
    r"""log Z_L, the sum of the weights of all configurations.

    $$ Z_L = \sum_{p=1}^{L} \frac{p\,(2L-1-p)!}{L!\,(L-p)!}
             \sum_{j=0}^{p} \alpha^{-j} \beta^{-(p-j)} $$

    **Arguments:**

    - `parameters`: (α, β), each in (0, 1].
    - `size`: L ≥ 0.

    **Returns:** log Z_L with ⟨W|V⟩ = Z_0 = 1; differentiable to any order, at α = β too.

    **Fails:** `ValueError` for rates outside (0, 1] or a negative size; NaN under `jit`.

    **Cost:** O(L); a table of L² numbers is made once for each size.

    **Example:**

    >>> round(log_normalization(jnp.array([0.5, 0.5]), size=2).item(), 4)  # log 16
    2.7726

    **Reference:** Derrida, Evans, Hakim & Pasquier (1993), equation 39.
    """
    check_size(size, 0)
    rows = _log_coefficients(size)[-1:]
    return _log_normalizations(checked_parameters(parameters), rows)[0]


def current(parameters: Parameters, *, size: int) -> Float[Array, ""]:
    """Particles through each bond per unit time, J = Z_{L−1}/Z_L, of the finite chain.

    `current_bulk` is its limit for long chains. Also α P(first site empty) and
    β P(last site occupied).

    **Arguments:** `parameters` (α, β), each in (0, 1]; `size` L ≥ 1.

    **Fails:** `ValueError` for rates outside (0, 1] or a size below 1; NaN under `jit`.

    **Cost:** O(L).

    **Example:**

    >>> round(current(jnp.array([1.0, 1.0]), size=10).item(), 4)  # (L + 2)/(4L + 2)
    0.2857

    **Reference:** Derrida, Evans, Hakim & Pasquier (1993), equation 42.
    """
    check_size(size)
    rows = _log_coefficients(size)[-2:]
    logs = _log_normalizations(checked_parameters(parameters), rows)
    return jnp.exp(logs[0] - logs[1])


def current_bulk(parameters: Parameters) -> Float[Array, ""]:
    """The current of the infinite chain, x(1 − x) with x = min(α, β, ½).

    Not the Fisher potential, which is x log x + (1 − x) log(1 − x).

    **Arguments:** `parameters` (α, β), each in (0, 1].

    **Fails:** `ValueError` for rates outside (0, 1]; NaN under `jit`.

    **Cost:** none to speak of.

    **Example:**

    >>> current_bulk(jnp.array([0.25, 0.75])).item()
    0.1875

    **Reference:** Derrida, Evans, Hakim & Pasquier (1993), section 7.
    """
    rate = jnp.minimum(jnp.min(checked_parameters(parameters)), 0.5)
    return rate * (1 - rate)


@cache
def _profile_coefficients(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Logs: [p] of the Catalan numbers, [n, p] of the coefficient of D^p in D (D + E)^n."""
    catalan = np.array(
        [math.lgamma(2 * p + 1) - math.lgamma(p + 1) - math.lgamma(p + 2) for p in range(size)]
    )
    table = np.full((size, size + 1), -np.inf)
    table[0, 1] = 0
    for n in range(1, size):
        for p in range(2, n + 2):
            factorials = math.lgamma(2 * n - p + 1) - math.lgamma(n + 1) - math.lgamma(n - p + 2)
            table[n, p] = math.log(p - 1) + factorials
    return catalan, table


def density_profile(parameters: Parameters, *, size: int) -> Float[Array, " L"]:
    r"""The exact mean occupation of each site, from left to right.

    $$ \langle\tau_i\rangle = \sum_{p=0}^{n-1} \frac{(2p)!}{p!(p+1)!} \frac{Z_{L-1-p}}{Z_L}
       + \frac{Z_{i-1}}{Z_L} \sum_{p=2}^{n+1} \frac{(p-1)(2n-p)!}{n!(n+1-p)!} \beta^{-p},
       \quad n = L - i > 0, $$

    and J/β at the last site. Its derivative in a parameter is Cov(τ_i, score).

    **Arguments:** `parameters` (α, β), each in (0, 1]; `size` L ≥ 1.

    **Fails:** `ValueError` for rates outside (0, 1] or a size below 1; NaN under `jit`.

    **Cost:** O(L²).

    **Example:**

    >>> [round(x, 4) for x in density_profile(jnp.array([1.0, 1.0]), size=2).tolist()]
    [0.6, 0.4]

    **Reference:** Derrida, Evans, Hakim & Pasquier (1993), equation 48.
    """
    check_size(size)
    parameters = checked_parameters(parameters)
    dtype = parameters.dtype
    logs = _log_normalizations(parameters, _log_coefficients(size))
    catalan, table = _profile_coefficients(size)
    bulk = jnp.exp(jnp.asarray(catalan, dtype) + logs[size - 1 :: -1][:size] - logs[size])
    from_bulk = jnp.append(jnp.zeros(1, dtype), jnp.cumsum(bulk)[:-1])  # [n]
    powers = -jnp.arange(size + 1).astype(dtype) * jnp.log(parameters[1])
    sums = jax.nn.logsumexp(jnp.asarray(table, dtype) + powers[None, :], axis=1)
    from_end = jnp.exp(logs[size - 1 :: -1][:size] + sums - logs[size])
    return (from_bulk + from_end)[::-1]


def phase(parameters: Parameters) -> Int[Array, ""]:
    """The phase of the infinite chain, as one of the integers of this module.

    `LOW_DENSITY` (0) for α < β, α < ½: bulk density α. `HIGH_DENSITY` (1) for β < α, β < ½: bulk
    density 1 − β. `MAXIMAL_CURRENT` (2) for α, β ≥ ½: bulk density ½. `COEXISTENCE` (3) for
    α = β < ½, to the last bit: low density up to a shock that is anywhere with equal probability.

    **Arguments:** `parameters` (α, β), each in (0, 1].

    **Fails:** `ValueError` for rates outside (0, 1].

    **Cost:** none to speak of; no derivative.

    **Example:**

    >>> [phase(jnp.array(t)).item() for t in ([0.2, 0.6], [0.6, 0.2], [0.7, 0.8], [0.3, 0.3])]
    [0, 1, 2, 3]

    **Reference:** Derrida, Evans, Hakim & Pasquier (1993), figure 1.
    """
    alpha, beta = checked_parameters(parameters)
    shocked = jnp.where(alpha == beta, COEXISTENCE, HIGH_DENSITY)
    below = jnp.where(alpha < beta, LOW_DENSITY, shocked)
    return jnp.where((alpha >= 0.5) & (beta >= 0.5), MAXIMAL_CURRENT, below).astype(jnp.int32)
