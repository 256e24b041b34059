"""Energy and magnetisation of Ising configurations, and a check that they are in equilibrium."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int8


def sufficient_statistics(spins: Int8[Array, "*n L L"]) -> Int[Array, "*n 2"]:
    """(Σ_⟨ij⟩ s_i s_j, Σ_i s_i) of each configuration: the statistics conjugate to (β, h).

    >>> import jax.numpy as jnp
    >>> sufficient_statistics(jnp.ones((4, 4), jnp.int8)).tolist()
    [32, 16]
    """
    s = spins.astype(jnp.int32)
    bonds = s * (jnp.roll(s, 1, -1) + jnp.roll(s, 1, -2))
    return jnp.stack([jnp.sum(bonds, (-2, -1)), jnp.sum(s, (-2, -1))], axis=-1)


def energy_per_site(spins: Int8[Array, "*n L L"]) -> Float[Array, "*n"]:
    """Coupling energy −Σ_⟨ij⟩ s_i s_j / L², from −2 (aligned) to 2, without the field's part."""
    return -sufficient_statistics(spins)[..., 0] / (spins.shape[-1] * spins.shape[-2])


def magnetization_per_site(spins: Int8[Array, "*n L L"]) -> Float[Array, "*n"]:
    """Σ_i s_i / L², from −1 to 1."""
    return sufficient_statistics(spins)[..., 1] / (spins.shape[-1] * spins.shape[-2])


class EquilibriumReport(NamedTuple):
    """Which samples are out of line, most so first, and every sample's score."""

    suspects: Int[np.ndarray, " m"]
    scores: Float[np.ndarray, " n"]
    threshold: float


def equilibrium_check(
    samples: Int8[Array, "..."],
    parameters: Float[Array, "..."],
    *,
    threshold: float = 8.0,
    neighbours: int = 40,
) -> EquilibriumReport:
    """Find samples that the rest, at nearby (T, H), make unbelievable: frozen or mislabelled ones.

    Two scores in standard deviations, of which the larger counts. (1) Wrong sign: the global flip
    of a sample is e^{2|H M|/T} times as likely, M = Σ s against the field, which scores as the
    deviation of a normal variable with that odds ratio, √(4 |H M|/T). (2) Energy and |M| per site:
    residual from a robust linear fit to the nearest samples in (T, |H|), over their own median
    absolute residual, never below the effect of one spin. Fluctuations near the critical point are
    wide but so are the neighbours'.

    Uses data alone, no exact answer. A region that is frozen as a whole passes (2), not (1).

    Raises ValueError where shapes disagree or there are not more samples than neighbours.
    Cost: n² distances, in rows.
    """
    if samples.ndim != 3:
        raise ValueError(f"samples must be (n, L, L), got shape {samples.shape}")
    n, size = samples.shape[0], samples.shape[-1]
    if parameters.shape != (n, 2):
        raise ValueError(f"parameters must be ({n}, 2), got shape {parameters.shape}")
    if not 4 <= neighbours < n:
        raise ValueError(f"neighbours must be from 4 to {n - 1}, got {neighbours}")
    parameters = jnp.asarray(parameters)
    statistics = sufficient_statistics(samples).astype(parameters.dtype)
    against = jnp.maximum(-parameters[:, 1] * statistics[:, 1] / parameters[:, 0], 0)
    values = jnp.abs(statistics) / size**2
    local = _local_residuals(parameters, values, 8 / size**2, neighbours)
    scores = np.asarray(jnp.maximum(2 * jnp.sqrt(against), local))
    order = np.argsort(-scores)
    return EquilibriumReport(order[scores[order] > threshold], scores, threshold)


@jax.jit(static_argnames="neighbours")
def _local_residuals(parameters, values, floor, neighbours):
    position = jnp.stack([parameters[:, 0], jnp.abs(parameters[:, 1])], axis=1)
    spread = jnp.std(position, axis=0, keepdims=True)
    position = position / jnp.where(spread > 0, spread, 1)

    def score(i):
        offset = position - position[i][None]
        distance = jnp.sum(offset**2, axis=1).at[i].set(jnp.inf)
        near = lax.top_k(-distance, neighbours)[1]
        design = jnp.concatenate([jnp.ones((neighbours, 1), offset.dtype), offset[near]], axis=1)
        observed = values[near]

        def refit(_, state):
            weights, _, _ = state
            normal = jnp.einsum("ki,kc,kj->cij", design, weights, design)
            normal = normal + 1e-6 * jnp.eye(3, dtype=normal.dtype)[None]
            moment = jnp.einsum("ki,kc->ci", design, weights * observed)
            solution = jnp.linalg.solve(normal, moment[..., None])[..., 0]
            residual = jnp.abs(observed - design @ solution.T)
            scale = jnp.maximum(1.4826 * jnp.median(residual, axis=0), floor)
            weights = 1 / jnp.maximum(residual / scale[None], 1) ** 2
            return weights, solution[:, 0], scale

        start = (jnp.ones_like(observed), observed[0], observed[0])
        _, centre, scale = lax.fori_loop(0, 5, refit, start)
        return jnp.max(jnp.abs(values[i] - centre) / scale)

    return lax.map(score, jnp.arange(values.shape[0]), batch_size=64)
