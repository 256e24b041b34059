"""Solvers in batches: in turn on a CPU, side by side elsewhere, and the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo._batching import one_by_one

COUNTS = jnp.array([3, 1, 7, 2])


def count_down(n, scale, name):
    """A loop of n steps; `name` is no array, `scale` may be shared by a batch."""
    assert name == "static"

    def step(state):
        jax.debug.callback(STEPS.append, 1)
        return state[0] - 1, state[1] + scale["by"]

    return jax.lax.while_loop(lambda state: state[0] > 0, step, (n, 0.0))[1]


STEPS: list[int] = []


def batch(counts, by):
    return jax.vmap(lambda n: one_by_one(count_down, n, {"by": by, "none": None}, "static"))(
        counts
    )


def test_a_cpu_takes_one_after_another():
    STEPS.clear()
    np.testing.assert_array_equal(jax.jit(batch)(COUNTS, 2.0), 2.0 * COUNTS)
    jax.effects_barrier()
    assert len(STEPS) == COUNTS.sum()  # side by side all take as many as the longest


def test_batches_of_batches():
    found = jax.vmap(batch, in_axes=(None, 0))(COUNTS, jnp.array([1.0, 3.0]))
    np.testing.assert_array_equal(found, np.outer([1.0, 3.0], COUNTS))


@pytest.mark.parametrize(("default", "on_cuda"), [("cuda", 1), ("cpu", 2)])
def test_an_accelerator_takes_all_side_by_side(monkeypatch, default, on_cuda):
    """As far as the program for one says, which needs none to be written; exported from a CPU it
    does not."""
    monkeypatch.setattr(jax, "default_backend", lambda: default)

    def solve(counts):
        return jax.vmap(
            lambda n: one_by_one(
                lambda m: jax.lax.while_loop(lambda s: s > 0, lambda s: s - 1, m), n
            )
        )(counts)

    traced = jax.jit(solve).trace(COUNTS)
    loops = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while")
        for platform in ("cpu", "cuda")
    }
    assert loops == {"cpu": 2, "cuda": on_cuda}
