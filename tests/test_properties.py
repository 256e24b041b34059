"""What holds for every metric in every chart: identities of the connection, and isometry."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array
from oracles import wavy

import jaxgeo as jg
from jaxgeo.problems import half_plane_distance, half_plane_metric

SEEDS = st.integers(0, 2**31 - 1)


class Chart(eqx.Module):
    """x + 0.3 sin(Wx + b) + (0, 3), which is one-to-one for |W| ≤ 2, and above the axis."""

    weights: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        return x + 0.3 * jnp.sin(self.weights @ x + self.bias) + jnp.array([0.0, 3.0])


class HalfPlane(eqx.Module):
    """The half-plane in the coordinates of a chart."""

    chart: Chart

    def __call__(self, x: Array) -> Array:
        jacobian = jax.jacfwd(self.chart)(x)
        return jacobian.T @ half_plane_metric(self.chart(x)) @ jacobian


def random_chart(rng):
    weights = rng.normal(size=(2, 2))
    weights *= 2 * rng.uniform() / np.linalg.norm(weights, 2)
    return Chart(jnp.asarray(weights), jnp.asarray(rng.uniform(0, 6, 2)))


@jax.jit
def observe(chart, points, v):
    """Distances between three points, curvature at one, a vector transported between two."""
    metric = HalfPlane(chart)
    first, second = jnp.array([0, 1, 0]), jnp.array([1, 2, 2])
    lengths = jax.vmap(lambda i, j: jg.distance(metric, points[i], points[j]))(first, second)
    exact = jax.vmap(lambda i, j: half_plane_distance(chart(points[i]), chart(points[j])))(
        first, second
    )
    geodesic = jg.geodesic_bvp(metric, points[0], points[1])
    carried = jg.parallel_transport(metric, geodesic, v)
    norms = jax.vmap(lambda z, u: jg.norm(metric, z, u))(geodesic.points, carried)
    return lengths, exact, jg.scalar_curvature(metric, points[0]), norms


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_nothing_depends_on_the_chart(seed):
    rng = np.random.default_rng(seed)
    points = jnp.asarray(rng.uniform(-1.5, 1.5, (3, 2)))
    lengths, exact, curvature, norms = observe(
        random_chart(rng), points, jnp.asarray(rng.normal(size=2))
    )
    np.testing.assert_allclose(lengths, exact, rtol=1e-6)
    np.testing.assert_allclose(curvature, -2, rtol=1e-9)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-8)
    assert lengths[2] <= lengths[0] + lengths[1] + 1e-9


@jax.jit
def identities(metric, z):
    """∇g, and the two cyclic sums of Bianchi over Rₐᵦ꜀ᵨ and its covariant derivative."""
    symbols = jg.christoffel(metric, z)

    def lowered(z):
        return jnp.einsum("ae,ebcd->abcd", metric(z), jg.riemann(metric, z))

    def covariant(tensor):
        """∇ₖ of a tensor with lower indices, k last."""
        value, out = tensor(z), jax.jacfwd(tensor)(z)
        for axis in range(value.ndim):
            correction = jnp.tensordot(value, symbols, axes=(axis, 0))  # (rest, axis, k)
            out = out - jnp.moveaxis(correction, -2, axis)
        return out

    curvature, derivative = lowered(z), covariant(lowered)
    first = sum(jnp.moveaxis(curvature, (1, 2, 3), p) for p in ((1, 2, 3), (2, 3, 1), (3, 1, 2)))
    second = sum(jnp.moveaxis(derivative, (2, 3, 4), p) for p in ((2, 3, 4), (3, 4, 2), (4, 2, 3)))
    return covariant(metric), first, second, curvature, derivative


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_metric_is_parallel_and_bianchi_holds(seed):
    rng = np.random.default_rng(seed)
    metric = wavy(3, seed)
    parallel, first, second, curvature, derivative = identities(
        metric, jnp.asarray(rng.normal(size=3))
    )
    np.testing.assert_allclose(parallel, 0, atol=1e-10)
    np.testing.assert_allclose(first, 0, atol=1e-10 * (1 + np.abs(curvature).max()))
    np.testing.assert_allclose(second, 0, atol=1e-9 * (1 + np.abs(derivative).max()))
