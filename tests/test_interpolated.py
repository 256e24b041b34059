"""A metric from its values on a grid: against the metric itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import wavy

import jaxgeo as jg
from jaxgeo.problems import half_plane_metric


def on_nodes(metric, *sizes):
    axes = tuple(jnp.linspace(-0.5, 0.7 + 0.1 * k, n) for k, n in enumerate(sizes))
    return axes, jg.InterpolatedMetric(axes, jg.on_grid(metric, axes))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_nodes_are_met_and_between_them_the_error_is_of_fourth_order(d):
    metric = wavy(d)
    points = jax.random.uniform(jax.random.key(0), (40, d), minval=-0.4, maxval=0.6)
    errors = []
    for n in (9, 17):
        axes, found = on_nodes(metric, *range(n, n + d))
        corners = jnp.stack([axis[jnp.array([0, 3, -1])] for axis in axes], axis=1)
        np.testing.assert_allclose(
            jax.vmap(found)(corners), jax.vmap(metric)(corners), atol=1e-13, rtol=0
        )
        errors.append(float(jnp.abs(jax.vmap(found)(points) - jax.vmap(metric)(points)).max()))
    assert errors[1] < 5e-4
    assert np.log2(errors[0] / errors[1]) > 3.5


def test_positive_between_nodes_that_differ_millionfold():
    axis = jnp.linspace(0.0, 1.0, 8)

    def ridge(z):
        turn = jnp.array([[jnp.cos(z[1]), jnp.sin(z[1])], [-jnp.sin(z[1]), jnp.cos(z[1])]])
        return (
            turn.T @ jnp.diag(jnp.array([1e-6 + jnp.exp(-80 * (z[0] - 0.45) ** 2), 1e-6])) @ turn
        )

    metric = jg.InterpolatedMetric((axis, axis), jg.on_grid(ridge, (axis, axis)))
    fine = jnp.linspace(0.0, 1.0, 71)
    assert np.linalg.eigvalsh(jg.on_grid(metric, (fine, fine))).min() > 0


def test_geodesic_of_the_half_plane():
    axes = jnp.linspace(-0.2, 1.2, 41), jnp.linspace(0.6, 1.8, 41)
    metric = jg.InterpolatedMetric(axes, jg.on_grid(half_plane_metric, axes))
    found = jg.geodesic_bvp(metric, jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(found.stats["length"], np.arccosh(1.5), rtol=1e-5)


def test_precision_and_traces():
    count = 0
    axis = jnp.linspace(0.0, 1.0, 5, dtype=jnp.float32)
    values = jg.on_grid(lambda z: jnp.diag(1 + z), (axis, axis))

    @jax.jit
    def at(metric, z):
        nonlocal count
        count += 1
        return metric(z)

    z = jnp.full(2, 0.3, jnp.float32)
    for factor in (1, 2):
        g = at(jg.InterpolatedMetric((axis, axis), factor * values), z)
        assert g.dtype == jnp.float32
        np.testing.assert_allclose(g, factor * jnp.diag(1 + z), rtol=1e-3)
    assert count == 1


def test_bad_input():
    axis = jnp.linspace(0.0, 1.0, 5)
    good = jnp.broadcast_to(jnp.eye(2), (5, 5, 2, 2))
    with pytest.raises(ValueError, match=r"must have shape \(5, 5, 2, 2\), got \(5, 4, 2, 2\)"):
        jg.InterpolatedMetric((axis, axis), good[:, :4])
    with pytest.raises(ValueError, match=r"`axes\[1\]` must be 4 or more increasing"):
        jg.InterpolatedMetric((axis, axis[::-1]), good)
    with pytest.raises(ValueError, match=r"positive definite, got .*-1.* at \[0.25, 0.5\]"):
        jg.InterpolatedMetric((axis, axis), good.at[1, 2, 0, 0].set(-1.0))
    with pytest.raises(ValueError, match=r"positive definite, got .*nan.* at \[1.0, 0.0\]"):
        jg.InterpolatedMetric((axis, axis), good.at[4, 0, 1, 1].set(jnp.nan))
