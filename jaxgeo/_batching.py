"""Functions of many points: side by side, or one after another."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree


@eqx.filter_jit
def each(f: Callable[[Any], PyTree], points: PyTree) -> PyTree:
    """f of every point, compiled once for each structure of f."""
    return jax.vmap(f)(points)


def one_by_one(f: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """`f(*args)`; under `jax.vmap` one element after another on a CPU, side by side elsewhere.

    Side by side all wait for the slowest, at every level of nested loops: many cores that would
    idle otherwise make up for it, few do not. Not differentiable. Where a CPU is the default, the
    other program is not even traced, for it doubles with every level of `vmap`: a program exported
    from there goes one after another on any platform.
    """
    dynamic, static = eqx.partition(args, eqx.is_array)

    @jax.custom_batching.custom_vmap
    def run(dynamic: PyTree) -> PyTree:
        return f(*eqx.combine(dynamic, static))

    @run.def_vmap
    def _(size: int, batched: Any, dynamic: PyTree) -> tuple[PyTree, Any]:
        def in_turn(dynamic: PyTree) -> PyTree:
            moving, still = eqx.partition(dynamic, batched[0])
            return jax.lax.map(lambda x: run(eqx.combine(x, still)), moving)

        def side_by_side(dynamic: PyTree) -> PyTree:
            axes = jax.tree.map(lambda moves: 0 if moves else None, batched[0])
            return jax.vmap(lambda x: f(*eqx.combine(x, static)), (axes,), axis_size=size)(dynamic)

        if jax.default_backend() == "cpu":
            out = in_turn(dynamic)
        else:
            out = jax.lax.platform_dependent(dynamic, cpu=in_turn, default=side_by_side)
        return out, jax.tree.map(lambda _: True, out)

    return run(dynamic)
