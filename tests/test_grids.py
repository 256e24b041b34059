"""A function at every node of a grid: values, chunks, shards, traces."""

import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter
from scipy.interpolate import make_interp_spline

import jaxgeo as jg
from jaxgeo.grids import on_grid

AXES = (np.linspace(0, 1, 4), np.linspace(-1, 1, 5), np.array([2.0, 3.0]))


class Scaled(eqx.Module):
    """A vector and a number at each point, with a parameter."""

    scale: jax.Array

    def __call__(self, z):
        return {"outer": self.scale * jnp.outer(z, z), "sum": jnp.sum(z)}


@pytest.mark.parametrize("chunk_size", [None, 1, 7, 1000])
def test_values_are_where_their_nodes_are(chunk_size):
    values = on_grid(Scaled(jnp.array(2.0)), AXES, chunk_size=chunk_size)
    nodes = np.stack(np.meshgrid(*AXES, indexing="ij"), axis=-1)
    assert values["outer"].shape == (4, 5, 2, 3, 3)
    np.testing.assert_allclose(values["sum"], nodes.sum(-1), rtol=1e-14)
    expected = 2 * nodes[..., :, None] * nodes[..., None, :]
    np.testing.assert_allclose(values["outer"], expected, rtol=1e-14)


def test_new_numbers_and_updated_parameters_do_not_retrace():
    counter = TraceCounter(jnp.sum)
    on_grid(counter, AXES)
    traced = counter.count
    on_grid(counter, tuple(2 * axis for axis in AXES))
    assert counter.count == traced

    count = 0

    class Counted(eqx.Module):
        scale: jax.Array

        def __call__(self, z):
            nonlocal count
            count += 1
            return self.scale * z

    on_grid(Counted(jnp.array(1.0)), AXES)
    traced = count
    np.testing.assert_allclose(on_grid(Counted(jnp.array(3.0)), AXES)[0, 0, 0], [0, -3, 6])
    assert count == traced


def test_float32_stays_float32_and_one_axis_is_a_grid():
    values = on_grid(jnp.sum, (np.ones(3, np.float32),))
    assert values.dtype == jnp.float32
    assert values.shape == (3,)


SHARDED = """
import jax, numpy as np, jax.numpy as jnp
import jaxgeo as jg
from jaxgeo.grids import on_grid
assert len(jax.devices()) == 4
mesh = jax.make_mesh((2, 2), ("a", "b"))
axes = (np.linspace(0, 1, 5, dtype=np.float32), np.linspace(1, 2, 3, dtype=np.float32))
values = on_grid(lambda z: jnp.outer(z, z), axes, mesh=mesh, chunk_size=2)
np.testing.assert_allclose(values, on_grid(lambda z: jnp.outer(z, z), axes))
"""


def test_nodes_are_spread_over_a_mesh_that_they_do_not_fill():
    flags = "--xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((), "at least one array"),
        ((np.ones((2, 2)),), r"`axes\[0\]` must have shape \(n,\), got \(2, 2\)"),
        ((np.ones(2), np.ones(0)), r"`axes\[1\]` must have shape \(n,\), got \(0,\)"),
        ((np.arange(3),), "must hold floats, got dtype int"),
        ((np.ones(2), np.ones(2, np.float32)), "must have one dtype"),
    ],
)
def test_bad_axes_are_quoted(axes, message):
    with pytest.raises(ValueError, match=message):
        on_grid(jnp.sum, axes)


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        on_grid(jnp.sum, AXES, chunk_size=0)


def test_spline_is_that_of_scipy_on_uneven_axes():
    rng = np.random.default_rng(0)
    axes = [np.sort(rng.uniform(0, 1, n)) for n in (7, 4)]
    values = rng.normal(size=(7, 4, 2, 3))
    spline = jg.GridSpline(axes, values)
    points = rng.uniform(-0.1, 1.1, (20, 2))
    first = make_interp_spline(axes[0], values)(points[:, 0])
    expected = [
        make_interp_spline(axes[1], row)(y) for row, y in zip(first, points[:, 1], strict=True)
    ]
    np.testing.assert_allclose(jax.vmap(spline)(points), expected, rtol=1e-9, atol=1e-9)


def test_spline_keeps_precision_and_refuses_what_is_no_table():
    axis = jnp.linspace(0, 1, 5, dtype=jnp.float32)
    out = jg.GridSpline((axis,), jnp.arange(5.0))(jnp.array([0.3], jnp.float32))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, 1.2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"must have shape \(5, 5\) \+ \(...\), got \(5, 4\)"):
        jg.GridSpline((axis, axis), jnp.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"must be finite, got nan at \[0.5\]"):
        jg.GridSpline((axis,), jnp.zeros(5).at[2].set(jnp.nan))
    for wrong in (axis[:3], axis[::-1], axis.at[-1].set(jnp.inf)):
        with pytest.raises(ValueError, match=r"`axes\[0\]` must be 4 or more increasing finite"):
            jg.GridSpline((wrong,), jnp.zeros(wrong.size))
    with pytest.raises(ValueError, match=r"a point must have shape \(1,\), got \(2,\)"):
        jg.GridSpline((axis,), jnp.zeros(5))(jnp.zeros(2))
