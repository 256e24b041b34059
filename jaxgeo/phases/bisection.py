"""Where a discrete label changes on a segment, to the last bit."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int

from jaxgeo._results import RESULTS
from jaxgeo._typing import Point, as_point

Label = Callable[[Point], Int[Array, ""] | Bool[Array, ""]]
"""Any callable from a point to the number of the phase it is in."""

CHUNK = 1024
"""Labels computed side by side if nobody says otherwise: a label may be a whole sampler."""


@final
class BoundaryPoint(eqx.Module):
    """Two neighbouring points in different phases; both are NaN unless `result` is `successful`.

    - `before`: `(d,)`, the last point with the label of the segment's start.
    - `after`: `(d,)`, the next one, with another label.
    - `labels`: `(2,)`, of these two, or of the segment's ends if it has no boundary.
    - `result`: a `RESULTS` member.
    """

    before: Point
    after: Point
    labels: Int[Array, " 2"]
    result: Any


def boundary_point(
    label: Label, start: ArrayLike, end: ArrayLike, *, throw: bool = True
) -> BoundaryPoint:
    """A point of a segment at which its label changes, as sharply as floats can tell.

    The interval is halved, the start's label kept at its one end and another at its other, until
    no number lies between the two in any coordinate. They are then equal or adjacent floats, of
    float64, float32, float16 or bfloat16, whichever `start` has. Of several boundaries on the
    segment one is found.

    **Arguments:**

    - `label`: any callable from a point to an integer.
    - `start`, `end`: `(d,)`, in different phases.
    - `throw`: raise on failure; otherwise see `result`.

    **Returns:** `BoundaryPoint`. Without derivatives.

    **Fails:** `ValueError` on shapes and dtypes. `no_boundary` if both ends have one label,
    `nonfinite` if a coordinate is.

    **Cost:** one label a halving: about as many as a float has bits, 55, 26 or 13. Floats grow
    denser towards zero, and on the way to a coordinate that is zero on the boundary there are up
    to 1077, 152 or 27. Compiles once per shape and structure.

    **Example:** the square root of two.

    >>> found = boundary_point(lambda z: z[0] ** 2 > 2, jnp.zeros(1), jnp.full(1, 2.0))
    >>> found.before.item() == 2**0.5 or found.after.item() == 2**0.5
    True
    """
    start = as_point(start, "start")
    end = as_point(end, "end", start)
    found = _boundary_point(label, start, end)
    return found.result.error_if(found, found.result != RESULTS.successful) if throw else found


@eqx.filter_jit
def _boundary_point(label: Label, start: Array, end: Array) -> BoundaryPoint:
    check_label(label, start)
    finite = jnp.all(jnp.isfinite(start) & jnp.isfinite(end))
    before, after, labels = halve(label, start, jnp.where(finite, end, start))
    result = RESULTS.where(labels[0] == labels[1], RESULTS.no_boundary, RESULTS.successful)
    result = RESULTS.where(finite, result, RESULTS.nonfinite)
    before, after = (jnp.where(result == RESULTS.successful, z, jnp.nan) for z in (before, after))
    return BoundaryPoint(before, after, labels, result)


def halve(
    label: Label, start: Point, end: Point, most: int | Int[Array, ""] | None = None
) -> tuple[Point, Point, Int[Array, " 2"]]:
    """The ends, and their labels, of a segment halved `most` times, or until they are neighbours.

    A segment whose ends have one label stays as it is."""
    precision = jnp.finfo(start.dtype)
    # from the largest float towards zero and through one significand: no sequence is longer
    limit = precision.maxexp - precision.minexp + 2 * precision.nmant if most is None else most

    def at(z: Array) -> Array:
        return jnp.asarray(label(z)).astype(int)

    def middle(a: Array, b: Array) -> Array:
        # XLA may carry halves at higher precision: then they would never meet their neighbours
        return jax.lax.reduce_precision(a / 2 + b / 2, precision.nexp, precision.nmant)

    def running(state: tuple) -> Array:
        a, b, labels, count = state
        z = middle(a, b)
        apart = jnp.any(z != a) & jnp.any(z != b)
        return apart & (labels[0] != labels[1]) & (count < limit)

    def step(state: tuple) -> tuple:
        a, b, labels, count = state
        z = middle(a, b)
        here = at(z)
        same = here == labels[0]
        return (
            jnp.where(same, z, a),
            jnp.where(same, b, z),
            labels.at[1].set(jnp.where(same, labels[1], here)),
            count + 1,
        )

    begin = (start, end, jnp.stack([at(start), at(end)]), jnp.zeros((), int))
    return jax.lax.while_loop(running, step, begin)[:3]


def check_label(label: Label, z: Array) -> None:
    """`ValueError` unless `label` maps `z: (d,)` to one integer or truth value."""
    out = jax.eval_shape(lambda point: label(point), z)
    kinds = (jnp.integer, jnp.bool_)
    if getattr(out, "shape", None) != () or not any(
        jnp.issubdtype(out.dtype, kind) for kind in kinds
    ):
        raise ValueError(f"`label` must return one integer at a point, got {out}.")
