r"""A node of a grid that a front reaches across simplices of its neighbours.

Hopf and Lax: the shortest path to x passes a point Σ λᵢyᵢ of a simplex {yᵢ} of neighbours. With
the distances Tᵢ of the corners the least of

    λ·T + √(λᵀKλ),   Kᵢⱼ = (x − yᵢ)ᵀ g (x − yⱼ),   λ ≥ 0,   Σλᵢ = 1

is known in closed form. That interpolates distances linearly; where gradients pᵢ are known too,
their squares are interpolated instead, as is exact where the metric is constant:

    T² = λᵀBλ,   Bᵢⱼ = ½(Tᵢ² + Tⱼ²) − ½(Tᵢpᵢ − Tⱼpⱼ)·(yᵢ − yⱼ)

Arithmetic of small vectors is written out over arrays of nodes, which is several times faster than
arrays with a last axis of two or three.
"""

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import safe_sqrt

LINEARISATIONS = 4
"""Of an interpolated distance, where gradients are known."""


def face_of_cube(d: int) -> tuple[Int[np.ndarray, "m d_minus_1"], Int[np.ndarray, "d s"]]:
    """A face's 3ᵈ⁻¹ nodes, relative to the one in its middle, and the simplices they form."""
    nodes = np.indices((3,) * (d - 1)).reshape(d - 1, -1).T - 1
    walks = [
        np.array(signs)[:, None] * np.eye(d - 1, dtype=int)[list(order)]
        for order in itertools.permutations(range(d - 1))
        for signs in itertools.product((-1, 1), repeat=d - 1)
    ]
    corners = np.cumsum(np.pad(walks, ((0, 0), (1, 0), (0, 0))), axis=1)
    return nodes, ((corners + 1) @ 3 ** np.arange(d - 2, -1, -1)).T


def _dot(a: Sequence[Array] | Array, b: Sequence[Array] | Array) -> Array:
    return functools.reduce(operator.add, (x * y for x, y in zip(a, b, strict=True)))


def _solve_small(matrix: list[list[Array]], sides: list[list[Array]]) -> list[list[Array]]:
    """Gauss's elimination for a positive definite matrix."""
    rows = [[*row, *(side[i] for side in sides)] for i, row in enumerate(matrix)]
    d = len(rows)
    for i, j in itertools.permutations(range(d), 2):
        factor = rows[j][i] / rows[i][i]
        rows[j] = [x - factor * y for x, y in zip(rows[j], rows[i], strict=True)]
    return [[rows[i][d + k] / rows[i][i] for i in range(d)] for k in range(len(sides))]


def _normalised(weights: list[Array]) -> list[Array]:
    total = functools.reduce(operator.add, weights)
    return [w / jnp.where(total > 0, total, 1) for w in weights]


class Nodes(NamedTuple):
    """Nodes of any arrangement, the axes of coordinates first."""

    t: Float[Array, "*nodes"]  # distances, infinite where not reached
    p: Float[Array, "d *nodes"]  # their gradients
    g: Float[Array, "d d *nodes"]


Steps = list[list[Array]]
"""Of d corners of simplices: the components of the steps from there to the nodes."""


def _arrival(
    k: list[list[Array]], rise: list[Array], one: list[Array]
) -> tuple[Array, list[Array]]:
    """The least λ·t + √(λᵀKλ) over Σλ = 1, and λ unless some are negative, not normalised.

    It is the T of (T − t)ᵀK⁻¹(T − t) = 1, with λ along K⁻¹(T − t). NaN where there is none: the
    front is too steep for its corners to be all of use.
    """
    u, v = _solve_small(k, [one, rise])
    a, h, c = _dot(u, one), _dot(v, one), _dot(v, rise)
    arrival = (h + jnp.sqrt(h**2 - a * (c - 1))) / a
    return arrival, [x * arrival - y for x, y in zip(u, v, strict=True)]


def _lengths(g: Any, steps: Steps) -> list[list[Array]]:
    """K, of steps in the metric."""
    lowered = [[_dot(row, s) for row in g] for s in steps]
    return [[_dot(s, low) for low in lowered] for s in steps]


def _nearest(
    g: Float[Array, "d d *nodes"], steps: Steps, corners: list[Nodes]
) -> Int[Array, "*nodes"]:
    """Across which simplex, the first axis, nodes are reached soonest by linear interpolation."""
    best = jnp.full(corners[0].t.shape, jnp.inf, g.dtype)
    k = _lengths((g[:, :, None] + corners[0].g) / 2, steps)
    for size in range(1, len(corners) + 1):
        for subset in itertools.combinations(range(len(corners)), size):
            t = [corners[i].t for i in subset]
            one = [jnp.ones_like(best)] * size
            low = functools.reduce(jnp.minimum, t)  # lest differences drown in rounding
            part = [[k[i][j] for j in subset] for i in subset]
            arrival, weights = _arrival(part, [x - low for x in t], one)
            inside = functools.reduce(jnp.logical_and, [w >= 0 for w in weights])
            best = jnp.where(inside, jnp.fmin(best, low + arrival), best)
    return jnp.argmin(best, axis=0)


def reach(
    g: Float[Array, "d d *nodes"], steps: Steps, corners: list[Nodes], curved: Bool[Array, ""]
) -> tuple[Float[Array, "*nodes"], Float[Array, "d *nodes"], Float[Array, "d *nodes"]]:
    """Distances of nodes with metric `g`, their gradients, and the steps there from the feet.

    Corners have a first axis, of simplices; the best is taken, and there the best subset of its
    corners, as the foot may be in the interior of any one's hull.
    """
    axes, best = range(len(corners)), _nearest(g, steps, corners)[None]

    def take(x: Array) -> Array:
        return jnp.take_along_axis(
            x, best.reshape(*[1] * (x.ndim - best.ndim), *best.shape), -best.ndim
        )

    corners = [Nodes(take(y.t), take(y.p), take(y.g)) for y in corners]
    steps = [[take(jnp.broadcast_to(x, (x.shape[0], *best.shape[1:]))) for x in s] for s in steps]
    g = g[:, :, None]  # a new first axis, of subsets
    known = [jnp.isfinite(y.t) for y in corners]
    t = [jnp.where(k, y.t, 0) for k, y in zip(known, corners, strict=True)]
    subsets = np.array(list(itertools.product((False, True), repeat=len(corners)))[1:])
    used = [subsets[:, i].reshape(-1, *[1] * (best.ndim - 1)) & known[i] for i in axes]
    one = [jnp.where(u, jnp.ones_like(x), 0) for u, x in zip(used, t, strict=True)]
    interpolate = functools.reduce(jnp.logical_and, known, curved)
    squares = [[t[i] * t[j] for j in axes] for i in axes]
    for i, j in itertools.combinations(axes, 2):
        turn = [t[i] * a - t[j] * b for a, b in zip(corners[i].p, corners[j].p, strict=True)]
        along = _dot(turn, [x - y for x, y in zip(steps[j], steps[i], strict=True)])
        smooth = (squares[i][i] + squares[j][j] - along) / 2
        squares[i][j] = squares[j][i] = jnp.where(interpolate, smooth, squares[i][j])

    def middle(weights: list[Array]) -> list[list[Array]]:
        """The metric half-way from the foot."""
        return [
            [(g[a, b] + _dot(weights, [y.g[a, b] for y in corners])) / 2 for b in axes]
            for a in axes
        ]

    def distance(weights: list[Array]) -> tuple[list[Array], Array]:
        """Of the foot: its derivatives in the weights, and itself."""
        slope = [_dot(row, weights) for row in squares]
        at = safe_sqrt(jnp.maximum(_dot(weights, slope), 0))
        return [s / jnp.where(at > 0, at, 1) for s in slope], at

    def improve(_: Any, weights: list[Array]) -> list[Array]:
        slope, at = distance(weights)
        # relative to the foot, lest differences drown in rounding
        rise = [o * (s - at) for o, s in zip(one, slope, strict=True)]
        k = _lengths(middle(weights), steps)
        masked = [
            [jnp.where(used[i] & used[j], k[i][j], float(i == j)) for j in axes] for i in axes
        ]
        _, found = _arrival(masked, rise, one)
        return _normalised([jnp.fmax(o * w, 0) for o, w in zip(one, found, strict=True)])

    rounds = jnp.where(curved, LINEARISATIONS, 1)
    weights = jax.lax.fori_loop(0, rounds, improve, _normalised(one))
    step = [_dot(weights, [s[a] for s in steps]) for a in axes]
    covector = [_dot(row, step) for row in middle(weights)]
    way = jnp.sqrt(_dot(step, covector))
    reached = way > 0  # neither without corners nor with an indefinite metric
    arrival = jnp.where(reached, distance(weights)[1] + way, jnp.inf)
    foot = jnp.argmin(arrival, axis=0)[None]
    covector = [c / jnp.where(reached, way, 1) for c in covector]

    def chosen(x: Array) -> Array:
        return jnp.take_along_axis(x, foot, axis=0)[0]

    return chosen(arrival), jnp.stack([*map(chosen, covector)]), jnp.stack([*map(chosen, step)])
