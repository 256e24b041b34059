"""Means, principal directions, clusters: closed forms, derivatives, failures."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import (
    Relaxation,
    Shooting,
    frechet_mean,
    kmeans,
    pairwise_distances,
    tangent_pca,
)

EXACT = 1e-8
LIGHT = Shooting(Relaxation(8, n_starts=1))  # enough for these, and cheap


class Scaled(eqx.Module):
    """The half-plane, or with a negative scale no metric at all, in one compiled program."""

    scale: jax.Array

    def __call__(self, z):
        return self.scale * problems.half_plane_metric(z)


METRIC, BROKEN = Scaled(jnp.array(1.0)), Scaled(jnp.array(-1.0))
POINTS = jnp.array([[0.0, 1.0], [1.0, 2.0], [-1.0, 0.7], [0.3, 0.5]])
mean = functools.partial(frechet_mean, METRIC, solver=LIGHT, throw=False)


def test_distances_are_the_closed_form_and_symmetric():
    matrix = pairwise_distances(METRIC, POINTS, solver=LIGHT, chunk_size=4)
    exact = jax.vmap(jax.vmap(problems.half_plane_distance, (None, 0)), (0, None))(POINTS, POINTS)
    np.testing.assert_allclose(matrix, exact, atol=1e-7)
    np.testing.assert_array_equal(matrix, matrix.T)
    block = pairwise_distances(METRIC, POINTS[:2], POINTS[1:], solver=LIGHT, chunk_size=4)
    np.testing.assert_allclose(block, exact[:2, 1:], atol=1e-7)


def test_the_mean_minimises_the_exact_distances():
    found = mean(POINTS)
    assert found.result == RESULTS.successful
    assert found.iterations <= 8

    def spread(x):
        return jnp.mean(jax.vmap(lambda p: problems.half_plane_distance(x, p) ** 2)(POINTS))

    np.testing.assert_allclose(found.variance, spread(found.point), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(spread)(found.point), np.zeros(2), atol=1e-6)


def test_weights_move_the_mean_along_the_geodesic():
    points = jnp.array([[0.0, 1.0], [0.0, 1.0], [0.0, np.e], [5.0, 0.1]])
    found = mean(points, weights=jnp.array([2.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(found.point, [0, np.exp(0.25)], atol=EXACT)
    alone = mean(points, weights=jnp.array([0.0, 0.0, 2.0, 0.0]))
    np.testing.assert_allclose(alone.point, [0, np.e], atol=EXACT)


def test_derivatives_of_the_mean_against_differences():
    e = jnp.asarray(np.random.default_rng(0).normal(size=POINTS.shape))
    w, dw, h = jnp.array([0.4, 0.2, 0.3, 0.1]), jnp.array([0.1, -0.2, 0.05, 0.05]), 1e-4

    def point(p, w):
        return mean(p, weights=w).point

    d_points, d_weights = jax.jit(jax.jacfwd(point, argnums=(0, 1)))(POINTS, w)
    slope = jnp.tensordot(d_points, e) + d_weights @ dw
    difference = (point(POINTS + h * e, w + h * dw) - point(POINTS - h * e, w - h * dw)) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


def test_principal_directions_are_orthonormal_and_ordered():
    centre = jnp.array([0.0, 2.0])
    points = jnp.array([[0.0, 1.0], [0.0, 4.0], [0.2, 2.0], [-0.2, 2.0]])
    pca = tangent_pca(METRIC, points, centre, solver=LIGHT)
    g = METRIC(centre)
    np.testing.assert_allclose(pca.components @ g @ pca.components.T, np.eye(2), atol=EXACT)
    np.testing.assert_allclose(jnp.abs(pca.components[0]), [0, 2], atol=1e-3)
    np.testing.assert_allclose(pca.variances[0], np.log(2) ** 2 / 2, rtol=1e-3)
    squares = jnp.sum(pca.coordinates**2, axis=1)
    exact = jax.vmap(lambda p: problems.half_plane_distance(centre, p) ** 2)(points)
    np.testing.assert_allclose(squares, exact, rtol=1e-6)


def test_clusters_are_those_of_the_metric_and_not_of_the_chart():
    # near y = 0 a step is long: by chart distance the two lowest points would be together
    points = jnp.array([[0.0, 0.01], [0.0, 0.011], [0.0, 0.5], [0.0, 0.6], [0.0, 0.55]])
    clusters = kmeans(METRIC, points, 2, key=jax.random.key(1), solver=LIGHT)
    assert clusters.result == RESULTS.successful
    labels = np.asarray(clusters.labels)
    assert len(set(labels[:2])) == len(set(labels[2:])) == 1
    assert labels[0] != labels[-1]
    centre = clusters.centres[labels[0]]
    np.testing.assert_allclose(centre, [0, np.sqrt(0.01 * 0.011)], atol=1e-6)


def test_failures_are_named():
    broken = frechet_mean(BROKEN, POINTS, solver=LIGHT, throw=False)
    assert broken.result == RESULTS.metric_not_positive_definite
    distances = functools.partial(pairwise_distances, BROKEN, POINTS, solver=LIGHT, chunk_size=4)
    with pytest.raises(Exception, match="positive definite"):
        distances()
    assert jnp.all(jnp.isnan(distances(throw=False)[np.triu_indices(4, 1)]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean(jnp.zeros(3)), r"`points` must have shape \(n, d\), n ≥ 1, got \(3,\)"),
        (lambda: mean(POINTS, weights=jnp.ones(3)), r"`weights` must have shape \(4,\)"),
        (lambda: mean(POINTS, weights=-jnp.ones(4)), "`weights` must be ≥ 0"),
        (lambda: mean(POINTS, start=jnp.ones(3)), r"`start` must have shape \(2,\)"),
        (lambda: kmeans(METRIC, POINTS, 5, key=jax.random.key(0)), "must be from 1 to 4, got 5"),
        (lambda: pairwise_distances(METRIC, POINTS, chunk_size=0), "at least 1, got 0"),
    ],
)
def test_bad_arguments_are_quoted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
