"""Stationary configurations of the open chain: exact independent draws, and the process itself."""

import math
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int8, PRNGKeyArray, UInt32

from jaxgeo.systems.tasep.exact import check_size, checked_parameters

Key = PRNGKeyArray | UInt32[Array, "..."]


def sample(
    key: Key, parameters: Float[Array, "m 2"], *, size: int = 128, chunk_size: int = 1024
) -> Int8[Array, "m L"]:
    r"""Draw one configuration from the exact stationary law at each (α, β): no chain to relax.

    The chain is half of a simple walk Y of 2L steps, particle up, hole down, ξ the other way
    (see `jaxgeo.systems.tasep`), of weight a^m b^e, e and m the height of its end and of its
    start above its minimum. How many walks have given (m, e) depends on q = m + e only: those
    that stay at −1 or above and end at 2q. So draw q, then m from a geometric law, then the
    walk: Pitman's transform Y − 2 min Y is a walk that is never negative, uniform among those
    with the same end. Backwards in time from height y at time t its last step was upwards with
    probability y(t + y + 2)/(2t(y + 1)), and the steps at which Y had a new minimum are those at
    which the reversed walk has one, below its height min Y.

    **Arguments:**

    - `key`: any JAX PRNG key; one key gives one result, whatever else is the same.
    - `parameters`: rates (α, β) of each sample, in (0, 1].
    - `size`: L ≥ 1.
    - `chunk_size`: samples drawn together, so that their working set stays in the cache.

    **Returns:** occupations 0 and 1 as int8.

    **Fails:** `ValueError` for rates outside (0, 1], sizes below 1, wrong shapes; values are
    checked outside of `jit` only.

    **Cost:** O(L) a sample. Probabilities are rounded to 24 bits in float32, 53 in float64.

    **Example:**

    >>> chains = sample(jax.random.key(0), jnp.array([[0.1, 0.9], [0.9, 0.1]]), size=1000)
    >>> chains.shape, (chains.mean(axis=1) * 10).round().tolist()
    ((2, 1000), [1.0, 9.0])

    **Reference:** Bryc & Zatitskii (2024), arXiv 2403.03275, for the two lines; Pitman (1975),
    Adv. Appl. Prob. 7, 511, for the transform.
    """
    parameters = checked_parameters(parameters, (None, 2))
    check_size(size)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    return _sample(key, parameters, size, min(chunk_size, len(parameters)))


@cache
def _log_walks(size: int) -> np.ndarray:
    """[c]: log number of walks of 2L steps that are never negative and end at 2c."""
    c = range(size + 1)
    logs = [
        math.log((2 * i + 1) / (2 * size + 1))
        + math.lgamma(2 * size + 2)
        - math.lgamma(size - i + 1)
        - math.lgamma(size + i + 2)
        for i in c
    ]
    return np.array([*logs, -np.inf])


@partial(jax.jit, static_argnames=("size", "chunk_size"))
def _sample(key, parameters, size, chunk_size):
    n = len(parameters)
    n_chunks = -(-n // chunk_size)
    padded = jnp.concatenate(
        [parameters, jnp.tile(parameters[:1], (n_chunks * chunk_size - n, 1))]
    )
    chunks = padded.reshape(n_chunks, chunk_size, 2)

    def chunk(inputs):
        key, rates = inputs
        uniforms = jax.random.uniform(key, (2 * size + 3, chunk_size), rates.dtype)
        height, depth = _ends(uniforms[:3], rates, size)
        return _walk(uniforms[3:].reshape(size, 2, -1), height, depth)

    chains = lax.map(chunk, (jax.random.split(key, n_chunks), chunks))
    return chains.reshape(-1, size)[:n]


def _ends(uniforms, rates, size):
    """The height 2c at which the transformed walk ends, and −min Y: both (n,)."""
    dtype = rates.dtype
    # the smallest normal number stands for 0, at α = 1 and at β = 1
    log_a, log_b = jnp.log(jnp.maximum((1 - rates) / rates, jnp.finfo(dtype).tiny)).T
    walks = _log_walks(size)
    counts = np.logaddexp(walks[:-1], walks[1:])  # the minimum of Y is −2m or −2m − 1
    odd_share = jnp.asarray(np.exp(walks[1:] - counts), dtype)
    q = jnp.arange(size + 1).astype(dtype)[None, :]
    terms = jnp.cumsum(jnp.exp(-jnp.abs(log_a - log_b)[:, None] * q), axis=1)
    counts = jnp.asarray(counts - counts.max(), dtype)[None, :]
    logs = counts + q * jnp.maximum(log_a, log_b)[:, None] + jnp.log(terms)
    chances = jnp.cumsum(jnp.exp(logs - jnp.max(logs, axis=1, keepdims=True)), axis=1)
    total = _invert(chances, uniforms[0] * chances[:, -1])
    within = jnp.take_along_axis(terms, total[:, None], axis=1)[:, 0]
    lesser = jnp.minimum(_invert(terms, uniforms[1] * within), total)
    m = jnp.where(log_a >= log_b, total - lesser, lesser)  # `lesser` is of the smaller of a and b
    odd = uniforms[2] < odd_share[total]
    return (2 * (total + odd)).astype(jnp.int32), (2 * m + odd).astype(jnp.int32)


def _invert(cumulative, level):
    """The first index at which a row of `cumulative` exceeds its level."""
    index = jnp.sum(cumulative <= level[:, None], axis=1)
    return jnp.minimum(index, cumulative.shape[1] - 1)


def _walk(uniforms, height, depth):
    """Walk backwards from the end: (n, L) occupations from uniforms (L, 2, n)."""

    def step(carry, time, uniform):
        height, lowest = carry
        y, t = height.astype(uniform.dtype), time.astype(uniform.dtype)
        up = uniform * (2 * t * (y + 1)) < y * (t + y + 2)
        height = jnp.where(up, height - 1, height + 1)
        flipped = height < lowest
        return (height, jnp.where(flipped, height, lowest)), up ^ flipped

    def site(carry, inputs):
        i, uniform = inputs
        carry, _ = step(carry, 2 * i + 2, uniform[1])
        carry, particle = step(carry, 2 * i + 1, uniform[0])
        return carry, particle.astype(jnp.int8)

    sites = jnp.arange(len(uniforms)), uniforms
    return lax.scan(site, (height, depth), sites, reverse=True)[1].T


class KineticMonteCarlo(NamedTuple):
    """What `kinetic_monte_carlo` saw of m independent chains."""

    configuration: Int8[Array, "m L"]
    """The last configuration of each chain."""
    density: Float[Array, "m L"]
    """Mean occupation of each site, over all sweeps after the burn-in."""
    current: Float[Array, " m"]
    """Moves a bond and a unit of time, over the same sweeps."""


def kinetic_monte_carlo(
    key: Key,
    parameters: Float[Array, "m 2"],
    *,
    size: int,
    n_sweeps: int,
    burn_in: int | None = None,
) -> KineticMonteCarlo:
    """Run the process itself from the empty chain: an independent check of `sample`.

    The continuous-time process, uniformised: L + 1 attempts, each at a bond drawn at random, make
    a sweep, which lasts one unit of time on average; an attempt succeeds with the rate of its
    bond if there is a particle on its left and none on its right. Sweeps are correlated over
    times that grow as L^{3/2} (as L² on the coexistence line): take errors from the m chains.

    **Arguments:**

    - `key`: any JAX PRNG key.
    - `parameters`: rates (α, β) of each chain, in (0, 1].
    - `size`: L ≥ 1.
    - `n_sweeps`: sweeps that are averaged over, at least 1.
    - `burn_in`: sweeps before these; as many if None.

    **Fails:** `ValueError` for rates outside (0, 1], a size or a number of sweeps below 1.

    **Cost:** O(L) a sweep and chain, some 10 million attempts a second on a CPU core.

    **Example:**

    >>> run = kinetic_monte_carlo(jax.random.key(0), jnp.ones((64, 2)), size=1, n_sweeps=400)
    >>> round(run.current.mean().item(), 2)  # one site fills and empties at rate 1
    0.5

    **Reference:** Gillespie (1977), J. Phys. Chem. 81, 2340; uniformisation: Jensen (1953).
    """
    parameters = checked_parameters(parameters, (None, 2))
    check_size(size)
    burn_in = n_sweeps if burn_in is None else burn_in
    if n_sweeps < 1 or burn_in < 0:
        raise ValueError(f"n_sweeps must be at least 1, got {n_sweeps} after {burn_in}")
    return _kinetic(key, parameters, jnp.asarray(n_sweeps), jnp.asarray(burn_in), size)


@partial(jax.jit, static_argnames="size")
def _kinetic(key, parameters, n_sweeps, burn_in, size):
    n, dtype = len(parameters), parameters.dtype
    chains = jnp.arange(n)
    rates = jnp.ones((n, size + 1), dtype)
    rates = rates.at[:, 0].multiply(parameters[:, 0]).at[:, -1].multiply(parameters[:, 1])

    def attempt(carry, inputs):
        sites, moves = carry  # sites 0 and L + 1 are the reservoirs, always full and empty
        bond, uniform = inputs
        free = (sites[chains, bond] == 1) & (sites[chains, bond + 1] == 0)
        move = (free & (uniform < rates[chains, bond])).astype(jnp.int8)
        sites = sites.at[chains, bond].add(-move).at[chains, bond + 1].add(move)
        return (sites.at[:, 0].set(1).at[:, -1].set(0), moves + move), None

    def sweep(i, carry):
        sites, density, moves = carry
        first, second = jax.random.split(jax.random.fold_in(key, i))
        bonds = jax.random.randint(first, (size + 1, n), 0, size + 1)
        uniforms = jax.random.uniform(second, (size + 1, n), dtype)
        start = sites, jnp.zeros(n, dtype)
        (sites, made), _ = lax.scan(attempt, start, (bonds, uniforms))
        counted = (i >= burn_in).astype(dtype)
        density = density + counted * sites[:, 1:-1].astype(dtype)
        return sites, density, moves + counted * made

    empty = jnp.zeros((n, size + 2), jnp.int8).at[:, 0].set(1)
    start = empty, jnp.zeros((n, size), dtype), jnp.zeros(n, dtype)
    sites, density, moves = lax.fori_loop(0, burn_in + n_sweeps, sweep, start)
    time = n_sweeps.astype(dtype)
    return KineticMonteCarlo(sites[:, 1:-1], density / time, moves / (time * (size + 1)))
