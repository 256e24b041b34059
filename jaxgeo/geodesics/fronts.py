r"""Distances from one point to every node of a grid, and the globally shortest paths behind them.

A node is reached across simplices of its neighbours (`hopf_lax`). The surface of the cube of
neighbours, and with it every direction in which a node may be reached however anisotropic the
metric is, consists of faces that each lie in one plane of the grid next to the node. So a sweep
updates plane after plane, whole planes at once, along every axis in both senses, and sweeps are
repeated until no distance changes.

A first round interpolates distances linearly: of first order, and monotone, so it works for any
metric. A second one, across the face by which each node was reached, takes gradients into account:
of second order.
"""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxgeo._linalg import quadratic_form, safe_sqrt
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, as_count, as_limit, as_point, check_metric
from jaxgeo.geodesics.hopf_lax import Nodes, face_of_cube, reach
from jaxgeo.geodesics.solution import check_inside, first_failure, is_outside, metric_result
from jaxgeo.geometry.curves import resample
from jaxgeo.grids import as_axes, on_grid

RADIUS = 3
"""Nodes at most so many cells from the source, on every axis, are first reached straight."""

TOLERANCE = 1e-8
"""Relative change of a distance that counts as none."""

STEPS = 8
"""A path has at most so many steps, of half a cell or more, for every node of every axis."""


@final
class DistanceMap(eqx.Module):
    """Distances from a point to the nodes of a grid, and how their computation ended.

    - `axes`: the grid, two or three arrays.
    - `source`: `(d,)`.
    - `distances`: `(n1, n2[, n3])`.
    - `gradients`: `(n1, n2[, n3], d)`, the covector ∂T of the distance T as the last step to the
      node has it, so of first order; −g⁻¹∂T points back along the shortest path.
    - `order`: of the distances in the spacing: 2, or 1 where the metric turns so much from node to
      node that the second round of sweeps does not settle.
    - `result`: a `RESULTS` member.
    - `iterations`: sweeps over the grid, along all axes and in both senses.
    """

    axes: tuple[Float[Array, " _"], ...]
    source: Point
    distances: Float[Array, "*shape"]
    gradients: Float[Array, "*shape d"]
    order: Int[Array, ""]
    result: Any
    iterations: Int[Array, ""]


def distance_map(
    metric: Metric,
    source: ArrayLike,
    axes: Sequence[ArrayLike],
    *,
    max_iterations: int = 50,
    throw: bool = True,
) -> DistanceMap:
    r"""The distance from `source` to every node of a grid, over all ways inside the grid's box.

    $$ g^{-1}(\partial T, \partial T) = 1, \qquad T(z_0) = 0 $$

    Globally shortest, where `geodesic_bvp` finds one of perhaps many geodesics.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix. Sampled at the nodes, so
      what is thinner than a cell is not seen.
    - `source`: `(d,)` in the grid's box, at a node or not.
    - `axes`: two or three strictly increasing arrays of at least 3 nodes, evenly spaced or not.
    - `max_iterations`: in either round.
    - `throw`: raise on failure, once, at the end.

    **Returns:** `DistanceMap`, of second order in the spacing where the distance is smooth, of
    first order behind corners and jumps of the metric. No derivatives: for these, `distance`.

    **Fails:** `ValueError` on axes, dtypes, and a source outside (`left_domain` if only the
    compiled program sees it). `nonfinite` and `metric_not_positive_definite` where the metric is
    so at a node, `nonfinite` also if a distance overflows; `not_converged`.

    **Cost:** a metric evaluation a node; some 8 to 15 sweeps of 8 edges a node in the plane, of
    48 triangles in space, more where shortest paths wind. Compiles once per shape and structure
    of `metric`.

    **Example:**

    >>> from jaxgeo.problems import euclidean_metric
    >>> axes = (jnp.linspace(0.0, 3.0, 13), jnp.linspace(0.0, 4.0, 13))
    >>> round(distance_map(euclidean_metric, jnp.zeros(2), axes).distances[-1, -1].item(), 3)
    5.0

    **Reference:** Bornemann & Rasch (2006), *Comput. Vis. Sci.* 9, 57, for the local problem;
    Weber, Devir, Bronstein, Bronstein & Kimmel (2008), *ACM Trans. Graph.* 27, 104, for the
    sweeps; Potter & Cameron (2021), *J. Sci. Comput.* 87, for gradients at the nodes.
    """
    start = as_point(source, "source")
    grid_axes = _as_axes(axes, start)
    check_inside(start, "source", _box(grid_axes), "the grid's box")
    return _solve(metric, start, grid_axes, as_limit(max_iterations, "max_iterations"), throw)


def shortest_path(
    metric: Metric, distance_map: DistanceMap, target: ArrayLike, *, n: int = 65
) -> Float[Array, "n d"]:
    r"""The globally shortest path from the source of a distance map, traced back from `target`.

    Every step goes to the point, on the surface of the cube of nodes around, from which the target
    is reached soonest; the last few cells are straight. A `start` for `geodesic_bvp`.

    **Arguments:** `metric` as in the map; `distance_map`; `target`, `(d,)` in the grid's box, at
    a node or not; `n` ≥ 2 points.

    **Returns:** `(n, d)` from the source to the target, both to the last bit, at equal steps of
    length.

    **Fails:** `ValueError` on shape, dtype, and a target outside. All points are NaN if the map
    is not `successful`, or if the path does not come near the source within 8 steps for every
    node of every axis.

    **Cost:** one metric evaluation a step, one after another.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> axes = (jnp.linspace(-1.5, 1.5, 33), jnp.linspace(0.5, 2.0, 33))
    >>> reached = distance_map(half_plane_metric, jnp.array([-1.0, 1.0]), axes)
    >>> top = shortest_path(half_plane_metric, reached, jnp.array([1.0, 1.0]), n=3)[1]
    >>> round(top[1].item(), 1)  # on the circle around the origin: √2
    1.4
    """
    end = as_point(target, "target", distance_map.source)
    check_inside(end, "target", _box(distance_map.axes), "the grid's box")
    n = as_count(n, "n", 2)
    return _trace(metric, distance_map, end, n)


def _as_axes(axes: Sequence[ArrayLike], like: Array) -> tuple[Array, ...]:
    arrays = as_axes(axes)
    if len(arrays) not in (2, 3) or len(arrays) != like.size:
        raise ValueError(
            f"`axes` must hold 2 or 3 arrays, as many as `source` has coordinates, got "
            f"{len(arrays)} for {like.size}."
        )
    for k, axis in enumerate(arrays):
        if axis.size < 3:
            raise ValueError(f"`axes[{k}]` must have shape (n,) with n ≥ 3, got {axis.shape}.")
        if axis.dtype != like.dtype:
            raise ValueError(
                f"`axes[{k}]` must have dtype {like.dtype} like `source`, got {axis.dtype}."
            )
        if not isinstance(axis, jax.core.Tracer):
            values = np.asarray(axis)
            if not (np.all(np.isfinite(values)) and np.all(np.diff(values) > 0)):
                raise ValueError(f"`axes[{k}]` must increase strictly, got {values}.")
    return arrays


def _box(axes: tuple[Array, ...]) -> Float[Array, "d 2"]:
    return jnp.stack([jnp.stack([axis[0], axis[-1]]) for axis in axes])


def _extended(axis: Float[Array, " n"]) -> Float[Array, " n_plus_2"]:
    return jnp.concatenate([2 * axis[:1] - axis[1:2], axis, 2 * axis[-1:] - axis[-2:-1]])


class _Front(NamedTuple):
    t: Float[Array, "*shape"]
    p: Float[Array, "d *shape"]
    face: Int[Array, "*shape"]  # of its cube, by which each node is reached; −1 at the source
    changed: Bool[Array, ""]


def _sweep(
    axes: tuple[Array, ...],
    g: Float[Array, "d d *shape"],
    front: _Front,
    k: int,
    upwards: Bool[Array, ""],
    curved: Bool[Array, ""],
) -> _Front:
    """Update plane after plane along axis `k`, each from the one before it."""
    d, dtype = len(axes), front.t.dtype
    face, simplices = face_of_cube(d)
    others = [axis for a, axis in enumerate(axes) if a != k]
    sizes = tuple(axis.size for axis in others)
    identity = 2 * k + upwards.astype(front.face.dtype)
    tolerance = max(TOLERANCE, 64 * float(jnp.finfo(dtype).eps))

    def corners(x: Array, **how: Any) -> list[Array]:
        """What the corners of all simplices have of a plane's (…, *plane): d of (…, s, *plane)."""
        extra = x.ndim - len(sizes)
        x = jnp.pad(x, [(0, 0)] * extra + [(1, 1)] * len(sizes), **how)
        views = [
            x[(..., *(slice(1 + o, 1 + o + n) for o, n in zip(offset, sizes, strict=True)))]
            for offset in face
        ]
        return [jnp.stack([views[i] for i in chosen], axis=extra) for chosen in simplices]

    within = [
        [here[None] - y for y in corners(here, mode="reflect", reflect_type="odd")]
        for here in jnp.meshgrid(*others, indexing="ij")
    ]

    def advance(carry: Any, plane: Any) -> Any:
        before, x_before, changed = carry
        t, p, g, face, x = plane
        around = [
            Nodes(*y)
            for y in zip(
                corners(before.t, constant_values=jnp.inf),
                corners(before.p),
                corners(before.g, mode="edge"),
                strict=True,
            )
        ]
        across = jnp.broadcast_to(x - x_before, within[0][0].shape)
        steps = [[w[i] for w in within] for i in range(d)]
        for step in steps:
            step.insert(k, across)
        t_new, p_new, _ = reach(g, steps, around, curved)
        better = t_new < t * (1 - tolerance)
        again = (face == identity) & jnp.isfinite(t_new)
        update = jnp.where(curved, again, better)
        moved = update & ~(jnp.abs(t_new - t) <= tolerance * t_new)
        t, p = jnp.where(update, t_new, t), jnp.where(update, p_new, p)
        face = jnp.where(update, identity, face)
        return (Nodes(t, p, g), x, changed | jnp.any(moved)), (t, p, face)

    def turned(x: Array, axis: int) -> Array:
        x = jnp.moveaxis(x, axis, 0)
        return jnp.where(upwards, x, x[::-1])

    planes = (
        turned(front.t, k),
        turned(front.p, 1 + k),
        turned(g, 2 + k),
        turned(front.face, k),
        turned(axes[k], 0),
    )
    first = Nodes(jnp.full(sizes, jnp.inf, dtype), jnp.zeros((d, *sizes), dtype), planes[2][0])
    start = first, planes[4][0] - (planes[4][1] - planes[4][0]), front.changed
    (_, _, changed), (t, p, face) = jax.lax.scan(advance, start, planes)

    def back(x: Array, axis: int) -> Array:
        return jnp.moveaxis(jnp.where(upwards, x, x[::-1]), 0, axis)

    return _Front(back(t, k), back(p, 1 + k), back(face, k), changed)


def _cells(axes: tuple[Array, ...], z: Point) -> Float[Array, " d"]:
    """Where `z` is, counted in nodes along every axis."""
    return jnp.stack(
        [
            jnp.interp(x, axis, jnp.arange(axis.size, dtype=axis.dtype))
            for x, axis in zip(z, axes, strict=True)
        ]
    )


def _start(
    metric: Metric, source: Point, axes: tuple[Array, ...]
) -> tuple[Float[Array, "*shape"], Float[Array, "d *shape"]]:
    """Distances and gradients near the source, of straight lines, by the metric half-way."""
    d, shape = len(axes), tuple(axis.size for axis in axes)
    offsets = np.indices((2 * RADIUS + 1,) * d).reshape(d, -1) - RADIUS
    index = jnp.round(_cells(axes, source)).astype(jnp.int32)[:, None] + jnp.asarray(offsets)
    # beyond the grid, on either side, nothing is written
    place = tuple(jnp.where(i < 0, n, i) for i, n in zip(index, shape, strict=True))

    def square(z: Point) -> Scalar:
        return quadratic_form(metric((z + source) / 2), z - source, z - source)

    points = jnp.stack([axis.at[i].get(mode="clip") for axis, i in zip(axes, place, strict=True)])
    squares, slopes = jax.vmap(jax.value_and_grad(square), in_axes=1)(points)
    t = safe_sqrt(squares)
    p = (slopes / jnp.where(t > 0, 2 * t, 1)[:, None]).T
    none, flat = jnp.full(shape, jnp.inf, t.dtype), jnp.zeros((d, *shape), t.dtype)
    return none.at[place].set(t, mode="drop"), flat.at[:, *place].set(p, mode="drop")


@eqx.filter_jit
def _solve(
    metric: Metric, source: Array, axes: tuple[Array, ...], limit: Int[Array, ""], throw: bool
) -> DistanceMap:
    check_metric(metric, source)
    metrics = on_grid(metric, axes)
    g = jnp.moveaxis(metrics, (-2, -1), (0, 1))
    t, p = _start(metric, source, axes)
    none = jnp.zeros((), bool)

    def both_ways(k: int, front: _Front, curved: Bool[Array, ""]) -> _Front:
        def one(front: _Front, upwards: Bool[Array, ""]) -> tuple[_Front, None]:
            return _sweep(axes, g, front, k, upwards, curved), None

        return jax.lax.scan(one, front, jnp.array([True, False]))[0]

    def settle(front: _Front, curved: Bool[Array, ""]) -> tuple[_Front, tuple[_Front, Array]]:
        def sweep(state: tuple[_Front, Array]) -> tuple[_Front, Array]:
            front, count = state
            front = front._replace(changed=none)
            for k in range(len(axes)):
                front = both_ways(k, front, curved)
            return front, count + 1

        start = front._replace(changed=~none), jnp.zeros((), jnp.int32)
        end = jax.lax.while_loop(lambda s: s[0].changed & (s[1] < limit), sweep, start)
        return end[0], end

    front = _Front(t, p, jnp.full(t.shape, -1, jnp.int32), none)
    # a scan, so that the sweeps are compiled once for both rounds
    _, (fronts, counts) = jax.lax.scan(settle, front, jnp.array([False, True]))
    first, second = (jax.tree.map(operator.itemgetter(i), fronts) for i in range(2))
    front = jax.tree.map(lambda a, b: jnp.where(second.changed, a, b), first, second)
    outside = is_outside(source, _box(axes))
    result = first_failure(
        RESULTS.where(outside, RESULTS.left_domain, RESULTS.successful),
        metric_result(metrics),
        RESULTS.where(first.changed, RESULTS.not_converged, RESULTS.successful),
        RESULTS.where(jnp.all(jnp.isfinite(front.t)), RESULTS.successful, RESULTS.nonfinite),
    )
    gradients = jnp.moveaxis(front.p, 0, -1)
    order = jnp.where(second.changed, 1, 2)
    found = DistanceMap(axes, source, front.t, gradients, order, result, jnp.sum(counts))
    if throw:
        found = result.error_if(found, result != RESULTS.successful)
    return found


@eqx.filter_jit
def _trace(metric: Metric, known: DistanceMap, target: Array, n: int) -> Float[Array, "n d"]:
    check_metric(metric, target)
    d = target.size
    face, simplices = face_of_cube(d)
    # all faces of the cube, as corners of simplices: (d, simplices, d)
    offsets = np.concatenate(
        [np.insert(face[simplices], k, side, axis=-1) for k in range(d) for side in (-1, 1)],
        axis=1,
    )
    axes = tuple(_extended(axis) for axis in known.axes)
    padded = [(1, 1)] * d
    t = jnp.pad(known.distances, padded, constant_values=jnp.inf)
    p = jnp.pad(known.gradients, [*padded, (0, 0)])
    home = jnp.round(_cells(known.axes, known.source))

    def away(x: Point) -> Bool[Array, ""]:
        return jnp.any(jnp.abs(jnp.round(_cells(known.axes, x)) - home) > RADIUS)

    def back(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        points, x, count = state
        nearest = jnp.round(_cells(known.axes, x)).astype(jnp.int32) + 1
        index = tuple(jnp.moveaxis(nearest[None, None] + jnp.asarray(offsets), -1, 0))
        g = metric(x)
        corners, steps = [], []
        for i in range(d):
            place = tuple(axis[i] for axis in index)
            y = [axis[j] for axis, j in zip(axes, place, strict=True)]
            steps.append([a - b for a, b in zip(x, y, strict=True)])
            still = jnp.broadcast_to(g[..., None], (d, d, y[0].size))
            corners.append(Nodes(t[place], p[place].T, still))
        _, _, step = reach(g, steps, corners, jnp.ones((), bool))
        return points.at[count].set(x), x - step, count + 1

    most = STEPS * sum(axis.size for axis in known.axes)
    rest = jnp.broadcast_to(known.source, (most + 1, d))
    points, x, count = jax.lax.while_loop(
        lambda state: away(state[1]) & (state[2] < most),
        back,
        (rest, target, jnp.zeros((), jnp.int32)),
    )
    path = resample(metric, points.at[count].set(x)[::-1], n)
    inside = ~is_outside(target, _box(known.axes))
    arrived = inside & ~away(x) & (known.result == RESULTS.successful)
    return jnp.where(arrived, path, jnp.nan)
