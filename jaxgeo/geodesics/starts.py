"""Curves from which a boundary-value solver starts."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST, cholesky, cholesky_solve, quadratic_form
from jaxgeo._typing import Metric

FINE = 128
"""Segments in which a curve is measured before its points are spread evenly."""

STEEPNESS = 14.0
"""Nodes crowd at both ends, to exp(−14) of the way: a metric may vary a millionfold there."""

RISE = 0.5
"""Height of an arc over its chord, relative to the chord, in the metric half-way."""


def start_curves(
    metric: Metric, z0: Float[Array, " d"], z1: Float[Array, " d"], n_segments: int, n_starts: int
) -> Float[Array, "k n d"]:
    """The straight line, then arcs on either side of it in pairs, all at constant speed.

    At most 2d − 1 of them: there are no more sides. The set is the same from `z1` to `z0`.
    """
    grade = np.linspace(-STEEPNESS, STEEPNESS, FINE + 1)
    gone, left = (1 / (1 + np.exp(sign * grade)) for sign in (-1, 1))
    # the ends exactly, in any precision
    gone[[0, -1]], left[[0, -1]] = (0, 1), (1, 0)
    t, s = jnp.asarray(gone, z0.dtype)[:, None], jnp.asarray(left, z0.dtype)[:, None]
    line = z0[None, :] * s + z1[None, :] * t
    pairs = min((n_starts - 1) // 2, z0.size - 1)
    sides = RISE * _sides(metric((z0 + z1) / 2), z1 - z0)[:pairs]
    rises = jnp.concatenate([jnp.zeros((1, z0.size), z0.dtype), sides, -sides])

    def curve(rise: Array) -> Array:
        return constant_speed(metric, line + 4 * t * s * rise[None, :], t[:, 0], n_segments)

    return jax.vmap(curve)(rises)


def _sides(g: Float[Array, "d d"], chord: Float[Array, " d"]) -> Float[Array, "d_minus_1 d"]:
    """Vectors across `chord` and across each other, as long as it is, in the metric `g`."""
    factor = cholesky(g)
    white = jnp.dot(factor.T, chord, precision=HIGHEST)
    size = jnp.linalg.norm(white)
    unit = white / jnp.where(size == 0, 1, size)
    # Householder's reflection takes the first axis to the chord, the others across it
    mirror = unit.at[0].add(jnp.where(unit[0] < 0, -1, 1).astype(unit.dtype))
    across = jnp.eye(chord.size, dtype=chord.dtype)[1:] - (
        2 * mirror[1:, None] * mirror[None, :] / jnp.dot(mirror, mirror)
    )
    return cholesky_solve(factor, jnp.dot(factor, size * across.T, precision=HIGHEST)).T


def constant_speed(
    metric: Metric, curve: Float[Array, "m d"], ts: Float[Array, " m"], n_segments: int
) -> Float[Array, "n d"]:
    """The curve at equal steps of length; at equal steps of `ts` if the metric gives no length."""
    u = jnp.diff(curve, axis=0)
    g = jax.vmap(metric)((curve[1:] + curve[:-1]) / 2)
    lengths = jnp.sqrt(jax.vmap(quadratic_form)(g, u, u))
    total = jnp.sum(lengths)
    known = jnp.isfinite(total) & (total > 0)
    s = jnp.where(known, jnp.pad(jnp.cumsum(lengths), (1, 0)) / jnp.where(known, total, 1), ts)
    wanted = jnp.linspace(0, 1, n_segments + 1, dtype=curve.dtype)
    after = jnp.searchsorted(s[1:-1], wanted, side="right", method="compare_all") + 1
    step = jnp.where(s[after] > s[after - 1], s[after] - s[after - 1], 1)
    share = ((wanted - s[after - 1]) / step)[:, None]
    even = curve[after - 1] * (1 - share) + curve[after] * share
    return even.at[0].set(curve[0]).at[-1].set(curve[-1])
