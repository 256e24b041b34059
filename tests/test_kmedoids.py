"""Clusters around points, against all choices of medoids."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgeo as jg

POINTS = np.random.default_rng(0).normal(size=(14, 2))
DISTANCES = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=-1)


@pytest.mark.parametrize("k", [1, 3])
def test_the_best_of_all_choices_is_found(k):
    inertia = {
        chosen: np.min(DISTANCES[list(chosen)] ** 2, axis=0).sum()
        for chosen in itertools.combinations(range(len(POINTS)), k)
    }
    best = min(inertia, key=inertia.get)
    found = jg.kmedoids(DISTANCES, k, key=jax.random.key(0), n_starts=64)
    assert tuple(sorted(found.medoids.tolist())) == best
    np.testing.assert_allclose(found.inertia, inertia[best], rtol=1e-12)
    nearest = np.argmin(DISTANCES[found.medoids], axis=0)
    np.testing.assert_array_equal(found.labels, nearest)
    assert found.result == jg.RESULTS.successful


def test_seeding_does_not_know_the_units():
    inertia = [
        jg.kmedoids(scale * DISTANCES, 5, key=jax.random.key(0), n_starts=1).inertia / scale**2
        for scale in (1e-3, 1.0, 1e3)
    ]
    np.testing.assert_allclose(inertia, inertia[0], rtol=1e-9)
    whole = 100_000 * np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    assert jg.kmedoids(whole, 2, key=jax.random.key(0)).inertia == 2e10


def test_points_that_coincide_and_as_many_clusters_as_points():
    found = jg.kmedoids(np.zeros((5, 5)), 2, key=jax.random.key(0))
    assert found.inertia == 0
    every = jg.kmedoids(DISTANCES, len(POINTS), key=jax.random.key(0), n_starts=8)
    np.testing.assert_allclose(every.inertia, 0, atol=1e-12)


def test_failures_are_named():
    short = jg.kmedoids(
        DISTANCES, 3, key=jax.random.key(0), n_starts=1, max_iterations=0, throw=False
    )
    assert short.result == jg.RESULTS.not_converged
    with pytest.raises(ValueError, match=r"`distances` must have shape \(n, n\), got \(2, 3\)"):
        jg.kmedoids(np.zeros((2, 3)), 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="`n_clusters` must be from 1 to 14, got 15"):
        jg.kmedoids(DISTANCES, 15, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"numbers ≥ 0, got nan at \(0, 1\)"):
        jg.kmedoids(jnp.array([[0.0, jnp.nan], [1.0, 0.0]]), 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"finite numbers ≥ 0, got inf at \(0, 1\)"):
        jg.kmedoids(jnp.array([[0.0, jnp.inf], [jnp.inf, 0.0]]), 1, key=jax.random.key(0))
