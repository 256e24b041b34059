"""The dimension of a phase boundary by how often a small step changes the label."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxgeo._typing import as_count
from jaxgeo.phases.bisection import CHUNK, Label, check_label
from jaxgeo.phases.slopes import fit_slope
from jaxgeo.phases.zoom import resolution

LARGEST = 1 / 16
"""Of the domain's shortest side: the longest step."""
STEP = 0.5
"""Ratio of one step's length to the one before."""
LAST = 8
"""Spacings of floats in the shortest step, lest rounding change its length."""
FEWEST = 50
"""Uncertain points at least, of each step that is fitted: 14 % of their number."""


class UncertaintyDimension(NamedTuple):
    """A dimension by uncertain points, and what it was read off.

    - `dimension`: d less the slope of log fractions against log steps where they are `fitted`.
    - `error`: of it, one standard deviation.
    - `steps`: `(n,)`, the lengths ε, the longest first.
    - `fractions`: `(n,)`, of points that are uncertain, f(ε).
    - `uncertain`: `(n,)`, their number.
    - `slopes`: `(n − 1,)`, local dimensions, between one step and the next; NaN where none is.
    - `fitted`: `(n,)`, the steps with points enough.
    """

    dimension: float
    error: float
    steps: Float[np.ndarray, " n"]
    fractions: Float[np.ndarray, " n"]
    uncertain: Int[np.ndarray, " n"]
    slopes: Float[np.ndarray, " n-1"]
    fitted: Bool[np.ndarray, " n"]


def uncertainty_dimension(
    label: Label,
    domain: ArrayLike,
    *,
    key: PRNGKeyArray,
    steps: Sequence[float] | None = None,
    n: int = 1 << 17,
    chunk_size: int = CHUNK,
) -> UncertaintyDimension:
    r"""The dimension of a boundary from the share of points that are near it.

    $$ f(\varepsilon) = P\bigl[\text{label}(z \pm \varepsilon u)
       \text{ are not both label}(z)\bigr] \sim \varepsilon^{d - D} $$

    for z uniform over the domain and u over directions, new ones for each ε, so that fractions
    are independent. It needs no grid, so d may be larger than 2, and sees far below any: f(ε) is
    measured as long as n f(ε) is not small, to ε of 50/n for a smooth boundary, and where D is
    near d down to the dtype. On a small `domain` about a `boundary_point` it begins where
    another ended.

    Each ε is half of the one before, from 1/16 of the domain's shortest side down to 8 spacings of
    floats at its largest coordinate, or until fewer than 50 points are uncertain; the last such ε
    are not fitted. The fit weighs logarithms by their binomial errors. Its error is the
    larger of what these and what the residuals imply, with half of the difference between the
    fits of the longer and the shorter steps added in squares.

    **Arguments:**

    - `label`: any callable from a point `(d,)` to an integer.
    - `domain`: `(d, 2)`, lower and upper bounds. Its dtype is that of the points.
    - `key`.
    - `steps`: the lengths ε, decreasing, if they are not to be chosen as above.
    - `n`: points for each ε, rounded up to whole chunks.
    - `chunk_size`: points evaluated side by side.

    **Returns:** `UncertaintyDimension`.

    **Fails:** `ValueError` on shapes, dtypes, bounds and steps, and if fewer than four steps have
    50 uncertain points each.

    **Cost:** 3n labels for each ε. Compiles once per shape and structure.

    **Example:** a circle.

    >>> box = jnp.array([[-1.0, 1.0], [-1.0, 1.0]])
    >>> disc = lambda z: z[0] ** 2 + z[1] ** 2 < 0.5
    >>> found = uncertainty_dimension(disc, box, key=jax.random.key(0), n=1 << 14)
    >>> bool(abs(found.dimension - 1) < 3 * found.error < 0.2)
    True

    **Reference:** McDonald, Grebogi, Ott & Yorke (1985), *Physica D* 17, 125.
    """
    box = _as_box(domain)
    check_label(label, box[:, 0])
    n = as_count(n, "n")
    lower, upper = np.asarray(box).astype(float).T
    shortest = LAST * resolution(float(np.abs([lower, upper]).max()), box.dtype)
    if steps is None:
        lengths = LARGEST * (upper - lower).min() * STEP ** np.arange(1100)
        lengths = lengths[lengths >= shortest]
    else:
        lengths = np.asarray(steps, np.float64)
        if lengths.ndim != 1 or not np.all(np.diff(lengths) < 0) or lengths[-1] < shortest:
            raise ValueError(f"`steps` must decrease to {shortest:g} or more, got {lengths}.")
    chunk = min(as_count(chunk_size, "chunk_size"), n)
    chunks = -(-n // chunk)
    uncertain: list[int] = []
    for length, part in zip(lengths, jax.random.split(key, len(lengths)), strict=True):
        step = jnp.asarray(length, box.dtype)
        uncertain.append(int(_uncertain(label, box, step, part, chunk, chunks)))
        if steps is None and uncertain[-1] < FEWEST:
            break
    return _fit(lengths[: len(uncertain)], np.array(uncertain), chunk * chunks, len(box))


def _fit(lengths: np.ndarray, uncertain: np.ndarray, n: int, d: int) -> UncertaintyDimension:
    fitted = uncertain >= FEWEST
    if fitted.sum() < 4:
        raise ValueError(
            f"`n` must give {FEWEST} uncertain points at four steps or more, got {uncertain} of "
            f"{n} at {lengths}."
        )
    fractions = uncertain / n
    # where all are uncertain half a point is not, lest one weight be infinite
    certain = np.maximum(n - uncertain, 0.5)
    weights = (n * uncertain / certain)[fitted]
    x = np.log(lengths)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(fractions)
        slopes = d - np.diff(y) / np.diff(x)
    slope, error = fit_slope(x[fitted], y[fitted], weights)
    return UncertaintyDimension(d - slope, error, lengths, fractions, uncertain, slopes, fitted)


def _as_box(domain: ArrayLike) -> Float[Array, "d 2"]:
    box = jnp.asarray(domain)
    if box.ndim != 2 or box.shape[1] != 2 or not jnp.issubdtype(box.dtype, jnp.floating):
        raise ValueError(f"`domain` must be floats (d, 2), got shape {box.shape}, {box.dtype}.")
    if not (np.all(np.isfinite(box)) and np.all(box[:, 0] < box[:, 1])):
        raise ValueError(f"`domain` must have finite lower < upper, got {box}.")
    return box


@eqx.filter_jit
def _uncertain(
    label: Label, box: Array, step: Array, key: PRNGKeyArray, chunk: int, chunks: int
) -> Int[Array, ""]:
    """How many of the points are uncertain."""
    shape = (len(box),)

    def one(key: Any) -> Array:
        at, towards = jax.random.split(key)
        share = jax.random.uniform(at, shape, box.dtype)
        z = box[:, 0] + share * (box[:, 1] - box[:, 0])
        u = jax.random.normal(towards, shape, box.dtype)
        u = step * u / jnp.linalg.norm(u)
        here, *beside = (label(place) for place in (z, z + u, z - u))
        return jnp.any(jnp.stack(beside) != here)

    def of_chunk(key: Any) -> Array:
        return jnp.sum(jax.vmap(one)(jax.random.split(key, chunk)))

    return jnp.sum(jax.lax.map(of_chunk, jax.random.split(key, chunks)))
